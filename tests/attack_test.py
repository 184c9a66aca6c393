"""An enhancer tuned against a frozen detector: what it learns and leaves."""

import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxspoof import checkpoints, jobs, losses, overrides, report, verify
from jaxspoof.data import pipeline
from jaxspoof.enhance import weights
from jaxspoof.enhance.conv_tasnet import ConvTasNet, ConvTasNetConfig, si_snr
from jaxspoof.jobs import attack
from jaxspoof.score_files import protocols, score_lists
from jaxspoof.training import sharding, state, steps
from tests import pages

pytestmark = pytest.mark.usefixtures('programs')
DETECTOR = pathlib.Path(__file__).parent / 'goldens' / 'old_runs' / 'ecapa'


@pytest.fixture(scope='module', autouse=True)
def promotion():
  with jax.numpy_dtype_promotion('standard'):  # optax mixes its dtypes
    yield


def config(corpora, **changes):
  values = overrides.load('configs/attack.py:smoke')
  values.checkpoint = str(DETECTOR)
  values.data.data_dir = str(corpora)
  values.data.build = False
  values.update(changes)
  return values


@pytest.fixture(scope='module')
def run(quickstart_tiny, tmp_path_factory, programs, promotion):
  """A workdir and what the job returned."""
  workdir = tmp_path_factory.mktemp('attacked') / 'w'
  with pages.none('attack'), pages.unpainted():
    return workdir, jobs.run(config(quickstart_tiny), workdir)


def test_a_run_says_before_and_after(run, quickstart_tiny):
  workdir, result = run
  assert json.loads((workdir / 'metrics.json').read_text()) == result
  before, start, attacked = result['si_snr']['eval']
  assert [row['row'] for row in (before, start, attacked)] == (
    ['before', 'start', 'attacked']
  )
  assert 'si_snr' not in before and 'less_first' not in before
  for row in (start, attacked):
    gap = row['eer'] - before['eer']
    assert row['less_first']['value'] == pytest.approx(gap)
  assert "spoofed clips of split 'dev'" in result['selected_on']
  assert verify.verify(workdir) == []
  assert verify.verify(workdir / 'evaluation') == []
  page = (workdir / 'report.html').read_text()
  for words in (
    'was not changed',
    'worth 0.1 of',
    f'{attacked["si_snr"]:.2f}',
    'tuned against this detector',
  ):
    assert words in page, words
  # Spoofs alone were changed, by what the run has left.
  scores = {}
  for row in (before, start, attacked):
    name = attack.names.under('eval', row['condition'])
    protocol = protocols.read(workdir / f'evaluation/protocols/{name}.txt')
    found = score_lists.read(
      workdir / f'evaluation/scores/{name}.txt', protocol
    )
    scores[row['row']], label = found.scores, found.label
  for row in ('start', 'attacked'):
    same = scores[row] == scores['before']
    np.testing.assert_array_equal(same, label == 1)
  source = pipeline.spoofed(
    pipeline.open_source('quickstart/tiny', 'eval', quickstart_tiny)
  )
  assert all(source[i]['label'] == 0 for i in range(len(source)))
  (batch,) = pipeline.eval_batches(
    source,
    batch=len(source),
    samples=8_000,
  )
  network = weights.on_numpy(weights.load(workdir))
  ratio = si_snr(network(batch['wave'])[:, 0], batch['wave'])
  assert ratio.mean() == pytest.approx(attacked['si_snr'], abs=1e-3)


def test_a_run_that_was_stopped_ends_with_the_same_weights(
  run, quickstart_tiny, tmp_path
):
  workdir, result = run
  copy = tmp_path / 'w'
  shutil.copytree(workdir, copy, ignore=lambda *_: {'evaluation'})
  last = max(int(path.name) for path in (copy / 'checkpoints').glob('[0-9]*'))
  shutil.rmtree(copy / 'checkpoints' / str(last))
  for name in ('metrics.json', 'weights.npz'):
    (copy / name).unlink()
  with pages.none():
    again = jobs.run(config(quickstart_tiny), copy)
  for field in ('state_sha256', 'selected_on'):
    assert again[field] == result[field]
  # Checkpoints hold nothing of the detector.
  state_of = workdir / 'checkpoints' / str(last) / 'state'
  kept = (state_of / '_METADATA').read_text()
  assert 'enhancer' in kept and 'detector' not in kept


def test_it_learns_and_the_detector_does_not():
  """A batch by heart."""
  rng = np.random.default_rng(0)
  wave = rng.normal(0, 0.1, (2, 4_000)).astype(np.float32)
  batch = {'wave': wave}
  _, detector, options = checkpoints.open_checkpoint(DETECTOR)
  made = ConvTasNetConfig(
    filters=32, kernel=16, stride=8, bottleneck=8, hidden=16, skip=8,
    blocks=2, stacks=1,
  )  # fmt: skip
  whole = attack.Attack(ConvTasNet(made, nnx.Rngs(0)), detector)
  graphdef, params, stats = state.split(whole)
  tx, one, loss = optax.adam(1e-2), sharding.make(1), options['loss']
  costs = lambda outputs: attack.costs_of(loss, outputs, 1)
  step = steps.make_train_step(
    graphdef, tx, costs, 0, one, total=attack.make_total(0.01)
  )
  create = functools.partial(state.create, tx=tx, frozen=attack.is_of_detector)
  now = jax.jit(create, out_shardings=one.replicated)(params, stats)
  assert set(now.params) == {'enhancer'} and set(now.frozen) == {'detector'}
  moments = jax.tree.leaves(now.opt[0].mu)
  assert len(moments) == len(jax.tree.leaves(params['enhancer']))
  values = []
  for _ in range(20):
    now, metrics = step(now, batch)
    values.append(float(metrics['loss']))
  assert values[-1] < values[0] - 0.3
  for name, tree in (('frozen', params), ('batch_stats', stats)):
    jax.tree.map(
      np.testing.assert_array_equal,
      getattr(now, name)['detector'],
      tree['detector'],
    )


def test_the_weight_is_what_a_decibel_is_worth():
  class Half:
    """Adds noise of half the amplitude, and says one output for each clip."""

    def __call__(self, wave):
      turned = jnp.roll(wave, 1, 1)
      return wave + 0.5 * turned, jnp.ones((len(wave), 1))

  wave = np.random.default_rng(0).normal(size=(3, 5_000)).astype(np.float32)
  twice = lambda outputs: 2 * outputs

  @functools.partial(jax.jit, static_argnums=0)
  def total(weight):
    return attack.make_total(weight)(Half(), twice, {'wave': wave}, None)

  assert total(0.0) == 2
  assert total(0.1) == pytest.approx(2 - 0.1 * 10 * np.log10(4), abs=0.02)
  outputs = np.array([[0, 0.25], [0.5, 0]], np.float32)
  for loss in (losses.CrossEntropy((0.1, 0.9)), losses.AamSoftmax()):
    costs = lambda outputs, loss=loss: attack.costs_of(loss, outputs, 1)
    found, label = jax.jit(costs)(outputs), np.ones(1, np.int32)
    alone = [float(jax.jit(loss)(row[None], label)) for row in outputs]
    np.testing.assert_allclose(found, alone, rtol=1e-5)


def test_a_wave_keeps_its_power():
  rng = np.random.default_rng(0)
  wave, found = jnp.asarray(rng.normal(size=(2, 3, 500)), jnp.float32)
  got = attack.with_power_of(wave, 7 * found)
  power = lambda x: np.square(x).mean(1)
  np.testing.assert_allclose(power(got), power(wave), rtol=1e-5)
  silence = attack.with_power_of(wave, jnp.zeros_like(wave))
  assert np.isfinite(silence).all()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'checkpoint': None}, 'checkpoint is not set; expected the detector'),
    ({'checkpoint': 'nowhere'}, 'nowhere: no checkpoint there'),
    ({'weight': -0.1}, 'weight=-0.1: expected at least 0'),
    ({'network': {'sources': 2}}, 'network.sources=2: expected 1'),
    ({'data': {'augment': 'rawboost'}}, "data.augment='rawboost': expected"),
    ({'data': {'padded': True}}, 'data.padded=True: expected False'),
    ({'data': {'dev': 'eval'}}, 'share eval: a result on it would be a leak'),
    ({'data': {'samples': 10}}, 'data.samples=10: .* needs at least'),
    ({'data': {'batch': 64}}, 'larger than the .* spoofed clips'),
    ({'data': {'name': 'quickstart/tiny+quickstart'}}, 'expected one corpus'),
    ({'init': 'nowhere'}, 'nowhere'),
  ],
)
def test_what_cannot_work_is_said_at_the_start(
  changes, message, quickstart_tiny, tmp_path
):
  values = config(quickstart_tiny)
  with values.unlocked():
    values.update(changes)
  with pytest.raises(ValueError, match=message):
    jobs.run(values, tmp_path / 'w')


def test_the_page_of_a_run_that_has_not_ended(run, tmp_path):
  for name in ('config.json', 'metrics.jsonl', 'metrics.json'):
    shutil.copy(run[0] / name, tmp_path)
  metrics = json.loads((tmp_path / 'metrics.json').read_text())
  del metrics['si_snr']['eval'][0]['eer']
  (tmp_path / 'metrics.json').write_text(json.dumps(metrics))
  with pytest.raises(ValueError, match=r"metrics.json: a field .*'eer'"):
    report.write(tmp_path)
  (tmp_path / 'metrics.json').unlink()
  assert 'no result yet' in report.write(tmp_path).read_text()


def test_its_networks_are_enhancers(run):
  """Before and after, as the condition and another attack take them."""
  start, found = (weights.load(run[0] / name) for name in ('start', '.'))
  assert start.config == found.config
  same = jax.tree.map(np.array_equal, *map(nnx.state, (start, found)))
  assert not all(jax.tree.leaves(same))
