"""Conv-TasNet against torchaudio and asteroid, and its weights."""

import functools
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxspoof.blocks import tcn
from jaxspoof.enhance import weights
from jaxspoof.enhance.conv_tasnet import ConvTasNet, ConvTasNetConfig, si_snr
from jaxspoof.system import parameters
from jaxspoof.tensors import files
from jaxspoof.tensors.unpickler import CheckpointError
from jaxspoof.weights import __main__ as command

pytestmark = pytest.mark.usefixtures('programs')
GOLDENS = pathlib.Path(__file__).parent / 'goldens'
# What files do not say.
CHANGES = {
  'torchaudio': {'blocks': 3},
  'torchaudio_odd': {'blocks': 3, 'mask': 'relu'},
  'asteroid': {},
  'asteroid_causal': {},
  'asteroid_frame': {},
}
TINY = dict(
  filters=6, kernel=8, stride=4, bottleneck=4, hidden=5, skip=4, blocks=2,
  stacks=2,
)  # fmt: skip


@functools.cache
def golden():
  """By `tools/conv_tasnet_goldens.py`."""
  return dict(np.load(GOLDENS / 'conv_tasnet.npz'))


def path(name):
  return GOLDENS / f'conv_tasnet_{name}.pt'


def loaded(name):
  return weights.load(path(name), **CHANGES[name])


def error(got, wanted):
  """The largest difference, of numbers below 1 in numbers, else in shares."""
  got = np.asarray(got, np.float64)
  assert got.shape == wanted.shape
  return np.abs(got - wanted).max() / max(1, np.abs(wanted).max())


def run(network, wave):
  graphdef, state = nnx.split(network)
  called = jax.jit(lambda state, wave: nnx.merge(graphdef, state)(wave))
  return called(state, jnp.asarray(wave))


# ---------------------------------------------------------------- parity ---
@pytest.mark.parametrize('name', CHANGES)
def test_waves(name):
  network, wave = loaded(name), golden()[f'{name}/wave']
  wanted = golden()[f'{name}/out']
  assert error(run(network, wave), wanted) < 1e-5
  plain = weights.on_numpy(network)(wave)
  assert isinstance(plain, np.ndarray) and plain.dtype == np.float32
  assert error(plain, wanted) < 1e-5


@pytest.mark.parametrize('name', ['torchaudio', 'asteroid_causal'])
def test_gradients(name):
  graphdef, state = nnx.split(loaded(name))

  def total(state, wave):
    out = nnx.merge(graphdef, state)(wave)
    ramp = jnp.cos(0.3 * jnp.arange(wave.shape[1], dtype=jnp.float32))
    return (out * ramp[None, None]).sum()

  wave = jnp.asarray(golden()[f'{name}/wave'])
  grads, of_wave = jax.jit(jax.grad(total, (0, 1)))(state, wave)
  prefix = f'{name}/grad/'
  wanted = {
    key.removeprefix(prefix): value
    for key, value in golden().items()
    if key.startswith(prefix)
  }
  assert error(of_wave, wanted.pop('wave')) < 5e-5
  table = weights.TORCHAUDIO if name == 'torchaudio' else weights.ASTEROID
  given = weights.translate(wanted, table)
  flat = {'.'.join(k): v[...] for k, v in nnx.to_flat_state(grads)}
  assert given.keys() == flat.keys()
  for key, [(_, array)] in given.items():
    assert error(flat[key], array) < 5e-5, key


@pytest.mark.parametrize('what', ['mask', 'padded', 'norm', 'stacks', 'slope'])
def test_every_mistake_shows(what):
  """Of what no shape tells."""
  name = 'asteroid_frame' if what in ('norm', 'slope') else 'torchaudio'
  changes = {
    'mask': {'mask': 'relu'},
    'padded': {'padded': False},
    'norm': {'norm': 'cumulative'},
    'stacks': {'blocks': 2},
    'slope': {},
  }[what]
  network = weights.load(path(name), **{**CHANGES[name], **changes})
  if what == 'slope':
    network.tcn.block0.slope1.set_value(jnp.zeros(1))
  wave, wanted = (golden()[f'{name}/{part}'] for part in ('wave', 'out'))
  assert error(weights.on_numpy(network)(wave), wanted) > 1e-4


def test_nothing_of_the_last_residual_is_kept():
  """torchaudio has none, asteroid one that nobody reads."""
  for name in ('torchaudio', 'asteroid'):
    block = loaded(name).tcn.block5
    assert not hasattr(block, 'residual') and hasattr(block, 'skip')
  tensors = files.open_weights(path('asteroid')).tensors
  assert 'masker.TCN.5.res_conv.weight' in tensors
  # Without skips it is the output.
  assert hasattr(loaded('asteroid_frame').tcn.block5, 'residual')


# As torchaudio has them; asteroid's have 65,664 more in the last residual.
@pytest.mark.parametrize(('sources', 'count'), [(1, 4_918_833), (2, 4_984_881)])
def test_published_sizes(sources, count):
  config = ConvTasNetConfig(sources=sources)
  network = nnx.eval_shape(lambda: ConvTasNet(config, nnx.Rngs(0)))
  assert parameters(network) == count


# ----------------------------------------------------------- the network ---
@pytest.mark.parametrize('norm', ['cumulative', 'frame'])
def test_a_causal_network_hears_no_future(norm):
  config = ConvTasNetConfig(**TINY, norm=norm, causal=True, padded=False)
  network = weights.on_numpy(ConvTasNet(config, nnx.Rngs(0)))
  wave = np.random.default_rng(0).normal(size=(1, 400)).astype(np.float32)
  changed = wave.copy()
  changed[:, 240:] = 3.0
  found, other = network(wave), network(changed)
  np.testing.assert_array_equal(found[..., :232], other[..., :232])
  assert np.abs(found - other)[..., 240:].max() > 0.01


@pytest.mark.parametrize('norm', tcn.NORMS)
def test_what_lies_behind_a_clip_does_not_matter(norm):
  config = tcn.TcnConfig(4, 5, 3, blocks=3, stacks=1, norm=norm)
  network = weights.on_numpy(tcn.Tcn(config, 7, nnx.Rngs(0)))
  x = np.random.default_rng(0).normal(size=(2, 20, 7)).astype(np.float32)
  where = np.arange(20)[None, :, None] < np.array([[[20]], [[11]]])
  found = network(np.where(where, x, 9), where)
  for clip, frames in enumerate((20, 11)):
    alone = network(x[clip : clip + 1, :frames])
    np.testing.assert_allclose(
      found[clip : clip + 1, :frames], alone, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize('padded', [False, True])
@pytest.mark.parametrize(('kernel', 'stride'), [(8, 4), (7, 3), (9, 2), (5, 5)])
def test_waves_of_any_length_keep_it(kernel, stride, padded):
  sizes = {**TINY, 'kernel': kernel, 'stride': stride, 'padded': padded}
  network = ConvTasNet(ConvTasNetConfig(**sizes), nnx.Rngs(0))
  network = weights.on_numpy(network)
  for samples in (1, kernel - 1, kernel, 40, 41, 42, 43):
    wave = np.ones((1, samples), np.float32)
    assert network(wave).shape == (1, 1, samples)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'stride': 17}, 'stride=17: expected at most kernel=16'),
    ({'mask': 'tanh'}, "mask='tanh': expected one of sigmoid, relu"),
    ({'norm': 'batch'}, "norm='batch': expected one of global"),
    ({'causal': True}, "norm='global', which looks at all frames"),
    ({'taps': 2}, 'taps=2: expected an odd number'),
    ({'filters': 0}, 'filters=0: needs at least 1'),
    ({'hidden': 0}, 'hidden=0: needs at least 1'),
    ({'skip': -1}, 'skip=-1: needs at least 0'),
  ],
)
def test_sizes_that_cannot_work_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    ConvTasNetConfig(**fields)


def test_si_snr():
  rng = np.random.default_rng(0)
  clean = rng.normal(size=(3, 4_000))
  noise = rng.normal(size=(3, 4_000))
  for x in (clean, noise):
    x -= x.mean(1, keepdims=True)
  noise -= (
    (noise * clean).sum(1, keepdims=True)
    / (clean**2).sum(1, keepdims=True)
    * clean
  )
  noise *= np.linalg.norm(clean, axis=1, keepdims=True) / np.linalg.norm(
    noise, axis=1, keepdims=True
  )
  decibels = np.array([[-5.0], [0.0], [12.0]])
  found = clean + noise * 10 ** (-decibels / 20)
  np.testing.assert_allclose(si_snr(found, clean), decibels[:, 0], atol=1e-5)
  # Neither level nor offset counts.
  other = si_snr(jnp.asarray(-3 * found + 7, jnp.float32), clean * 0.1)
  np.testing.assert_allclose(other, decibels[:, 0], atol=1e-2)


# --------------------------------------------------------------- weights ---
@pytest.mark.parametrize(
  ('name', 'changes', 'message'),
  [
    ('torchaudio', {}, r'6 blocks, .*no stacks of 8; say blocks=NUMBER'),
    ('asteroid', {'hidden': 9}, r'shape .*8.*the model has'),
    ('asteroid', {'stacks': 3}, 'missing: tcn.block6.enter.kernel'),
    ('asteroid', {'sizes': 3}, "unexpected keyword argument 'sizes'"),
  ],
)
def test_what_does_not_fit_is_said(name, changes, message):
  with pytest.raises(CheckpointError, match=message) as caught:
    weights.load(path(name), **changes)
  assert f'conv_tasnet_{name}.pt' in str(caught.value)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'fb_name': 'STFTFB'}, "fb_name='STFTFB': expected a free filterbank"),
    ({'norm_type': 'BN'}, "norm_type='BN'.*gLN, cgLN, cLN"),
    ({'out_chan': 5}, 'out_chan=5'),
    ({'mask_act': 'softmax'}, "mask='softmax': expected one of"),
    (None, 'no model_args beside the weights'),
  ],
)
def test_asteroid_networks_that_are_not_known_are_refused(
  fields, message, monkeypatch
):
  found = files.open_weights(path('asteroid'))
  around = {'model_args': fields and {**found.around['model_args'], **fields}}
  changed = found._replace(around=around)
  monkeypatch.setattr(files, 'open_weights', lambda path: changed)
  with pytest.raises(CheckpointError, match=message):
    weights.load('a.pt')


def test_the_command_says_what_it_is(capsys):
  assert command.main([str(path('asteroid'))]) == 0
  said = capsys.readouterr().out
  assert 'fits: a Conv-TasNet, 1 source(s), 10 filters of 8 samples, 2 x 3' in (
    said
  )
  assert f"'enhance:{path('asteroid')}'" in said.splitlines()[-1]
  # Nothing here uses two sources.
  assert command.main([str(path('asteroid_causal'))]) == 1
  assert 'cumulative norms' in capsys.readouterr().out


def test_other_files_are_refused(tmp_path):
  with pytest.raises(CheckpointError, match='not a Conv-TasNet: expected'):
    weights.load(GOLDENS / 'whisper.pt')
  with pytest.raises(CheckpointError, match='nothing there'):
    weights.load(tmp_path / 'absent.pt')
  (tmp_path / 'bad.pt').write_bytes(pickle.dumps({'encoder': print}))
  with pytest.raises(CheckpointError):
    weights.load(tmp_path / 'bad.pt')
