"""The parts of the page that show source tracing, from a run to HTML."""

import numpy as np

from jaxspoof.classes import UNKNOWN, WORDS, Classes
from jaxspoof.report import maps as pictures
from jaxspoof.report.markup import (
  Html,
  element,
  figure,
  join,
  percent,
  section,
  table,
)
from jaxspoof.runs import embedded, names
from jaxspoof.runs.names import RunError
from jaxspoof.runs.run import Run

METHODS = {
  'score': 'threshold on the largest output',
  'neighbours': 'distance to training clips',
}


def title(run: Run) -> str:
  """The title of the page."""
  split, _, found = _headline(run)
  return f'Macro-F1 {found["macro_f1"]:.3f} on {split}'


def headline(run: Run) -> Html:
  """What came out, in one line and a few sentences."""
  split, kind, found = _headline(run)
  trials = run.source_tracing['splits'][split]['trials']
  said = (
    f'Measured on split “{split}”: {trials["known"]:,} clips of bona fide '
    'speech or of attacks that were in training'
  )
  if trials['unknown']:
    said += (
      f', and {trials["unknown"]:,} of attacks that were not, which are to be '
      'answered “unknown”'
    )
  selected = (run.metrics or {}).get('selected_on')
  return join(
    [
      element(
        'p',
        f'Macro-F1 {found["macro_f1"]:.3f} ',
        element(
          'small',
          f'source tracing, {kind}; {found["majority"]["macro_f1"]:.3f} '
          'for always the commonest class',
        ),
        class_='headline',
      ),
      element('p', f'{said}.'),
      element('p', f'The model was selected by: {selected}.')
      if selected
      else None,
    ]
  )


def _headline(run: Run) -> tuple[str, str, dict]:
  """Split, task and figures that the page begins with."""
  splits = run.source_tracing['splits']
  wanted = (run.metrics or {}).get('split')
  split = wanted if wanted in splits else next(iter(splits))
  found = splits[split]
  if not found['trials']['unknown'] and found['closed_set']:
    return split, 'closed set', found['closed_set']
  # The better one on dev, not on this split.
  opened = splits[run.source_tracing['dev']]['open_set']
  method = max(opened, key=lambda m: opened[m]['macro_f1'])
  return split, f'open set by {METHODS[method]}', found['open_set'][method]


def figures(run: Run) -> Html | None:
  """Closed-set and open-set figures of every split."""
  if run.source_tracing is None:
    return None
  rows = []
  for split, found in run.source_tracing['splits'].items():
    trials = found['trials']
    if closed := found['closed_set']:
      rows.append(_row(split, 'closed set', trials['known'], closed))
    total = trials['known'] + trials['unknown']
    for method, words in METHODS.items():
      rows.append(
        _row(split, f'open set: {words}', total, found['open_set'][method])
      )
  head = [
    'split', 'answers', 'clips', 'macro-F1', 'majority', 'accuracy', 'AUROC',
    'known refused', 'unknown found',
  ]  # fmt: skip
  opened = next(iter(run.source_tracing['splits'].values()))['open_set']
  chosen = '; '.join(
    f'{METHODS[m]}: {o["chosen_by"]}' for m, o in opened.items()
  )
  return section(
    'Source tracing',
    element(
      'p',
      'Macro-F1 is the mean F1 of the classes that have clips; “majority” is '
      'the macro-F1 of always naming the commonest class of the training '
      'split. In an open set an answer can also be “unknown”; AUROC says how '
      'often a known clip seems more known than an unknown one. Thresholds '
      f'were chosen on split “{run.source_tracing["dev"]}” ({chosen}).',
    ),
    table('Figures of all splits', head, rows, class_='numbers'),
    *map(_classes, run.source_tracing['splits'].items()),
  )


def _row(split: str, answers: str, clips: int, found: dict) -> list[str]:
  return [
    split,
    answers,
    f'{clips:,}',
    f'{found["macro_f1"]:.3f}',
    f'{found["majority"]["macro_f1"]:.3f}',
    percent(found['accuracy'], 1),
    '' if found.get('auroc') is None else f'{found["auroc"]:.3f}',
    *(_share(found.get(name)) for name in ('known_refused', 'unknown_found')),
  ]


def _share(value: float | None) -> str:
  return '' if value is None else percent(value, 1)


def _classes(item: tuple[str, dict]) -> Html | None:
  """Precision, recall and F1 of each class."""
  split, found = item
  kinds = {'closed set': found['closed_set']} | {
    f'open set: {words}': found['open_set'][method]
    for method, words in METHODS.items()
  }
  tables = []
  for kind, values in kinds.items():
    if not values:
      continue
    rows = [
      [name, *(f'{c[n]:.3f}' for n in ('precision', 'recall', 'f1')),
       f'{c["trials"]:,}']
      for name, c in values['per_class'].items() if c['trials']
    ]  # fmt: skip
    head = ['class', 'precision', 'recall', 'F1', 'clips']
    tables.append(
      table(f'Split “{split}”, {kind}', head, rows, class_='numbers')
    )
  return element(
    'details', element('summary', f'Classes of split “{split}”'), *tables
  )


def confusions(run: Run) -> Html | None:
  """What each attack is taken for."""
  if run.source_tracing is None:
    return None
  found = []
  for split, values in run.source_tracing['splits'].items():
    kinds = {'closed set': values['closed_set']}
    if values['trials']['unknown']:
      kinds = {
        f'open set by {words}': values['open_set'][method]
        for method, words in METHODS.items()
      }
    for kind, part in kinds.items():
      if part:
        found.append(_confusion(run, split, kind, part))
  return section(
    'What is taken for what', element('div', *found, class_='grid')
  )


def _confusion(run: Run, split: str, kind: str, part: dict) -> Html:
  by_attack = part['by_attack']
  columns = list(part['per_class'])
  known = Classes.called(run.source_tracing['classes'][:-1])
  same = run.source_tracing.get('same', {})
  systems = [same.get(attack, attack) for attack in by_attack]
  right = known.labels(systems)[:, None] == np.arange(len(columns))
  rows = [
    _row_name(attack, known.label(system) == known.unknown)
    for attack, system in zip(by_attack, systems, strict=True)
  ]
  return figure(
    pictures.confusion(
      f'{split} {kind}', rows, columns, list(by_attack.values()), right
    ),
    f'Split “{split}”, {kind}: clips of each attack by the answer; framed: the '
    'right one. Shading is the share of the row.',
  )


def _row_name(attack: str, new: bool) -> str:
  """An attack, marked where training has not seen it."""
  name = WORDS.get(attack, attack)
  name = name if len(name) <= 18 else name[:17] + '…'
  return name + ' (new)' if new and attack != UNKNOWN else name


def maps(run: Run) -> Html | None:
  """The embeddings, seen along their principal axes."""
  path = run.workdir / names.EMBEDDINGS
  if run.source_tracing is None or not path.is_file():
    return None
  try:
    clips, _ = embedded.load(path)
  except ValueError as error:
    raise RunError(str(error)) from error
  fit_on = run.source_tracing['train']
  axes = min(clips.embedding.shape[1], int(np.sum(clips.split == fit_on)))
  found = [
    figure(
      pictures.embeddings(
        f'{first}', clips.embedding, clips.attack, clips.split, fit_on, first
      ),
      f'Embeddings on the principal axes {first} and {first + 1} of split '
      f'“{fit_on}”: colour is the attack, shape the split. At most '
      f'{pictures.MOST:,} clips are drawn.',
    )
    for first in (1, 3)
    if first < axes
  ]
  return section('Map of the embeddings', element('div', *found, class_='grid'))
