"""Prints the repositories that `demo_pages` is built from, and their licences.

python -m tfds_builders.demo_pages.repositories         # under open licences
python -m tfds_builders.demo_pages.repositories --all
"""

import argparse
import collections

from tfds_builders.demo_pages import facts


def main(argv: list[str] | None = None) -> None:
  """Prints a line for each: number of clips, owner/name, licence."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--all', action='store_true')
  options = parser.parse_args(argv)
  counts = collections.Counter(
    (row['repository'], row['licence'])
    for row in facts.read(only_open=not options.all)
  )
  for (name, licence), count in sorted(counts.items()):
    print(f'{count}\t{name}\t{licence}')


if __name__ == '__main__':
  main()
