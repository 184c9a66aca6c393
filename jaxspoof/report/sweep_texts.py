"""The table of a benchmark as CSV, Markdown and LaTeX.

`COLUMNS` and `COSTS` are what every form of it shows, the page too.
"""

import csv as csv_lib
import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Column(NamedTuple):
  """A column of the table.

  Attributes:
    name: in the CSV file.
    title: for a person.
    value: of a row; None where it has none.
    form: how a number is shown.
    scale: what it is multiplied by before.
  """

  name: str
  title: str
  value: Callable[[Row], Any]
  form: str = ''
  scale: float = 1.0

  def text(self, row: Row) -> str:
    """For a person; '' where there is no value."""
    value = self.value(row)
    if value is None:
      return ''
    if isinstance(value, list):  # an interval
      return ' to '.join(format(self.scale * end, self.form) for end in value)
    if isinstance(value, str):
      return value
    return format(self.scale * value, self.form)

  def fits(self, rows) -> bool:
    """Whether any row has a value."""
    return any(self.value(row) is not None for row in rows)


def _of(*path: str) -> Callable[[Row], Any]:
  def value(row: Row) -> Any:
    for name in path:
      row = None if row is None else row.get(name)
    return row

  return value


def _percent(name: str, title: str, *path: str, sign: str = '') -> Column:
  return Column(name, title, _of(*path), f'{sign}.2f', 100.0)


COLUMNS = (
  Column('system', 'system', _of('system')),
  Column('test', 'corpus:split', _of('test')),
  Column('condition', 'condition', _of('condition')),
  _percent('eer', 'EER %', 'eer'),
  _percent('interval', '95 % interval', 'interval'),
  _percent('deviation', 'deviation over seeds', 'deviation'),
  _percent(
    'difference', 'less the first', 'difference', 'value', sign='+'
  ),
  _percent(
    'difference_interval', '95 % interval of it', 'difference', 'interval',
    sign='+',
  ),
  Column('holm', 'p, Holm', _of('difference', 'holm'), '.3f'),
  Column('min_tdcf_2019', 'min t-DCF 2019', _of('min_tdcf_legacy'), '.4f'),
  Column('min_tdcf_2021', 'min t-DCF 2021', _of('min_tdcf_revised'), '.4f'),
  Column('min_dcf', 'minDCF', _of('min_dcf'), '.3f'),
  Column('act_dcf', 'actDCF', _of('act_dcf'), '.3f'),
  Column('cllr', 'Cllr', _of('cllr'), '.3f'),
  _percent('miss', 'miss % at dev threshold', 'miss'),
  _percent('false_alarm', 'false alarm % at dev threshold', 'false_alarm'),
  Column('bonafide', 'bona fide', _of('trials', 'bonafide'), ',.0f'),
  Column('spoof', 'spoof', _of('trials', 'spoof'), ',.0f'),
)  # fmt: skip
COSTS = (
  Column('system', 'system', _of('system')),
  Column('model', 'model', _of('model')),
  Column('trained_on', 'trained on', _of('trained_on')),
  Column('seeds', 'seeds', _of('seeds'), '.0f'),
  Column('parameters', 'parameters', _of('parameters'), ',.0f'),
  Column('macs', 'MACs per clip, M', _of('macs'), ',.0f', 1e-6),
  Column('ms_per_clip', 'ms per clip', _of('ms_per_clip'), ',.2f'),
  Column('memory', 'memory, MB', _of('memory'), ',.0f', 1e-6),
  Column('seconds_scored', 's scored at most', _of('seconds_scored'), '.2f'),
  Column('minutes', 'minutes of training', _of('minutes'), ',.1f'),
  Column('calibrated_on', 'calibrated on', _of('dev', 'of')),
)


def costs(result: Mapping[str, Any]) -> list[dict[str, Any]]:
  """A row for each system."""
  return [{'system': n, **found} for n, found in result['systems'].items()]


def about(result: Mapping[str, Any], test: str) -> str:
  """What a test is, and what its intervals are of."""
  found = result['tests'][test]
  trials, attacks = found['trials'], found['attacks']
  return (
    f'{found["corpus"]}, split {found["split"]}: {trials["total"]:,} trials, '
    f'{trials["bonafide"]:,} bona fide and {trials["spoof"]:,} spoof by '
    f'{len(attacks)} attack{"s" * (len(attacks) != 1)}; intervals: '
    f'{result["resamples"]:,} resamples of {found["resampled"]}'
  )


def explained(result: Mapping[str, Any]) -> list[str]:
  """What a reader should know of the figures, in sentences."""
  words = [
    'EER, t-DCF and minDCF are of the scores as they are; actDCF and Cllr of '
    'what the calibration of the dev split makes of them, and errors at the '
    'threshold of the EER of the dev split. Nothing of a test is used for '
    'these.',
    'Intervals are 95 % expanded percentile intervals of the bootstrap over '
    'speakers and attacks: the fewer there are, the further they reach. In '
    'simulated tests of 20 speakers and 6 attacks or more they held the true '
    'EER 93 to 98 times in 100.',
  ]
  if any('difference' in row for row in result['rows']):
    words.append(
      'Differences are from the first system, on the same resamples; p is '
      f'two-sided, corrected for all {result["comparisons"]} comparisons of '
      'this table (Holm).'
    )
  return [*words, *(f'Note: {note}.' for note in result['notes'])]


def csv(result: Mapping[str, Any]) -> str:
  """A line for each system, test and condition; rates are fractions."""
  buffer = io.StringIO()
  writer = csv_lib.writer(buffer, lineterminator='\n')
  further = COSTS[1:]
  head: list[str] = []
  for column in (*COLUMNS, *further):
    ends = ('_low', '_high') if 'interval' in column.name else ('',)
    head += [column.name + end for end in ends]
  writer.writerow(head)
  by_name = {row['system']: row for row in costs(result)}
  for row in result['rows']:
    line: list[Any] = []
    for columns, values in ((COLUMNS, row), (further, by_name[row['system']])):
      for column in columns:
        value = column.value(values)
        if 'interval' in column.name:
          line += value or ['', '']
        else:
          line.append('' if value is None else value)
    writer.writerow(line)
  return buffer.getvalue()


def markdown(result: Mapping[str, Any]) -> str:
  """The systems, and a table for each test."""
  lines = _markdown(COSTS, costs(result))
  for test in result['tests']:
    rows = [row for row in result['rows'] if row['test'] == test]
    shown = [c for c in COLUMNS if c.name not in ('test', 'bonafide', 'spoof')]
    lines += ['', f'{about(result, test)}:', '', *_markdown(shown, rows)]
    lines += _groups(result, test)
  for words in explained(result):
    lines += ['', words]
  return '\n'.join(lines) + '\n'


def _groups(result: Mapping[str, Any], test: str) -> list[str]:
  """EERs by codec, gender and the like, in lines; none where nobody says."""
  condition, lines = result['conditions'][0], []
  rows = [
    row
    for row in result['rows']
    if (row['test'], row['condition']) == (test, condition)
  ]
  for column, counts in result['tests'][test].get('groups', {}).items():
    columns = [Column(column, column, _of('name'))]
    columns.append(Column('trials', 'trials', _of('trials'), ',.0f'))
    columns += [_percent(r['system'], r['system'], r['system']) for r in rows]
    cells = [
      {
        'name': name,
        'trials': count,
        **{row['system']: row['groups'][column][name] for row in rows},
      }
      for name, count in counts.items()
    ]
    lines += ['', f'EER % by {column}, {test}, {condition}:', '']
    lines += _markdown(columns, cells)
  return lines


def _markdown(columns, rows) -> list[str]:
  columns = [column for column in columns if column.fits(rows)]
  cells = [[column.title for column in columns], ['---'] * len(columns)]
  cells += [[column.text(row) for column in columns] for row in rows]
  return [f'| {" | ".join(line)} |' for line in cells]


_LATEX = str.maketrans(
  {
    **{sign: f'\\{sign}' for sign in '&%$#_{}'},
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '\\': r'\textbackslash{}',
  }
)


def latex(result: Mapping[str, Any]) -> str:
  """The same tables for LaTeX, with the package booktabs."""
  parts = [_latex('Systems', COSTS, costs(result))]
  for test in result['tests']:
    rows = [row for row in result['rows'] if row['test'] == test]
    hidden = ('test', 'bonafide', 'spoof', 'difference_interval')
    shown = [c for c in COLUMNS if c.name not in hidden]
    parts.append(_latex(about(result, test), shown, rows))
  words = ' '.join(explained(result)).translate(_LATEX)
  return f'% {words}\n' + '\n'.join(parts)


def _latex(caption: str, columns, rows) -> str:
  columns = [column for column in columns if column.fits(rows)]
  cells = [[column.title for column in columns]]
  cells += [[column.text(row) for column in columns] for row in rows]
  head, *body = (
    f'    {" & ".join(x.translate(_LATEX) for x in line)} \\\\'
    for line in cells
  )
  kinds = ''.join(
    'l' if all(isinstance(c.value(row), str | None) for row in rows) else 'r'
    for c in columns
  )
  return '\n'.join(
    [
      r'\begin{table}',
      f'  \\caption{{{caption.translate(_LATEX)}}}',
      f'  \\begin{{tabular}}{{{kinds}}}',
      r'    \toprule',
      head,
      r'    \midrule',
      *body,
      r'    \bottomrule',
      r'  \end{tabular}',
      r'\end{table}',
      '',
    ]
  )
