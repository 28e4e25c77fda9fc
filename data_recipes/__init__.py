"""One small recipe per source of audio, and the renderer. Each runs as `python -m data_recipes.<name> --help`."""
