"""Multiply-accumulates: of programs, and of all models."""

import jax
import jax.numpy as jnp
import pytest

from jaxspoof import arithmetic, models

# Of 64,600 samples, by hand from the sizes of the layers.
STAGES = {
  'aasist': dict(sinc=573_865_272, encoder=8_965_282_464, graph=11_758_272),
  'aasist_l': dict(sinc=573_865_272, encoder=6_017_550_624, graph=2_642_432),
  'ecapa': dict(
    frontend=12_753_472,
    blocks=822_820_864,
    mfa=953_155_584,
    pooling=159_842_304,
  ),
  'ecapa_voxceleb': dict(
    frontend=7_893_352,
    blocks=3_125_018_624,
    mfa=3_812_622_336,
    pooling=319_684_608,
  ),
  'light_darts': dict(frontend=0, stem=8_167_680, cells=95_253_504),
}
HEADS = dict(aasist=320, aasist_l=320, ecapa=384, ecapa_voxceleb=384)
X, W = jnp.ones((3, 8, 4)), jnp.ones((4, 5))


@pytest.mark.parametrize('name', STAGES)
def test_models_cost_what_their_layers_do(name):
  found = models.system({'name': name}).macs(64_600)
  stages = {**STAGES[name], 'head': HEADS.get(name, 512)}
  assert found == {**stages, 'total': sum(stages.values())}


def test_a_clip_that_is_too_short_has_no_cost():
  with pytest.raises(ValueError, match='at least 2315'):
    models.system({'name': 'aasist'}).macs(2314)


def scan(x, w):
  return jax.lax.scan(lambda c, _: (c @ w, None), x, None, length=7)[0]


def convolve(x, w, **options):
  options = dict(padding='SAME', window_strides=(1,)) | options
  spec = ('NWC', 'WIO', 'NWC')
  return jax.lax.conv_general_dilated(x, w, dimension_numbers=spec, **options)


@pytest.mark.parametrize(
  ('function', 'args', 'expected'),
  [
    (lambda x, w: x @ w, (X, W), 3 * 8 * 4 * 5),
    (lambda x: jnp.einsum('bni,bmi->bnm', x, x), (X,), 3 * 8 * 8 * 4),
    (lambda x, w: jax.jit(jnp.matmul)(x, w), (X, W), 3 * 8 * 4 * 5),
    (scan, (X, jnp.ones((4, 4))), 7 * 3 * 8 * 4 * 4),
    (lambda x, w: jax.checkpoint(jnp.matmul)(x, w), (X, W), 3 * 8 * 4 * 5),
    # Padding counts; groups see a part of the channels.
    (convolve, (X, jnp.ones((3, 4, 6))), 3 * 8 * 3 * 4 * 6),
    (
      lambda x, w: convolve(x, w, padding='VALID', rhs_dilation=(2,)),
      (X, jnp.ones((3, 4, 6))),
      3 * 4 * 3 * 4 * 6,
    ),
    (
      lambda x, w: convolve(x, w, feature_group_count=2),
      (X, jnp.ones((3, 2, 6))),
      3 * 8 * 3 * 2 * 6,
    ),
    (
      lambda x, w: convolve(x, w, window_strides=(2,)),
      (X, jnp.ones((3, 4, 6))),
      3 * 4 * 3 * 4 * 6,
    ),
    (lambda x: jnp.fft.rfft(x, axis=1), (X,), 3 * 4 * 8 * 3),
    (lambda x: x * x + jnp.tanh(x), (X,), 0),
    # Of branches of the data the costlier one.
    (
      lambda x, w: jax.lax.cond(
        x[0, 0, 0] > 0, lambda: x @ w, lambda: x @ w @ w.T @ w
      ),
      (X, W),
      3 * 3 * 8 * 4 * 5,
    ),
  ],
)
def test_a_program_costs_its_products(function, args, expected):
  assert arithmetic.total(function, *args) == expected


def test_the_gradient_of_a_product_is_two_products():
  def loss(w, x):
    return jnp.sum(jnp.tanh(x @ w) @ w.T)

  both = arithmetic.total(jax.value_and_grad(loss, (0, 1)), W, X)
  assert both == 3 * arithmetic.total(loss, W, X)
  # The first product's gradient of x is not made.
  one = arithmetic.total(jax.value_and_grad(loss), W, X)
  assert one == both - 3 * 8 * 4 * 5
  # Nor the value of the last, where the gradient alone is asked for.
  assert arithmetic.total(jax.grad(loss), W, X) == one - 3 * 8 * 4 * 5
  kernel = jnp.ones((3, 4, 6))

  def strided(w):
    return jnp.sum(jnp.tanh(convolve(X, w, window_strides=(2,))))

  once = arithmetic.total(strided, kernel)
  assert arithmetic.total(jax.grad(strided), kernel) == 2 * once


def test_platforms_do_not_change_the_count():
  def written_out(x, w):
    with arithmetic.sums_of_products():
      products = x[..., None] * w[None, None]
    return (2 * products).sum(-2)

  def variants(x, w):
    return jax.lax.platform_dependent(
      x, w, cpu=written_out, default=lambda x, w: (x @ w) @ w.T @ w
    )

  def transforms(x):
    return jax.lax.platform_dependent(
      x,
      cpu=lambda x: jnp.fft.rfft(x, axis=1).real,
      default=lambda x: jnp.einsum('bni,nk->bki', x, jnp.ones((8, 5))),
    )

  assert arithmetic.total(variants, X, W) == 3 * 8 * 4 * 5
  assert arithmetic.total(transforms, X) == 3 * 4 * 8 * 3


def test_stages_are_the_outermost_scopes():
  def function(x, w):
    with jax.named_scope('first'), jax.named_scope('inner'):
      y = jax.vmap(lambda v: v @ w)(x)
    with arithmetic.left_out():
      w = w @ w.T
    with jax.named_scope('second'), arithmetic.one_in(4):
      return jax.jit(lambda y: y @ w.T[:, :4].T)(y[..., :4])

  one = 3 * 8 * 4 * 5
  assert arithmetic.count(function, X, W) == {
    'first': one,
    'second': 3 * 8 * 4 * 4 // 4,
  }
  grads = jax.grad(lambda w: jnp.sum(jnp.tanh(function(X, w))))
  assert set(arithmetic.count(grads, W)) == {'first', 'second'}


def test_a_loop_of_unknown_length_is_an_error():
  def function(x, w):
    return jax.lax.while_loop(lambda x: x[0, 0, 0] < 9, lambda x: x @ w, x)

  with pytest.raises(ValueError, match='loop of unknown length.*: encoder;'):
    arithmetic.total(jax.named_scope('encoder')(function), X, jnp.eye(4))
