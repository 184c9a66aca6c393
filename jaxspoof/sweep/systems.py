"""What gives scores: a checkpoint, score files of others, a fusion.

All three answer alike. `key(test, condition)` is what their scores follow from,
and None where there are none; `scores(test, condition)` computes them, float
[N], higher = more bona fide; `about()` tells of the system what JSON can hold;
`release()` frees what `scores` needed, and counts what was compiled for it.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxspoof import checkpoints, models
from jaxspoof.bundles import store
from jaxspoof.data import pipeline
from jaxspoof.data.conditions import Condition
from jaxspoof.metrics import calibration
from jaxspoof.metrics.det import equal_error
from jaxspoof.runs import names, record
from jaxspoof.runs import splits as splits_lib
from jaxspoof.score_files import protocols, score_lists
from jaxspoof.score_files import scores as scores_lib
from jaxspoof.training import scoring, tasks
from jaxspoof.training import sharding as sharding_lib


@dataclasses.dataclass(frozen=True)
class Test:
  """A split of a corpus that is scored.

  Attributes:
    corpus: as `data.source.open_source` takes it.
    split: of it.
    data_dir: where built corpora lie; None for the TFDS default.
  """

  corpus: str
  split: str
  data_dir: str | None = None

  @classmethod
  def read(cls, spelt: str, data_dir: str | None = None) -> 'Test':
    """Reads 'CORPUS:SPLIT'; ValueError where it is spelt otherwise."""
    corpus, colon, split = spelt.partition(':')
    if not (corpus and colon and split):
      raise ValueError(
        f'{spelt!r}: expected CORPUS:SPLIT, such as quickstart:eval'
      )
    return cls(corpus, split, data_dir)

  @property
  def name(self) -> str:
    """As it is spelt in a config."""
    return f'{self.corpus}:{self.split}'

  @functools.cached_property
  def fingerprint(self) -> str:
    """Hash of what it holds."""
    return pipeline.fingerprint(self.corpus, self.split, self.data_dir)

  @functools.cached_property
  def source(self) -> pipeline.Source:
    """Its records."""
    return pipeline.open_source(self.corpus, self.split, self.data_dir)

  @functools.cached_property
  def trials(self) -> pipeline.Trials:
    """What is known of them; ValueError where nothing can be measured."""
    found = pipeline.trials(self.source)
    tasks.Detection().check(found, pipeline.name_of(self.source))
    return found


def carried(scores, label, of: str) -> dict[str, Any]:
  """What is carried from dev to other trials: calibration and threshold.

  Args:
    scores: float [N] of the dev trials.
    label: int [N], spoof 0, bona fide 1.
    of: which trials, in words.

  Returns:
    `slope` and `intercept` of the calibration, the `threshold` of scores, from
    which on speech is accepted, of the EER; `trials` and `of`.
  """
  affine = calibration.fit(scores, label)
  # Official points accept above the threshold, decisions from it on.
  threshold = math.nextafter(equal_error(scores, label).threshold, math.inf)
  return {
    'slope': affine.slope,
    'intercept': affine.intercept,
    'threshold': threshold,
    'trials': len(label),
    'of': of,
  }


class Checkpoint:
  """Weights that this package reads; opened when the first cell needs them.

  Args:
    path: as `checkpoints.open_checkpoint` takes it.
    shardings: the devices.
    batch: clips scored at once.
    workers: processes that decode.
  """

  def __init__(
    self,
    path: str,
    shardings: sharding_lib.Shardings,
    batch: int,
    workers: int,
  ):
    self.path = path
    self._shardings, self._batch, self._workers = shardings, batch, workers

  @functools.cached_property
  def _opened(self):
    return checkpoints.open_checkpoint(self.path)

  @functools.cached_property
  def scorer(self) -> scoring.Scorer:
    """The compiled model."""
    return scoring.Scorer(
      *self._opened[1:],
      self._shardings,
      batch=self._batch,
      workers=self._workers,
    )

  @functools.cached_property
  def _key(self) -> dict[str, Any]:
    found = checkpoints.described(self.path, '')
    path = pathlib.Path(self.path)
    key = {'weights': found['sha256']}
    if store.is_bundle(path):
      key['card'] = store.read_card(path).text()
    elif (path / names.CONFIG).is_file():
      key['config'] = _scoring_part(names.read_json(path / names.CONFIG))
      # An encoder that the weights leave out; its values are checked by it.
      kept = names.json_or_none(path / names.FROZEN) or {}
      key['encoder'] = kept.get('encoder_sha256')
    return key

  def key(self, test: Test, condition: Condition) -> dict[str, Any]:
    """See the top of the file."""
    del test, condition
    return self._key

  def scores(self, test: Test, condition: Condition) -> np.ndarray:
    """See the top of the file."""
    return self.scorer(test.source, condition)

  @functools.cached_property
  def _about(self) -> dict[str, Any]:
    model, _, options = self._opened
    path = pathlib.Path(self.path)
    cost = {}
    if path.is_dir():
      cost = names.json_or_none(path / names.COST) or {}
    data = checkpoints.trained_on(path)
    return {
      **checkpoints.described(self.path, model),
      'parameters': self.scorer.parameters,
      'macs': _macs(path, model, options['samples']),
      'samples': options['samples'],
      'minutes': cost.get('minutes') if 'epochs' in cost else None,
      'trained_on': data.get('name'),
      'trained_split': data.get('train'),
      'dev': self._own_dev(options.get('known')),
    }

  def release(self) -> int:
    """Frees the weights; returns how many programs were compiled for it."""
    scorer = vars(self).pop('scorer', None)
    vars(self).pop('_opened', None)
    return 0 if scorer is None else scorer.compiled

  def about(self) -> dict[str, Any]:
    """See the top of the file."""
    speed = {
      'ms_per_clip': self.scorer.ms_per_clip,
      'batch': self._batch,
      'memory': self.scorer.memory,
      'device': self._shardings.batch.mesh.devices.flat[0].device_kind,
    }
    return {**self._about, **speed}

  def _own_dev(self, known: checkpoints.Known | None) -> dict | None:
    """What is carried from the dev trials of its own training."""
    data = checkpoints.trained_on(self.path)
    if known is not None and len(known.dev_scores):
      return carried(
        known.dev_scores, known.dev_labels, known.card.calibration.fitted_on
      )
    path = pathlib.Path(self.path)
    if not data or not path.is_dir():
      return None
    parts = splits_lib.parts(data['name'], data['dev'])
    paths = [names.scores(path, part.name) for part in parts]
    if not all(p.is_file() for p in paths):
      return None
    found = [scores_lib.read(p) for p in paths]
    return carried(
      np.concatenate([one.scores for one in found]),
      np.concatenate([one.label for one in found]),
      f'{data["name"]}, split {data["dev"]}',
    )


def _scoring_part(config: Mapping[str, Any]) -> dict[str, Any]:
  """What of the config of a run its scores follow from, besides weights."""
  data = config.get('data', {})
  return {
    **{name: config.get(name) for name in ('model', 'frontend', 'loss')},
    **{name: data.get(name) for name in ('eval_samples', 'padded', 'bucket')},
  }


def _macs(path: pathlib.Path, model: str, samples: int) -> int | None:
  """Multiply-accumulates of a clip; None where the model is no config's."""
  if store.is_bundle(path):
    card = store.read_card(path)
    parts = card.system.model, card.system.frontend
  elif path.is_dir():
    config = names.json_or_none(path / names.CONFIG) or {}
    if 'model' not in config or 'data' not in config:
      return None
    parts = config['model'], config.get('frontend', '')
  elif model in models.VARIANTS:
    parts = {'name': model}, ''
  else:
    return None
  return models.system(*parts).macs(samples)['total']


def is_score_files(path: str) -> bool:
  """Whether a path is a folder of score files, and no checkpoint."""
  folder = pathlib.Path(path)
  known = (names.CONFIG, names.WEIGHTS, 'card.json')
  return any(folder.glob('*.txt')) and not any(
    (folder / name).exists() for name in known
  )


def check(path: str, field: str) -> None:
  """Raises ValueError where a system's path is of nothing that scores."""
  if not is_score_files(path):
    try:
      checkpoints.described(path, '')
    except (OSError, ValueError) as error:
      raise ValueError(
        f'{field}={path!r}: expected a config file, a checkpoint or a folder '
        f'of score files ({error})'
      ) from error


class ScoreFiles:
  """Scores of another toolkit, in a folder of files, one for each cell.

  They are called CORPUS.SPLIT.txt, or CORPUS.SPLIT@CONDITION.txt, a / or : in
  a name being _; see `score_files.score_lists` for what is in them.

  Args:
    path: the folder.
  """

  def __init__(self, path: str):
    self.path = path

  def file(self, test: Test, condition: Condition) -> pathlib.Path:
    """Where the scores of a cell are expected."""
    split = f'{test.corpus.replace("/", "_")}.{test.split}'
    return pathlib.Path(self.path) / f'{names.under(split, condition.name)}.txt'

  def key(self, test: Test, condition: Condition) -> dict[str, Any] | None:
    """See the top of the file."""
    path = self.file(test, condition)
    return {'scores': record.file_hash(path)} if path.is_file() else None

  def scores(self, test: Test, condition: Condition) -> np.ndarray:
    """See the top of the file; `ScoreFileError` of what is no such file."""
    trials = test.trials
    protocol = protocols.Protocol(
      trials.utterance, trials.speaker, trials.attack, trials.label
    )
    return score_lists.read(self.file(test, condition), protocol).scores

  def release(self) -> int:
    """See the top of the file."""
    return 0

  def about(self) -> dict[str, Any]:
    """See the top of the file."""
    return {
      'path': self.path,
      'model': 'score files',
      'selected_on': 'words that score files do not keep',
    }


class Fusion:
  """A weighted sum of the scores of other systems, fitted on dev.

  Args:
    members: by name, cell of a test under a condition, or None.
    dev: the test it is fitted on.
    clean: the condition of that.
  """

  def __init__(self, members: Mapping[str, Any], dev: Test, clean: Condition):
    self._members, self._dev, self._clean = members, dev, clean
    self.path = ' + '.join(members)

  def key(self, test: Test, condition: Condition) -> dict[str, Any] | None:
    """See the top of the file."""
    cells = [
      cell_of(t, c)
      for cell_of in self._members.values()
      for t, c in ((self._dev, self._clean), (test, condition))
    ]
    if None in cells:
      return None
    return {'fusion': [path.name for path in cells]}

  def scores(self, test: Test, condition: Condition) -> np.ndarray:
    """See the top of the file."""
    return self._fitted(self._read(test, condition))

  def _read(self, test: Test, condition: Condition) -> np.ndarray:
    """float64 [N, systems]."""
    return np.stack(
      [read(of(test, condition)).scores for of in self._members.values()], 1
    )

  @functools.cached_property
  def _fitted(self) -> calibration.Fusion:
    return calibration.fuse(
      self._read(self._dev, self._clean), self._dev.trials.label
    )

  def release(self) -> int:
    """See the top of the file."""
    return 0

  def about(self) -> dict[str, Any]:
    """See the top of the file."""
    weights = self._fitted.weights
    shares = (
      f'{w:.3g} of {n}' for w, n in zip(weights, self._members, strict=True)
    )
    return {
      'path': self.path,
      'model': 'fusion',
      'selected_on': f'logistic regression on {self._dev.name}: '
      + ', '.join(shares),
    }


def read(cell: pathlib.Path) -> scores_lib.Scores:
  """The scores in a cell."""
  (path,) = (cell / 'scores').glob('*.txt')
  return scores_lib.read(path)
