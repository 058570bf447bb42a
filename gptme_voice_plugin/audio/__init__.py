"""PCM16 mono audio: streaming resampling and regrouping into frames."""
