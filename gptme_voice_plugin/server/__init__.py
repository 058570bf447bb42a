"""What runs in gptme-server's own process: light, and free of audio. Never imports `voice`."""
