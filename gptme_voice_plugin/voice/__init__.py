"""What runs in the voice process. Never imports `gptme_voice_plugin.server`, nor gptme."""
