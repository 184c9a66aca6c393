"""The sinc front end: filters, masking, learning, pooling."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxspoof.frontends import sinc
from jaxspoof.ops import platform


def _wave(samples, batch=2, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, (batch, samples)).astype(np.float32)


def test_bank_is_the_textbook_one():
  bank = sinc.mel_bank(70, 128)
  assert bank.shape == (129, 70) and bank.dtype == np.float32
  np.testing.assert_array_equal(bank, bank[::-1])
  edges = sinc.mel_edges(70)
  assert edges[0] == 0 and edges[-1] == pytest.approx(8000)
  time = np.arange(-64, 65) / 16_000
  for i in (0, 1, 35, 69):
    # Integral of cos(2 pi f t) over the band, both signs of f, per sample.
    f = np.linspace(edges[i], edges[i + 1], 2001)
    integrand = np.cos(2 * np.pi * f[:, None] * time[None])
    ideal = 2 * np.trapezoid(integrand, f, axis=0) / 16_000
    wanted = np.hamming(129) * ideal
    np.testing.assert_allclose(bank[:, i], wanted, rtol=0, atol=5e-7)


def test_bank_passes_its_own_bands():
  bank = sinc.mel_bank(70, 128)
  centre = sinc.mel_edges(70)[:-1] + np.diff(sinc.mel_edges(70)) / 2
  response = np.abs(np.fft.rfft(bank, 16_000, axis=0))  # one bin per Hz
  # Bands much narrower than 16000 / 129 Hz overlap; wide ones do not.
  wide = np.arange(40, 70)
  strongest = response[centre[wide].astype(int)].argmax(1)
  np.testing.assert_array_equal(strongest, wide)


@pytest.mark.parametrize(
  'form', [contextlib.nullcontext, platform.accelerator_form]
)
@pytest.mark.parametrize('samples', [131, 132, 1000, 4097])
@pytest.mark.parametrize('filters', [6, 8, 70])
def test_output_against_a_loop(samples, filters, form):
  wave = _wave(samples)
  frontend = sinc.SincFrontend(filters, 128)
  with form():
    got = np.asarray(jax.jit(lambda wave: frontend(wave))(wave))
  bank = sinc.mel_bank(filters, 128)
  frames, bands = (samples - 128) // 3, filters // 3
  assert got.shape == (2, frames, bands)
  assert frames == sinc.frames_made(samples, 128, 3)
  assert sinc.samples_needed(128, 3, frames) <= samples
  filtered = np.stack(
    [[np.correlate(w, f, 'valid') for f in bank.T] for w in wave]
  )
  for frame in {0, frames // 2, frames - 1}:
    for band in {0, bands - 1}:
      window = filtered[:, 3 * band : 3 * band + 3, 3 * frame : 3 * frame + 3]
      np.testing.assert_allclose(
        got[:, frame, band], np.abs(window).max((1, 2)), rtol=1e-4, atol=1e-6
      )


def test_mask_silences_one_band():
  masks = jax.vmap(lambda key: sinc.frequency_mask(key, 70, 20))(
    jax.random.split(jax.random.key(0), 4000)
  )
  masks = ~np.asarray(masks)
  width = masks.sum(1)
  # Widths 0 .. 19 are equally likely, and the band is in one piece.
  counts = np.bincount(width)
  assert len(counts) == 20
  assert np.abs(counts - 200).max() < 5 * np.sqrt(200)
  edges = np.diff(masks.astype(int), axis=1, prepend=0, append=0)
  np.testing.assert_array_equal((edges == 1).sum(1), width > 0)
  # The first and the last filter are reached, by wide bands too.
  assert masks[width == 1][:, [0, -1]].any(0).all()
  assert masks[width > 15][:, [0, -1]].any(0).all()


def test_mask_in_the_front_end():
  wave = jnp.asarray(_wave(3000))
  plain = sinc.SincFrontend(70, 128)
  masked = sinc.SincFrontend(70, 128, mask_limit=20)
  with pytest.raises(ValueError, match='rngs=nnx.Rngs'):
    masked(wave)
  evaluated = nnx.view(masked, deterministic=True)(wave)
  np.testing.assert_array_equal(evaluated, plain(wave))
  key = jax.random.key(3)
  got = masked(wave, nnx.Rngs(mask=key))
  np.testing.assert_array_equal(got, masked(wave, nnx.Rngs(mask=key)))
  keep = sinc.frequency_mask(nnx.Rngs(mask=key).mask(), 70, 20)
  assert 0 < (~keep).sum()
  # A band of the image is silent where all its three filters are.
  silent = ~np.asarray(keep)[:69].reshape(23, 3).any(1)
  np.testing.assert_array_equal(np.asarray(got == 0).all((0, 1)), silent)
  whole = np.asarray(keep)[:69].reshape(23, 3).all(1)
  np.testing.assert_array_equal(
    np.asarray(got)[..., whole], np.asarray(plain(wave))[..., whole]
  )


@pytest.mark.parametrize('filters, taps', [(70, 128), (20, 251)])
def test_learnable_bank_starts_at_the_fixed_one(filters, taps):
  fixed = sinc.SincFrontend(filters, taps)
  learned = sinc.SincFrontend(filters, taps, learnable=True)
  difference = np.abs(np.asarray(learned.bank()) - np.asarray(fixed.bank()))
  assert difference.max() < 1e-6
  wave = _wave(4000)
  found, wanted = (jax.jit(lambda w, f=f: f(w))(wave) for f in (learned, fixed))
  np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)


def _learned_edges(low, band):
  frontend = sinc.SincFrontend(6, 64, learnable=True)
  frontend.low.set_value(jnp.asarray(low, jnp.float32))
  frontend.band.set_value(jnp.asarray(band, jnp.float32))
  return np.asarray(frontend.bank())


def test_learnable_bank_stays_within_the_spectrum():
  low = [0.0, -0.2, 0.2, 0.9, 1.5, -3.0]
  band = [0.1, 0.1, 0.1, 0.5, 0.1, 0.0]
  bank = _learned_edges(low, band)
  assert np.isfinite(bank).all()
  # The sign of a parameter does not matter, and nothing is above Nyquist.
  np.testing.assert_allclose(bank[:, 1], bank[:, 2], atol=1e-7)
  np.testing.assert_array_equal(bank[:, 4:], 0)


def test_learnable_edges_have_true_gradients():
  wave = _wave(400)
  frontend = sinc.SincFrontend(6, 32, learnable=True)
  graphdef, params = nnx.split(frontend)
  weights = np.random.default_rng(1).normal(size=(2, 122, 2))

  @jax.jit
  def loss(params):
    out = nnx.merge(graphdef, params)(wave.astype(params['low'][...].dtype))
    return (out * weights.astype(out.dtype)).sum()

  with jax.enable_x64(True):
    wide = jax.tree.map(lambda p: jax.device_put(np.float64(p)), params)
    gradient = jax.jit(jax.grad(loss))(wide)
    for name in ('low', 'band'):
      found = np.asarray(gradient[name][...])
      for i in range(6):
        step = 1e-6
        # The bank starts at 0 Hz and ends at half the rate: one way is shut.
        sides = (0, 1) if (name, i) == ('low', 0) else (-1, i < 5)
        values = []
        for side in sides:
          moved = jax.tree.map(lambda p: p, wide)
          value = np.array(moved[name][...])
          value[i] += side * step
          moved[name].set_value(jax.device_put(value))
          values.append(float(loss(moved)))
        slope = (values[1] - values[0]) / (step * (sides[1] - sides[0]))
        np.testing.assert_allclose(found[i], slope, rtol=2e-3, atol=1e-3)
        assert found[i] != 0


def _convolutions(jaxpr):
  count = 0
  for equation in jaxpr.eqns:
    count += equation.primitive.name == 'conv_general_dilated'
    for value in jax.tree.leaves(
      list(equation.params.values()),
      is_leaf=lambda v: hasattr(v, 'eqns') or hasattr(v, 'jaxpr'),
    ):
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        count += _convolutions(inner)
  return count


def test_training_pays_for_no_gradient_of_the_fixed_bank():
  wave = jnp.asarray(_wave(500))
  frontend = sinc.SincFrontend(6, 32)

  def loss(scale, wave):
    return (frontend(wave) * scale).sum()

  scale = jnp.ones(())
  assert _convolutions(jax.make_jaxpr(jax.grad(loss))(scale, wave).jaxpr) == 1
  # The gradient of the wave exists for those who ask.
  by_wave = jax.grad(loss, argnums=1)
  assert _convolutions(jax.make_jaxpr(by_wave)(scale, wave).jaxpr) == 2
  assert np.abs(np.asarray(by_wave(scale, wave))).max() > 0
