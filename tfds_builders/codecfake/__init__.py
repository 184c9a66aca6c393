"""Codecfake: speech through seven neural codecs; see README.md."""
