"""Audio files to batches: decoding, corpora and the input pipeline.

Numpy only: worker processes import this package, so nothing here touches a
device. `audio` needs neither grain (`pipeline`) nor TFDS (`source`) and serves
the detector too.
"""
