"""ADD 2023, tracks 1.2 (detection) and 3 (naming the algorithm); see README.md.

`builder` holds the TFDS builders, `protocol` reads the lists of clips,
`official` says what the published folders hold.
"""
