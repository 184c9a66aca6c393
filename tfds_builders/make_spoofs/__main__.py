"""Runs the command line, in a module that worker processes can import."""

import sys

from jaxspoof.machine import interrupts
from tfds_builders.make_spoofs import spoofs

if __name__ == '__main__':
  sys.exit(interrupts.call(spoofs.main))
