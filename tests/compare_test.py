"""Several detectors side by side: `--checkpoint A B`."""

import csv
import io
import json

import pytest
import soundfile

from jaxspoof.detect import command, compare
from jaxspoof.detector import Detector
from tests import small_detectors
from tests.small_detectors import PADDED, RATE, wave

pytestmark = pytest.mark.usefixtures('programs')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  return [
    str(small_detectors.write(folder / 'one', model=PADDED)),
    str(
      small_detectors.write(folder / 'plain', calibrated=False, model=PADDED)
    ),
  ]


@pytest.fixture
def here(runs, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr('jaxspoof.machine.programs.keep', lambda: None)
  for n in range(3):
    soundfile.write(f'{n}.wav', wave(n), RATE, subtype='FLOAT')
  return ['--checkpoint', *runs, '--input', '0.wav', '1.wav', '2.wav']


@pytest.fixture(scope='module')
def alone(runs):
  """Scores of the waves, of each detector by itself."""
  waves = [wave(n) for n in range(3)]
  return [Detector.load(run, batch=1).score(waves) for run in runs]


def test_objects_are_those_of_each_alone(here, runs, alone, capsys):
  assert command.main([*here, '--json']) == 0
  found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [one['path'] for one in found] == [
    '0.wav', '0.wav', '1.wav', '1.wav', '2.wav', '2.wav',
  ]  # fmt: skip
  assert [one['checkpoint'] for one in found] == runs * 3
  assert len({one['detector'] for one in found}) == 2
  for at in range(2):
    scores = [one['score'] for one in found[at::2]]
    assert scores == pytest.approx(alone[at].tolist(), abs=1e-5)
  assert found[0]['llr'] is not None and found[1]['llr'] is None


def test_rows_of_csv(here, runs, capsys):
  assert command.main([*here, '--csv']) == 0
  rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
  assert [row['checkpoint'] for row in rows] == runs * 3
  assert len({row['detector'] for row in rows}) == 2


def test_groups_of_columns(here, alone, capsys):
  assert command.main(here) == 0
  names, heads, first, *rest = capsys.readouterr().out.splitlines()
  assert names.split() == ['one', '|', 'plain']
  assert heads.split() == ['file', 'verdict', 'P(spoof)', 'LLR', '|', 'score']
  assert names.index('|') == heads.index('|') == first.index('|')
  assert first.startswith('0.wav') and first.endswith(f'{alone[1][0]:.3f}')
  assert rest[-2].startswith('one: P(spoof)')
  assert rest[-1].startswith('plain: score')


def test_one_that_cannot_be_scored_is_said_once(here, capsys):
  with open('1.wav', 'w') as file:
    file.write('no audio')
  for form in ([], ['--json']):
    assert command.main([*here, 'none*.wav', *form]) == 1
    said = capsys.readouterr()
    assert said.err.count('1.wav: not audio') == 1
    assert said.err.count('none*.wav: no file') == 1
    assert ('0.wav' in said.out) and ('2.wav' in said.out)
  errors = [x for x in map(json.loads, said.out.splitlines()) if 'error' in x]
  assert len(errors) == 4  # two recordings, two detectors
  assert all(one['detector'] for one in errors)


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    (['--out', 'x.csv'], '--out: of one detector'),
    (['--timeline'], '--timeline and what implies it: of one detector'),
    (['--explain', 'x.png'], '--explain: of one detector'),
    (['--prior', '0.1'], 'it is not calibrated, so prior=0.1 means nothing'),
    (['--model', 'aasist'], 'checkpoint of another model'),
  ],
)
def test_what_cannot_be_asked_for(here, more, message, capsys):
  try:
    status = command.main([*here, *more])
  except SystemExit as error:
    status = error.code
  assert status == 2
  assert message in ' '.join(capsys.readouterr().err.split())


def test_names_of_columns_differ():
  assert compare.labels(['a/x.zip', 'b/']) == ['x.zip', 'b']
  assert compare.labels(['a/run', 'b/run']) == ['1 run', '2 run']
