"""Parts of the page: where clips are spoofed, and where it is said."""

import numpy as np

from jaxspoof.metrics.localisation import Located, located_in
from jaxspoof.report.drawing import BONAFIDE, INK, SPOOF, picture
from jaxspoof.report.markup import (
  Html,
  element,
  figure,
  interval,
  percent,
  section,
  table,
)
from jaxspoof.runs import names
from jaxspoof.runs.names import RunError
from jaxspoof.runs.run import Run
from jaxspoof.score_files import moments

SHOWN = 6  # clips that are drawn


def figures(run: Run) -> Html | None:
  """Range EER and segment EERs of each split."""
  found = (run.metrics or {}).get('localisation')
  if found is None:
    return None
  try:
    rows, attacks = [], []
    for split, one in found.items():
      for group, words in (
        (None, split),
        *((g, f'{split}, {g} attacks') for g in ('seen', 'unseen')),
      ):
        part = one if group is None else one.get(group)
        if part is not None:
          rows.append(_row(words, part))
      attacks += [
        [f'{split}, {attack}', _percent(value)]
        for attack, value in one['per_attack'].items()
      ]
    lengths = [f'{ms} ms' for ms in next(iter(found.values()))['segment_eer']]
    decisions = [
      _decisions(s, one['at_dev_threshold']) for s, one in found.items()
    ]
  except (KeyError, TypeError, ValueError) as error:
    raise RunError(
      f'{run.workdir / names.METRICS}: localisation: a field is missing or of '
      f'another type ({type(error).__name__}: {error})'
    ) from error
  return section(
    'Where speech is spoofed',
    element(
      'p',
      'The range EER weighs time: as much of the bona fide speech is rejected '
      'as of the spoofed speech is accepted. For the segment EERs recordings '
      'are cut into segments of one length, which are spoofed if any part is. '
      'Each group of attacks is measured with all bona fide clips. The '
      '95 % intervals are those of the range EER, over speakers and attacks.',
    ),
    table(
      'Equal error rates over time',
      [
        'clips', 'range EER', 'interval', *lengths, 'bona fide, s',
        'spoofed, s',
      ],
      rows,
      class_='numbers',
    ),
    table(
      'Decisions at the threshold of dev; how near their edges lie says '
      'nothing where they have many more than there are',
      [
        'split', 'bona fide time rejected', 'spoofed time accepted', 'edges',
        'edges of decisions', 'median distance, ms', 'within 20 ms',
      ],
      decisions,
      class_='numbers',
    ),
    table('Range EER by attack', ['attack', 'range EER'], attacks,
          class_='numbers'),
  )  # fmt: skip


def clips(run: Run) -> Html | None:
  """A few clips: the scores of their moments, and where they are spoofed."""
  if 'localisation' not in (run.metrics or {}):
    return None
  split = next(iter(run.summaries))
  paths = names.moments(run.workdir, split), names.ranges(run.workdir, split)
  if not all(path.is_file() for path in paths):
    return None
  located = located_in(
    moments.read_scores(paths[0]), moments.read_ranges(paths[1])
  )
  chosen = examples(located)
  threshold = run.metrics['localisation'][split]['at_dev_threshold'][
    'threshold'
  ]
  limit = max(
    (float(np.abs(one.scores).max()) for one in chosen.values()), default=1.0
  )
  pictures = [
    figure(_clip(f'clip{n}', name, one, threshold, limit), name)
    for n, (name, one) in enumerate(chosen.items())
  ]
  return section(
    'A few clips',
    element(
      'p',
      f'Scores of each 20 ms in {split}, higher = more like bona fide speech; '
      'shaded where the clip is spoofed. The dashed line is the threshold of '
      'dev.',
    ),
    element('div', *pictures, class_='grid'),
  )


def examples(located: dict[str, Located]) -> dict[str, Located]:
  """Clips spread over all that are spoofed in a part, and one bona fide."""
  partly = [
    name
    for name, one in located.items()
    if 0 < sum(b - a for a, b in one.spoofed) < 0.99 * one.duration
  ]
  bona_fide = [name for name, one in located.items() if not one.spoofed]
  at = np.linspace(0, len(partly) - 1, min(SHOWN - 1, len(partly))).astype(int)
  return {n: located[n] for n in (*(partly[i] for i in at), *bona_fide[:1])}


def _clip(
  called: str, name: str, one: Located, threshold: float, limit: float
) -> Html:
  """The picture of one clip."""
  spoofed = '; '.join(f'{a:.2f} to {b:.2f} s' for a, b in one.spoofed)

  def draw(axes):
    for start, end in one.spoofed:
      axes.axvspan(start, end, color=SPOOF, alpha=0.2, linewidth=0)
    edges = one.seconds * np.arange(len(one.scores) + 1)
    axes.stairs(one.scores, edges, baseline=None, color=BONAFIDE)
    axes.axhline(threshold, color=INK, linewidth=0.9, linestyle='--')
    axes.set(xlim=(0, one.duration), ylim=(-limit, limit), xlabel='seconds')

  words = f'Scores of {name} over time; spoofed: {spoofed or "nowhere"}.'
  return picture(called, words, draw, 1.9)


def _row(words: str, part: dict) -> list[str]:
  seconds, between = part['seconds'], part['range_eer_interval']
  return [
    words,
    _percent(part['range_eer']),
    'undefined' if between is None else interval(between),
    *(_percent(value) for value in part['segment_eer'].values()),
    f'{seconds["bonafide"]:,.0f}',
    f'{seconds["spoof"]:,.0f}',
  ]


def _decisions(split: str, found: dict) -> list[str]:
  edges = found['edges']
  near = edges['median_ms']
  return [
    split,
    _percent(found['miss']),
    _percent(found['false_alarm']),
    f'{edges["count"]:,}',
    f'{edges["found"]:,}',
    'none' if near is None else f'{near:.0f}',
    _percent(edges['within_moment']),
  ]


def _percent(value: float | None) -> str:
  return 'undefined' if value is None else percent(value)
