"""Anybody's own recordings, listed in a table; see README.md.

`builder` holds the TFDS builder, `manifest` reads the table, `splits` divides
it where it does not say how.
"""
