"""Published figures of released weights, held against what comes out."""

import dataclasses

import numpy as np
import pytest

from jaxspoof import anchors
from jaxspoof.jobs.evaluate import EvaluateConfig, config_lib
from jaxspoof.machine import files
from jaxspoof.metrics import summary
from jaxspoof.metrics.tdcf import AsvRates
from jaxspoof.runs import record

BONAFIDE, SPOOF = 40, 60


@pytest.fixture
def weights(tmp_path, monkeypatch):
  """A file that is known, and an evaluation of it from stored scores."""
  path = tmp_path / 'weights.pth'
  path.write_bytes(b'weights')
  scores = np.concatenate([np.arange(BONAFIDE) + 56.5, np.arange(SPOOF)])
  label = np.repeat([1, 0], [BONAFIDE, SPOOF])
  found = summary.summarise(
    [f'U{n}' for n in range(100)],
    np.where(label, '-', 'A07'),
    label,
    scores,
    split='eval',
    selected_on='their authors',
    corpus='asvspoof2019_la',
    asv=AsvRates(0.02, 0.03, 0.7),
    resamples=8,
  )
  asked = []

  def evaluate(values, workdir):
    config = config_lib.job_section(EvaluateConfig, values)
    asked.append((config.checkpoint, config.data.name, config.data.eval))
    files.write_json(workdir / 'metrics.json', found)
    return found

  monkeypatch.setattr('jaxspoof.jobs.evaluate.evaluate', evaluate)
  known = next(iter(anchors.ANCHORS.values()))
  known = dataclasses.replace(
    known,
    trials={'bonafide': BONAFIDE, 'spoof': SPOOF},
    figures={
      'eer': f'{100 * found["eer"]:.2f}',
      'min_tdcf_legacy': f'{found["min_tdcf_legacy"]:.4f}',
    },
  )
  monkeypatch.setattr(anchors, 'ANCHORS', {record.file_hash(path): known})
  return path, found, known, asked


def run(path, tmp_path, capsys):
  status = anchors.main([str(path), f'--workdir={tmp_path / "out"}'])
  return status, capsys.readouterr()


def test_what_agrees_to_the_printed_digits(weights, tmp_path, capsys):
  path, found, known, asked = weights
  assert 0.01 < found['eer'] < 0.05  # by hand: about one of forty
  status, said = run(path, tmp_path, capsys)
  assert not status and 'AASIST on asvspoof2019_la eval: agrees' in said.out
  assert asked == [(str(path), 'asvspoof2019_la', ('eval',))]
  status, said = run(path, tmp_path, capsys)
  assert not status and 'is finished already' in said.out and len(asked) == 1
  assert anchors.differences(known, {**found, 'eer': found['eer'] + 1e-4})


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'figures': {'eer': '0.83'}}, 'published 0.83'),
    ({'figures': {'min_tdcf_legacy': '0.0001'}}, 'min_tdcf_legacy is 0.0'),
    ({'figures': {'t_eer': '1.00'}}, 't_eer is not known'),
    ({'trials': {'spoof': 61}}, '60 spoof trials, expected 61'),
  ],
)
def test_what_differs_is_said(weights, tmp_path, capsys, changes, words):
  path, _, known, _ = weights
  digest = record.file_hash(path)
  anchors.ANCHORS[digest] = dataclasses.replace(known, **changes)
  status, said = run(path, tmp_path, capsys)
  assert status == 1 and 'DIFFERS' in said.out and words in said.out


def test_weights_that_nobody_published_are_refused(weights, tmp_path, capsys):
  path, *_, asked = weights
  path.write_bytes(b'others')
  status, said = run(path, tmp_path, capsys)
  assert status == 1 and 'expected the released file of AASIST' in said.err
  status, said = run(tmp_path / 'none.pth', tmp_path, capsys)
  assert status == 1 and 'none.pth' in said.err and not asked


def test_the_released_files_are_known(reference):
  names = [
    anchors.find(reference / 'aasist' / f'{name}.pth').name
    for name in ('AASIST', 'AASIST-L')
  ]
  assert names == ['AASIST', 'AASIST-L']
