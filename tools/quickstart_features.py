"""Keeps what tests measure on the quickstart corpus.

  python tools/quickstart_features.py

`tests/shortcut_test.py` probes the corpus for shortcuts, `tests/domain_test.py`
asks what is usual in it. To build it takes minutes, so the features and
measures of its clips are kept, with a hash of the recipe that they are of.
Where the recipe has changed, the tests build the corpus and measure it anew,
until this script has been run again.
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import fixtures_corpus, measured_speech  # noqa: E402
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
    measured = measured_speech.measure(options.data_dir or folder)
    measured['recipe'] = np.array(measured_speech.recipe())
    arrays |= {f'measures/{name}': rows for name, rows in measured.items()}
  np.savez_compressed(fixtures_corpus.FEATURES, **arrays)
  size = fixtures_corpus.FEATURES.stat().st_size
  print(f'{fixtures_corpus.FEATURES}: {size / 1000:.0f} kB')


if __name__ == '__main__':
  main()
