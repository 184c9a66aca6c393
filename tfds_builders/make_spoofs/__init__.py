"""Spoofs of one's own recordings: a training corpus for one's own channel."""
