"""Weights of Whisper encoders of all the toolkits, and those of packages."""

import hashlib
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxspoof.frontends.ssl import parts
from jaxspoof.frontends.whisper.architecture import WhisperArchitecture
from jaxspoof.frontends.whisper.encoder import Encoder
from jaxspoof.tensors import files, fit, packages
from jaxspoof.tensors.unpickler import CheckpointError

PACKAGES = 'whisper-tiny.en', 'whisper-base'
# SHA-256 of an encoder's tensors, see `digest`: what it is, whatever file or
# toolkit it came from.
KNOWN = {
  '5ab5c1d71b4824363829a73eeecdc4ae4c2c66e285cfdc879ba1b600d33309af': (
    "tiny.en of OpenAI's Whisper, MIT licence"
  ),
  'a348d0740b60818466d044926c42d2d080ed193c2bb51d508a768596d8206228': (
    "base of OpenAI's Whisper, MIT licence"
  ),
}

# Fields of an architecture by their names in a config.json of Hugging Face,
# and beside OpenAI's weights.
_FIELDS = {
  'mels': 'num_mel_bins',
  'width': 'd_model',
  'layers': 'encoder_layers',
  'heads': 'encoder_attention_heads',
  'inner': 'encoder_ffn_dim',
  'positions': 'max_source_positions',
}
_SCALES = {'weight': 'scale', 'gamma': 'scale', 'beta': 'bias', 'bias': 'bias'}
_LAST = {'weight': 'kernel', 'bias': 'bias'}
_LAYER = r'(?:blocks\.|layers\.|layer_)(?P<layer>\d+)\.'
# Patterns of names in all toolkits (with dots), behind the name of the encoder.
_NORMS = (
  (r'(?:layer_norm|ln_post)', 'norm'),
  (
    _LAYER + r'(?:self_attn_layer_norm|attn_ln|self_attention\.layer_norm)',
    'layers.attention_norm',
  ),
  (
    _LAYER + r'(?:final_layer_norm|mlp_ln|ffn\.layer_norm)',
    'layers.final_norm',
  ),
)
_ATTENTION = _LAYER + r'(?:self_attn|attn|self_attention)\.'
_DENSE = (
  (r'conv1', 'conv1'),
  (r'conv2', 'conv2'),
  (_ATTENTION + r'(?:q_proj|query)', 'layers.query'),
  (_ATTENTION + r'(?:k_proj|key)', 'layers.key'),
  (_ATTENTION + r'(?:v_proj|value)', 'layers.value'),
  (_ATTENTION + r'(?:out_proj|out|linear_1)', 'layers.out'),
  (_ATTENTION + r'linear_0', 'layers.packed'),  # query, key and value
  (_LAYER + r'(?:fc1|mlp\.0|ffn\.linear_0)', 'layers.feed1'),
  (_LAYER + r'(?:fc2|mlp\.2|ffn\.linear_1)', 'layers.feed2'),
)
_POSITIONS = re.compile(
  r'embed_positions\.weight|positional_embedding'
  r'|position_encodings\.encodings'
)
_MARK = re.compile(r'(?:^|[./])encoder[./]conv1[./]weight$')


def find(weights: str) -> str:
  """The file or directory that a text names, see `packages.find`."""
  return packages.find(weights, PACKAGES)


def describe(weights: str) -> WhisperArchitecture:
  """The architecture that weights say.

  A directory with a config.json of Hugging Face is not read further than that.

  Raises:
    CheckpointError: nothing there, or no Whisper.
  """
  place = pathlib.Path(find(weights))
  if place.is_dir():
    config = files.read_json(place / 'config.json')
    if config.get('model_type'):
      return of_config(config, str(place / 'config.json'))
  found = files.open_weights(place)
  given, _ = encoder_part(found.tensors, str(place))
  return of_tensors(given, found, str(place))


def of_config(config: Mapping[str, Any], where: str) -> WhisperArchitecture:
  """The architecture that a config.json of Hugging Face describes."""
  if config.get('model_type') != 'whisper':
    raise CheckpointError(
      f'{where}: model_type is {config.get("model_type")!r}, expected whisper'
    )
  if (act := config.get('activation_function', 'gelu')) != 'gelu':
    raise CheckpointError(
      f"{where}: activation_function is {act!r}; only 'gelu' is built"
    )
  fields = {ours: config.get(theirs) for ours, theirs in _FIELDS.items()}
  return _architecture(fields, where)


def of_tensors(
  given: fit.Given, found: files.Checkpoint, where: str
) -> WhisperArchitecture:
  """The architecture that tensors and what lies beside them tell.

  Args:
    given: of the encoder, see `encoder_part`.
    found: all that the file holds.
    where: it comes from.
  """

  def shape(name: str, axes: int) -> tuple[int, ...]:
    array = given.get(name, [('', np.zeros(0))])[0][1]
    if array.ndim != axes:
      raise CheckpointError(
        f'{where}: no encoder of Whisper: it has no {name} of {axes} axes'
      )
    return array.shape

  _, mels, width = shape('conv1.kernel', 3)
  dims = found.around.get('dims')
  heads = dims.get('n_audio_head') if isinstance(dims, Mapping) else None
  if heads is None and (told := found.tensors.get('encoder/num_heads')) is not (
    None
  ):
    heads = int(told)
  fields = dict(
    mels=mels,
    width=width,
    layers=len(given.get('layers.feed1.kernel', ())),
    # So it is of all that were published.
    heads=max(1, width // 64) if heads is None else heads,
    inner=shape('layers.feed1.kernel', 2)[1],
    positions=shape('positions', 2)[0],
  )
  return _architecture(fields, where)


def _architecture(fields: dict[str, Any], where: str) -> WhisperArchitecture:
  fields = {k: v for k, v in fields.items() if v is not None}
  try:
    return WhisperArchitecture(**fields)
  except (TypeError, ValueError) as error:
    raise CheckpointError(f'{where}: {error}') from error


def is_whisper(tensors: Mapping[str, np.ndarray]) -> bool:
  """Whether there is the encoder of a Whisper among tensors."""
  return any(_MARK.search(name) for name in tensors)


def encoder_part(
  tensors: Mapping[str, np.ndarray], where: str
) -> tuple[fit.Given, list[str]]:
  """The encoder among the tensors of a Whisper, by our names.

  Args:
    tensors: name to array, of Hugging Face, OpenAI or CTranslate2.
    where: they come from.

  Returns:
    Arrays for `fit.fill`, and the names of all tensors that are not in it.

  Raises:
    CheckpointError: there is none.
  """
  marks = [name for name in tensors if _MARK.search(name)]
  if len(marks) != 1:
    raise CheckpointError(
      f'{where}: no encoder of Whisper: expected one tensor named '
      f'encoder.conv1.weight, found {len(marks)}'
    )
  prefix = re.sub(r'conv1[./]weight$', '', marks[0])
  slots: dict[str, dict[int, tuple[str, np.ndarray]]] = {}
  others = []
  for old, array in tensors.items():
    inner = old.removeprefix(prefix).replace('/', '.')
    ours = _ours(inner) if old.startswith(prefix) else None
    if ours is None:
      others.append(old)
      continue
    name, layer = ours
    array = array.T if name.endswith('kernel') else array
    slots.setdefault(name, {})[layer] = old, array
  given = {
    name: [held[i] for i in sorted(held)] for name, held in slots.items()
  }
  for last in ('kernel', 'bias'):
    for old, array in given.pop(f'layers.packed.{last}', ()):
      thirds = np.split(array, 3, -1) if array.shape[-1] % 3 == 0 else [array]
      for name, part in zip(('query', 'key', 'value'), thirds, strict=False):
        given.setdefault(f'layers.{name}.{last}', []).append((old, part))
  if 'layers.key.bias' not in given:
    # It would change nothing: all that a query is compared with would get the
    # same number added. Whisper has none.
    given['layers.key.bias'] = [
      (old, np.zeros_like(array))
      for old, array in given.get('layers.query.bias', ())
    ]
  return given, others


def _ours(name: str) -> tuple[str, int] | None:
  """Our name and the layer of a tensor; None for one that we do not have."""
  if _POSITIONS.fullmatch(name):
    return 'positions', 0
  stem, _, last = name.rpartition('.')
  for table, ends in ((_NORMS, _SCALES), (_DENSE, _LAST)):
    for pattern, new in table:
      if (match := re.fullmatch(pattern, stem)) and last in ends:
        layer = int(match.groupdict().get('layer') or 0)
        return f'{new}.{ends[last]}', layer
  return None


def digest(given: fit.Given) -> str:
  """SHA-256 over our names of an encoder's trained tensors and their values.

  The values count as float32: a file of float16 and one of the same values in
  float32 hold the same encoder. The table of positions, which some files round
  and some do not, and the biases of keys are not counted.
  """
  found = hashlib.sha256()
  for name in sorted(given.keys() - {'positions', 'layers.key.bias'}):
    for i, (_, array) in enumerate(given[name]):
      found.update(f'{name} {i} {array.shape}'.encode())
      found.update(np.ascontiguousarray(array, '<f4').tobytes())
  return found.hexdigest()


def load(
  weights: str, architecture: WhisperArchitecture | None = None, **options
) -> Encoder:
  """Reads an encoder.

  Args:
    weights: see `find` and `files.open_weights`.
    architecture: as a config says; None: as the weights say. One with fewer
      layers or positions takes the first ones.
    **options: of `Encoder`.

  Raises:
    CheckpointError: damaged, unsafe, or weights that do not fit.
  """
  where = str(os.fspath(weights))
  if architecture is None:
    architecture = describe(where)
  tensors = files.open_weights(find(where)).tensors
  given, _ = encoder_part(tensors, where)
  tensors.clear()
  parts.divided(given, options.get('split'), architecture.layers)
  given['positions'] = [
    (old, array[: architecture.positions] if array.ndim else array)
    for old, array in given.get('positions', ())
  ]

  def make() -> Encoder:
    return Encoder(architecture, nnx.Rngs(0), **options)

  return fit.fill(make, given, where, stacked=parts.STACKS)
