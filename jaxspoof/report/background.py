"""Parts of the page: how the result came about, and at what cost."""

import json
import math

from jaxspoof.report import charts
from jaxspoof.report.markup import Html, element, percent, section, table
from jaxspoof.runs import names
from jaxspoof.runs.names import RunError
from jaxspoof.runs.run import Run

CURVES = (
  # key, title, whether it is measured once an epoch, factor
  ('train/loss', 'training loss', False, 1),
  ('dev/eer', 'dev EER, %', True, 100),
  ('dev/f1_error', 'dev 1 - macro-F1, %', True, 100),
  ('dev/range_eer', 'dev range EER, %', True, 100),
  ('train/lr', 'learning rate', False, 1),
  ('clips_per_s', 'clips per second', False, 1),
  ('data_wait', 'time waiting for data, %', False, 100),
)


def training(
  run: Run,
  curves=CURVES,
  rings: str = 'The ring marks the lowest error on dev, which selects.',
) -> Html | None:
  """Curves of the training.

  Args:
    run: the run whose log is shown.
    curves: which quantities are shown, in the form of `CURVES`; those that were
      never logged are left out.
    rings: a sentence that says what the rings in the pictures mark.
  """
  pictures = []
  for key, title, marks, scale in curves:
    steps, values = _series(run, key)
    if steps:
      pictures.append(
        element(
          'figure',
          charts.training(title, steps, values, marks=marks, scale=scale),
        )
      )
  if not pictures:
    return section(
      'Training', element('p', 'There are no lines yet.', class_='note')
    )
  last = run.lines[-1]
  words = f'{last["step"]:,} steps'
  if 'epoch' in last:
    words += f', {last["epoch"]} epochs'
  words += f'. {rings}'
  if len(run.lines) > charts.FEW:
    words += (
      ' Thin lines are single measurements, thick ones their running median.'
    )
  return section(
    'Training',
    element('p', words),
    element('div', *pictures, class_='grid small'),
  )


def _series(run: Run, key: str) -> tuple[list[int], list[float]]:
  """Steps at which a quantity was written down, and its values."""
  steps, values = [], []
  for line in run.lines:
    value = line.get(key)
    if value is None:
      continue
    if not isinstance(value, (int, float)) or not math.isfinite(value):
      raise RunError(
        f'{run.workdir / names.PROGRESS}, step {line["step"]}: field {key} '
        f'must be a finite number, got {value!r}'
      )
    steps.append(line['step'])
    values.append(value)
  return steps, values


def selection(run: Run) -> Html | None:
  """What was selected on what."""
  if run.metrics is None:
    return None
  rows = [
    ['trained on', run.setting('data', 'train', 'not known')],
    ['selected on', run.metrics['selected_on']],
    ['result on', run.metrics['split']],
  ]
  return section('What was selected on what', table('Splits by role', [], rows))


def cost(run: Run) -> Html | None:
  """Size, work, speed and memory."""
  if run.cost is None:
    return None
  found = dict(run.cost)
  rate = found.get('sample_rate', 16_000)
  macs = found.get('macs_per_clip', {})
  shown = {
    'parameters': ('parameters', '{:,}'.format),
    'batch': ('clips in a batch', '{:,}'.format),
    'samples': ('training crop', lambda n: _clip(n, rate)),
    'eval_samples': ('evaluated clip', lambda n: _clip(n, rate)),
    'epochs': ('epochs', '{:,}'.format),
    'steps': ('steps', '{:,}'.format),
    'minutes': ('duration', '{:,.1f} minutes'.format),
    'clips_per_s': ('training speed', '{:,.1f} clips per second'.format),
    'data_wait': ('time waiting for data', lambda x: percent(x, 1)),
    'peak_memory_mb': ('peak memory', '{:,.0f} MiB'.format),
    'device': ('device', str),
    'devices': ('devices', '{:,}'.format),
    'hosts': ('hosts', '{:,}'.format),
    'machine': ('machine', str),
    'started': ('started', str),
    'finished': ('finished', str),
  }
  rows = [
    [name, _formatted(form, found[key], key, run)]
    for key, (name, form) in shown.items()
    if found.get(key) is not None
  ]
  total = macs.get('total', sum(macs.values()))
  stages = [
    [name, f'{n / 1e6:,.1f}', percent(n / total, 1) if total else '']
    for name, n in macs.items()
  ]
  return section(
    'Cost',
    element(
      'div',
      table('The run', [], rows),
      table(
        'Multiply-accumulates of one clip, forward',
        ['stage', 'millions', 'share'],
        stages,
        class_='numbers',
      )
      if stages
      else None,
      class_='grid',
    ),
  )


def _clip(samples: int, rate: int) -> str:
  return f'{samples:,} samples, {samples / rate:.2f} s'


def _formatted(form, value, key: str, run: Run) -> str:
  try:
    return form(value)
  except (TypeError, ValueError) as error:
    raise RunError(
      f'{run.workdir / "cost.json"}: field {key!r} is {value!r}: {error}'
    ) from error


def again(run: Run) -> Html:
  """What is needed to do it again: command, seed, versions, config."""
  cost = run.cost or {}
  parts = []
  if 'command' in cost:
    parts.append(element('pre', element('code', cost['command'])))
  if 'seed' in cost:
    parts.append(element('p', f'Seed {cost["seed"]}.'))
  if run.metrics is not None and 'state_sha256' in run.metrics:
    state = element('code', run.metrics['state_sha256'])
    parts.append(element('p', 'SHA-256 of the state at the end: ', state))
  if cost.get('versions'):
    rows = [[name, value] for name, value in cost['versions'].items()]
    parts.append(table('Versions', ['package', 'version'], rows))
  if run.config:
    parts.append(
      element(
        'details',
        element('summary', 'The whole config'),
        element('pre', element('code', json.dumps(run.config, indent=2))),
      )
    )
  if not parts:
    parts.append(element('p', 'Not known yet.', class_='note'))
  return section('Do it again', *parts)
