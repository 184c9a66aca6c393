"""Scores audio files with a trained countermeasure; see --help."""

from jaxspoof.detect.command import expand, main, parser, start

__all__ = ['expand', 'main', 'parser']

if __name__ == '__main__':
  start()
