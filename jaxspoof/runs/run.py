"""The files of a run as one value, read and checked."""

import dataclasses
import json
import math
import pathlib

import numpy as np

from jaxspoof.metrics.det import Eer, equal_error
from jaxspoof.runs import names
from jaxspoof.runs.names import RunError
from jaxspoof.score_files import protocols
from jaxspoof.score_files import scores as scores_lib

NUMBER = (int, float)
SUMMARY = {
  'eer': NUMBER,
  'eer_interval': list,
  'eer_threshold': NUMBER,
  'trials': {'total': int, 'bonafide': int, 'spoof': int},
  'split': str,
  'per_attack': dict,
  'selected_on': str,
}
SOURCE_TRACING = {'classes': list, 'train': str, 'dev': str, 'splits': dict}
ATTACK = {'eer': NUMBER, 'interval': list, 'trials': int}
KNOWN = (names.CONFIG, names.PROGRESS, names.METRICS)


@dataclasses.dataclass(frozen=True)
class Run:
  """What is known about a run.

  Attributes:
    workdir: its folder.
    config: of the run; empty if there is none.
    lines: of metrics.jsonl, by rising step.
    metrics: metrics.json; None before the run has ended.
    cost: cost.json; None before the run has ended.
    scores: score files by name of the split.
    rates: the EER of each score file, computed here.
    source_tracing: source_tracing.json; None where no attacks are named.
    calibration: slope and intercept that make log-likelihood ratios of scores,
      of the run's detector; None where it has none.
    notes: what is missing or does not fit together, in sentences.
  """

  workdir: pathlib.Path
  config: dict
  lines: list[dict]
  metrics: dict | None
  cost: dict | None
  scores: dict[str, scores_lib.Scores]
  rates: dict[str, Eer]
  source_tracing: dict | None
  calibration: tuple[float, float] | None
  notes: list[str]

  @property
  def summaries(self) -> dict[str, dict]:
    """Summaries by name of the score file, mostly the split, headline first."""
    if self.metrics is None:
      return {}
    headline = self.metrics.get('name', self.metrics['split'])
    return {headline: self.metrics, **self.metrics['further']}

  def setting(self, section: str, name: str, default: str) -> str:
    """A value of the config, or the default where it is not there."""
    fields = self.config.get(section)
    return fields.get(name, default) if isinstance(fields, dict) else default


def load(workdir) -> Run:
  """Read the files of a workdir.

  Args:
    workdir: folder of a run.

  Returns:
    The run, with notes on what is missing.

  Raises:
    RunError: not a workdir, or a broken file.
  """
  workdir = checked_folder(workdir)
  notes: list[str] = []
  metrics = names.json_or_none(workdir / names.METRICS)
  if metrics is None:
    notes.append(
      'The run has not ended: there is no metrics.json, so no result yet.'
    )
  else:
    metrics.setdefault('further', {})
    _check_summaries(metrics, workdir / names.METRICS)
  config, cost = (
    names.json_or_none(workdir / n) for n in (names.CONFIG, names.COST)
  )
  if config is None:
    notes.append('There is no config.json: the settings are not known.')
  if cost is None:
    notes.append(
      'There is no cost.json yet: cost, versions, seed and command are not '
      'known.'
    )
  lines = []
  if (config or {}).get('job') != 'evaluate':  # which trains nothing
    lines = metric_lines(workdir / names.PROGRESS, notes)
  scores = {
    path.name.removesuffix('.gz').removesuffix('.txt'): scores_lib.read(path)
    for pattern in ('*.txt', '*.txt.gz')
    for path in sorted((workdir / 'scores').glob(pattern))
  }
  rates = {split: _rate(trials, split) for split, trials in scores.items()}
  path = names.existing(workdir, names.SOURCE_TRACING)
  source_tracing = names.json_or_none(path)
  if source_tracing is not None:
    _check(source_tracing, SOURCE_TRACING, path, '')
  run = Run(
    workdir, config or {}, lines, metrics, cost, scores, rates, source_tracing,
    _calibration(workdir), notes,
  )  # fmt: skip
  notes.extend(_disagreements(run))
  return run


def checked_folder(workdir) -> pathlib.Path:
  """The folder, if it is one of a run; RunError if not."""
  workdir = pathlib.Path(workdir)
  if not any((workdir / name).is_file() for name in KNOWN):
    reason = 'none of ' + ', '.join(KNOWN) + ' is in it'
    if not workdir.is_dir():
      reason = 'there is no such folder'
    raise RunError(f'{workdir} is not the workdir of a run: {reason}')
  return workdir


def _calibration(workdir: pathlib.Path) -> tuple[float, float] | None:
  card = names.json_or_none(workdir / names.DETECTOR_CARD)
  found = (card or {}).get('calibration')
  if found is None:
    return None
  wanted = {'slope': NUMBER, 'intercept': NUMBER}
  _check(found, wanted, workdir / names.DETECTOR_CARD, 'calibration.')
  return found['slope'], found['intercept']


def _rate(trials: scores_lib.Scores, split: str) -> Eer:
  try:
    return equal_error(trials.scores, trials.label)
  except ValueError as error:
    raise RunError(f'score file of split {split!r}: {error}') from error


def _check_summaries(metrics: dict, path: pathlib.Path) -> None:
  """Raise RunError where a summary lacks what the page shows."""
  _check(metrics, {**SUMMARY, 'further': dict}, path, '')
  for prefix, summary in {
    '': metrics,
    **{f'further.{split}.': s for split, s in metrics['further'].items()},
  }.items():
    _check(summary, SUMMARY, path, prefix)
    _check_ends(summary['eer_interval'], path, f'{prefix}eer_interval')
    for name, row in summary['per_attack'].items():
      _check(row, ATTACK, path, f'{prefix}per_attack.{name}.')
      _check_ends(row['interval'], path, f'{prefix}per_attack.{name}.interval')


def _check(values, fields: dict, path: pathlib.Path, prefix: str) -> None:
  for field, kind in fields.items():
    value = values.get(field) if isinstance(values, dict) else None
    if isinstance(kind, dict):
      _check(value, kind, path, f'{prefix}{field}.')
    elif not isinstance(value, kind):
      kinds = kind if isinstance(kind, tuple) else (kind,)
      expected = ' or '.join(k.__name__ for k in kinds)
      raise RunError(
        f'{path}: field {prefix}{field} must be {expected}, got {value!r}'
      )


def _check_ends(ends: list, path: pathlib.Path, field: str) -> None:
  if len(ends) != 2 or not all(isinstance(x, NUMBER) for x in ends):
    raise RunError(
      f'{path}: field {field} must be two numbers, [low, high], got {ends!r}'
    )


def metric_lines(path: pathlib.Path, notes: list[str]) -> list[dict]:
  """Lines of metrics.jsonl; of a step that was done twice the later one."""
  if not path.is_file():
    notes.append('There is no metrics.jsonl: nothing is known of the training.')
    return []
  texts = path.read_text(encoding='utf-8').splitlines()
  by_step = {}
  for number, line in enumerate(texts, 1):
    try:
      values = json.loads(line)
      by_step[int(values['step'])] = values
    except (ValueError, KeyError, TypeError) as error:
      if number < len(texts):
        raise RunError(
          f'{path}, line {number}: expected a JSON object with a step'
        ) from error
      notes.append(
        'The last line of metrics.jsonl is cut short and left out: the run '
        'was killed, or is writing.'
      )
  if not by_step:
    notes.append('metrics.jsonl is empty: the training has only begun.')
  return [by_step[step] for step in sorted(by_step)]


def _disagreements(run: Run) -> list[str]:
  """Results that do not follow from the score files."""
  found = []
  for split, summary in run.summaries.items():
    if split not in run.scores:
      found.append(f'There is no scores/{split}.txt: its pictures are missing.')
      continue
    value = run.rates[split].eer
    if not math.isclose(value, summary['eer'], rel_tol=1e-6, abs_tol=1e-9):
      found.append(
        f'metrics.json gives an EER of {summary["eer"]:.4%} for split {split}, '
        f'but scores/{split}.txt gives {value:.4%}: one of the two files is '
        'not from this run.'
      )
  return found


def speakers(split: str, run: Run, utterance) -> np.ndarray | None:
  """Speakers of trials; None where the run does not tell or does not know."""
  path = names.protocol(run.workdir, split)
  if not path.is_file():
    return None
  found = protocols.read(path)
  by_name = dict(zip(found.utterance.tolist(), found.speaker, strict=True))
  if set(by_name) != set(utterance.tolist()):
    raise RunError(f'{path}: not the trials of scores/{split}.txt')
  speaker = np.array([by_name[name] for name in utterance.tolist()])
  return None if np.all(speaker == '-') else speaker


def aligned(split: str, runs: dict[str, Run]) -> dict[str, scores_lib.Scores]:
  """Scores of all runs in the order of the first; the same trials."""
  aligned: dict[str, scores_lib.Scores] = {}
  for name, run in runs.items():
    trials = run.scores[split]
    order = np.argsort(trials.utterance)
    aligned[name] = scores_lib.Scores(*(column[order] for column in trials))
    first_name, first = next(iter(aligned.items()))
    for field in ('utterance', 'label', 'attack'):
      ours, theirs = (getattr(t, field) for t in (first, aligned[name]))
      if not np.array_equal(ours, theirs):
        raise RunError(
          f'split {split!r}: {first_name} and {name} differ in the field '
          f'{field} of their trials: expected scores of the same corpus'
        )
  return aligned
