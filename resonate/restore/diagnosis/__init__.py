"""What a recording is like, measured before anything is done to it."""
