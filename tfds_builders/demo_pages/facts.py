"""What is known of each clip of `demo_pages`; no audio is in the project."""

import csv
import gzip
import pathlib
from collections.abc import Iterator

FILE = pathlib.Path(__file__).with_name('clips.csv.gz')


def read(only_open: bool) -> Iterator[dict[str, str]]:
  """Yields what is known of each clip, by the names of `clips.csv.gz`.

  Args:
    only_open: leave out repositories without an open licence.
  """
  with gzip.open(FILE, 'rt', newline='') as file:
    for row in csv.DictReader(file):
      if row['open'] == '1' or not only_open:
        yield row
