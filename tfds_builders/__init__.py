"""TFDS builders, one folder per corpus; built by `build.py`, no TensorFlow."""
