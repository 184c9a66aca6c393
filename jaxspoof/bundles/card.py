"""The card of a bundle: what the detector is, checked field by field.

A card may come from anybody. What is read of it is therefore no more than
numbers, texts, lists and dictionaries, each within limits, before anything is
made of it.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from jaxspoof import config as config_lib

FORMAT = 1
NAME = 'card.json'
WEIGHTS = 'weights.safetensors'

LARGEST = 4 << 20  # bytes of a card
HALF = 'weights in half precision'  # a note, of how they are kept
_DEPTH = 12  # of lists and dictionaries within each other
_WHOLE = 1 << 48  # largest whole number
_SIZE = 1 << 16  # largest whole number that says how large a model is
_SECONDS = 3600  # longest input
_FASTEST = 768_000  # sampling rate in Hz
_LARGEST = 1e6  # of what is calibrated
# Of the calibration itself: scores may be of any scale that float32 holds.
_STEEPEST = 1e38


class BundleError(ValueError):
  """A bundle that cannot be used; the message says which file and why."""


@dataclasses.dataclass(frozen=True)
class Input:
  """What the detector is given of a recording.

  Attributes:
    sample_rate: in Hz.
    samples: so many samples of each wave are scored at most, from its start.
    bucket: of models that take any length, short waves are padded to a multiple
      of so many samples; None: they are repeated to `samples`.
    shortest: with `bucket`, shorter waves are repeated to this length first.
  """

  sample_rate: int
  samples: int
  bucket: int | None = None
  shortest: int = 1


@dataclasses.dataclass(frozen=True)
class System:
  """The network.

  Attributes:
    model: the section `model` of a run's config.
    frontend: the section `frontend`, all fields written out.
    loss: the section `loss`; it defines the score.
    classes: what the outputs stand for, bona fide last.
    parameters: number of trained values.
  """

  model: Mapping[str, Any]
  frontend: Mapping[str, Any]
  loss: Mapping[str, Any]
  classes: tuple[str, ...]
  parameters: int


@dataclasses.dataclass(frozen=True)
class Weights:
  """The file of weights.

  Attributes:
    sha256: of the file.
    bytes: its size.
  """

  sha256: str
  bytes: int


@dataclasses.dataclass(frozen=True)
class Encoder:
  """An encoder of others that is not in the bundle.

  Attributes:
    weights: where it was read; the front end says the same.
    sha256: of its values, see `weights.frozen`.
  """

  weights: str
  sha256: str


@dataclasses.dataclass(frozen=True)
class Calibration:
  """How scores become log-likelihood ratios of bona fide, in nats.

  Attributes:
    slope: factor on the score, at least 0.
    intercept: added to it.
    fitted_on: the recordings, in words.
    trials: number of `bonafide` and `spoof` recordings among them.
    before: figures of the scores on these recordings, before the calibration.
    after: the same after it.
    operating_points: thresholds chosen on them, as
      `metrics.calibration.OperatingPoint` names their fields.
  """

  slope: float
  intercept: float
  fitted_on: str
  trials: Mapping[str, Any]
  before: Mapping[str, Any]
  after: Mapping[str, Any]
  operating_points: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Domain:
  """The recordings that the detector knows; arrays are in the weights.

  Attributes:
    of: which recordings, in words.
    clips: how many.
    ranges: lowest and highest usual value by name of the measure, see
      `audio.measures`.
    distance: largest usual distance of an embedding; None: not known.
  """

  of: str
  clips: int
  ranges: Mapping[str, Any]
  distance: float | None = None


@dataclasses.dataclass(frozen=True)
class Card:
  """What `card.json` holds.

  Attributes:
    name: of the detector: of its model, unless its maker gave it another.
    system: the network.
    input: what it is given.
    weights: their file.
    encoder: what has to be read from elsewhere; mostly None.
    calibration: None where scores are not calibrated.
    domain: None where the recordings it knows are not known.
    moments: of a detector that localises the calibration of the scores of each
      20 ms; None of others.
    training: corpus, splits and how the weights were selected.
    figures: results with trials and intervals, one for each split.
    licence: of the weights, in words.
    notes: sentences that a user should read.
    made_by: versions of what wrote it.
    format: version of the format.
  """

  name: str
  system: System
  input: Input
  weights: Weights
  encoder: Encoder | None = None
  calibration: Calibration | None = None
  domain: Domain | None = None
  moments: Calibration | None = None
  training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  figures: tuple[Any, ...] = ()
  licence: str = 'not stated'
  notes: tuple[str, ...] = ()
  made_by: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  format: int = FORMAT

  @property
  def cautions(self) -> tuple[str, ...]:
    """Notes that a user should read with every answer."""
    return tuple(note for note in self.notes if note != HALF)

  def text(self) -> str:
    """The card as JSON."""
    values = dataclasses.asdict(self)
    if self.moments is None:  # versions of before know no such section
      del values['moments']
    return json.dumps(values, indent=2, allow_nan=False)


# Sections that may be missing: `config.section` knows those that may not.
_OPTIONAL = {
  'encoder': Encoder,
  'calibration': Calibration,
  'domain': Domain,
  'moments': Calibration,
}


def parse(data: bytes, where: str) -> Card:
  """Reads a card.

  Args:
    data: of the file.
    where: the file, for messages.

  Raises:
    BundleError: not a card of this format, a field that is missing, unknown or
      of another type, or a value that cannot be.
  """
  if len(data) > LARGEST:
    raise BundleError(
      f'{where}: {len(data):,} bytes, expected at most {LARGEST:,}'
    )
  try:
    values = json.loads(data, parse_constant=_no_number)
  # RecursionError: of lists in lists in lists.
  except (ValueError, RecursionError) as error:
    raise BundleError(f'{where}: damaged or cut, not JSON: {error}') from error
  if not isinstance(values, dict) or 'format' not in values:
    raise BundleError(f'{where}: expected a JSON object with the field format')
  if values['format'] != FORMAT:
    raise BundleError(
      f'{where}: format {values["format"]!r:.40}, this version of jaxspoof '
      f'reads {FORMAT}'
    )
  _check_numbers(values, where, 'card')
  optional = {name: values.pop(name, None) for name in _OPTIONAL}
  for name in ('system', 'input', 'weights'):
    if not isinstance(values.get(name), dict):
      raise BundleError(f'{where}: the section {name} is missing')
  try:
    made = {
      name: config_lib.section(kind, optional[name], name)
      for name, kind in _OPTIONAL.items()
      if optional[name] is not None
    }
    required = config_lib.section(_Required, values, 'card')
    card = Card(**vars(required), **made)
    _check(card)
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise BundleError(f'{where}: {error}') from error
  return card


# A card without the sections that may be missing.
_Required = dataclasses.make_dataclass(
  '_Required',
  [
    (f.name, f.type, dataclasses.field(**{
      key: getattr(f, key)
      for key in ('default', 'default_factory')
      if getattr(f, key) is not dataclasses.MISSING
    }))
    for f in dataclasses.fields(Card)
    if f.name not in _OPTIONAL
  ],
  frozen=True,
)  # fmt: skip


def _no_number(name: str):
  raise ValueError(f'{name} is no number')


def _check_numbers(value: Any, where: str, field: str, depth: int = 0) -> None:
  """Refuses numbers and nesting that no honest card has."""
  if depth > _DEPTH:
    raise BundleError(f'{where}: {field}: nested more than {_DEPTH} deep')
  if isinstance(value, dict | list):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
      _check_numbers(inner, where, f'{field}.{key}', depth + 1)
  elif isinstance(value, float) and not math.isfinite(value):
    raise BundleError(f'{where}: {field}: not a finite number')
  elif isinstance(value, int) and abs(value) > _WHOLE:
    raise BundleError(f'{where}: {field}: {str(value):.20}... is too large')


def _check(card: Card) -> None:
  """Raises ValueError for values that cannot be."""
  given = card.input
  _need('input.sample_rate', given.sample_rate, 1_000, _FASTEST)
  _need('input.samples', given.samples, 1, _SECONDS * given.sample_rate)
  _need('input.shortest', given.shortest, 1, given.samples)
  if given.bucket is not None:
    _need('input.bucket', given.bucket, 1, _SECONDS * given.sample_rate)
  _need('system.classes', len(card.system.classes), 2, 1000)
  if not all(isinstance(name, str) for name in card.system.classes):
    raise ValueError('system.classes: expected names')
  for part in ('model', 'frontend'):
    _check_sizes(getattr(card.system, part), f'system.{part}')
  for section in ('calibration', 'moments'):
    if (found := getattr(card, section)) is None:
      continue
    _need(f'{section}.slope', found.slope, 0, _STEEPEST)
    _need(f'{section}.intercept', found.intercept, -_STEEPEST, _STEEPEST)
    for point in found.operating_points:
      for name in ('threshold', 'miss', 'false_alarm'):
        limit = _LARGEST if name == 'threshold' else 1
        _need(f'operating point {name}', point[name], -limit, limit)
  if (found := card.domain) is not None:
    for name, (low, high) in found.ranges.items():
      _need(f'domain.ranges.{name}', low, -_LARGEST, high)
      _need(f'domain.ranges.{name}', high, low, _LARGEST)
    if found.distance is not None:
      _need('domain.distance', found.distance, 0, _LARGEST)


def _check_sizes(value: Any, field: str) -> None:
  """Whole numbers in the config of a network say how large it is."""
  if isinstance(value, Mapping):
    for key, inner in value.items():
      if key == 'samples':  # that a part of a fused model hears, as `input`
        _need(f'{field}.{key}', inner, 1, _SECONDS * _FASTEST)
      else:
        _check_sizes(inner, f'{field}.{key}')
  elif isinstance(value, list | tuple):
    _need(f'{field} (length)', len(value), 0, 1000)
    for inner in value:
      _check_sizes(inner, field)
  elif isinstance(value, int) and not isinstance(value, bool):
    _need(field, value, -_SIZE, _SIZE)


def _need(field: str, value: Any, low: float, high: float) -> None:
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or not low <= value <= high:
    raise ValueError(
      f'{field}={value!r:.40}: expected a number from {low:g} to {high:g}'
    )
