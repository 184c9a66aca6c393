"""The study: cells of equal cost, comparison, words; derived networks."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from jaxspoof import jobs, overrides
from jaxspoof.config import run_config
from jaxspoof.darts.network.light_darts import DEFAULT, read_genotype
from jaxspoof.darts.pages import study as page
from jaxspoof.darts.search import config as search_config
from jaxspoof.darts.spaces.genotype import PUBLISHED, Genotype
from jaxspoof.jobs import study, train_genotype
from jaxspoof.machine import files
from jaxspoof.score_files import scores

TRAINING = {
  'model': {'name': 'light_darts', 'num_cells': 3, 'channels': 4},
  'seed': 1,
}
SAMPLES = 16_000
FOUND = dataclasses.replace(DEFAULT, normal=DEFAULT.reduce)


def make(**changes):
  values = dict(train=TRAINING, search={}, random=2, seeds=(0, 1), resamples=50)
  return study.StudyConfig(**{**values, **changes})


# ------------------------------------------------------------ random cells ---
def test_random_cells_cost_as_much_as_the_found_ones():
  config = make(tolerance=0.1)
  drawn = study.random_cells(config, TRAINING, DEFAULT, SAMPLES)
  assert len(set(drawn)) == 2 and DEFAULT not in drawn
  wanted = study.macs_of(TRAINING, DEFAULT, SAMPLES)
  for one in drawn:
    assert abs(study.macs_of(TRAINING, one, SAMPLES) / wanted - 1) <= 0.1
  assert drawn == study.random_cells(config, TRAINING, DEFAULT, SAMPLES)


def test_too_few_cells_of_that_cost_is_an_error(monkeypatch):
  monkeypatch.setattr(study, 'DRAWS', 2)
  with pytest.raises(ValueError, match='of 2 random cells .* expected 99; the'):
    study.random_cells(make(random=99), TRAINING, DEFAULT, SAMPLES)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(random=0), 'random=0: expected 1 random cell or more'),
    (dict(seeds=(3,)), r'seeds=\(3,\): expected 2 different ones or more'),
    (dict(tolerance=0), 'tolerance=0: expected a share'),
  ],
)
def test_studies_that_cannot_be_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    make(**changes)


# -------------------------------------------------------------- comparison ---
CELLS = {'found': 2.5, 'default': 0.5, 'random_1': 2.5, 'random_2': 2.5}


@pytest.fixture
def runs(tmp_path):
  """Scores of all runs: the classes are so many deviations apart."""
  rng = np.random.default_rng(0)
  label = np.arange(400) % 2
  records = [
    {
      'utterance': f'u{n}',
      'speaker': f's{n % 20}',
      'attack': '-' if label[n] else f'A{n % 5}',
      'label': int(label[n]),
    }
    for n in range(len(label))
  ]
  columns = [[r[k] for r in records] for k in ('utterance', 'attack')]
  for cell, distance in CELLS.items():
    for seed in (0, 1):
      path = study.run_folder(tmp_path, cell, seed) / 'scores' / 'eval.txt'
      values = rng.standard_normal(len(label)) + distance * label
      scores.write(path, *columns, label, values)
  return tmp_path, records


def test_the_comparison_tells_better_from_equal(runs):
  workdir, records = runs
  found = study.compare(make(), workdir, list(CELLS), records, 'eval')
  assert found['groups']['found']['eer'] < 0.2
  assert found['groups']['default']['eer'] > 0.3
  assert len(found['runs']) == 8
  better, equal = (found['found_less'][g] for g in ('default', 'random'))
  assert better['interval'][1] < 0 and better['same_sign'] > 0.99
  assert equal['interval'][0] < 0 < equal['interval'][1]
  assert 'is better than the hand-made' in page.sentence(
    'eval', 'default', better
  )
  assert 'cannot be told from' in page.sentence('eval', 'random', equal)
  worse = {**better, 'interval': [0.1, 0.2]}
  assert 'is worse than' in page.sentence('eval', 'default', worse)


def test_the_comparison_draws_runs_too(runs):
  """Two runs that differ make the interval of their mean wider."""
  workdir, records = runs
  path = study.run_folder(workdir, 'found', 1) / 'scores' / 'eval.txt'
  before = study.compare(make(), workdir, list(CELLS), records, 'eval')
  old = scores.read(path)
  scores.write(path, *old[:3], np.random.default_rng(1).normal(size=400))
  after = study.compare(make(), workdir, list(CELLS), records, 'eval')
  width = [
    np.diff(x['groups']['found']['interval'])[0] for x in (before, after)
  ]
  assert width[1] > 3 * width[0]


def test_runs_of_one_cell_are_drawn_together():
  """Cells that differ and seeds that do not: the deviation of a mean of 3."""
  eers_KxR = np.repeat([0.1, 0.2, 0.3], 3)[:, None].repeat(20_000, 1)
  means_R = study._means(eers_KxR, 3, np.random.default_rng(0))
  expected = np.std([0.1, 0.2, 0.3]) / np.sqrt(3)
  np.testing.assert_allclose(means_R.std(), expected, rtol=0.02)


def test_scores_of_other_trials_are_refused(runs):
  workdir, records = runs
  with pytest.raises(ValueError, match='has scored other trials of split'):
    study.compare(make(), workdir, list(CELLS), records[::-1], 'eval')


def test_the_page_shows_what_came_out(runs):
  workdir, records = runs
  split = study.compare(make(), workdir, list(CELLS), records, 'eval')
  cell = {
    'genotype': json.loads(DEFAULT.to_json()),
    'macs': 2_000_000,
    'parameters': 1234,
  }
  result = {
    'cells': dict.fromkeys(CELLS, cell),
    'splits': {'eval': split},
    'seeds': [0, 1],
    'resamples': 50,
  }
  (workdir / 'study.json').write_text(json.dumps(result))
  shown = page.page(workdir)
  for words in ('On eval the found cell', '1,234', DEFAULT.hash, 'All runs'):
    assert words in shown


# --------------------------------------------------------------------- job ---
def test_a_study_that_was_stopped_goes_on(
  runs, tmp_path, repository, monkeypatch, capsys
):
  """Searches once, trains each cell with each seed once, and compares."""
  monkeypatch.chdir(repository)
  monkeypatch.syspath_prepend(repository)
  config = overrides.load('configs/light_darts_study.py:smoke')
  config.tolerance = 0.5
  config.random = 2
  _, records = runs
  workdir, searched, trained = tmp_path / 'study', [], []
  rng = np.random.default_rng(0)

  def search(values, folder, found=FOUND):
    searched.append(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder / 'genotype.json')

  def train(values, folder):
    if len(trained) == 3 and not folder.exists():
      folder.mkdir(parents=True)  # begun, and not finished
      raise KeyboardInterrupt
    trained.append((folder, values['seed'], values['model']['genotype']))
    columns = [[r[k] for r in records] for k in ('utterance', 'attack')]
    label = np.array([r['label'] for r in records])
    for split in ('dev', 'eval', 'eval_hard'):
      path = folder / 'scores' / f'{split}.txt'
      noise = rng.standard_normal(len(label))
      scores.write(path, *columns, label, noise + label)
    files.write_json(folder / 'config.json', values)
    (folder / 'cost.json').write_text('{"parameters": 77}')
    (folder / 'metrics.json').write_text('{}')

  class Splits:
    def __init__(self, *_):
      assert len(trained) == 8  # not before all weights are selected

    def open(self, split):
      return records

  monkeypatch.setattr(study.search, 'search', search)
  monkeypatch.setattr(study.train, 'train', train)
  monkeypatch.setattr(study.setup, 'Splits', Splits)
  with pytest.raises(KeyboardInterrupt):
    study.study(config.to_dict(), workdir)
  assert len(trained) == 3 and not (workdir / 'study.json').exists()
  result = study.study(config.to_dict(), workdir)
  cells = ['found', 'default', 'random_1', 'random_2']
  wanted = [study.run_folder(workdir, c, s) for c in cells for s in (0, 1)]
  assert [folder for folder, _, _ in trained] == wanted
  assert [seed for _, seed, _ in trained] == [0, 1] * 4
  hashes = [genotype['hash'] for _, _, genotype in trained]
  assert hashes[:4] == [FOUND.hash] * 2 + [DEFAULT.hash] * 2
  assert hashes[::2] == hashes[1::2] and len(set(hashes)) == 4
  assert set(searched) == {workdir / 'search'}

  assert json.loads((workdir / 'study.json').read_text()) == result
  assert list(result['splits']) == ['eval', 'eval_hard', 'dev']
  assert {c['parameters'] for c in result['cells'].values()} == {77}
  macs = [result['cells'][c]['macs'] for c in ('found', *cells[2:])]
  np.testing.assert_allclose(macs, macs[0], rtol=config.tolerance)
  said = capsys.readouterr().out
  assert said.count('cannot be told from') == 6
  assert (workdir / 'report.html').is_file()

  other = functools.partial(search, found=DEFAULT)
  monkeypatch.setattr(study.search, 'search', other)
  with pytest.raises(ValueError, match='another config: model.genotype.hash'):
    study.study(config.to_dict(), workdir)


def test_a_training_that_cannot_be_is_refused_before_the_search(
  tmp_path, repository, monkeypatch
):
  monkeypatch.chdir(repository)
  monkeypatch.syspath_prepend(repository)
  config = overrides.load('configs/light_darts_study.py:smoke')
  config.train.model.channels = 7
  with pytest.raises(ValueError, match='channels=7: needs an even number'):
    study.study(config.to_dict(), tmp_path)
  assert not list(tmp_path.iterdir())


# -------------------------------------------------------- derived networks ---
def test_genotypes_are_found_by_file_and_by_name(tmp_path):
  DEFAULT.save(tmp_path / 'genotype.json')
  assert read_genotype(str(tmp_path / 'genotype.json')) == DEFAULT
  assert read_genotype('') == DEFAULT
  assert read_genotype('pc_darts') == PUBLISHED['pc_darts']
  with pytest.raises(
    ValueError, match=r"genotype='none.json': expected a file"
  ):
    read_genotype('none.json')


def test_the_genotype_becomes_part_of_the_config():
  values = train_genotype.with_genotype(TRAINING, PUBLISHED['pc_darts'])
  fields = json.dumps(values['model']['genotype'])
  assert Genotype.from_json(fields) == PUBLISHED['pc_darts']
  assert 'genotype' not in TRAINING['model']


@pytest.mark.parametrize('variant', ['', 'quickstart', 'smoke'])
def test_the_configs_can_be_read(variant, repository, monkeypatch):
  monkeypatch.chdir(repository)
  monkeypatch.syspath_prepend(repository)
  config = overrides.load(f'configs/light_darts_study.py:{variant}')
  assert config.job in jobs.JOBS
  search_config.search_config(config.search.to_dict())
  training = config.train.to_dict()
  assert training.pop('genotype') == ''
  model = run_config(training).model
  assert model['num_cells'] == config.search.model.num_cells
