"""Metrics of bona fide / spoof scores: pure functions, jitted, masked."""
