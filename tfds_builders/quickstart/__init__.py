"""The embedded corpus: real human speech and its spoofs, built offline.

`builder` holds the TFDS builder. It is not imported here: the processes that
synthesise need this package, not TFDS.
"""
