"""Exports: the same numbers without the package, or nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from jaxspoof import export
from jaxspoof.detector import Detector
from tests import small_detectors
from tests.small_detectors import PADDED, RATE, wave

pytestmark = pytest.mark.usefixtures('programs')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  return {
    'one length': small_detectors.write(folder / 'aasist'),
    'any length': small_detectors.write(
      folder / 'ecapa', model=PADDED, padded=True, bucket=4_000
    ),
    'no calibration': small_detectors.write(folder / 'plain', calibrated=False),
  }


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
  """A long one, a short one, and one that must be repeated."""
  folder = tmp_path_factory.mktemp('clips')
  for n, seconds in enumerate((0.9, 0.3, 0.12)):
    samples = np.resize(wave(n + 50), int(seconds * RATE))
    soundfile.write(folder / f'{n}.wav', samples, RATE, subtype='PCM_16')
  (folder / 'notes.wav').write_text('no audio')
  return folder


@pytest.mark.parametrize('kind', ['one length', 'any length', 'no calibration'])
def test_stablehlo_scores_as_the_detector(
  kind, runs, clips, tmp_path, capsys, environment
):
  out = tmp_path / 'exported'
  asked = [str(runs[kind]), f'--out={out}', '--input', str(clips)]
  assert export.main(asked) == 0
  said = capsys.readouterr()
  assert 'notes.wav: not audio' in said.err  # it is not compared on
  assert 'in the score of 3 clips' in said.out
  found = json.loads((out / export.DESCRIPTION).read_text())
  detector = Detector.load(runs[kind])
  assert found['detector'] == detector.identity()
  assert found['platforms'] == ['cpu', 'cuda', 'tpu']
  assert found['calibrated'] == (kind != 'no calibration')
  assert found['parity']['largest']['score'] <= 1e-4
  # A consumer knows nothing of this project.
  paths = [str(clips / f'{n}.wav') for n in range(3)]
  code = (
    'import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0]);'
    ' assert not [m for m in sys.modules if m.startswith("jaxspoof")]'
  )
  consumer = (out / export.CONSUMER).read_text()
  assert 'jaxspoof' not in consumer and consumer.count('\n') < 30
  done = subprocess.run(
    [sys.executable, '-c', code, str(out / export.CONSUMER), *paths],
    cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100,
    check=True,
  )  # fmt: skip
  lines = [line.rsplit(' ', 1) for line in done.stdout.splitlines()]
  assert [path for path, _ in lines] == paths
  slope = detector.known.calibration.slope if detector.calibrated else 1
  for path, value in lines:
    expected = detector.score(path)
    wanted = expected.score if expected.llr is None else expected.llr
    assert float(value) == pytest.approx(wanted, abs=1e-4 * max(1, slope))


def test_what_differs_is_not_left(runs, clips, tmp_path, monkeypatch, capsys):
  name, right = export.FORMATS['stablehlo']

  def wrong(detector, path):
    call, description = right(detector, path)

    def other(batch):
      found = dict(call(batch))
      # Together alone: what depends on the batch is wrong as well.
      found['score'] = found['score'] + 2e-4 * (len(batch['wave']) > 1)
      return found

    return other, description

  monkeypatch.setitem(export.FORMATS, 'stablehlo', (name, wrong))
  asked = [str(runs['one length']), f'--out={tmp_path / "out"}', '--input']
  assert export.main([*asked, str(clips)]) == 2
  said = capsys.readouterr().err
  assert (
    'the export is wrong: score differs from the detector by 0.0002' in said
  )
  assert not list(tmp_path.iterdir())


def test_numbers_that_are_none_are_wrong(runs):
  detector = Detector.load(runs['no calibration'])

  def call(batch):
    found = export.answers(detector)(**batch)
    return {name: np.asarray(x) * np.nan for name, x in found.items()}

  with pytest.raises(export.ExportError, match='from the detector by nan'):
    export.compared(detector, call, [wave(0)])


def test_folders_of_others_are_left_alone(runs, clips, tmp_path, capsys):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'file').write_text('mine')
  asked = [str(runs['one length']), f'--out={tmp_path / "mine"}', '--input']
  assert export.main([*asked, str(clips / '0.wav')]) == 2
  assert 'is there, and is no earlier export' in capsys.readouterr().err
  assert (tmp_path / 'mine' / 'file').read_text() == 'mine'
  assert export.main([*asked[:1], f'--out={tmp_path / "new"}', '--input',
                      str(clips / 'notes.wav')]) == 2  # fmt: skip
  assert 'none of the recordings to compare on' in capsys.readouterr().err


def test_clips_of_the_package_are_speech(runs):
  detector = Detector.load(runs['one length'])
  waves = export.clips(detector, [])
  assert len(waves) == export.CLIPS
  assert all(len(one) == detector.samples for one in waves)
  assert all(0.01 < np.abs(one).max() <= 1 for one in waves)
