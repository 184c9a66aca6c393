"""Scores audio files with a trained countermeasure; see --help."""

from jaxspoof.detect.command import expand, main, parser, start
from jaxspoof.detect.outputs import show_table

__all__ = ['expand', 'main', 'parser', 'show_table']

if __name__ == '__main__':
  start()
