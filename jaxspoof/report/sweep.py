"""The page of a benchmark: systems on corpora under conditions."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxspoof.report import charts, sweep_texts
from jaxspoof.report.drawing import INK, SERIES, picture
from jaxspoof.report.markup import (
  Html,
  element,
  figure,
  join,
  percent,
  section,
)
from jaxspoof.report.page import document
from jaxspoof.report.sweep_texts import COLUMNS, COSTS, Column
from jaxspoof.runs import names
from jaxspoof.runs.names import RunError
from jaxspoof.score_files import scores as scores_lib

# Sorts a table by the column whose head is pressed, and hides rows without the
# words of the field above it. The page asks nobody for anything.
SCRIPT = """
for (const head of document.querySelectorAll('th button')) {
  head.onclick = () => {
    const th = head.parentElement, row = th.parentElement;
    const at = [...row.children].indexOf(th);
    const down = th.getAttribute('aria-sort') !== 'ascending';
    for (const other of row.children) other.removeAttribute('aria-sort');
    th.setAttribute('aria-sort', down ? 'ascending' : 'descending');
    const body = row.closest('table').tBodies[0];
    const value = (tr) => tr.children[at].dataset.value;
    const compare = (a, b) => {
      const x = value(a), y = value(b);
      if (x === '' || y === '') return (x === '') - (y === '');
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? order : -order;
    };
    body.append(...[...body.rows].sort(compare));
  };
}
for (const field of document.querySelectorAll('input[data-filter]')) {
  field.oninput = () => {
    const words = field.value.toLowerCase().split(/\\s+/);
    const rows = document.getElementById(field.dataset.filter).tBodies[0].rows;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  };
}
"""


def page(workdir: pathlib.Path) -> str:
  """The page of a benchmark, from its files.

  Raises:
    RunError: the benchmark has not ended, or a file of it is broken.
  """
  result = names.json_or_none(workdir / names.BENCHMARK)
  if result is None:
    raise RunError(
      f'{workdir} holds no {names.BENCHMARK} yet: it is written when all cells '
      'are scored'
    )
  config = names.json_or_none(workdir / names.CONFIG) or {}
  return render(
    result, pathlib.Path(config.get('cells') or workdir / names.CELLS)
  )


def render(result: Mapping[str, Any], cells: pathlib.Path) -> str:
  """The page. The same files give the same text.

  Args:
    result: content of `benchmark.json`.
    cells: folder of the cells, for the scores of curves.
  """
  systems, tests = result['systems'], result['tests']
  title = (
    f'{_count(systems, "system")} on {_count(tests, "test")} under '
    f'{_count(result["conditions"], "condition")}'
  )
  body = element(
    'body',
    element(
      'header',
      element('h1', title),
      *(element('p', f'{sweep_texts.about(result, test)}.') for test in tests),
    ),
    element(
      'main',
      _heat_maps(result),
      _whole(result),
      _matrix(result),
      _costs(result),
      *(_test(result, test, cells) for test in tests),
      section(
        'How to read it',
        *(element('p', words) for words in sweep_texts.explained(result)),
      ),
    ),
    element(
      'footer',
      'Made from the files of the benchmark’s folder; python -m '
      'jaxspoof.report makes it again. benchmark.csv, .md, .tex and .json hold '
      'the same figures.',
    ),
  )
  return document(title, body, SCRIPT)


def _count(things: Sequence | Mapping, word: str) -> str:
  return f'{len(things)} {word}{"s" * (len(things) != 1)}'


def _rows(result, **wanted: str) -> list[dict]:
  return [
    row
    for row in result['rows']
    if all(row[name] == value for name, value in wanted.items())
  ]


def _eer(result, **wanted: str) -> float | None:
  found = _rows(result, **wanted)
  return found[0]['eer'] if found else None


def _heat(rate: float | None, strong: bool = False) -> Html:
  """A cell that is the darker the higher an error rate is; one half is dark."""
  if rate is None:
    return element('td', '')
  share = 65 * min(1.0, 2 * rate) ** 0.5
  return element(
    'td',
    element('strong', percent(rate)) if strong else percent(rate),
    style=f'background: color-mix(in srgb, var(--spoof) {share:.0f}%, '
    'transparent)',
  )


def _heat_table(
  caption: str, corner: str, columns: Sequence[str], rows: Mapping[str, list]
) -> Html:
  """Rates, or finished cells, in rows by name."""
  head = [corner, *columns]
  return element(
    'div',
    element(
      'table',
      element('caption', caption),
      element(
        'thead',
        element('tr', *(element('th', name, scope='col') for name in head)),
      ),
      element(
        'tbody',
        *(
          element(
            'tr',
            element('th', name, scope='row'),
            *(c if isinstance(c, Html) else _heat(c) for c in values),
          )
          for name, values in rows.items()
        ),
      ),
      class_='numbers heat',
    ),
    class_='scroll',
    tabindex=0,
    role='region',
    aria_label=caption,
  )


def _heat_maps(result) -> Html:
  """EER by condition, one map for each test."""
  return section(
    'Conditions',
    element(
      'p',
      'EER, mean over seeds: the darker, the more errors. Synthetic conditions '
      'are made by this program for want of recordings.',
    ),
    *(
      _heat_table(
        f'EER on {test}, {_trials(result, test)}',
        'system',
        [_condition(result, name) for name in result['conditions']],
        {
          system: [
            _eer(result, system=system, test=test, condition=condition)
            for condition in result['conditions']
          ]
          for system in result['systems']
        },
      )
      for test in result['tests']
    ),
  )


def _trials(result, test: str) -> str:
  return f'{result["tests"][test]["trials"]["total"]:,} trials'


def _condition(result, name: str) -> str:
  synthetic = {
    s for row in _rows(result, condition=name) for s in row['synthetic']
  }
  return f'{name} (synthetic)' if synthetic else name


def _whole(result) -> Html:
  """All cells in one table that can be sorted and filtered."""
  return section(
    'All figures',
    element(
      'p',
      'Press the head of a column to sort by it. ',
      element(
        'label',
        'Show rows with ',
        Html(
          '<input type="search" data-filter="all" '
          'placeholder="system, corpus, condition">'
        ),
      ),
    ),
    _sortable(
      'all', 'Every system, test and condition', COLUMNS, result['rows']
    ),
  )


def _sortable(
  name: str, caption: str, columns: Sequence[Column], rows: Sequence[Mapping]
) -> Html:
  """A table whose heads are buttons."""
  columns = [column for column in columns if column.fits(rows)]
  heads = [
    element('th', element('button', column.title, type='button'), scope='col')
    for column in columns
  ]
  body = []
  for row in rows:
    cells = []
    for number, column in enumerate(columns):
      value = column.value(row)
      value = value[0] if isinstance(value, list) else value
      kind = {'class_': 'words'} if isinstance(value, str) else {}
      cells.append(
        element(
          'td' if number else 'th',
          column.text(row),
          data_value='' if value is None else value,
          **(kind if number else {'scope': 'row'}),
        )
      )
    body.append(element('tr', *cells))
  return element(
    'div',
    element(
      'table',
      element('caption', caption),
      element('thead', element('tr', *heads)),
      element('tbody', *body),
      id=name,
      class_='numbers',
    ),
    class_='scroll',
    tabindex=0,
    role='region',
    aria_label=caption,
  )


def _matrix(result) -> Html | None:
  """What a system was trained on against what it was tested on."""
  trained = {
    name: found['trained_on']
    for name, found in result['systems'].items()
    if found.get('trained_on')
  }
  condition = result['conditions'][0]
  if not trained or len(result['tests']) < 2:
    return None
  rows = {}
  for name in sorted(trained, key=trained.get):
    corpora = trained[name].split('+')
    rows[f'{trained[name]}: {name}'] = [
      _heat(
        _eer(result, system=name, test=test, condition=condition),
        strong=found['corpus'] in corpora,
      )
      for test, found in result['tests'].items()
    ]
  return section(
    'Across corpora',
    element(
      'p',
      f'EER under “{condition}” by the corpus that a system was trained on, '
      'and the one it was tested on; in bold what was tested on other clips of '
      'the corpus of the training.',
    ),
    _heat_table(
      'Trained on: system, against tested on',
      'trained on: system',
      [f'{test}, {_trials(result, test)}' for test in result['tests']],
      rows,
    ),
  )


def _costs(result) -> Html:
  """Systems, and accuracy against cost."""
  rows = sweep_texts.costs(result)
  batches = {
    f'{row["batch"]} clips on {row["device"]}'
    for row in rows
    if row.get('ms_per_clip')
  }
  condition = result['conditions'][0]
  pictures = [
    _accuracy(result, test, condition, column)
    for test in result['tests']
    for column in COSTS
    if column.name in ('macs', 'ms_per_clip')
  ]
  return section(
    'Systems and costs',
    _sortable('systems', 'The systems', COSTS, rows),
    element(
      'p',
      'ms per clip: time of the model alone in batches of '
      f'{" or ".join(sorted(batches))}, median over cells; reading clips and '
      'conditions come on top. Memory: what the program needs of a device at '
      'most, weights and a batch included, as the compiler says.',
    )
    if batches
    else None,
    element('div', join(pictures), class_='grid'),
  )


def _accuracy(result, test: str, condition: str, column: Column) -> Html | None:
  """EER of all systems against one of their costs."""
  points = {}
  for row in sweep_texts.costs(result):
    name = row['system']
    cost = column.value(row)
    eer = _eer(result, system=name, test=test, condition=condition)
    if cost and eer is not None:
      points[name] = column.scale * cost, 100 * eer
  if len(points) < 2:
    return None

  def draw(axes):
    x, y = np.array(list(points.values())).T
    axes.set_xscale('log')
    axes.plot(x, y, 'o', color=SERIES[0], markersize=6)
    for name, at in points.items():
      axes.annotate(
        name, at, xytext=(6, 4), textcoords='offset points', color=INK
      )
    axes.set_ylim(0, 1.15 * max(y) + 1)
    axes.set_xlim(min(x) / 2, max(x) * 4)
    for axis in (
      axes.xaxis.set_major_formatter,
      axes.xaxis.set_minor_formatter,
    ):
      axis(lambda value, _: f'{value:,g}' if f'{value:e}'[0] in '125' else '')
    axes.set(xlabel=column.title, ylabel='EER, %')

  said = '; '.join(
    f'{name} {x:.4g} {column.title}, {y:.2f} %'
    for name, (x, y) in points.items()
  )
  return figure(
    picture(f'cost-{column.name}-{test}', f'EER against cost: {said}', draw, 3),
    f'{test}, {condition}, {_trials(result, test)}: EER against '
    f'{column.title}. Lower left is better.',
  )


def _test(result, test: str, cells: pathlib.Path) -> Html | None:
  """DET curves and attacks of a test, under the first condition."""
  condition = result['conditions'][0]
  rows = _rows(result, test=test, condition=condition)
  if not rows:
    return None
  curves = {
    row['system']: (_scores(cells / row['cells'][0]), row['eers'][0])
    for row in rows
  }
  attacks = result['tests'][test]['attacks']
  groups = result['tests'][test].get('groups', {})
  return section(
    f'{test}, {condition}',
    element(
      'div',
      figure(
        charts.det(curves),
        'Detection error trade-off of the first seeds on probit axes, '
        f'{_trials(result, test)}. Lower left is better.',
      ),
      _heat_table(
        f'EER per attack against all bona fide trials, {test}, {condition}',
        'attack, trials',
        [row['system'] for row in rows],
        {
          f'{attack}, {count:,}': [
            row['per_attack'].get(attack) for row in rows
          ]
          for attack, count in attacks.items()
        },
      ),
      *(
        _heat_table(
          f'EER by {column}, trials of both classes, {test}, {condition}',
          f'{column}, trials',
          [row['system'] for row in rows],
          {
            f'{name}, {count:,}': [row['groups'][column][name] for row in rows]
            for name, count in counts.items()
          },
        )
        for column, counts in groups.items()
      ),
      class_='grid',
    ),
  )


def _scores(cell: pathlib.Path) -> scores_lib.Scores:
  paths = list((cell / 'scores').glob('*.txt'))
  if len(paths) != 1:
    raise RunError(f'{cell}: expected one score file, found {len(paths)}')
  return scores_lib.read(paths[0])
