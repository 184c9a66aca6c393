"""Which detectors on self-supervised encoders can be read: a table.

Each is told by names of its tensors, and described by a `Release`: how its
config follows from shapes, what its tensors are called here, what it expects
and says. `weights.ssl_detectors` reads them by it.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxspoof.frontends.ssl.architecture import Architecture
from jaxspoof.models import conformer, sls
from jaxspoof.models.conformer import ConformerConfig
from jaxspoof.models.mean import MeanConfig
from jaxspoof.models.mhfa import MhfaConfig
from jaxspoof.models.nes2net import Nes2NetConfig
from jaxspoof.models.sls import SlsConfig
from jaxspoof.models.spectra import SpectraConfig
from jaxspoof.models.spectra_aasist import SpectraAasistConfig
from jaxspoof.models.ssl_aasist import SslAasistConfig
from jaxspoof.weights import aasist

Tensors = dict[str, np.ndarray]
Settings = Mapping[str, Any]  # of a config.yaml beside the weights
NOTHING: Settings = MappingProxyType({})
SAMPLES = 64_600  # that most score of a clip: about four seconds


class Release(NamedTuple):
  """A kind of detector that people release weights of.

  Attributes:
    model: a key of `models.MODELS`.
    marks: names of tensors that no other kind before it in `RELEASES` has.
    config: makes the config of the model of tensors and settings; takes out
      tensors that hold nothing which was learned.
    names: substitutions that turn an old name into the new one, in this order.
    frontend: fields of the front end.
    of_encoder: further fields of it, which depend on the encoder.
    bona_fide: the output that means bona fide speech, '0' or '1', if the
      settings do not say it.
    licence: of the weights, as far as it is stated.
    samples: how much of a clip is scored; None: all of it, up to a limit.
    said: the output that settings say means bona fide speech, None if they do
      not.
  """

  model: str
  marks: tuple[str, ...]
  config: Callable[[Tensors, Settings], Any]
  names: tuple[tuple[str, str], ...]
  frontend: Mapping[str, Any] = NOTHING
  of_encoder: Callable[[Architecture], Mapping[str, Any]] = lambda _: NOTHING
  bona_fide: str = '1'
  licence: str = 'none is stated'
  samples: int | None = SAMPLES
  said: Callable[[Settings], str | None] = lambda _: None


def _ssl_aasist(tensors: Tensors, settings: Settings) -> SslAasistConfig:
  blocks = sum(bool(re.fullmatch(_CONV2, name)) for name in tensors)
  channels = [len(tensors[f'encoder.{i}.0.conv2.bias']) for i in range(blocks)]
  return SslAasistConfig(
    projection=len(tensors['LL.bias']),
    channels=channels,
    attention_channels=len(tensors['attention.0.bias']),
    gat_dims=(
      tensors['master1'].shape[-1],
      len(tensors['HtrgGAT_layer_ST12.att_proj.bias']),
    ),
    **settings,
  )


def _sls(tensors: Tensors, _: Settings) -> SlsConfig:
  embedding, size = tensors['fc1.weight'].shape
  width = tensors['fc0.weight'].shape[1]
  return SlsConfig(sls.POOL * (size // (width // sls.POOL)), embedding)


def _nes2net(start: str, columns: bool):
  """Of Nes2Net-X, and of the Nes2Net before it."""

  def config(tensors: Tensors, settings: Settings) -> Nes2NetConfig:
    first = f'{start}.Build_in_Res2Nets.0'
    size = len(tensors[f'{first}.conv3.bias'])
    steps = rf'{re.escape(first)}\.convs\.\d+\.bias'
    return Nes2NetConfig(
      parts=len(tensors[f'{start}.bn.weight']) // size,
      inner_parts=1 + sum(bool(re.fullmatch(steps, name)) for name in tensors),
      squeeze=size // len(tensors[f'{first}.se.se.1.bias']),
      columns=columns,
      # Tensors do not tell it: it is that of all that were published.
      dilation=_backend(settings).get('dilation', 2),
    )

  return config


def _conformer(
  tensors: Tensors, start: str, blocks: str, **fields
) -> ConformerConfig:
  """Sizes of a conformer with a class token.

  Args:
    tensors: by name; those of positions, which are no weights, are taken out.
    start: what stands before names of token and positions.
    blocks: before the number of a block.
    **fields: of the config, which tensors do not tell.
  """
  fixed = tensors.pop(f'{start}positional_emb')
  width = fixed.shape[-1]
  wanted = conformer.positions(fixed.shape[1], width)
  # Sines of large numbers differ from one library to the next.
  if not np.allclose(fixed[0, :_FRAMES], wanted[:_FRAMES], atol=1e-3):
    raise ValueError('the sines and cosines of its positions')
  numbers = [
    int(n)
    for name in tensors
    for n in re.findall(rf'^{re.escape(blocks)}(\d+)\.', name)
  ]
  first = f'{blocks}0'
  return ConformerConfig(
    blocks=1 + max(numbers),
    heads=tensors[f'{first}.attn.fn.pos_embed'].shape[1],
    feed_factor=len(tensors[f'{first}.ff1.fn.fn.net.0.bias']) // width,
    conv_factor=len(tensors[f'{first}.conv.net.5.bias']) // width,
    taps=tensors[f'{first}.conv.net.4.conv.weight'].shape[-1],
    **fields,
  )


def _spectra(tensors: Tensors, _: Settings) -> SpectraConfig:
  size = lambda name: len(tensors[f'{name}.bias'])
  parts = 1 + sum(
    bool(re.fullmatch(r'ecapa_tdnn\.layer1\.convs\.\d+\.bias', name))
    for name in tensors
  )
  return SpectraConfig(
    hidden=size('bridge.mlp.0'),
    features=size('bridge.mlp.3'),
    channels=size('ecapa_tdnn.conv1'),
    parts=parts,
    squeeze=size('ecapa_tdnn.layer1.se.se.1'),
    joined=size('ecapa_tdnn.layer5'),
    attention=size('ecapa_tdnn.attention.0'),
  )


def _spectra_aasist(tensors: Tensors, _: Settings) -> SpectraAasistConfig:
  size = lambda name: len(tensors[f'{name}.bias'])
  blocks = r'aasist\.enc\.enc\.\d+\.conv2\.bias'
  count = sum(bool(re.fullmatch(blocks, name)) for name in tensors)
  branch = 'aasist.branch1'
  return SpectraAasistConfig(
    hidden=size('bridge.mlp.0'),
    projection=size('bridge.mlp.3'),
    positions=tensors['aasist.pos_T'].shape[1],
    channels=[size(f'aasist.enc.enc.{i}.conv2') for i in range(count)],
    attention_channels=size('aasist.attention.0'),
    gat_dims=(
      tensors[f'{branch}.master'].shape[-1],
      size(f'{branch}.HtrgGAT_layer_ST2.att_proj'),
    ),
  )


def _of_branch(number: int) -> tuple[tuple[str, str], ...]:
  """Names of a branch, the first being 1, which are stacked here."""
  old, new = rf'^aasist\.branch{number}\.', f'branches.{number - 1}.'
  return (
    (old + 'master$', f'master.{number - 1}'),
    (old + r'HtrgGAT_layer_ST(\d)\.', new + r'attention\1.'),
    (old + r'pool_hS\.proj\.', new + 'pool_spectral.score.'),
    (old + r'pool_hT\.proj\.', new + 'pool_temporal.score.'),
  )


def _mhfa(tensors: Tensors, _: Settings) -> MhfaConfig:
  return MhfaConfig(
    heads=len(tensors['att_head.bias']),
    compression=len(tensors['cmp_linear_k.bias']),
    embedding=len(tensors['pooling_fc.bias']),
    activated=True,
    last_again=1,
  )


def _normalised_if_large(encoder: Architecture) -> Mapping[str, Any]:
  """As s3prl does by what fairseq says, which WeDefense does not keep.

  All models with layer norms in their convolutions want normalised waves.
  """
  large = encoder.conv_norm == 'layer'
  return {'normalise_wave': 'fairseq' if large else 'none'}


def _section(settings: Settings, *path: str) -> Settings:
  """A section of settings within others; an empty one if there is none."""
  found: Any = settings
  for name in path:
    found = found.get(name) if isinstance(found, Mapping) else None
  return found if isinstance(found, Mapping) else NOTHING


def _backend(settings: Settings) -> Settings:
  """What DeepFense's config.yaml says of the back end."""
  return _section(settings, 'model', 'backend', 'args')


def _label(settings: Settings) -> str | None:
  """Which output DeepFense's config.yaml says is bona fide."""
  found = _section(settings, 'data', 'label_map').get('bonafide')
  return None if found is None else str(found)


def _deepfense_aasist(tensors: Tensors, settings: Settings) -> SslAasistConfig:
  bare = {name.removeprefix('backend.'): a for name, a in tensors.items()}
  said = _backend(settings)
  ratios = said.get('pool_ratios', (0.5, 0.7, 0.5, 0.5))
  temperatures = said.get('temperatures', (2.0, 2.0, 100.0, 100.0))
  return _ssl_aasist(
    bare,
    {'pool_ratios': ratios[:3], 'temperatures': temperatures[:3]},
  )


def _deepfense_mean(tensors: Tensors, _: Settings) -> MeanConfig:
  if others := [name for name in tensors if name.startswith('backend.')]:
    raise ValueError(
      f'a back end that is known: {others[0]}; known are MLP without layers, '
      'AASIST, Nes2Net and TCM, each with the loss CrossEntropy'
    )
  return MeanConfig(projection=None)


_STATISTICS = aasist.NAMES[-2:]
_CONV2 = r'encoder\.\d+\.0\.conv2\.bias'
_FRAMES = 1_000  # 20 s: whose positions are compared
_AASIST = (
  (r'^LL\.', 'projection.'),
  (r'^first_bn1\.', 'last_norm.'),
  (r'^attention\.0\.', 'score1.'),
  (r'^attention\.2\.', 'score_norm.'),
  (r'^attention\.3\.', 'score2.'),
  *aasist.NAMES,
)
_RES2NET = r'^Build_in_Res2Nets\.(\d+)\.'
_NES2NET = (
  (_RES2NET + r'conv1\.', r'block\1.input.'),
  (_RES2NET + r'bn1\.', r'block\1.input_norm.'),
  (_RES2NET + r'convs\.(\d+)\.', r'block\1.conv\2.'),
  (_RES2NET + r'bns\.(\d+)\.', r'block\1.norm\2.'),
  (_RES2NET + r'weighted_sum\.(\d+)$', r'block\1.share\2'),
  (_RES2NET + r'conv3\.', r'block\1.output.'),
  (_RES2NET + r'bn3\.', r'block\1.output_norm.'),
  (_RES2NET + r'se\.se\.1\.', r'block\1.squeeze.'),
  (_RES2NET + r'se\.se\.3\.', r'block\1.excite.'),
  (r'^bns\.(\d+)\.', r'norm\1.'),
  (r'^bn\.', 'last_norm.'),
  (r'^fc\.', 'head.'),
  *_STATISTICS,
)
_CONFORMER = (
  (r'^class_token$', 'token'),
  (r'^first_bn\.', 'first_norm.'),
  (r'^encoder_blocks\.(\d+)\.', r'block\1.'),
  (r'\.ff([12])\.fn\.norm\.', r'.feed_norm\1.'),
  (r'\.ff([12])\.fn\.fn\.net\.0\.', r'.enter\1.'),
  (r'\.ff([12])\.fn\.fn\.net\.3\.', r'.leave\1.'),
  (r'\.attn\.norm\.', '.attention_norm.'),
  (r'\.attn\.fn\.', '.attention.'),
  (r'\.proj\.', '.out.'),
  (r'\.ht_proj\.', '.head_token.'),
  (r'\.ht_norm\.', '.head_norm.'),
  (r'\.pos_embed$', '.head_position'),
  (r'\.conv\.net\.0\.', '.conv_norm.'),
  (r'\.conv\.net\.2\.', '.widen.'),
  (r'\.conv\.net\.4\.conv\.', '.depthwise.'),
  (r'\.conv\.net\.5\.', '.inner_norm.'),
  (r'\.conv\.net\.7\.', '.narrow.'),
  (r'\.post_norm\.', '.last_norm.'),
  *_STATISTICS,
)
_DEEPFENSE = ((r'^losses\.0\.fc\.', 'head.'), (r'^backend\.', ''))
_FC = 'losses.0.fc.weight'
_OF_DEEPFENSE = dict(licence='Apache-2.0', samples=64_000, said=_label)
RELEASES = {
  'AntiDeepfake': Release(
    'mean',
    ('proj_fc.weight', 'proj_fc.bias'),
    lambda *_: MeanConfig(projection=None),
    ((r'^proj_fc\.', 'head.'),),
    {'normalise_wave': 'fairseq'},
    licence='CC BY-NC-SA 4.0, not for commercial use',
  ),
  'SSL_Anti-spoofing': Release(
    'ssl_aasist',
    ('LL.weight', 'GAT_layer_S.att_weight'),
    lambda tensors, _: _ssl_aasist(tensors, NOTHING),
    _AASIST,
    licence='MIT',
  ),
  'SLS': Release(
    'sls',
    ('fc0.weight', 'fc1.weight', 'fc3.weight', 'first_bn.weight'),
    _sls,
    (
      (r'^first_bn\.', 'first_norm.'),
      (r'^fc0\.', 'gate.'),
      (r'^fc1\.', 'hidden.'),
      (r'^fc3\.', 'head.'),
      *_STATISTICS,
    ),
    {'output': 'all', 'last_norm': False},
  ),
  'Nes2Net-X': Release(
    'nes2net',
    (
      'Nested_Res2Net_TDNN.Build_in_Res2Nets.0.weighted_sum.0',
      'Nested_Res2Net_TDNN.fc.weight',
    ),
    _nes2net('Nested_Res2Net_TDNN', columns=True),
    ((r'^Nested_Res2Net_TDNN\.', ''), *_NES2NET),
  ),
  'Spectra-0': Release(
    'spectra',
    ('bridge.mlp.0.weight', 'ecapa_tdnn.layer4.conv1.weight'),
    _spectra,
    (
      (r'^bridge\.mlp\.0\.', 'bridge1.'),
      (r'^bridge\.mlp\.3\.', 'bridge2.'),
      (r'^ecapa_tdnn\.conv1\.', 'first.'),
      (r'^ecapa_tdnn\.bn1\.', 'first_norm.'),
      (r'^ecapa_tdnn\.layer5\.', 'join.'),
      (r'^ecapa_tdnn\.layer(\d)\.', r'block\1.'),
      (r'^ecapa_tdnn\.attention\.0\.', 'attend1.'),
      (r'^ecapa_tdnn\.attention\.2\.', 'attend_norm.'),
      (r'^ecapa_tdnn\.attention\.4\.', 'attend2.'),
      (r'^ecapa_tdnn\.bn5\.', 'last_norm.'),
      (r'^ecapa_tdnn\.fc6\.', 'head.'),
      (r'\.conv1\.', '.enter.'),
      (r'\.bn1\.', '.enter_norm.'),
      (r'\.conv3\.', '.leave.'),
      (r'\.bn3\.', '.leave_norm.'),
      (r'\.convs\.(\d+)\.', r'.conv\1.'),
      (r'\.bns\.(\d+)\.', r'.norm\1.'),
      (r'\.se\.se\.1\.', '.squeeze.'),
      (r'\.se\.se\.3\.', '.excite.'),
      *_STATISTICS,
    ),
    {'pre_emphasis': 0.97},
    licence='Apache-2.0',
  ),
  'Spectra-AASIST': Release(
    'spectra_aasist',
    ('bridge.mlp.0.weight', 'aasist.pos_T', 'aasist.out_layer.weight'),
    _spectra_aasist,
    (
      (r'^bridge\.mlp\.0\.', 'bridge1.'),
      (r'^bridge\.mlp\.3\.', 'bridge2.'),
      *(pair for number in range(1, 5) for pair in _of_branch(number)),
      (r'^aasist\.pos_T$', 'time_position'),
      (r'^aasist\.enc\.enc\.(\d+)\.', r'encoder.block\1.'),
      (r'^aasist\.(enc\.)?', ''),
      *_AASIST,
    ),
    {'pre_emphasis': 0.97},
    licence='Apache-2.0',
  ),
  'DF Arena': Release(
    'conformer',
    ('backbone.conformer.class_token', 'backbone.attn_scores.weight'),
    lambda tensors, _: _conformer(
      tensors, 'backbone.conformer.', 'backbone.conformer.encoder_blocks.'
    ),
    (
      (r'^backbone\.(conformer\.)?', ''),
      (r'^attn_scores\.weight$', 'score'),
      (r'^fc0\.', 'gate.'),
      (r'^fc5\.', 'head.'),
      *_CONFORMER,
    ),
    {'output': 'all'},
    licence='not for commercial use',
  ),
  'WeDefense (MHFA)': Release(
    'mhfa',
    ('weights_k', 'cmp_linear_k.weight', 'projection.trans.2.weight'),
    _mhfa,
    (
      (r'^weights_k$', 'key_mix'),
      (r'^weights_v$', 'value_mix'),
      (r'^cmp_linear_k\.', 'key.'),
      (r'^cmp_linear_v\.', 'value.'),
      (r'^att_head\.', 'attention.'),
      (r'^pooling_fc\.', 'out.'),
      (r'^projection\.trans\.0\.', 'norm.'),
      (r'^projection\.trans\.2\.', 'head.'),
      *_STATISTICS,
    ),
    {'output': 'all', 'last_norm': True},
    _normalised_if_large,
    bona_fide='0',
    licence='Apache-2.0',
    samples=None,
  ),
  'DeepFense (AASIST)': Release(
    'ssl_aasist',
    ('backend.LL.weight', 'backend.GAT_layer_S.att_weight', _FC),
    _deepfense_aasist,
    ((r'^losses\.0\.fc\.', 'output.'), (r'^backend\.', ''), *_AASIST),
    **_OF_DEEPFENSE,
  ),
  'DeepFense (Nes2Net)': Release(
    'nes2net',
    ('backend.Build_in_Res2Nets.0.conv1.weight', _FC),
    _nes2net('backend', columns=False),
    (*_DEEPFENSE, *_NES2NET),
    **_OF_DEEPFENSE,
  ),
  'DeepFense (TCM)': Release(
    'conformer',
    ('backend.class_token', 'backend.LL.weight', _FC),
    lambda tensors, _: _conformer(
      tensors,
      'backend.',
      'backend.encoder_blocks.',
      gated=False,
      projection=len(tensors['backend.LL.bias']),
    ),
    (*_DEEPFENSE, (r'^LL\.', 'projection.'), *_CONFORMER),
    **_OF_DEEPFENSE,
  ),
  'DeepFense (MLP)': Release(
    'mean', (_FC,), _deepfense_mean, _DEEPFENSE, **_OF_DEEPFENSE
  ),
}
# What is recognised by the beginning of a tensor's name, and not taken.
UNKNOWN = {
  'losses.0.': (
    'DeepFense, with another loss than CrossEntropy, whose layer would be '
    'called losses.0.fc'
  ),
  'frontend.upstream.upstream.': (
    'WeDefense, with another back end than SSL_BACKEND_MHFA or another '
    "projection than 'softmax'"
  ),
  'aasist.branch1.': 'Spectra-AASIST3, whose layers are splines',
}
