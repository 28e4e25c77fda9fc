"""Repairs before the networks: clipped samples, hum, short events, the gain that a phone's AGC applied."""
