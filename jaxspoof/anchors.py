"""Holds released weights against the figures that were published of them.

  python -m jaxspoof.anchors AASIST.pth AASIST-L.pth --data_dir=CORPORA

scores each file on a built corpus and compares what comes out with what its
authors report, to the digits that they give. Where both agree, archive,
decoding, model and metrics are right together, and figures of other systems on
that corpus can be believed. Weights are told by their hash; none are
downloaded. What is scored stays in `runs/anchors`, and is scored once.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from jaxspoof import overrides
from jaxspoof.jobs import evaluate
from jaxspoof.runs import names, record


@dataclasses.dataclass(frozen=True)
class Anchor:
  """Published figures of released weights.

  Attributes:
    name: of the weights.
    corpus: that they are of.
    split: of it.
    trials: bona fide and spoof trials of the split.
    figures: by the name of the metric what was published, as it is printed.
    source: where.
  """

  name: str
  corpus: str
  split: str
  trials: Mapping[str, int]
  figures: Mapping[str, str]
  source: str


_LA = {'bonafide': 7_355, 'spoof': 63_882}
_AASIST = 'https://github.com/clovaai/aasist, README: EER %, min t-DCF'
# By SHA-256 of the file.
ANCHORS = {
  '51d2d9cf0738172f61e2a384ec50a54a55363240f67c971ed55a92435bc1a1c0': Anchor(
    'AASIST', 'asvspoof2019_la', 'eval', _LA,
    {'eer': '0.83', 'min_tdcf_legacy': '0.0275'}, _AASIST,
  ),
  '814331d088032bb4c3fa61cc014789eadeed464209dd094ab3a2dd6ffbdce27a': Anchor(
    'AASIST-L', 'asvspoof2019_la', 'eval', _LA,
    {'eer': '0.99', 'min_tdcf_legacy': '0.0309'}, _AASIST,
  ),
}  # fmt: skip
_SCALE = {'eer': 100.0}  # published in percent


def find(path: pathlib.Path) -> Anchor:
  """The published figures of a file of weights.

  Raises:
    ValueError: nothing is known of this file.
    OSError: there is none.
  """
  digest = record.file_hash(path)
  if digest not in ANCHORS:
    known = ', '.join(anchor.name for anchor in ANCHORS.values())
    raise ValueError(
      f'{path}: SHA-256 {digest[:12]}...: no figures are known of these '
      f'weights; expected the released file of {known}'
    )
  return ANCHORS[digest]


def differences(anchor: Anchor, found: Mapping[str, Any]) -> list[str]:
  """Where a result is not what was published, in sentences.

  Args:
    anchor: what was published.
    found: `metrics.json` of an evaluation of these weights.
  """
  wrong = [
    f'{found["trials"][kind]:,} {kind} trials, expected {count:,}'
    for kind, count in anchor.trials.items()
    if found['trials'][kind] != count
  ]
  for name, printed in anchor.figures.items():
    value, digits = found[name], len(printed.partition('.')[2])
    if value is None:
      wrong.append(f'{name} is not known: the corpus has no such scores')
    elif f'{_SCALE.get(name, 1.0) * value:.{digits}f}' != printed:
      wrong.append(
        f'{name} is {_SCALE.get(name, 1.0) * value:.{digits + 2}f}, published '
        f'{printed}'
      )
  return wrong


def evaluated(
  path: pathlib.Path, anchor: Anchor, args: argparse.Namespace
) -> dict[str, Any]:
  """Scores the weights, unless that is done; `metrics.json` of it."""
  workdir = pathlib.Path(args.workdir) / anchor.name
  if (workdir / names.METRICS).is_file():
    print(f'{workdir} is finished already')
    return names.read_json(workdir / names.METRICS)
  values = overrides.load('configs/evaluate.py').to_dict()
  values |= {'checkpoint': str(path)}
  values['data'] |= {
    'name': anchor.corpus,
    'eval': (anchor.split,),
    'data_dir': args.data_dir,
    'build': False,
    'eval_batch': args.batch,
  }
  return evaluate.evaluate(values, workdir)


def parser() -> argparse.ArgumentParser:
  """Of the command line."""
  made = argparse.ArgumentParser(
    prog='python -m jaxspoof.anchors', description=__doc__.splitlines()[0]
  )
  made.add_argument('weights', nargs='+', help='released files')
  made.add_argument('--data_dir', help='where built corpora lie')
  made.add_argument('--workdir', default='runs/anchors', help='for the scores')
  made.add_argument('--batch', type=int, default=16, help='clips at once')
  return made


def main(argv: list[str] | None = None) -> int:
  """Returns 0 where all agree, 1 where something differs."""
  args = parser().parse_args(argv)
  failed = False
  try:
    anchors = {path: find(path) for path in map(pathlib.Path, args.weights)}
    for path, anchor in anchors.items():
      wrong = differences(anchor, evaluated(path, anchor, args))
      failed |= bool(wrong)
      said = ', '.join(f'{n} {v}' for n, v in anchor.figures.items())
      print(
        f'{anchor.name} on {anchor.corpus} {anchor.split}: '
        f'{"DIFFERS from" if wrong else "agrees with"} {said} ({anchor.source})'
      )
      for line in wrong:
        print(f'  {line}')
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  return int(failed)


if __name__ == '__main__':
  sys.exit(main())
