"""Names of the tensors of self-supervised encoders, in all the toolkits.

Hugging Face's are the common ones: fairseq's (also those of Microsoft's WavLM)
and torchaudio's are turned into these, and these into ours.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

# Of pretraining and of other tasks than ours.
_UNUSED = re.compile(
  r'(^|\.)((quantizer|input_quantizer|project_q|project_hid|project_inp'
  r'|final_proj|target_glu|lm_head|w2v_encoder\.proj|aux)\..*'
  r'|mask_emb|masked_spec_embed|label_embs_concat|_float_tensor|_inftensor'
  r'|num_batches_tracked)$'
)
_LAYER = r'encoder\.layers\.(\d+)\.'
_LAST = r'(weight|bias)'
_CONV = 'feature_extractor.conv_layers.'
_POSITION = 'encoder.pos_conv_embed.'
# The first pattern that a whole name is a match of says its new name.
_FAIRSEQ = (
  (
    r'feature_extractor\.conv_layers\.(\d+)\.0\.' + _LAST,
    _CONV + r'\1.conv.\2',
  ),
  (
    r'feature_extractor\.conv_layers\.(\d+)\.2(?:\.1)?\.' + _LAST,
    _CONV + r'\1.layer_norm.\2',
  ),
  (r'layer_norm\.' + _LAST, r'feature_projection.layer_norm.\1'),
  (r'post_extract_proj\.' + _LAST, r'feature_projection.projection.\1'),
  (
    r'encoder\.pos_conv\.0\.(bias|weight_g|weight_v|parametrizations\..*)',
    _POSITION + r'conv.\1',
  ),
  (
    _LAYER + r'self_attn\.([qkv]|out)_proj\.' + _LAST,
    r'encoder.layers.\1.attention.\2_proj.\3',
  ),
  (
    _LAYER + r'self_attn\.grep_linear\.' + _LAST,
    r'encoder.layers.\1.attention.gru_rel_pos_linear.\2',
  ),
  (
    _LAYER + r'self_attn\.grep_a',
    r'encoder.layers.\1.attention.gru_rel_pos_const',
  ),
  (
    _LAYER + r'self_attn\.relative_attention_bias\.weight',
    r'encoder.layers.\1.attention.rel_attn_embed.weight',
  ),
  (
    _LAYER + r'self_attn_layer_norm\.' + _LAST,
    r'encoder.layers.\1.layer_norm.\2',
  ),
  (
    _LAYER + r'fc1\.' + _LAST,
    r'encoder.layers.\1.feed_forward.intermediate_dense.\2',
  ),
  (
    _LAYER + r'fc2\.' + _LAST,
    r'encoder.layers.\1.feed_forward.output_dense.\2',
  ),
)
# HuBERT with batch norm in front of the positional convolution.
_FAIRSEQ_BATCH_NORM = (
  (
    r'encoder\.pos_conv\.0\.(weight|bias|running_mean|running_var)',
    _POSITION + r'batch_norm.\1',
  ),
  (r'encoder\.pos_conv\.1\.' + _LAST, _POSITION + r'conv.\1'),
)
_TORCHAUDIO = (
  (r'encoder\.feature_projection\.(.*)', r'feature_projection.\1'),
  (
    r'encoder\.transformer\.(.*)\.attention\.attention\.(.*)',
    r'encoder.\1.attention.\2',
  ),
  (r'encoder\.transformer\.(.*)', r'encoder.\1'),
)
_TORCHAUDIO_MARK = 'encoder.transformer.layer_norm.weight'
_FAIRSEQ_MARK = 'encoder.layers.0.self_attn.q_proj.weight'
_SCALES = {'weight': 'scale', 'bias': 'bias'}


def encoder_part(
  tensors: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """The encoder among the tensors of a file, and what else there is.

  Args:
    tensors: name to array, as in the file.

  Returns:
    Tensors of the encoder by Hugging Face's names, and all others under the
    names that they have.
  """
  prefix = _prefix(tensors)
  given, others = {}, {}
  for name, array in tensors.items():
    if name.startswith(prefix):
      given[name.removeprefix(prefix)] = array
    else:
      others[name] = array
  found = {}
  rename = _renaming(given)
  for name, array in given.items():
    new = rename(name)
    if place_of(new) or _packed(new):
      found[new] = array
    else:
      others[prefix + name] = array
  return _unpacked(found), others


def unused(name: str) -> bool:
  """Whether a tensor is of pretraining or a task, and no part of a detector."""
  return bool(_UNUSED.search(name))


def translate(
  tensors: Mapping[str, np.ndarray],
) -> dict[str, list[tuple[str, np.ndarray]]]:
  """Our names of an encoder's tensors.

  Args:
    tensors: by Hugging Face's names.

  Returns:
    Our name to pairs of the old name and the array in our axis order: one, or
    for what is stacked one for each layer, in their order.
  """
  found: dict[str, dict[int, tuple[str, np.ndarray]]] = {}
  for old, array in tensors.items():
    new, layer = place_of(old)
    if new.endswith('kernel'):
      array = array.T
    elif new in ('position.g', 'layers.gate_factor'):
      array = array.reshape(-1)
    elif new == 'position.v':
      array = array.T
    found.setdefault(new, {})[layer] = old, array
  return {
    name: [slots[i] for i in sorted(slots)] for name, slots in found.items()
  }


def place_of(name: str) -> tuple[str, int] | None:
  """Our name and the layer of a tensor; None for one that we do not have."""
  for pattern, replacement in _OURS:
    if match := re.fullmatch(pattern, name):
      layer = int(match['layer']) if 'layer' in match.groupdict() else 0
      return match.expand(replacement), layer
  return None


def _norm(old: str, new: str):
  return [(f'{old}\\.{k}', f'{new}.{v}') for k, v in _SCALES.items()]


def _dense(old: str, new: str):
  return [
    (f'{old}\\.weight', f'{new}.kernel'),
    (f'{old}\\.bias', f'{new}.bias'),
  ]


_IN_LAYER = r'encoder\.layers\.(?P<layer>\d+)\.'
_OURS = (
  *_dense(r'feature_extractor\.conv_layers\.(\d+)\.conv', r'conv\1'),
  *_norm(r'feature_extractor\.conv_layers\.(\d+)\.layer_norm', r'conv\1.norm'),
  *_norm(r'feature_projection\.layer_norm', 'projection_norm'),
  *_dense(r'feature_projection\.projection', 'projection'),
  *_dense(r'encoder\.pos_conv_embed\.conv', 'position'),
  (
    r'encoder\.pos_conv_embed\.conv\.(?:parametrizations\.weight\.original0|weight_g)',
    'position.g',
  ),
  (
    r'encoder\.pos_conv_embed\.conv\.(?:parametrizations\.weight\.original1|weight_v)',
    'position.v',
  ),
  *_norm(r'encoder\.pos_conv_embed\.batch_norm', 'position.norm'),
  (
    r'encoder\.pos_conv_embed\.batch_norm\.running_(mean|var)',
    r'position.norm.\1',
  ),
  *_norm(r'encoder\.layer_norm', 'norm'),
  *_dense(_IN_LAYER + r'attention\.q_proj', 'layers.query'),
  *_dense(_IN_LAYER + r'attention\.k_proj', 'layers.key'),
  *_dense(_IN_LAYER + r'attention\.v_proj', 'layers.value'),
  *_dense(_IN_LAYER + r'attention\.out_proj', 'layers.out'),
  *_norm(_IN_LAYER + r'layer_norm', 'layers.attention_norm'),
  *_dense(_IN_LAYER + r'feed_forward\.intermediate_dense', 'layers.feed1'),
  *_dense(_IN_LAYER + r'feed_forward\.output_dense', 'layers.feed2'),
  *_norm(_IN_LAYER + r'final_layer_norm', 'layers.final_norm'),
  *_dense(_IN_LAYER + r'attention\.gru_rel_pos_linear', 'layers.gate'),
  (_IN_LAYER + r'attention\.gru_rel_pos_const', 'layers.gate_factor'),
  (r'encoder\.layers\.0\.attention\.rel_attn_embed\.weight', 'distances'),
)


def _prefix(names: Iterable[str]) -> str:
  """What stands before the names of the encoder: wrappers of a wrapper too."""
  first = [
    n
    for n in names
    if n.endswith(f'{_CONV}0.0.weight') or n.endswith(f'{_CONV}0.conv.weight')
  ]
  return first[0][: first[0].index(_CONV)] if len(first) == 1 else ''


def _renaming(names: Iterable[str]):
  """What turns names of one toolkit into Hugging Face's."""
  names = set(names)
  if _TORCHAUDIO_MARK in names:
    table = _TORCHAUDIO
  elif _FAIRSEQ_MARK in names:
    table = _FAIRSEQ
    if 'encoder.pos_conv.0.running_mean' in names:
      table = _FAIRSEQ_BATCH_NORM + _FAIRSEQ
  else:
    table = ()

  def rename(name: str) -> str:
    for pattern, replacement in table:
      if match := re.fullmatch(pattern, name):
        return match.expand(replacement)
    return name

  return rename


def _packed(name: str) -> bool:
  return bool(re.search(r'\.in_proj_(weight|bias)$', name))


def _unpacked(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Splits what torchaudio's WavLM packs: rows of query, key and value."""
  found = {}
  for name, array in tensors.items():
    if not _packed(name):
      found[name] = array
      continue
    stem, last = name.rsplit('.in_proj_', 1)
    for part, rows in zip('qkv', np.split(array, 3), strict=True):
      found[f'{stem}.{part}_proj.{last}'] = rows
  return found
