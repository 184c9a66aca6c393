"""Evidence for a third person: what is in it, its check, the same bytes."""

import hashlib
import json
import zipfile

import pytest
import soundfile

from jaxspoof.detect import command, evidence
from jaxspoof.runs import names, record
from tests import small_detectors
from tests.small_detectors import PADDED, RATE, wave

pytestmark = pytest.mark.usefixtures('programs')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """The command, run twice, and where."""
  folder = tmp_path_factory.mktemp('evidence')
  run = small_detectors.write(folder / 'small', model=PADDED)
  soundfile.write(folder / 'a.wav', wave(1), RATE)
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    patch.setattr('jaxspoof.machine.programs.keep', lambda: None)
    patch.setenv('SOURCE_DATE_EPOCH', '1764201600')
    patch.setattr('sys.argv', ['detect.py'])
    words = ['--checkpoint', str(run), '--input', 'a.wav', '--evidence']
    for _ in range(2):
      assert command.main([*words, 'out.zip']) == 0
      (folder / 'out.zip').replace(folder / f'{_}.zip')
  return folder


@pytest.fixture
def members(made):
  with zipfile.ZipFile(made / '0.zip') as file:
    return {name: file.read(name) for name in file.namelist()}


def test_the_same_bytes_of_the_same_input(made):
  assert (made / '0.zip').read_bytes() == (made / '1.zip').read_bytes()


def test_it_holds_what_a_third_person_needs(made, members):
  assert {*members} == {
    'README.txt', 'answer.json', 'card.json', 'evidence.json',
    'explanation.png', 'timeline.svg',
  }  # fmt: skip
  about = json.loads(members['evidence.json'])
  recording = (made / 'a.wav').read_bytes()
  assert about['recording'] == {
    'name': 'a.wav',
    'bytes': len(recording),
    'sha256': hashlib.sha256(recording).hexdigest(),
  }
  assert about['date'] == '2025-11-27T00:00:00Z'
  assert about['command'].endswith('--input a.wav --evidence out.zip')
  card = json.loads(members['card.json'])
  weights = made / 'small' / names.WEIGHTS
  assert about['detector']['sha256'] == record.file_hash(weights)
  assert card['weights']['sha256'] and about['versions']['jax']
  answer = json.loads(members['answer.json'])
  assert answer['path'] == answer['timeline']['path'] == 'a.wav'
  assert answer['explanation']['value'] == pytest.approx(
    answer['llr'], abs=1e-3
  )
  assert members['explanation.png'].startswith(b'\x89PNG')
  assert members['timeline.svg'].startswith(b'<?xml')
  for name in members:
    assert name in evidence.README or name == 'README.txt'


def test_what_is_whole_is_found_whole(made, capsys):
  assert evidence.main([str(made / '0.zip'), str(made / 'a.wav')]) == 0
  assert '0.zip: whole' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['answer.json', 'card.json', 'timeline.svg'])
def test_a_change_is_found(made, members, tmp_path, name, capsys):
  members[name] += b' '
  bad = tmp_path / 'bad.zip'
  bad.write_bytes(evidence.packed(members))
  assert evidence.main([str(bad)]) == 1
  assert f'{name}: is not what evidence.json says' in capsys.readouterr().out
  del members[name]
  bad.write_bytes(evidence.packed(members | {'more.txt': b''}))
  assert {*evidence.problems_of(str(bad))} == {
    f'{name}: missing',
    'more.txt: not listed in evidence.json',
  }


def test_another_recording_and_other_files(made, tmp_path):
  other = tmp_path / 'b.wav'
  soundfile.write(other, wave(2), RATE)
  (problem,) = evidence.problems_of(str(made / '0.zip'), str(other))
  assert problem == f'{other}: not the recording that this is of'
  (problem,) = evidence.problems_of(str(other))
  assert 'no evidence, or damaged' in problem
  assert evidence.main([str(made / 'none.zip')]) == 1


def test_nothing_is_written_of_what_cannot_be_scored(made, tmp_path, capsys):
  words = ['--checkpoint', str(made / 'small'), '--evidence']
  out = tmp_path / 'x.zip'
  asked = [*words, str(out), '--input', str(made / 'none.wav')]
  assert command.main(asked) == 1
  assert not out.exists() and 'none.wav' in capsys.readouterr().err
  assert command.main([*words, 'x.tar', '--input', 'a.wav']) == 2
  assert 'expected a name that ends in .zip' in capsys.readouterr().err
