"""Training an enhancer on pairs, and what its run is good for."""

import functools
import json
import pathlib
import shutil

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from jaxspoof import config as config_lib
from jaxspoof import jobs, overrides, report, verify
from jaxspoof.data import conditions, pipeline
from jaxspoof.data.source import bona_fide
from jaxspoof.enhance import weights
from jaxspoof.enhance.conv_tasnet import ConvTasNet, ConvTasNetConfig, si_snr
from jaxspoof.jobs import enhance
from jaxspoof.training import sharding, state, steps
from tests import pages

pytestmark = pytest.mark.usefixtures('programs')
GOLDENS = pathlib.Path(__file__).parent / 'goldens'


@pytest.fixture(scope='module', autouse=True)
def promotion():
  with jax.numpy_dtype_promotion('standard'):  # optax mixes its dtypes
    yield


def config(corpora, **changes):
  values = overrides.load('configs/enhance.py:smoke')
  values.data.data_dir = str(corpora)
  values.data.build = False
  values.update(changes)
  return values


@pytest.fixture(scope='module')
def run(quickstart_tiny, tmp_path_factory, programs, promotion):
  """A workdir and what the job returned."""
  workdir = tmp_path_factory.mktemp('enhanced') / 'w'
  with pages.unpainted():
    return workdir, jobs.run(config(quickstart_tiny), workdir)


def test_a_run_says_what_it_gained(run, quickstart_tiny):
  workdir, result = run
  assert json.loads((workdir / 'metrics.json').read_text()) == result
  assert set(result['si_snr']) == {'dev', 'eval'}
  for split, found in result['si_snr'].items():
    (one,) = found.values()
    gain = one['enhanced'] - one['noisy']
    assert one['improvement'] == pytest.approx(gain, abs=1e-4)
    assert one['deviation'] > 0 and one['clips'] == 6
    assert split != 'eval' or result['improvement'] == one['improvement']
  assert "on split 'dev': " in result['selected_on']
  assert verify.verify(workdir) == []
  page = (workdir / 'report.html').read_text()
  for words in (
    f'{result["improvement"]:+.2f} dB on eval',
    'dev, white:5',
    f'{found["white:5"]["enhanced"]:.2f}',
    'selected by: highest mean improvement',
    'improvement on dev',
  ):
    assert words in page, words
  # One clip again, by itself, with the weights that the run has left.
  network = weights.on_numpy(weights.load(workdir))
  source = bona_fide(
    pipeline.open_source('quickstart/tiny', 'eval', quickstart_tiny)
  )
  condition = conditions.make('white:5', seed=1234)
  batches = pipeline.eval_batches(
    source, batch=6, samples=8_000, condition=condition, paired=True
  )
  (batch,) = batches
  before = si_snr(batch['wave'], batch['clean'])
  after = si_snr(network(batch['wave'])[:, 0], batch['clean'])
  found = result['si_snr']['eval']['white:5']
  assert before.mean() == pytest.approx(found['noisy'], abs=1e-3)
  assert after.mean() == pytest.approx(found['enhanced'], abs=1e-2)


def test_a_run_that_was_stopped_ends_with_the_same_bits(
  run, quickstart_tiny, tmp_path
):
  workdir, result = run
  copy = tmp_path / 'w'
  shutil.copytree(workdir, copy)
  shutil.rmtree(copy / 'checkpoints' / '2')
  (copy / 'metrics.json').unlink()
  (copy / 'weights.npz').unlink()
  with pages.none():
    assert jobs.run(config(quickstart_tiny), copy) == result


def test_it_learns():
  """A batch by heart: two tones out of noise."""
  rng = np.random.default_rng(0)
  turns = np.arange(2_000) / 16_000 * np.array([[440], [1_200]])
  clean = np.sin(2 * np.pi * turns).astype(np.float32)
  wave = clean + rng.normal(0, 0.5, clean.shape).astype(np.float32)
  batch = {'wave': wave, 'clean': clean}
  values = overrides.load('configs/enhance.py:smoke').to_dict()
  made = config_lib.job_section(enhance.EnhanceConfig, values)
  graphdef, params, _ = state.split(enhance.network(made))
  tx, one, ratio = optax.adam(1e-2), sharding.make(1), jax.jit(si_snr)
  create = functools.partial(state.create, batch_stats={}, tx=tx)
  now = jax.jit(create, out_shardings=one.replicated)(params)
  # A new network lets the wave pass.
  network = jax.jit(lambda params: state.merge(graphdef, params, {})(clean))
  assert (ratio(network(now.params)[:, 0], clean) > 10).all()
  step = steps.make_train_step(
    graphdef, tx, si_snr, 0, one, total=enhance.minus_si_snr
  )
  for _ in range(60):
    now, metrics = step(now, batch)
  before = float(ratio(wave, clean).mean())
  assert -float(metrics['loss']) > before + 5


def test_pairs_are_cut_at_the_same_place(quickstart_tiny):
  source = bona_fide(
    pipeline.open_source('quickstart/tiny', 'train', quickstart_tiny)
  )
  assert len(source) == 6 and all(source[i]['label'] == 1 for i in range(6))
  options = dict(batch=4, samples=3_000, seed=3)
  louder = (lambda wave, rng: wave * np.float32(rng.uniform(2, 3)),)

  def first(**more):
    batches = iter(pipeline.train_batches(source, **options, **more))
    batch = next(batches)
    batches.close()
    return batch

  pair = first(transforms=louder, paired=True)
  np.testing.assert_array_equal(pair['clean'], first()['wave'])
  np.testing.assert_array_equal(pair['wave'], first(transforms=louder)['wave'])
  gain = np.linalg.norm(pair['wave'], axis=1) / np.linalg.norm(
    pair['clean'], axis=1
  )
  assert (gain > 1.99).all() and np.ptp(gain) > 0.01
  with pytest.raises(
    ValueError, match=r'U?.*samples became .*expected as many'
  ):
    first(transforms=(lambda wave, rng: wave[1:],), paired=True)


def test_a_source_without_bona_fide_clips_is_refused(quickstart_tiny):
  source = pipeline.open_source('quickstart/tiny', 'train', quickstart_tiny)
  spoofs = [source[i] for i in range(len(source)) if source[i]['label'] == 0]
  source = pipeline.Source(spoofs, 'mine', 'train')
  with pytest.raises(ValueError, match='mine train: none of .* is bona fide'):
    bona_fide(source)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'conditions': ('white:5', 'speed:1.1')}, "'speed' changes the length"),
    ({'conditions': ()}, 'conditions is empty'),
    ({'conditions': ('whit:5',)}, "'whit:5' is unknown"),
    ({'network': {'sources': 2}}, 'network.sources=2: expected 1'),
    ({'network': {'sample_rate': 8_000}}, 'network.sample_rate=8000'),
    ({'network': {'masks': 2}}, 'unknown config field config.network.masks'),
    ({'data': {'augment': 'none'}}, "data.augment='none': expected what"),
    ({'data': {'dev': 'eval'}}, 'share eval: a result on it would be a leak'),
    ({'data': {'batch': 8}}, 'larger than the 6 bona fide clips'),
    ({'data': {'conditions': {'names': ('trim',)}}}, "'trim' changes the"),
    (
      {'init': str(GOLDENS / 'conv_tasnet_asteroid.pt')},
      'init=.*network.bottleneck=8, there 6; network.hidden=16, there 8',
    ),
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


def test_a_run_starts_from_weights(quickstart_tiny):
  file = GOLDENS / 'conv_tasnet_asteroid.pt'
  values = config(quickstart_tiny).to_dict()
  values.update(network=vars(weights.load(file).config), init=str(file))
  made = config_lib.job_section(
    enhance.EnhanceConfig, {k: v for k, v in values.items() if k != 'job'}
  )
  found = nnx.to_pure_dict(nnx.state(enhance.network(made)))
  wanted = nnx.to_pure_dict(nnx.state(weights.load(file)))
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_the_page_of_a_run_that_has_not_ended(run, tmp_path):
  for name in ('config.json', 'metrics.jsonl', 'metrics.json'):
    shutil.copy(run[0] / name, tmp_path)
  metrics = json.loads((tmp_path / 'metrics.json').read_text())
  del metrics['si_snr']['dev']['white:5']['clips']
  (tmp_path / 'metrics.json').write_text(json.dumps(metrics))
  with pytest.raises(ValueError, match=r"metrics.json: a field .*'clips'"):
    report.write(tmp_path)
  (tmp_path / 'metrics.json').unlink()
  assert 'no result yet' in report.write(tmp_path).read_text()


def test_a_run_of_another_job_is_refused(run, tmp_path):
  shutil.copy(run[0] / 'weights.npz', tmp_path)
  (tmp_path / 'config.json').write_text('{"job": "train"}')
  with pytest.raises(ValueError, match="a run of the job 'train', expected"):
    weights.load(tmp_path)


def test_multiply_accumulates_are_those_of_the_layers():
  made = ConvTasNetConfig(
    kernel=32, filters=20, bottleneck=7, hidden=11, skip=5, blocks=2, stacks=1
  )
  network = nnx.eval_shape(lambda: ConvTasNet(made, nnx.Rngs(0)))
  frame = 2 * 32 * 20 + 20 * 7 + 5 * 20  # filterbanks, bottleneck, mask
  frame += 2 * (7 * 11 + 3 * 11 + 11 * 5) + 11 * 7  # of the last no residual
  frames = made.frames(16_000)
  assert enhance.macs(*nnx.split(network)) == frame * frames
