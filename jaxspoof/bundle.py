"""Makes detector bundles: `python -m jaxspoof.bundle COMMAND`.

A bundle is all that detection needs, see `jaxspoof.bundles`. Training ends by
writing one; others are made of what there is.
"""

import argparse
import dataclasses
import math
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxspoof import audio, losses, models
from jaxspoof.audio import measures
from jaxspoof.bundles import card as card_lib
from jaxspoof.bundles import domain as domain_lib
from jaxspoof.bundles import fuse as fuse_lib
from jaxspoof.bundles import hub, store
from jaxspoof.bundles.card import BundleError, Card
from jaxspoof.checkpoints import open_checkpoint, path_of
from jaxspoof.detector import Detector, Failure, read
from jaxspoof.metrics import calibration as calibration_lib
from jaxspoof.runs import names, record, weights_file
from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.score_files import scores as scores_lib
from jaxspoof.training import cost
from jaxspoof.training import state as state_lib
from jaxspoof.weights import frozen

# In the folder of a run.
FILES = tuple(
  f'{names.DETECTOR}/{name}' for name in (card_lib.NAME, card_lib.WEIGHTS)
)
MEASURED = 400  # clips of a split whose audio is measured
MOMENTS = 100_000  # of a split that a bundle keeps and is calibrated on
TOLERANCE = 1e-6  # of figures that are computed again
_FIGURES = (
  'corpus', 'split', 'trials', 'eer', 'eer_interval', 'min_dcf',
  'min_dcf_interval', 'act_dcf', 'act_dcf_interval', 'cllr', 'cllr_interval',
)  # fmt: skip
_ENCODER_INSIDE = 'random:bundle'  # front end whose values are in the weights


class Heard(NamedTuple):
  """What a detector says of labelled recordings, and what they are like.

  Attributes:
    of: which recordings, in words.
    scores: float32 [N], higher = more bona fide.
    labels: int [N], spoof 0, bona fide 1.
    embeddings: float32 [N, E].
    measured: measures of some of the recordings, see `audio.measures`.
    moments: of a detector that localises scores and labels of each 20 ms of the
      recordings, [M] each; None of others.
  """

  of: str
  scores: np.ndarray
  labels: np.ndarray
  embeddings: np.ndarray
  measured: Sequence[Mapping[str, float]]
  moments: tuple[np.ndarray, np.ndarray] | None = None


# ------------------------------------------------------------------ making ---
def measure_source(source, samples: int) -> list[dict[str, float]]:
  """Measures clips of a split, at most `MEASURED`, spread over all of it.

  Args:
    source: a `data.source.Source`.
    samples: how many samples of each clip are scored.
  """
  step = max(1, math.ceil(len(source) / MEASURED))

  def one(index: int) -> dict[str, float]:
    record = source[index]
    clip = audio.read(record['audio'], 'clip', verify=False, samples=samples)
    return measures.measure(clip.wave)

  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    return list(pool.map(one, range(0, len(source), step)))


def of_run(
  workdir: pathlib.Path,
  heard: Heard | None = None,
  results: Mapping[str, dict] | None = None,
  selected_on: str = '',
) -> Card:
  """Writes the bundle of a run into its folder.

  Args:
    workdir: with config, classes and weights, and score files of `results`.
    heard: what the weights say of the dev split; None: not calibrated.
    results: summaries by split, as in `metrics.json`.
    selected_on: how the weights were selected.

  Returns:
    The card.
  """
  card, tensors = _base_of_run(workdir)
  training = {**card.training, 'selected_on': selected_on}
  card = dataclasses.replace(card, training=training)
  if heard is not None:
    card, tensors = fitted(card, tensors, heard)
  figures = tuple(
    figure(result, workdir, name, card)
    for name, result in (results or {}).items()
  )
  card = dataclasses.replace(card, figures=figures)
  return store.write(workdir / names.DETECTOR, card, tensors)


def figure(
  result: Mapping[str, Any], workdir: pathlib.Path, name: str, card: Card
) -> dict[str, Any]:
  """What a card keeps of the result on a split.

  Args:
    result: its summary.
    workdir: with the score file.
    name: of the score file.
    card: if it is calibrated, the calibrated scores are measured too.
  """
  found = {key: result[key] for key in _FIGURES if key in result}
  found['split'] = name
  if card.calibration is not None:
    trials = scores_lib.read(names.scores(workdir, name))
    llr = _affine(card)(trials.scores)
    found['calibrated'] = calibration_lib.figures(llr, trials.label)
  return found


class HeldOut(NamedTuple):
  """Scores of recordings by detectors that were not trained on them.

  Attributes:
    of: which recordings and detectors, in words.
    scores: float [N], higher = more bona fide.
    labels: int [N], spoof 0, bona fide 1.
  """

  of: str
  scores: np.ndarray
  labels: np.ndarray


def fitted(
  card: Card,
  tensors: store.Tensors,
  heard: Heard,
  held_out: HeldOut | None = None,
) -> tuple[Card, dict[str, np.ndarray]]:
  """A bundle with the calibration and the domain of labelled recordings.

  Where they hold one class alone there is no calibration, and a note says so.

  Args:
    card: of the bundle.
    tensors: of the bundle.
    heard: the recordings.
    held_out: scores that take the place of theirs in the calibration.
  """
  if held_out is None:
    held_out = HeldOut(heard.of, heard.scores, heard.labels)
  tensors = {
    name: array
    for name, array in tensors.items()
    if not name.startswith(('dev/', 'domain/'))
  }
  notes, calibration = card.notes, None
  of, scores, labels = held_out
  count = np.bincount(labels.astype(np.int64), minlength=2).tolist()
  if min(count) == 0:
    notes += (
      f'not calibrated: {of} has {count[1]} bona fide and {count[0]} '
      'spoof recordings, both are needed',
    )
  else:
    scores = scores.astype(np.float32)
    calibration = calibrated(scores, labels, of)
    tensors['dev/score'] = scores
    tensors['dev/label'] = labels.astype(np.uint8)
  domain = domain_lib.fit(heard.measured, heard.embeddings, heard.labels)
  known = None
  if domain is None:
    notes += (
      f'whether a recording is of the training domain is not known: '
      f'{len(heard.measured)} clips of {heard.of}, {domain_lib.FEWEST} are '
      'needed',
    )
  else:
    known = card_lib.Domain(
      heard.of,
      domain.clips,
      {name: list(ends) for name, ends in domain.ranges.items()},
      domain.limit if domain.space is not None else None,
    )
    if domain.space is not None:
      tensors |= {
        f'domain/{name}': array for name, array in vars(domain.space).items()
      }
  card = dataclasses.replace(
    card, calibration=calibration, domain=known, notes=notes
  )
  if heard.moments is not None:
    scores, labels = map(_some, heard.moments)
    tensors['dev/moment_score'] = scores.astype(np.float32)
    tensors['dev/moment_label'] = labels.astype(np.uint8)
    moments = calibrated(
      tensors['dev/moment_score'], labels, f'moments of {heard.of}'
    )
    card = dataclasses.replace(card, moments=moments)
  return card, tensors


def _some(moments: np.ndarray) -> np.ndarray:
  """As many as are kept, spread evenly: two numbers need no millions."""
  count = min(len(moments), MOMENTS)
  return moments[np.linspace(0, len(moments) - 1, count).astype(int)]


def calibrated(
  scores: np.ndarray, labels: np.ndarray, of: str
) -> card_lib.Calibration:
  """What a card says of the calibration that is fitted to scores.

  Args:
    scores: float [N], higher = more bona fide.
    labels: int [N], spoof 0, bona fide 1; both occur.
    of: which recordings, in words.
  """
  affine = calibration_lib.fit(scores, labels)
  llr = affine(scores)
  count = np.bincount(labels.astype(np.int64), minlength=2).tolist()
  return card_lib.Calibration(
    affine.slope,
    affine.intercept,
    of,
    {'bonafide': count[1], 'spoof': count[0]},
    calibration_lib.figures(scores, labels),
    calibration_lib.figures(llr, labels),
    tuple(
      dataclasses.asdict(point)
      for point in calibration_lib.operating_points(llr, labels)
    ),
  )


# ------------------------------------------------------------------- bases ---
def base_of(
  checkpoint: str | os.PathLike,
) -> tuple[Card, dict[str, np.ndarray]]:
  """Card and tensors of any checkpoint that `Detector.load` takes.

  Raises:
    ValueError: see `checkpoints.open_checkpoint`.
  """
  path = path_of(checkpoint)
  for place in (path, path / names.DETECTOR):
    if store.is_bundle(place):
      return store.read(place)
  name, module, options = open_checkpoint(path)  # says what is wrong with it
  if (path / names.WEIGHTS).is_file():
    return _base_of_run(path)
  _, *weights = state_lib.split(module)
  frontend = _inside(_frontend_of(module))
  system = card_lib.System(
    {'name': name, **dataclasses.asdict(module.config)},
    frontend,
    dataclasses.asdict(losses.LossConfig()),
    options.get('classes', workdir_lib.DETECTION),
    state_lib.count_parameters(weights[0]),
  )
  notes = (
    *options.get('notes', ()),
    'released weights: not calibrated, and the recordings they know are not '
    'known here',
  )
  card = Card(
    name,
    _plain(system),
    _input(options, module.min_samples),
    card_lib.Weights('', 0),
    training={'imported_from': path.name},
    licence='that of whoever released the weights',
    notes=notes,
    made_by=_made_by(),
  )
  return card, _tensors(*weights)


def _frontend_of(module):
  """The config of a front end; a model of waves has layers in its place."""
  if module.takes == 'features':
    return module.frontend.config
  return module.config.own_frontend


def _inside(frontend: Any, left_out: Sequence[str] = ()) -> dict[str, Any]:
  """The section of a front end whose weights are in the bundle, but for some.

  Args:
    frontend: its config.
    left_out: places of encoders that are not, see `frontends.encoders`.
  """
  frontends = models.frontends
  inside = {
    place: dataclasses.replace(part, weights=_ENCODER_INSIDE)
    for place, part in frontends.encoders(frontend).items()
    if place not in left_out
  }
  return frontends.as_section(frontends.changed(frontend, inside))


def _base_of_run(workdir: pathlib.Path) -> tuple[Card, dict[str, np.ndarray]]:
  """Card and tensors of a run, without calibration."""
  config, params, batch_stats = weights_file.load(workdir)
  config = models.settled(config)
  frontends, data = models.frontends, config['data']
  frontend = frontends.resolve(config['frontend'], frontends.WaveConfig())
  classes = workdir_lib.load_classes(workdir)
  encoder, left_out = None, ()
  kept = names.json_or_none(workdir / names.FROZEN) or {}
  if digest := kept.get('encoder_sha256'):
    left_out = frozen.missing(frontend, params)
    encoder = card_lib.Encoder(frozen.sources(frontend, left_out), digest)
  loss = losses.LossConfig(**{
    name: tuple(value) if isinstance(value, list) else value
    for name, value in config['loss'].items()
  })  # fmt: skip
  system = models.system(
    config['model'],
    config['frontend'],
    head=losses.make(loss, len(classes)).head,
    classes=len(classes),
  )
  options = {
    'samples': data['eval_samples'],
    'bucket': data['bucket'] if data['padded'] else None,
  }
  roles = ('train', 'dev', 'eval')
  training = {
    'corpus': data.get('name', '?'),
    'splits': {role: data[role] for role in roles if role in data},
    'seed': config.get('seed'),
    'epochs': config.get('epochs'),
    'augment': data.get('augment', 'none'),
    'weights_sha256': record.file_hash(workdir / names.WEIGHTS),
    'config_sha256': record.file_hash(workdir / names.CONFIG),
  }
  card = Card(
    config['model']['name'],
    _plain(
      card_lib.System(
        config['model'],
        _inside(frontend, left_out),
        dataclasses.asdict(loss),
        classes,
        system.parameters(),
      )
    ),
    _input(options, system.min_samples),
    card_lib.Weights('', 0),
    encoder=encoder,
    training=training,
    licence='that of whoever trained it; the terms of the corpus may bind it',
    made_by=_made_by(),
  )
  return card, _tensors(params, batch_stats)


def _plain(system: card_lib.System) -> card_lib.System:
  """Sections as JSON has them: lists, no tuples."""
  return dataclasses.replace(
    system,
    **{
      name: _lists(getattr(system, name))
      for name in ('model', 'frontend', 'loss')
    },
  )


def _lists(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {str(key): _lists(inner) for key, inner in value.items()}
  if isinstance(value, list | tuple):
    return [_lists(inner) for inner in value]
  return value


def _input(options: Mapping[str, Any], shortest: int) -> card_lib.Input:
  return card_lib.Input(
    audio.SAMPLE_RATE, options['samples'], options.get('bucket'), shortest
  )


def _tensors(params, batch_stats) -> dict[str, np.ndarray]:
  return dict(weights_file.flat({'params': params, 'batch_stats': batch_stats}))


def _made_by() -> dict[str, str]:
  found = cost.versions()
  return {name: found[name] for name in ('jaxspoof', 'jax', 'flax')}


def _affine(card: Card) -> calibration_lib.Affine:
  return calibration_lib.Affine(
    card.calibration.slope, card.calibration.intercept
  )


# ---------------------------------------------------------------- commands ---
def main(argv: list[str] | None = None) -> int:
  """Runs a command on a bundle; returns the exit status."""
  options = parser().parse_args(argv)
  try:
    return options.run(options)
  except (ValueError, OSError) as error:
    print(f'python -m jaxspoof.bundle: error: {error}', file=sys.stderr)
    return 2


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(
    prog='python -m jaxspoof.bundle',
    description='Detector bundles: the folder or file that detection needs.',
  )
  commands = made.add_subparsers(required=True, metavar='COMMAND')

  def add(name: str, run, words: str, what: str):
    command = commands.add_parser(name, help=words, description=words)
    command.set_defaults(run=run)
    command.add_argument('bundle', help=what)
    return command

  bundle = 'a folder with card.json, or a zip file; or the workdir of a run'
  add('show', show, 'Prints what a bundle is.', bundle)
  add(
    'check',
    check,
    'Loads a bundle and computes again what its card says of its calibration.',
    bundle,
  )
  any_kind = 'a bundle, the workdir of a run, or released weights'
  command = add('pack', pack, 'Makes one file of a detector.', any_kind)
  command.add_argument('out', help='the zip file to write')
  command.add_argument(
    '--half',
    action='store_true',
    help='weights in half precision: half the size, scores change in about the '
    'third digit',
  )
  command.add_argument(
    '--figures',
    nargs='+',
    default=[],
    metavar='WORKDIR',
    help='evaluations (configs/evaluate.py) whose results the card shall hold',
  )
  command.add_argument('--licence', help='of the weights; names what they need')
  command.add_argument(
    '--note',
    nargs='+',
    default=[],
    metavar='TEXT',
    help='sentences that whoever uses the detector shall read in its card',
  )
  command = add(
    'push',
    push,
    'Puts a detector into a repository of Hugging Face, where you are logged '
    'in.',
    any_kind,
  )
  command.add_argument('to', help='hf://OWNER/NAME')
  command.add_argument(
    '--public', action='store_true', help='a new repository is seen by all'
  )
  command = add(
    'calibrate',
    calibrate,
    'Fits a detector to your own labelled recordings.',
    any_kind,
  )
  command.add_argument(
    '--manifest',
    required=True,
    help='a CSV or TSV file with the columns path and label, as '
    'docs/own_data.md says',
  )
  command.add_argument(
    '--split', help='rows of this split alone, of a table with a column split'
  )
  command.add_argument(
    '--held_out',
    nargs='+',
    action='append',
    metavar='SCORES',
    help='score files of recordings by detectors of the same recipe that were '
    'not trained on them, such as those of a cross-validation; they are '
    'calibrated on in place of what the detector says of the table, which '
    'then tells the training domain alone. Of a fused detector once for each '
    'part, in their order: what the parts say is added as it adds it',
  )
  command.add_argument('--out', required=True, help='the bundle to write')
  command.add_argument('--name', help='what the new detector is called')
  words = 'Makes one detector of several, whose scores are added.'
  command = commands.add_parser('fuse', help=words, description=words)
  command.set_defaults(run=fuse)
  command.add_argument('bundles', nargs='+', help=f'two or more: {any_kind}')
  command.add_argument(
    '--weights',
    nargs='+',
    type=float,
    help='factor on the score of each; by default the slope of its calibration',
  )
  command.add_argument('--out', required=True, help='the bundle to write')
  command.add_argument('--name', help='what the new detector is called')
  return made


def show(options) -> int:
  """Prints a card for a person."""
  print('\n'.join(lines(_card_of(options.bundle))))
  return 0


def lines(card: Card) -> list[str]:
  """A card in words."""
  given = card.input
  found = [
    f'{card.name}: {card.system.model.get("name")}, '
    f'{card.system.parameters:,} parameters, front end '
    f'{card.system.frontend.get("name")}, loss {card.system.loss.get("name")}',
    f'input: {given.sample_rate} Hz, {given.samples / given.sample_rate:.2f} s '
    'of each recording',
    f'classes: {", ".join(card.system.classes)}',
    f'weights: {card.weights.bytes:,} bytes, SHA-256 {card.weights.sha256}',
  ]
  if card.encoder is not None:
    found.append(f'needs besides: the encoder {card.encoder.weights}')
  for training in card.training.get('fused', (card.training,)):
    said = ', '.join(f'{k} {v}' for k, v in training.items())
    found += [f'training: {said}'] if said else []
  if (c := card.calibration) is None:
    found.append('not calibrated: no probabilities, no verdicts')
  else:
    found.append(
      f'calibrated on {c.fitted_on} ({c.trials["bonafide"]} bona fide, '
      f'{c.trials["spoof"]} spoof): LLR = {c.slope:.4g} x score '
      f'{c.intercept:+.4g}; Cllr {c.before["cllr"]:.4f} before, '
      f'{c.after["cllr"]:.4f} after; actDCF {c.before["act_dcf"]:.4f} before, '
      f'{c.after["act_dcf"]:.4f} after, minDCF {c.after["min_dcf"]:.4f}'
    )
    for point in c.operating_points:
      proven = '' if point['proven'] else ' (too few spoofs to prove it)'
      found.append(
        f'  {point["name"]}: bona fide from LLR {point["threshold"]:.3f} on; '
        f'{point["miss"]:.2%} of bona fide rejected, '
        f'{point["false_alarm"]:.2%} of spoofs accepted{proven}'
      )
  if (m := card.moments) is not None:
    found.append(
      f'says of each 20 ms what it is: calibrated on {m.fitted_on} '
      f'({m.trials["bonafide"]:,} bona fide, {m.trials["spoof"]:,} spoof), '
      f'Cllr {m.before["cllr"]:.4f} before, {m.after["cllr"]:.4f} after'
    )
  if (d := card.domain) is None:
    found.append('training domain: not known')
  else:
    found.append(f'training domain: {d.clips} clips of {d.of}')
    for name, (low, high) in d.ranges.items():
      known = measures.MEASURES[name]
      ends = f'{low:.3g} to {high:.3g} {known.unit}'.rstrip()
      found.append(f'  {known.words}: {ends}')
  for row in card.figures:
    low, high = row['eer_interval']
    after = row.get('calibrated')
    found.append(
      f'{row["corpus"]} {row["split"]}: EER {row["eer"]:.2%} [{low:.2%}, '
      f'{high:.2%}] of {row["trials"]["total"]:,} trials'
      + (f', Cllr {after["cllr"]:.3f} calibrated' if after else '')
    )
  found.append(f'licence: {card.licence}')
  found += [f'note: {note}' for note in card.notes]
  return found


def check(options) -> int:
  """Says whether a bundle is whole and agrees with itself."""
  place = _place_of(options.bundle)
  card, tensors = store.read(place)
  Detector.load(place)  # refuses what cannot be used
  problems = []
  for name, array in tensors.items():
    if not np.isfinite(np.asarray(array, np.float64)).all():
      problems.append(f'{name} holds values that are not finite')
  for section, kind in (('calibration', ''), ('moments', 'moment_')):
    said = getattr(card, section)
    scores = tensors.get(f'dev/{kind}score')
    if said is None:
      continue
    if scores is None:  # only `moments`: the detector would not have loaded
      print(
        f'{place}: {section} cannot be checked: it was written by a version'
        ' that did not keep the scores'
      )
      continue
    labels = tensors.get(f'dev/{kind}label', np.zeros(0))
    if labels.shape != scores.shape or not np.isin(labels, (0, 1)).all():
      problems.append(f'dev/{kind}label does not fit dev/{kind}score')
      continue
    problems += [
      f'{section}.{problem}' for problem in _wrong(said, scores, labels)
    ]
  print(f'{place}: {"FAILED" if problems else "whole, and agrees with itself"}')
  for problem in problems:
    print(f'  {problem}')
  return 1 if problems else 0


def _wrong(
  said: card_lib.Calibration, scores: np.ndarray, labels: np.ndarray
) -> Iterator[str]:
  """What of a calibration does not follow from the scores that it is of."""
  llr = calibration_lib.Affine(said.slope, said.intercept)(scores)
  for field, values in (('before', scores), ('after', llr)):
    again = calibration_lib.figures(values, labels)
    for name, value in again.items():
      found = getattr(said, field).get(name)
      if found is None or abs(found - value) > TOLERANCE:
        yield f'{field}.{name} is {found}, the scores give {value}'
  points = calibration_lib.operating_points(llr, labels)
  again = [dataclasses.asdict(point) for point in points]
  if not _close(list(said.operating_points), again):
    yield 'operating_points do not follow from scores'


def pack(options) -> int:
  """Makes a zip file of any checkpoint."""
  card, tensors = base_of(options.bundle)
  if options.half:
    tensors = {
      name: array.astype(np.float16)
      if name.startswith('params/') and array.dtype == np.float32
      else array
      for name, array in tensors.items()
    }
    notes = (*card.notes, card_lib.HALF)
    card = dataclasses.replace(card, notes=notes)
  card = dataclasses.replace(
    card,
    licence=options.licence or card.licence,
    notes=(*card.notes, *options.note),
  )
  for workdir in map(pathlib.Path, options.figures):
    metrics = names.read_json(workdir / names.METRICS)
    of = metrics.get('checkpoint', {}).get('sha256')
    if of not in (card.weights.sha256, card.training.get('weights_sha256')):
      raise ValueError(
        f'{workdir}: an evaluation of other weights than {options.bundle}'
      )
    first = metrics.get('name', metrics['split'])
    results = {first: metrics, **metrics.get('further', {})}
    rows = [figure(r, workdir, name, card) for name, r in results.items()]
    card = dataclasses.replace(card, figures=(*card.figures, *rows))
  store.write(options.out, card, tensors)
  print(f'{options.out}: {pathlib.Path(options.out).stat().st_size:,} bytes')
  return 0


def push(options) -> int:
  """Puts any checkpoint into a repository, as a bundle."""
  card, tensors = base_of(options.bundle)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    card = store.write(folder, card, tensors)
    at = hub.push(options.to, folder, lines(card), private=not options.public)
  print(at)
  return 0


def calibrate(options) -> int:
  """Fits a bundle on labelled recordings."""
  from tfds_builders.wav_folder import manifest

  path = pathlib.Path(options.manifest)
  table = manifest.read(path)
  table.problems.raise_if_any()
  rows = list(table.rows)
  if options.split is not None:
    rows = [row for row in rows if row.split == options.split]
  labels = np.array([row.bona_fide for row in rows], np.int64)
  if not 0 < labels.sum() < len(labels):
    raise ValueError(
      f'{path}: {labels.sum()} bona fide and {len(labels) - labels.sum()} '
      'spoof recordings'
      + (f' of split {options.split!r}' if options.split else '')
      + ': a calibration needs both'
    )
  card, tensors = base_of(options.bundle)
  held_out = options.held_out and read_held_out(options.held_out, card)
  detector = Detector.load(options.bundle, batch=None)
  of = f'{path.name}' + (f', split {options.split}' if options.split else '')
  heard, failures = listen(
    detector, [str(row.path) for row in rows], labels, of
  )
  for failure in failures:
    print(failure.error, file=sys.stderr)
  calibrated_before = card.calibration is not None
  notes = tuple(note for note in card.notes if 'not calibrated' not in note)
  card = dataclasses.replace(
    card, name=options.name or card.name, notes=notes, made_by=_made_by()
  )
  card, tensors = fitted(card, tensors, heard, held_out)
  # Figures of calibrated scores were those of the calibration before. Who takes
  # scores of others has kept nothing back: no figures are left at all.
  figures = () if held_out else card.figures
  card = dataclasses.replace(
    card,
    figures=tuple(
      {key: value for key, value in row.items() if key != 'calibrated'}
      for row in figures
    ),
  )
  card = store.write(options.out, card, tensors)
  if calibrated_before:
    print('the calibration and the training domain it had are replaced')
  print('\n'.join(lines(card)))
  if failures:
    print(f'{len(failures)} of {len(rows)} recordings could not be used')
  return 1 if failures else 0


def fuse(options) -> int:
  """Makes one bundle of several checkpoints."""
  detectors = {path: base_of(path) for path in options.bundles}
  card, tensors = fuse_lib.fuse(detectors, options.weights, options.name)
  card = dataclasses.replace(card, made_by=_made_by())
  card = store.write(options.out, card, tensors)
  print('\n'.join(lines(card)))
  return 0


def read_held_out(groups: Sequence[Sequence[str]], card: Card) -> HeldOut:
  """Scores of several files together.

  Args:
    groups: the files; of a fused detector one group of all, or one for each
      part, the scores of which are added with the factors of the card.
    card: of the detector.

  Raises:
    ValueError: groups are not as many as parts, or of other recordings; a
      recording is in two files of a group, or one class is missing.
    ScoreFileError (a ValueError): a file that is none.
  """
  first, *others = [_read_held_out(paths) for paths in groups]
  if not others:
    return first[1]
  factors = [part['factor'] for part in card.training.get('fused', ())]
  if len(factors) != len(groups):
    raise ValueError(
      f'--held_out is there {len(groups)} times, and the detector is fused of '
      f'{len(factors)}: expected it once, or once for each of them'
    )
  of, total = first[1].of, 0.0
  for factor, (names_N, held_out), paths in zip(
    factors, [first, *others], groups, strict=True
  ):
    known = dict(zip(names_N, range(len(names_N)), strict=True))
    if missing := set(first[0]) ^ set(known):
      raise ValueError(
        f'{", ".join(paths)}: {len(missing)} recordings are in these or in '
        f'those of the first part alone, such as {min(missing)}'
      )
    order = [known[name] for name in first[0]]
    if (held_out.labels[order] != first[1].labels).any():
      raise ValueError(
        f'{", ".join(paths)}: labels are not those of the first part'
      )
    total = total + factor * held_out.scores[order]
  return HeldOut(f'{of}, {len(groups)} parts each', total, first[1].labels)


def _read_held_out(paths: Sequence[str]) -> tuple[np.ndarray, HeldOut]:
  """Names of recordings, and the scores of all files together."""
  files = [scores_lib.read(path) for path in paths]
  names_N = np.concatenate([file.utterance for file in files])
  known, count = np.unique(names_N, return_counts=True)
  if len(twice := known[count > 1]):
    raise ValueError(
      f'{", ".join(paths)}: {len(twice)} recordings are in two of them, such '
      f'as {twice[0]}: expected each to be held out once'
    )
  labels = np.concatenate([file.label for file in files])
  if not 0 < labels.sum() < len(labels):
    raise ValueError(
      f'{", ".join(paths)}: {labels.sum()} bona fide and '
      f'{len(labels) - labels.sum()} spoof recordings: a calibration needs both'
    )
  of = (
    f'{len(labels):,} recordings, each scored by a detector of the same recipe '
    f'that was not trained on it ({len(files)} in all)'
  )
  scores = np.concatenate([f.scores for f in files])
  return names_N, HeldOut(of, scores, labels)


def listen(
  detector: Detector, paths: Sequence[str], labels: np.ndarray, of: str
) -> tuple[Heard, list[Failure]]:
  """Scores, embeds and measures labelled recordings.

  Args:
    detector: the model.
    paths: files.
    labels: int [len(paths)], spoof 0, bona fide 1.
    of: which they are, in words.

  Returns:
    What was heard of those that can be read, and the others.

  Raises:
    ValueError: of one class none can be read.
  """
  failures, parts, measured, kept = [], [], [], []
  size = max(16, detector.batch)
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for start in range(0, len(paths), size):
      part = paths[start : start + size]
      clips = list(pool.map(lambda p: read(p, detector.samples), part))
      waves = []
      for i, clip in enumerate(clips):
        if isinstance(clip, str):
          failures.append(Failure(part[i], clip))
        else:
          waves.append(clip.wave)
          kept.append(start + i)
      measured += pool.map(measures.measure, waves)
      if waves:
        parts.append(detector.embed(waves))
  labels = labels[kept]
  if not parts or not 0 < labels.sum() < len(labels):
    raise ValueError(
      f'{of}: {labels.sum()} bona fide and {len(labels) - labels.sum()} spoof '
      f'recordings can be read: a calibration needs both'
      + (f'; {failures[0].error}' if failures else '')
    )
  embeddings, outputs = (np.concatenate(x) for x in zip(*parts, strict=True))
  scores = np.asarray(jax.device_get(detector.loss.score(outputs)))
  return Heard(of, scores, labels, embeddings, measured), failures


def _place_of(given: str) -> pathlib.Path:
  """The bundle that is meant: of a run that in its folder, or a shipped one."""
  path = path_of(given)
  if not store.is_bundle(path) and store.is_bundle(path / names.DETECTOR):
    return path / names.DETECTOR
  if not store.is_bundle(path):
    raise BundleError(
      f'{path}: no bundle: expected a folder with {card_lib.NAME}, a zip file '
      'of one, or the workdir of a run that has ended; pack makes one of other '
      'checkpoints'
    )
  return path


def _card_of(given: str) -> Card:
  return store.read_card(_place_of(given))


def _close(a: Any, b: Any) -> bool:
  if isinstance(a, Mapping) and isinstance(b, Mapping):
    return a.keys() == b.keys() and all(_close(a[k], b[k]) for k in a)
  if isinstance(a, list) and isinstance(b, list):
    return len(a) == len(b) and all(map(_close, a, b))
  if isinstance(a, float) and isinstance(b, float):
    return abs(a - b) <= TOLERANCE * max(1, abs(a))
  return a == b


if __name__ == '__main__':
  sys.exit(main())
