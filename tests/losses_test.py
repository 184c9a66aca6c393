"""Losses and heads: against the original, their definitions, their slopes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxspoof import losses, models
from jaxspoof.blocks import heads
from jaxspoof.training import state

LABELS = np.array([0, 1, 1, 0, 1], np.int32)
OUTPUTS = {
  'linear': (5, 2),
  'cosine': (5, 2),
  'one_class': (5, 1),
}


def outputs_for(loss, seed=0, classes=None):
  rng = np.random.default_rng(seed)
  rows, columns = OUTPUTS[loss.head]
  shape = rows, classes or columns
  if loss.head == 'linear':
    return rng.normal(0, 2, shape)
  return rng.uniform(-0.95, 0.95, shape)


def make(name, classes=2, **fields):
  return losses.make(losses.LossConfig(name=name, **fields), classes)


@pytest.mark.parametrize('easy', [False, True])
def test_aam_softmax_equals_speechbrain(reference, easy):
  golden = np.load(reference / 'ecapa' / 'ecapa_small_golden.npz')
  loss = make('aam_softmax', 7, margin=0.2, scale=30.0, easy_margin=easy)
  head = heads.make('cosine', 24, 7, rngs=nnx.Rngs(0))
  head.weight.set_value(jax.device_put(golden['clf_weight']))
  cosine = jax.jit(lambda x: head(x))(golden['emb'][:, 0])
  np.testing.assert_allclose(
    cosine, golden['cosine'].reshape(cosine.shape), atol=1e-6
  )
  value = jax.jit(loss)(cosine, golden['labels'].reshape(-1).astype(np.int32))
  expected = golden[f'aam_loss_easy{int(easy)}']
  np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


def direct(name, loss, outputs, label):
  """The loss of one clip from its definition, and its weight."""
  x = [float(v) for v in outputs]
  weight = loss.weights[label] if getattr(loss, 'weights', ()) else 1.0
  if name in ('aam_softmax', 'am_softmax'):
    if name == 'am_softmax':
      x[label] -= loss.margin
    else:
      angle = math.acos(x[label])
      if loss.easy_margin:
        x[label] = math.cos(angle + loss.margin) if x[label] > 0 else x[label]
      elif angle + loss.margin < math.pi:
        x[label] = math.cos(angle + loss.margin)
      else:
        x[label] -= loss.margin * math.sin(loss.margin)
    x = [loss.scale * v for v in x]
  if name == 'oc_softmax':
    margin = loss.margin_bona_fide if label else loss.margin_spoof
    sign = 1 if label else -1
    return math.log1p(math.exp(loss.scale * sign * (margin - x[0]))), 1.0
  if name == 'p2sgrad':
    return np.mean([(v - (i == label)) ** 2 for i, v in enumerate(x)]), 1.0
  p = math.exp(x[label]) / sum(map(math.exp, x))
  factor = (1 - p) ** loss.gamma if name == 'focal' else 1.0
  return -factor * math.log(p), weight


FIELDS = [
  ('weighted_cross_entropy', {}),
  ('weighted_cross_entropy', {'weights': (0.1, 0.9)}),
  ('focal', {'weights': (0.25, 0.75)}),
  ('focal', {'gamma': 0.0}),
  ('focal', {'gamma': 0.5}),
  ('aam_softmax', {'scale': 10.0}),
  ('aam_softmax', {'margin': 1.2, 'scale': 5.0, 'weights': (0.3, 0.7)}),
  ('aam_softmax', {'margin': 0.5, 'scale': 5.0, 'easy_margin': True}),
  ('am_softmax', {'margin': 0.35, 'scale': 10.0}),
  ('oc_softmax', {}),
  ('oc_softmax', {'scale': 3.0, 'margin_spoof': -0.5}),
  ('p2sgrad', {}),
]


@pytest.mark.parametrize(('name', 'fields'), FIELDS)
def test_values_are_those_of_the_definition(name, fields):
  loss = make(name, **fields)
  with jax.enable_x64(True):
    outputs = outputs_for(loss)
    parts = [
      direct(name, loss, row, label)
      for row, label in zip(outputs, LABELS, strict=True)
    ]
    values, weights = zip(*parts, strict=True)
    expected = np.average(values, weights=weights)
    value = jax.jit(loss)(outputs, LABELS)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize(('name', 'fields'), FIELDS)
def test_slopes_are_those_of_finite_differences(name, fields):
  loss = make(name, **fields)
  with jax.enable_x64(True):
    outputs = outputs_for(loss, seed=1)
    value = jax.jit(lambda x: loss(x, jnp.asarray(LABELS)))
    found = np.asarray(jax.jit(jax.grad(value))(outputs))
    step = 1e-6
    for index in np.ndindex(outputs.shape):
      change = np.zeros_like(outputs)
      change[index] = step
      above, below = value(outputs + change), value(outputs - change)
      slope = (float(above) - float(below)) / (2 * step)
      np.testing.assert_allclose(found[index], slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(('name', 'fields'), FIELDS)
def test_scores_rise_with_bona_fide_and_know_no_margin(name, fields):
  loss = make(name, **fields)
  outputs = jnp.asarray(outputs_for(loss), jnp.float32)
  score = loss.score(outputs)
  assert score.shape == (5,)
  assert (loss.score(outputs.at[:, -1].add(0.01)) > score).all()
  if 'margin' in fields:
    other = make(name, **{**fields, 'margin': 0.0})
    np.testing.assert_array_equal(score, other.score(outputs))
  if name in ('weighted_cross_entropy', 'focal'):
    np.testing.assert_allclose(score, outputs[:, 1] - outputs[:, 0], rtol=1e-6)
  # What is on the host stays there: no program is compiled for it.
  host = loss.score(np.asarray(outputs))
  assert isinstance(host, np.ndarray)
  np.testing.assert_array_equal(host, score)


def test_the_score_of_many_classes_is_the_log_odds_of_the_last():
  loss = make('weighted_cross_entropy', 4)
  outputs = outputs_for(loss, classes=4)
  p = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
  expected = np.log(p[:, -1] / (1 - p[:, -1]))
  found = loss.score(jnp.asarray(outputs, jnp.float32))
  np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize('name', losses.LOSSES)
def test_extreme_outputs_keep_loss_and_slope_finite(name):
  loss = make(name)
  size = 1.0 if loss.head != 'linear' else 1e4
  for sign in (size, -size):
    outputs = np.full(OUTPUTS[loss.head], sign, np.float32)
    outputs[:, 0] *= -1
    value, slope = jax.jit(jax.value_and_grad(loss))(outputs, LABELS)
    assert np.isfinite(value) and np.isfinite(slope).all()


SIZES = {'linear': 3 * 6 + 3, 'cosine': 3 * 6, 'one_class': 6}


@pytest.mark.parametrize('kind', heads.HEADS)
def test_heads_have_the_sizes_they_say(kind):
  head = heads.make(kind, 6, 3, rngs=nnx.Rngs(0))
  embedding = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
  outputs = jax.jit(lambda x: head(x))(embedding)
  assert outputs.shape == (4, 1 if kind == 'one_class' else 3)
  sizes = [v.size for v in jax.tree.leaves(nnx.state(head, nnx.Param))]
  assert sum(sizes) == SIZES[kind]
  if kind != 'linear':
    w = np.asarray(head.weight[...])
    x, w = (v / np.linalg.norm(v, axis=1)[:, None] for v in (embedding, w))
    np.testing.assert_allclose(outputs, x @ w.T, atol=1e-6)
    slope = jax.jit(jax.grad(lambda x: head(x).sum()))
    slope = slope(np.zeros((1, 6), np.float32))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
  ('fields', 'classes', 'message'),
  [
    ({'name': 'arcface'}, 2, "loss.name='arcface' is unknown; known: weighted"),
    (
      {'margin': 0.2},
      2,
      'loss.margin=0.2 is set, but weighted_cro',
    ),
    ({'name': 'p2sgrad', 'scale': 1.0}, 2, 'has no scale; it has: no fields'),
    ({'name': 'aam_softmax', 'margin': 1.6}, 2, r'loss.margin=1.6: needs radi'),
    ({'name': 'aam_softmax', 'margin': -0.1}, 2, r'loss.margin=-0.1: needs'),
    ({'name': 'am_softmax', 'margin': 2.0}, 2, r'loss.margin=2.0: needs at l'),
    ({'name': 'aam_softmax', 'scale': 0.0}, 2, r'loss.scale=0.0: needs above'),
    ({'name': 'focal', 'gamma': -1.0}, 2, r'loss.gamma=-1.0: needs at least 0'),
    ({'name': 'oc_softmax', 'margin_spoof': 0.95}, 2, 'at most margin_bona_f'),
    ({'name': 'oc_softmax', 'margin_spoof': -2.0}, 2, 'needs a cosine'),
    ({'name': 'oc_softmax'}, 5, 'oc_softmax is for 2 classes, there are 5'),
    ({'weights': (0.1, 0.9)}, 3, 'needs 3 numbers above 0, one per class'),
    ({'weights': (0.0, 0.9)}, 2, 'needs 2 numbers above 0'),
  ],
)
def test_what_cannot_be_is_refused(fields, classes, message):
  with pytest.raises(ValueError, match=message):
    losses.make(losses.LossConfig(**fields), classes)


@pytest.mark.parametrize('name', ['focal', 'am_softmax', 'oc_softmax'])
@pytest.mark.parametrize('model', ['aasist_s', 'ecapa_s', 'light_darts'])
def test_every_model_takes_every_kind_of_loss(model, name):
  loss = make(name)
  system = models.system({'name': model}, head=loss.head)
  graphdef, *weights = state.split(system.abstract())

  def call(weights, wave, labels):
    outputs = state.eval_view(state.merge(graphdef, *weights))(wave)
    return outputs, loss(outputs, labels), loss.score(outputs)

  wave = jax.ShapeDtypeStruct((5, 16_000), jnp.float32)
  outputs, value, score = jax.eval_shape(call, weights, wave, LABELS)
  assert outputs.shape == OUTPUTS[loss.head]
  assert value.shape == () and score.shape == (5,)
  assert outputs.dtype == value.dtype == score.dtype == jnp.float32


def test_unknown_heads_are_refused():
  with pytest.raises(ValueError, match="head='softmax': needs one of linear"):
    heads.make('softmax', 4, 2, rngs=nnx.Rngs(0))
