"""Metrics of bona fide and spoof scores: pure functions, in one `table`."""
