"""MLAAD: synthetic speech in many languages; see README.md."""
