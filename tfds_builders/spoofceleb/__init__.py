"""SpoofCeleb: celebrities in online videos, and spoofs; see README.md."""
