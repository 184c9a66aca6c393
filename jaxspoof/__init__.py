"""Audio-deepfake (speech anti-spoofing) detection in JAX."""

__version__ = '0.1.0'
