"""The format of a detector bundle: all that detection needs, in two files.

  card      `card.json`: what the detector is, as a checked value
  store     folders and zip files with a card and weights, read and written
  domain    the recordings that a detector knows, and whether one is like them
  verdict   log-likelihood ratios made probabilities and decisions

`jaxspoof.detector` loads bundles, `jaxspoof.bundle` makes them.
"""
