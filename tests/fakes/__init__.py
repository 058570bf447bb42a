"""Realtime speech providers to test against, on loopback and without a key."""
