"""From a genotype to scores: trained as a job, published, committed."""

import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxspoof import jobs, losses, models, overrides
from jaxspoof.darts.controller import SearchController
from jaxspoof.darts.spaces.genotype import Genotype
from jaxspoof.frontends import SincConfig
from jaxspoof.training import steps
from tests import pages
from tfds_builders import build

pytestmark = pytest.mark.usefixtures('programs')
ROOT = pathlib.Path(__file__).parents[1]
COMMITTED = sorted((ROOT / 'configs' / 'genotypes').glob('*.json'))


@pytest.fixture
def settings(repository, monkeypatch):
  """Loads a config as `run.py` does."""
  monkeypatch.chdir(repository)
  monkeypatch.syspath_prepend(repository)
  return overrides.load


@pytest.fixture
def detect(repository):
  """detect.py as a module."""
  path = repository / 'detect.py'
  spec = importlib.util.spec_from_file_location('detect', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_a_found_genotype_is_trained_and_detects(
  settings, detect, quickstart_tiny, tmp_path, capsys
):
  """With drop-path and an auxiliary head; detect.py gives the run's scores."""
  edges = (('mfm_conv_3x3', 0), ('skip_connect', 1))
  found = Genotype('light', edges, edges[::-1])
  found.save(tmp_path / 'genotype.json')
  config = settings('configs/light_darts.py:smoke')
  config.genotype = str(tmp_path / 'genotype.json')
  config.epochs = 1
  config.data.data_dir = str(quickstart_tiny)
  config.data.eval = ('eval',)
  config.model.drop_path = 0.3
  config.model.auxiliary = 0.4
  config.mesh.devices = 1
  workdir = tmp_path / 'run'
  with jax.numpy_dtype_promotion('standard'), pages.none():
    jobs.run(config, workdir)
  (tmp_path / 'genotype.json').unlink()  # the run needs it no more
  trained = json.loads((workdir / 'config.json').read_text())['model']
  assert trained['genotype']['hash'] == found.hash
  assert (trained['drop_path'], trained['auxiliary']) == (0.3, 0.4)
  with np.load(workdir / 'weights.npz') as weights:
    assert any('auxiliary' in name for name in weights.files)

  arguments = ['--checkpoint', str(workdir), '--json', '--input']
  arguments.append(str(workdir / 'examples'))
  capsys.readouterr()
  assert detect.main(['--model', 'light_darts', *arguments]) == 0
  printed = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
  written = {}
  for path in (workdir / 'scores').glob('*.txt'):
    for row in path.read_text().splitlines():
      written[row.split()[0]] = float(row.split()[-1])
  assert len(printed) >= 2
  for row in printed:
    utterance = pathlib.Path(row['path']).stem.split('_', 1)[1]
    np.testing.assert_allclose(row['score'], written[utterance], atol=1e-4)
  assert detect.main(['--model', 'aasist', *arguments]) == 2
  assert 'light_darts' in capsys.readouterr().err


def test_raw_pc_darts_takes_the_loss_of_its_authors():
  """P2SGrad on cosines, with the published cells."""
  loss = losses.make(losses.LossConfig(name='p2sgrad', weights=()))
  config = models.system(
    {
      'name': 'light_darts',
      'genotype': 'raw_pc_darts',
      'space': '',
      'pool_norm': None,
      'num_cells': 3,
      'channels': 2,
    },
    head=loss.head,
  )
  graphdef, variables = nnx.split(config.abstract())

  def value(variables, wave, label):
    model = nnx.merge(graphdef, variables)
    batch = {'wave': wave, 'label': label}
    return steps.total_loss(model, loss, batch, nnx.Rngs(dropout=0))

  shapes = (
    jax.ShapeDtypeStruct((4, 4_000), jnp.float32),
    jax.ShapeDtypeStruct((4,), jnp.int32),
  )
  assert jax.eval_shape(value, variables, *shapes).shape == ()
  assert config.frontend == SincConfig(filters=2) and loss.head == 'cosine'


@pytest.mark.parametrize('path', COMMITTED, ids=lambda path: path.stem)
def test_committed_genotypes_can_be_read(path):
  assert Genotype.load(path).nodes == 4


def test_the_committed_genotype_is_of_the_size_that_the_docs_say(settings):
  model = settings('configs/light_darts.py:quickstart').model.to_dict()
  model['genotype'] = str(ROOT / 'configs/genotypes/light_quickstart.json')
  network = models.system(model)
  count = network.parameters()
  macs = network.macs(16_000)['total']
  page = ' '.join((ROOT / 'docs/search.md').read_text().split())
  said = f'{count:,} weights and {macs / 1e6:.1f} million MACs per clip'
  assert said in page


def test_a_search_takes_a_prepared_builder(tmp_path, quickstart_tiny):
  """It opens and halves the train split, and then sees that it is too small."""
  builder = build.builder('quickstart/tiny', quickstart_tiny)
  searcher = SearchController(
    num_cells=3,
    workdir=tmp_path,
    data=dict(batch=64, eval_batch=64),
  )
  records = builder.as_data_source('train')
  with pytest.raises(ValueError, match='batch=64 is larger than the ') as error:
    searcher.train_search(builder)
  half = int(str(error.value).split('larger than the ')[1].split()[0])
  assert 0 < half < len(records)
  config = json.loads((tmp_path / 'config.json').read_text())
  assert config['data']['name'] == builder.info.full_name
