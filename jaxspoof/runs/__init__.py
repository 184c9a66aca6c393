"""The folder of a run: what is in it, who reads it, who writes it."""
