"""Corpora to batches: records, augmentation, conditions, the input pipeline.

Numpy only: worker processes import this package, so nothing here touches a
device. Reading audio files is the business of `jaxspoof.audio`.
"""
