"""Figures of detectors on demo pages, by what is known of the clips.

  python detect.py --input FOLDER --csv > default.csv
  python benchmarks/demo_pages.py --split=test default.csv [OTHER.csv ...]

FOLDER holds the clips, named by the utterances of `demo_pages` (D00001.flac).
Tables in Markdown come out: all clips; the mean over pages that have both
classes, with intervals over pages and systems; then, of the first detector,
every family, span of years, language and state of the licence, with the share
of clips that are called uncertain and the errors among the rest.
"""

import argparse
import csv
import pathlib
import sys

import numpy as np

from jaxspoof.metrics import calibration, clustered
from jaxspoof.metrics.eer import eer
from tfds_builders.demo_pages import facts

YEARS = ((2018, 2020), (2021, 2022), (2023, 2024), (2025, 2026))


def main() -> int:
  """Prints the tables of the files that the command line names."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('scored', nargs='+', type=pathlib.Path)
  parser.add_argument(
    '--split', default='dev', choices=['train', 'dev', 'test']
  )
  parser.add_argument('--resamples', type=int, default=1000)
  options = parser.parse_args()
  known = {
    row['utterance']: row
    for row in facts.read(only_open=False)
    if row['split'] == options.split
  }
  first = None
  print(
    '| detector | trials | EER | mean over pages | Cllr | actDCF | minDCF |'
  )
  print('|---|---|---|---|---|---|---|')
  for path in options.scored:
    rows = read(path, known)
    print(overall(path.stem, rows, options.resamples))
    first = first or rows
  print(f'\nOf {options.scored[0].stem}:\n')
  print('| | bona fide | spoof | systems | EER | uncertain | errors else |')
  print('|---|---|---|---|---|---|---|')
  for title, chosen in groups(first):
    print(line(title, chosen))
  return 0


def read(path: pathlib.Path, known: dict[str, dict]) -> list[dict]:
  """The clips of a split that a file of `detect.py --csv` has scores of."""
  with path.open(newline='') as file:
    scored = {
      pathlib.PurePath(row['path']).stem: row for row in csv.DictReader(file)
    }
  if missing := known.keys() - scored.keys():
    sys.exit(f'{path}: {len(missing)} clips are missing, {min(missing)} first')
  rows = [{**known[name], **scored[name]} for name in sorted(known)]
  if failed := [row['utterance'] for row in rows if not row['score']]:
    sys.exit(f'{path}: no score of {failed[0]}')
  return rows


def columns(rows):
  """LLR (where there is none the raw score), labels, pages and systems."""
  return (
    np.array([float(row['llr'] or row['score']) for row in rows]),
    np.array([row['label'] == 'bonafide' for row in rows]).astype(int),
    np.array([row['repository'] for row in rows]),
    np.array([row['attack'] for row in rows]),
  )


def overall(name: str, rows: list[dict], resamples: int) -> str:
  """The row of a detector in the first table."""
  scores, labels, pages, systems = columns(rows)
  drawn = clustered.resampled_metrics(
    [scores], labels, speaker=pages, attack=systems, resamples=resamples
  )['eer'][0]
  mean, by_page = over_pages(scores, labels, pages)
  rng = np.random.default_rng(0)
  means = rng.choice(by_page, (resamples, len(by_page))).mean(1)
  cells = [
    name,
    f'{len(rows)} ({labels.sum()} bona fide)',
    with_interval(
      eer(scores, labels).eer,
      drawn,
      clustered.clusters_of(labels, pages, systems),
    ),
    f'{with_interval(mean, means, len(by_page))} ({len(by_page)} pages)',
  ]
  if rows[0]['llr']:
    found = calibration.figures(scores, labels)
    cells += [f'{found[key]:.2f}' for key in ('cllr', 'act_dcf', 'min_dcf')]
  else:
    cells += ['not calibrated', '', '']
  return f'| {" | ".join(cells)} |'


def with_interval(value: float, drawn: np.ndarray, clusters: int) -> str:
  """A rate in percent, with its interval of 95 %."""
  low, high = clustered.interval(drawn, clusters=clusters)
  return f'{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})'


def over_pages(scores, labels, pages) -> tuple[float, np.ndarray]:
  """Mean EER of the pages that have both classes, and the EER of each."""
  found = [
    eer(scores[own], labels[own]).eer
    for own in (pages == page for page in np.unique(pages))
    if 0 < labels[own].sum() < own.sum()
  ]
  return float(np.mean(found)), np.array(found)


def groups(rows: list[dict]):
  """Yields a title and the clips of each group.

  Spoofs of a family are held against all bona fide clips, for these are of no
  family; other groups are of both classes.
  """
  yield 'all', rows
  human = [row for row in rows if row['label'] == 'bonafide']
  for family in ('tts', 'vc', 'vocoder', 'codec'):
    yield family, human + [row for row in rows if row['family'] == family]
  for low, high in YEARS:
    yield (
      f'pages of {low} to {high}',
      [row for row in rows if low <= int(row['page_year']) <= high],
    )
  english = [row for row in rows if row['language'].startswith('en')]
  yield 'English', english
  yield 'other languages', [row for row in rows if row not in english]
  yield 'open licence', [row for row in rows if row['open'] == '1']
  yield 'no open licence', [row for row in rows if row['open'] != '1']


def line(title: str, rows: list[dict]) -> str:
  """The row of a group in the second table."""
  scores, labels, _, systems = columns(rows)
  spoofs = len(rows) - labels.sum()
  rate = ''
  if 0 < labels.sum() < len(rows):
    rate = f'{100 * eer(scores, labels).eer:.1f}'
  verdicts = np.array([row['verdict'] for row in rows])
  sure = verdicts != 'uncertain'
  right = verdicts[sure] == np.where(labels[sure], 'bona fide', 'spoof')
  errors = f'{100 * (1 - right.mean()):.1f}' if sure.any() else ''
  count = len(np.unique(systems[labels == 0]))
  return (
    f'| {title} | {labels.sum()} | {spoofs} | {count} | {rate} | '
    f'{100 * (1 - sure.mean()):.1f} | {errors} |'
  )


if __name__ == '__main__':
  sys.exit(main())
