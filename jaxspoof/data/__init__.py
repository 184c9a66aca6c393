"""Audio files to batches: decoding (`audio`) and input (`pipeline`).

Numpy only: worker processes import this package, so nothing here touches a
device. `audio` needs neither grain nor TFDS and serves the detector too.
"""
