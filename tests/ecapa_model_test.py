"""ECAPA-TDNN as a countermeasure on waves: config, lengths, heads, masks."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxspoof import models
from jaxspoof.blocks.heads import Head
from jaxspoof.frontends.spec_augment import SpecAugmentConfig
from jaxspoof.frontends.spectral import PRESETS
from jaxspoof.models.ecapa import Ecapa, EcapaConfig
from jaxspoof.system import SystemConfig
from jaxspoof.training import state

pytestmark = pytest.mark.usefixtures('programs')

FEATURES = dataclasses.replace(PRESETS['ecapa_mfcc'], filters=20, ceps=12)
SMALL = EcapaConfig(
  channels=(8, 8, 10),
  kernel_sizes=(5, 3, 1),
  dilations=(1, 2, 1),
  groups=(1, 1, 1),
  res2net_scale=2,
  attention_channels=4,
  se_channels=3,
  lin_neurons=6,
)
SAMPLES = 4000


@functools.cache
def model(config=SMALL):
  return Ecapa(config, nnx.Rngs(0), frontend=FEATURES)


@functools.partial(jax.jit, static_argnums=0)
def _score(graphdef, params, stats, wave, samples=None):
  seen = state.eval_view(state.merge(graphdef, params, stats))
  return seen.embed(wave, samples), seen(wave, samples)


def evaluate(config, wave, samples=None):
  samples = None if samples is None else jnp.asarray(samples, jnp.int32)
  return _score(*state.split(model(config)), jnp.asarray(wave), samples)


def waves(batch=3, samples=SAMPLES):
  rng = np.random.default_rng(0)
  return rng.uniform(-0.5, 0.5, (batch, samples)).astype(np.float32)


def test_a_clip_alone_and_in_a_padded_batch():
  wave, lengths = waves(), np.array([SAMPLES, 2400, model().min_samples])
  for row, length in zip(wave, lengths, strict=True):
    row[length:] = 0
  together = evaluate(SMALL, wave, lengths)
  for i, length in enumerate(lengths):
    alone = evaluate(SMALL, wave[i : i + 1, :length])
    for a, b in zip(alone, together, strict=True):
      np.testing.assert_allclose(a, b[i : i + 1], atol=1e-5)


@pytest.mark.parametrize(
  'head, classes, outputs',
  [('linear', 3, 3), ('cosine', 2, 2), ('one_class', 2, 1)],
)
def test_heads(head, classes, outputs):
  system = SystemConfig(Ecapa, SMALL, FEATURES, Head(head, classes))
  graphdef, params, stats = state.split(system.abstract())
  wave = jax.ShapeDtypeStruct((3, SAMPLES), jnp.float32)
  embedding, y = jax.eval_shape(
    functools.partial(_score, graphdef), params, stats, wave
  )
  assert embedding.shape == (3, 6) and y.shape == (3, outputs)
  assert y.dtype == jnp.float32


def test_the_shortest_wave():
  # Both kernels that reflect take 2 frames from each end.
  least = model().min_samples
  assert SMALL.min_frames == 3 and least == 2 * 160
  assert FEATURES.frames(least) == 3
  assert FEATURES.frames(least - 1) == 2
  y = jax.eval_shape(state.eval_view(model()), jnp.zeros((2, least)))
  assert y.shape == (2, 2)
  with pytest.raises(ValueError, match=f'at least {least}'):
    state.eval_view(model())(jnp.zeros((2, least - 1)))


def test_masks_in_training_only():
  masks = {'time_masks': 2, 'time_width': 5, 'freq_width': 4}
  config = dataclasses.replace(SMALL, spec_augment=masks)
  assert config.spec_augment == SpecAugmentConfig(**masks)
  graphdef, *trees = state.split(model(config))
  wave = jnp.asarray(waves())

  @jax.jit
  def embed(trees, wave, seed):
    trained = state.merge(graphdef, *trees)
    return trained.embed(wave, rngs=nnx.Rngs(mask=jax.random.key(seed)))

  first, again, other = (embed(trees, wave, seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert not np.allclose(first, other)
  for a, b in zip(evaluate(config, wave), evaluate(SMALL, wave), strict=True):
    np.testing.assert_array_equal(a, b)
  with pytest.raises(ValueError, match='spec_augment needs random numbers'):
    model(config)(wave)


def test_configs():
  assert EcapaConfig() == EcapaConfig(channels=[512] * 4 + [1536])
  assert hash(EcapaConfig(spec_augment={})) != hash(EcapaConfig())
  system = models.system({'name': 'ecapa'})
  assert system.frontend == PRESETS['ecapa_mfcc']
  assert system.parameters() == 6_194_048 + 2 * (192 + 1)
  system = models.system({'name': 'ecapa_voxceleb'})
  assert system.frontend == PRESETS['fbank80']
