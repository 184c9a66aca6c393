"""ASVspoof 2019, logical access (LA) and physical access (PA); see README.md.

`builder` holds the TFDS builders, `protocol` reads the lists of trials,
`official` says what the published archives hold.
"""
