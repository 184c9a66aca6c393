"""Supernets, derived networks and their cost."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special

from jaxspoof import losses, models
from jaxspoof.darts import spaces
from jaxspoof.darts.network import light_darts, light_darts_cost, relaxation
from jaxspoof.darts.network.light_darts import LightDarts, LightDartsConfig
from jaxspoof.darts.network.supernet import Arch, Supernet, SupernetConfig
from jaxspoof.darts.spaces import genotype as genotype_lib
from jaxspoof.frontends import SpectralConfig
from jaxspoof.system import SystemConfig
from jaxspoof.training import state, steps

SAMPLES = 1600
TINY = SpectralConfig(kind='log_mel', filters=24, hop_length=100)
SPACES = tuple(spaces.SPACES)
NODES = {space: 2 if space == 'light' else 1 for space in SPACES}

pytestmark = pytest.mark.usefixtures('programs')


def _config(space='light', **changes):
  frontend = TINY if spaces.space(space).dims == 2 else None
  fields = dict(num_cells=3, nodes=2, channels=4)
  config = SupernetConfig(space=space, **{**fields, **changes})
  return SystemConfig(Supernet, config, frontend)


def _network(frontend='', **changes):
  return models.system({'name': 'light_darts', **changes}, frontend)


def _genotype(space, nodes=2, seed=0):
  rng = np.random.default_rng(seed)
  return genotype_lib.random_genotype(spaces.space(space), nodes, rng)


def _wave(batch=4, samples=SAMPLES, seed=1):
  rng = np.random.default_rng(seed)
  return rng.uniform(-0.5, 0.5, (batch, samples)).astype(np.float32)


def _one_hot(genotype, sharpness=1e4):
  """Architecture parameters that choose a genotype and nothing else."""
  space = spaces.space(genotype.space)
  edges = genotype_lib.edges_of(genotype.nodes)
  arch = {}
  for kind in genotype_lib.KINDS:
    alpha = np.zeros((len(edges), len(space.operations)), np.float32)
    beta = np.zeros(len(edges), np.float32)
    if space.has_none:
      alpha[:, 0] = sharpness
    for k, (operation, j) in enumerate(getattr(genotype, kind)):
      row = edges.index((j, k // genotype_lib.KEPT + 2))
      alpha[row] = 0
      alpha[row, space.operations.index(operation)] = sharpness
      beta[row] = sharpness
    arch[kind] = {'alpha': alpha, 'beta': beta}
  return arch


def _choose(supernet, genotype):
  for kind, values in _one_hot(genotype).items():
    for name, variable in vars(getattr(supernet, kind)).items():
      if isinstance(variable, Arch):
        variable[...] = jax.device_put(values[name])


# Compiling takes longer than running here; unoptimised it is faster.
_FAST = {'xla_backend_optimization_level': '0'}


@functools.partial(jax.jit, static_argnums=0, compiler_options=_FAST)
def _both_modes(graphdef, variables, wave):
  """Logits and statistics in training mode, logits in evaluation mode."""
  model = nnx.merge(graphdef, variables)
  trained = model(wave)
  return trained, state.batch_stats_of(model), state.eval_view(model)(wave)


# As one program: every operation alone is one, too.
_shares = jax.jit(light_darts_cost.shares, static_argnums=0)


def _trained_values(model):
  return state.count_parameters(nnx.to_pure_dict(nnx.state(model, nnx.Param)))


# -- size ---------------------------------------------------------------------


def test_published_size():
  config = _network(
    'lfcc', genotype='pc_darts', space='', pool_norm=None, num_cells=4
  )
  assert _trained_values(config.abstract()) == 147_274


def test_lengths_of_raw_pc_darts():
  """Of 64,000 samples 41 frames are left after eight cells, as published."""
  config = _network(
    genotype='raw_pc_darts', space='', pool_norm=None, channels=4
  )
  graphdef, variables = nnx.split(state.eval_view(config.abstract()))

  def run(variables, wave):
    model = nnx.merge(graphdef, variables)
    return model.trunk(model.features(wave)[0])

  wave = jax.ShapeDtypeStruct((1, 64_000), jnp.float32)
  outputs = jax.eval_shape(run, variables, wave)
  lengths = [5323, 2661, 1330, 665, 332, 166, 83, 41]
  assert [x.shape[2] for x in outputs] == lengths
  # Two cells of eight double the channels; four nodes are stacked.
  assert [x.shape[3] for x in outputs] == [16] * 2 + [32] * 3 + [64] * 3


def test_default_size():
  assert _trained_values(_network().abstract()) == pytest.approx(
    1.2e6, rel=0.05
  )


@pytest.mark.parametrize('space', SPACES)
@pytest.mark.parametrize('seed', range(3))
def test_counts_of_random_genotypes(space, seed):
  config = _config(space, nodes=3, num_cells=4 + seed)
  genotype = _genotype(space, 3, seed)
  derived = light_darts.derived(config, genotype)
  model = derived.abstract()
  counted = derived.macs(SAMPLES)['total']
  assert light_darts_cost.macs(derived, SAMPLES) == counted
  arch = _one_hot(genotype)
  if not config.model.edge_normalisation:
    arch = {kind: {'alpha': arch[kind]['alpha']} for kind in arch}
  with jax.enable_x64(True):
    arch = jax.tree.map(lambda x: jax.device_put(np.float64(x)), arch)
    costs = light_darts_cost.expected(config, arch, SAMPLES)
    costs = {name: float(cost) for name, cost in costs.items()}
  assert costs['macs'] == counted
  assert costs['parameters'] == _trained_values(model)


@pytest.mark.parametrize('space', SPACES)
def test_parameters_that_choose_a_genotype_are_discretised_to_it(space):
  for seed in range(5):
    genotype = _genotype(space, 4, seed)
    found = genotype_lib.discretise(spaces.space(space), _one_hot(genotype))
    for kind in genotype_lib.KINDS:
      nodes = [
        [set(cell[i : i + 2]) for i in range(0, 8, 2)]
        for cell in (getattr(found, kind), getattr(genotype, kind))
      ]
      assert nodes[0] == nodes[1]


# -- expected cost ------------------------------------------------------------


def _random_arch(config, seed=0):
  rng = np.random.default_rng(seed)
  shapes = nnx.to_pure_dict(nnx.state(config.abstract(), Arch))
  return jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(np.float32), shapes
  )


@pytest.mark.parametrize('space', ['light', 'darts'])
def test_shares_by_enumeration(space):
  config = _config(space, nodes=3)
  arch = _random_arch(config)['normal']
  got = np.asarray(_shares(config.model, arch))
  kind = spaces.space(space)
  p = special.softmax(arch['alpha'], 1)
  wanted = np.zeros_like(got)
  for node, (start, end) in enumerate([(0, 2), (2, 5), (5, 9)]):
    p_some = p[start:end, kind.has_none :]
    worth = p_some.sum(1)
    if 'beta' in arch:
      worth = worth * np.exp(arch['beta'][start:end])
    worth = worth / worth.sum()
    for a, b in itertools.permutations(range(node + 2), 2):
      chance = worth[a] * worth[b] / (1 - worth[a])
      for edge in (a, b):
        wanted[start + edge] += chance * p_some[edge] / p_some[edge].sum()
  np.testing.assert_allclose(got, wanted, rtol=1e-5)
  assert got.sum() == pytest.approx(6, rel=1e-5)


def test_normalised_cost_and_its_gradient():
  config = _config('darts', edge_normalisation=True)
  arch = _random_arch(config)

  @functools.partial(jax.jit, static_argnums=1)
  def cost(arch, name):
    return light_darts_cost.normalised(config, arch, SAMPLES)[name]

  gradient = jax.jit(jax.grad(cost), static_argnums=1)
  for name in light_darts_cost.COSTS:
    assert 0 < cost(arch, name) < 1
    grads = jax.device_get(gradient(arch, name))
    direction = jax.tree.map(np.sign, grads)
    step = 1e-2
    above, below = (
      jax.tree.map(lambda a, d, s=s: a + s * d, arch, direction)
      for s in (step, -step)
    )
    change = float(cost(above, name)) - float(cost(below, name))
    slope = sum(float(np.abs(g).sum()) for g in jax.tree.leaves(grads))
    assert change / (2 * step) == pytest.approx(slope, rel=0.02)
  # No NaN where everything is decided.
  grads = gradient(_one_hot(_genotype('darts', config.model.nodes)), 'macs')
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_largest_network_is_the_largest():
  config = _config('raw')
  most = light_darts_cost.largest(config, SAMPLES)
  costs = []
  for seed in range(20):
    derived = light_darts.derived(config, _genotype('raw', 2, seed))
    costs.append(light_darts_cost.macs(derived, SAMPLES))
  assert max(costs) <= most['macs']
  cell = (('std_conv_5', 0), ('std_conv_5', 1)) * 2
  largest = genotype_lib.Genotype(space='raw', normal=cell, reduce=cell)
  largest = light_darts.derived(config, largest)
  assert light_darts_cost.macs(largest, SAMPLES) == most['macs']
  assert largest.parameters() == most['parameters']


# -- the derived network and the supernet -------------------------------------


def _inherit(model, supernet):
  """Copies to a derived network the weights its edges have in a supernet."""
  nnx.update(model.output, nnx.state(supernet.output))
  nnx.update(model.trunk.stem, nnx.state(supernet.trunk.stem))
  for ours, theirs in zip(model.trunk.cells, supernet.trunk.cells, strict=True):
    for name in ('projection0', 'projection1'):
      nnx.update(getattr(ours, name), nnx.state(getattr(theirs, name)))
    for kind in ('kernel', 'norm'):
      rows = getattr(theirs, f'{kind}_rows')
      for (strided, name), wanted in getattr(ours, f'{kind}_rows').items():
        index = np.array([rows[strided, name].index(row) for row in wanted])
        for key, target in getattr(ours, f'{kind}s').items():
          if key.startswith(f'{name}_s{1 + strided}_u'):
            source = nnx.state(getattr(theirs, f'{kind}s')[key])
            for leaf, variable in nnx.to_pure_dict(source).items():
              chosen = np.asarray(variable)[index]
              getattr(target, leaf)[...] = jax.device_put(chosen)


# Edges are chosen alike in all spaces: one has nodes that leave some of them.
@pytest.mark.parametrize(('space', 'nodes'), NODES.items())
def test_derived_network_is_the_supernet_with_one_choice(space, nodes):
  config = _config(space, nodes=nodes)
  genotype = _genotype(space, nodes, seed=3)
  supernet = config.make(nnx.Rngs(0))
  _choose(supernet, genotype)
  derived = light_darts.derived(config, genotype, pool_norm=True)
  model = derived.make(nnx.Rngs(1))
  wave = _wave()
  before = _both_modes(*nnx.split(model), wave)[0]
  _inherit(model, supernet)
  wanted = _both_modes(*nnx.split(supernet), wave)
  got = _both_modes(*nnx.split(model), wave)
  assert np.abs(before - got[0]).max() > 1e-2
  np.testing.assert_allclose(got[0], wanted[0], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(got[2], wanted[2], rtol=1e-4, atol=1e-5)


# -- training -----------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0, compiler_options=_FAST)
def _gradients(graphdef, trees, wave):
  def loss(params, arch):
    model = nnx.merge(graphdef, params, arch, trees[2])
    logits = model(wave)
    return jnp.square(logits[:, 1] - logits[:, 0] - 1).mean()

  return jax.value_and_grad(loss, (0, 1))(*trees[:2])


def _parts(model):
  graphdef, *trees = nnx.split(model, nnx.Param, Arch, nnx.BatchStat)
  return graphdef, [nnx.to_pure_dict(tree) for tree in trees]


@pytest.mark.parametrize(
  'config',
  [
    _config(),
    _config('light', nodes=1, partial=2),
    _config('darts', nodes=1, partial=2),
    _config('raw', nodes=1, partial=2),
  ],
  ids=lambda c: f'{c.model.space}-{c.model.partial}',
)
def test_every_parameter_has_a_gradient(config):
  graphdef, trees = _parts(config.make(nnx.Rngs(0)))
  assert set(trees[1]) == {'normal', 'reduce'}
  assert set(trees[1]['normal']) == {'alpha'} | (
    {'beta'} if config.model.edge_normalisation else set()
  )
  _, grads = _gradients(graphdef, trees, _wave())
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    assert np.isfinite(grad).all(), path
    assert np.abs(np.asarray(grad)).max() > 0, path


def test_temperature_and_gumbel_noise():
  config = _config()
  model = config.make(nnx.Rngs(0))
  for kind, arch in _random_arch(config).items():
    getattr(model, kind).alpha[...] = arch['alpha']

  def weights(**options):
    mix = model.mixes(nnx.Rngs(gumbel=3), **options)['normal']
    return np.stack([np.asarray(v) for v in mix.operations.values()])

  plain = weights()
  assert weights(temperature=0.1).max() > plain.max()
  assert np.ptp(weights(temperature=100.0), axis=0).max() < np.ptp(plain)
  noisy = weights(gumbel=True)
  assert np.abs(noisy - plain).max() > 0.05
  np.testing.assert_array_equal(noisy, weights(gumbel=True))
  np.testing.assert_allclose(noisy.sum(), plain.sum(), rtol=1e-5)
  with pytest.raises(ValueError, match='gumbel=key'):
    model.mixes(gumbel=True)
  model = nnx.view(model, deterministic=True, use_running_average=True)
  np.testing.assert_array_equal(weights(gumbel=True), plain)


def test_edge_weights_of_each_node_sum_to_two():
  beta = np.random.default_rng(0).normal(size=9).astype(np.float32)
  weights = np.asarray(relaxation.edge_weights(jnp.asarray(beta), 3))
  sums = [weights[a:b].sum() for a, b in ((0, 2), (2, 5), (5, 9))]
  np.testing.assert_allclose(sums, 2, rtol=1e-6)
  node = np.exp(beta[2:5])
  np.testing.assert_allclose(weights[2:5], 2 * node / node.sum(), rtol=1e-5)


def test_drop_path_and_the_auxiliary_head():
  config = light_darts.derived(
    _config(), _genotype('light'), drop_path=0.4, auxiliary=0.4, dropout=0.2
  )
  model = config.make(nnx.Rngs(0))
  wave = _wave()

  @functools.partial(jax.jit, static_argnums=0, compiler_options=_FAST)
  def call(graphdef, variables, seed):
    model = nnx.merge(graphdef, variables)
    scored = state.eval_view(model).answer(wave)
    rngs = nnx.Rngs(dropout=jax.random.key(seed))
    return model.answer(wave, rngs=rngs)[1:], scored[1:]

  graphdef, variables = nnx.split(model)
  (one, auxiliary), (scored, nothing) = call(graphdef, variables, 0)
  (other, _), (again, _) = call(graphdef, variables, 1)
  assert auxiliary.shape == (4, 2) and nothing is None
  assert np.abs(one - other).max() > 1e-3
  np.testing.assert_array_equal(scored, again)
  label = np.array([0, 1, 1, 0])
  loss = losses.CrossEntropy()

  @functools.partial(jax.jit, static_argnums=0, compiler_options=_FAST)
  def total_loss(graphdef, variables):
    model = nnx.merge(graphdef, variables)
    rngs = nnx.Rngs(dropout=jax.random.key(0))
    return steps.total_loss(model, loss, {'wave': wave, 'label': label}, rngs)

  total = total_loss(graphdef, variables)
  expected = loss(one, label) + 0.4 * loss(auxiliary, label)
  np.testing.assert_allclose(total, expected, rtol=1e-5)
  with pytest.raises(ValueError, match='rngs'):
    model(wave)


# -- calls and configs --------------------------------------------------------


def test_bfloat16_keeps_wide_outputs_and_statistics():
  graphdef, variables = nnx.split(_config(dtype='bfloat16').abstract())
  wave = jax.ShapeDtypeStruct((2, SAMPLES), jnp.float32)
  run = functools.partial(_both_modes.__wrapped__, graphdef)
  assert all(
    leaf.dtype == jnp.float32
    for leaf in jax.tree.leaves(jax.eval_shape(run, variables, wave))
  )


@pytest.mark.parametrize('kind', [Supernet, LightDarts])
@pytest.mark.parametrize(
  ('space', 'features'),
  [('light', 'log_mel'), ('light', 'lfcc'), ('darts', 'mfcc'), ('raw', 'sinc')],
)
def test_features_by_name(kind, space, features):
  config = models.system(
    {'space': space, 'num_cells': 3, 'nodes': 1, 'channels': 4}, features
  )
  if kind is LightDarts:
    config = light_darts.derived(config, _genotype(space, nodes=1))
  wave = jax.ShapeDtypeStruct((2, 16_000), jnp.float32)
  graphdef, variables = nnx.split(state.eval_view(config.abstract()))
  logits = jax.eval_shape(
    lambda variables, wave: nnx.merge(graphdef, variables)(wave),
    variables,
    wave,
  )
  assert (logits.shape, logits.dtype) == ((2, 2), jnp.float32)


@pytest.mark.parametrize('kind', [SupernetConfig, LightDartsConfig])
@pytest.mark.parametrize(
  'fields, message',
  [
    (dict(space='lite'), "'lite' is not known.*darts, light, raw"),
    (dict(num_cells=2), 'num_cells=2.*at least 3'),
    (dict(channels=5), 'channels=5'),
    (dict(dropout=1.0), 'dropout=1.0: needs a rate'),
    (dict(stem_multiplier=0), 'stem_multiplier=0'),
    (dict(dtype='float16'), 'dtype=.*bfloat16'),
    (dict(param_dtype='bfloat16'), 'param_dtype=.*float64'),
  ],
)
def test_config_refuses(kind, fields, message):
  with pytest.raises(ValueError, match=message):
    kind(**fields)


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: SupernetConfig(edge_normalisation=False), "no 'none'"),
    (lambda: SupernetConfig(partial=0), 'partial=0'),
    (lambda: SupernetConfig(partial=3), 'channels=16: needs a multiple of 6'),
    (lambda: SupernetConfig(nodes=0), 'nodes=0'),
    (lambda: models.system({'space': 'raw'}, 'lfcc'), "channels, 16.*'sinc'"),
    (
      lambda: LightDartsConfig(genotype='pc_darts', space='light'),
      "'darts' does not fit space 'light'",
    ),
    (lambda: LightDartsConfig(genotype='nowhere'), 'expected a file.*pc_darts'),
    (lambda: LightDartsConfig(drop_path=1.0), 'drop_path=1.0'),
    (lambda: LightDartsConfig(auxiliary=-1.0), 'auxiliary=-1.0'),
  ],
)
def test_config_refuses_what_is_its_own(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_config_takes_a_genotype_in_any_form(tmp_path):
  genotype = _genotype('light')
  genotype.save(tmp_path / 'genotype.json')
  for form in (
    genotype,
    dataclasses.asdict(genotype),
    str(tmp_path / 'genotype.json'),
  ):
    config = LightDartsConfig(genotype=form)
    assert config.genotype == genotype and hash(config)
