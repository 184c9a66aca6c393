"""Keeps what `tests/shortcut_test.py` measures on the quickstart corpus.

  python tools/quickstart_features.py

The test probes the corpus for shortcuts. To build it takes minutes, so the
features of its clips are kept, with a hash of the recipe that they are of.
Where the recipe has changed, the test builds the corpus and measures it anew,
until this script has been run again.
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import fixtures_corpus  # noqa: E402
from tfds_builders import build  # noqa: E402
from tfds_builders.quickstart import probe  # noqa: E402


def main() -> None:
  """Builds the corpus, measures it and writes the file."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument(
    '--data_dir', help='where the corpus may be built already'
  )
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    made = build.build('quickstart', options.data_dir or folder)
    arrays = {'recipe': np.array(fixtures_corpus.recipe())}
    for name in ('train', *probe.SPLITS):
      split = probe.read(made, name)
      arrays[f'{name}/labels'] = split.labels.astype(np.int8)
      arrays[f'{name}/attacks'] = split.attacks
      for feature, rows in split.features.items():
        arrays[f'{name}/{feature}'] = rows.astype(np.float16)
  np.savez_compressed(fixtures_corpus.FEATURES, **arrays)
  size = fixtures_corpus.FEATURES.stat().st_size
  print(f'{fixtures_corpus.FEATURES}: {size / 1000:.0f} kB')


if __name__ == '__main__':
  main()
