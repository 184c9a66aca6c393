"""The embedded corpus: real human speech and its spoofs, built offline."""

from tfds_builders.quickstart.builder import Quickstart as Quickstart
