"""`python -m jaxspoof.metrics`, its score files and its audit."""

import gzip
import json
import re

import numpy as np
import pytest

from jaxspoof.metrics import __main__ as cli
from jaxspoof.metrics import dcf, tandem, tdcf
from jaxspoof.metrics.eer import eer
from jaxspoof.metrics.table import METRICS
from jaxspoof.score_files import asv_scores, protocols, score_lists
from jaxspoof.score_files import scores as scores_lib


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
  """Tests write no compiled programs to the user's folder."""
  monkeypatch.setattr('jaxspoof.machine.programs.keep', lambda: None)


def corpus(tmp_path, count=400, seed=0):
  """A protocol, two score files and verification scores on disk."""
  rng = np.random.default_rng(seed)
  label = np.arange(count) % 3 == 0
  attack = np.where(label, '-', rng.choice(['A07', 'A08'], count))
  speaker = rng.integers(0, 12, count)
  names = [f'U{n:04}' for n in range(count)]
  keys = np.where(label, 'bonafide', 'spoof')
  first = rng.normal(size=count) + 2 * label
  second = first + rng.normal(size=count)
  lines = zip(speaker, names, attack, keys, strict=True)
  (tmp_path / 'trl.txt').write_text(
    ''.join(f'S{s} {u} - {a} {k}\n' for s, u, a, k in lines)
  )
  for name, scores in (('a', first), ('b', second)):
    rows = zip(names, attack, keys, scores.tolist(), strict=True)
    (tmp_path / f'{name}.txt').write_text(
      ''.join(f'{u} {a} {k} {s!r}\n' for u, a, k, s in rows)
    )
  kinds = rng.choice(['target', 'nontarget', 'spoof'], 600)
  (tmp_path / 'asv.txt').write_text(
    ''.join(
      f'{"A07" if k == "spoof" else "bonafide"} {k} '
      f'{rng.normal() + 4 * (k == "target") + 2 * (k == "spoof")}\n'
      for k in kinds
    )
  )
  return label.astype(int), attack, first, second


def run(capsys, *arguments, resamples=40):
  status = cli.main([*map(str, arguments), f'--resamples={resamples}'])
  out, err = capsys.readouterr()
  return status, out, err


def test_every_key_of_the_json(tmp_path, capsys):
  label, attack, first, second = corpus(tmp_path)
  path = tmp_path / 'out' / 'metrics.json'
  status, out, err = run(
    capsys,
    tmp_path / 'a.txt',
    f'--protocol={tmp_path / "trl.txt"}',
    f'--asv_scores={tmp_path / "asv.txt"}',
    f'--against={tmp_path / "b.txt"}',
    f'--json={path}',
  )
  assert (status, err) == (0, '')
  found = json.loads(path.read_text())
  value, threshold = eer(first, label)
  assert (found['eer'], found['eer_threshold']) == (value, threshold)
  assert found['min_dcf'] == dcf.min_dcf(first, label).cost
  rates = {k: found['asv'][k] for k in ('miss', 'false_alarm')}
  asv = tdcf.AsvRates(
    **rates, spoof_false_alarm=found['asv']['spoof_false_alarm']
  )
  legacy = tdcf.min_tdcf_legacy(first, label, asv).cost
  assert found['min_tdcf_legacy'] == legacy
  revised = tdcf.min_tdcf_revised(first, label, asv).cost
  assert found['min_tdcf_revised'] == revised
  assert found['act_dcf'] == dcf.act_dcf(first, label)
  assert found['trials'] == {'total': 400, 'bonafide': 134, 'spoof': 266}
  assert found['resampled'] == '12 speakers and 2 attacks'
  assert found['warnings'] == []
  for name, metric in METRICS.items():
    if metric.resampled:
      low, high = found[f'{name}_interval']
      assert low <= found[name] <= high, name
    assert metric.label in out, name
  verification = asv_scores.read(tmp_path / 'asv.txt')[:3]
  assert found['a_dcf'] == tandem.a_dcf(*verification).cost
  parts = first[label == 1], first[label == 0]
  assert found['t_eer'] == tandem.t_eer(*parts, *verification).eer
  assert list(found['per_attack']) == ['A07', 'A08']
  chosen = (label == 1) | (attack == 'A08')
  row = found['per_attack']['A08']
  assert row['eer'] == eer(first, label, chosen).eer
  assert row['interval'][0] <= row['eer'] <= row['interval'][1]
  assert row['trials'] == np.sum(attack == 'A08')
  other = found['against']
  assert other['eer'] == eer(second, label).eer
  apart = other['difference']['eer']
  assert apart['value'] == found['eer'] - other['eer'] < 0
  assert apart['interval'][0] <= apart['value'] <= apart['interval'][1]
  assert apart['share'] > 0.8
  for text in ('EER %', f'{100 * value:.6f}', 'min t-DCF, 2019', 'A08'):
    assert text in out, text
  assert 'difference' in out and '12 speakers and 2 attacks' in out


@pytest.mark.parametrize(
  'layout', ['{u} {s}', '{u} {s} {k}', '{u} {a} {k} {s}']
)
def test_layouts_say_the_same(tmp_path, layout):
  corpus(tmp_path)
  four = score_lists.read(tmp_path / 'a.txt')
  protocol = protocols.read(tmp_path / 'trl.txt')
  lines = [
    line.split() for line in (tmp_path / 'a.txt').read_text().splitlines()
  ]
  path = tmp_path / 'other.txt.gz'
  with gzip.open(path, 'wt') as file:
    for u, a, k, s in lines[::-1]:  # the order does not matter
      file.write(layout.format(u=u, a=a, k=k, s=s) + '\n')
  found = score_lists.read(path, protocol)
  np.testing.assert_array_equal(found.utterance, four.utterance)
  np.testing.assert_array_equal(found.scores, four.scores)
  np.testing.assert_array_equal(found.label, four.label)
  np.testing.assert_array_equal(found.attack, four.attack)
  np.testing.assert_array_equal(found.speaker, protocol.speaker)
  if '{k}' not in layout:
    with pytest.raises(ValueError, match='protocol is needed'):
      score_lists.read(path)
  else:
    alone = score_lists.read(path)
    np.testing.assert_array_equal(alone.scores[::-1], four.scores)
    assert alone.speaker is None
    assert (alone.attack is None) == ('{a}' not in layout)


def test_by_speaker(tmp_path, capsys):
  label, _, first, second = corpus(tmp_path)
  (tmp_path / 'trl.txt').write_text(
    (tmp_path / 'trl.txt').read_text().replace('S3 ', 'S4 ', 1)
  )
  speaker = protocols.read(tmp_path / 'trl.txt').speaker
  files = [tmp_path / 'a.txt', f'--against={tmp_path / "b.txt"}']
  options = [f'--protocol={tmp_path / "trl.txt"}', '--by_speaker']
  status, out, _ = run(
    capsys, *files, *options, f'--json={tmp_path / "o.json"}', resamples=2
  )
  assert status == 0
  found = json.loads((tmp_path / 'o.json').read_text())['per_speaker']
  assert set(found['eer']) == set(speaker)
  for name, values in found['eer'].items():
    own = speaker == name
    for value, scores in zip(values, (first, second), strict=True):
      assert value == pytest.approx(float(eer(scores[own], label[own]).eer))
  np.testing.assert_allclose(
    found['mean'], np.mean([*found['eer'].values()], 0)
  )
  last = out.splitlines()[-1].split()
  assert last[:3] == ['mean', 'of', '12']
  assert float(last[3]) == pytest.approx(100 * found['mean'][0], abs=1e-4)
  status, _, err = run(capsys, files[0], '--by_speaker', resamples=2)
  assert status == 2 and 'expected a protocol that names speakers' in err


def test_all_that_contradicts_the_protocol_is_listed(tmp_path):
  (tmp_path / 'trl.txt').write_text(
    'S1 U1 - A07 spoof\nS1 U2 - - bonafide\nS2 U3 - A08 spoof\n'
    'S2 U4 - - bonafide\nS2 U5 - - bonafide\nS3 U6 - A08 spoof\n'
  )
  path = tmp_path / 'a.txt'
  path.write_text(
    'U1 A07 spoof 1\nU1 A07 spoof 2\nU2 - bonafide nan\nU3 A07 spoof 1\n'
    'U4 A07 spoof 1\nU9 - bonafide 1\nU5 - bonafide -inf\nU5 - bonafide\n'
  )
  protocol = protocols.read(tmp_path / 'trl.txt')
  with pytest.raises(scores_lib.ScoreFileError) as caught:
    score_lists.read(path, protocol)
  assert str(caught.value).splitlines() == [
    f'{path}: 8 problem(s); expected lines UTTERANCE SCORE or UTTERANCE SCORE '
    'KEY or UTTERANCE ATTACK KEY SCORE',
    "  line 2: utterance U1 is on line 1 already: 'U1 A07 spoof 2'",
    "  line 3: score nan is not finite: 'U2 - bonafide nan'",
    "  line 7: score -inf is not finite: 'U5 - bonafide -inf'",
    "  line 8: 3 columns: 'U5 - bonafide'",
    '  line 4: U3 has another key or attack in the protocol',
    '  line 5: U4 has another key or attack in the protocol',
    '  line 6: utterance U9 is not in the protocol',
    '  no score of U6',
  ]


def test_a_broken_protocol_is_listed(tmp_path):
  path = tmp_path / 'trl.txt'
  path.write_text('S1 U1 - A07 spoof\nS1 U1 - - fake\nS1 U1 - - bonafide\nU2\n')
  with pytest.raises(scores_lib.ScoreFileError) as caught:
    protocols.read(path)
  assert str(caught.value).splitlines() == [
    f'{path}: 3 problem(s); expected lines SPEAKER UTTERANCE ENVIRONMENT SYSTEM'
    ' KEY, or another layout of ASVspoof',
    "  line 2: key 'fake' is neither bonafide nor spoof: 'S1 U1 - - fake'",
    "  line 3: utterance U1 again: 'S1 U1 - - bonafide'",
    "  line 4: 1 columns: 'U2'",
  ]


TRIALS = (('U1', 'A07', 'spoof'), ('U2', '-', 'bonafide'))


@pytest.mark.parametrize(
  ('layout', 'speaker', 'attack', 'phase', 'condition'),
  [
    ('{u} {k}', False, False, False, None),
    ('S {u} - {a} {k}', True, True, False, None),
    ('S {u} alaw ita_tx {b} {k} notrim eval', True, True, True, 'alaw/ita_tx'),
    (
      'S {u} low_m4a vcc2020 {b} {k} notrim eval traditional_vocoder - - - -',
      True, True, True, 'low_m4a',
    ),
    ('S {u} R3 M3 d4 r1 m1 s4 c4 {k} notrim eval', True, False, True, None),
    ('S {u} F C05 3 T_1 AC3 {b} {k} -', True, True, False, 'C05'),
  ],
)  # fmt: skip
def test_protocols_of_the_challenges(
  tmp_path, layout, speaker, attack, phase, condition
):
  path = tmp_path / 'trl.txt'
  path.write_text(
    ''.join(
      layout.format(u=u, a=a, k=k, b=k if a == '-' else a) + '\n'
      for u, a, k in TRIALS
    )
  )
  found = protocols.read(path)
  assert found.utterance.tolist() == ['U1', 'U2']
  assert found.label.tolist() == [0, 1]
  for given, column, values in (
    (speaker, found.speaker, ['S', 'S']),
    (attack, found.attack, ['A07', '-']),
    (phase, found.phase, ['eval', 'eval']),
    (condition, found.condition, [condition] * 2),
  ):
    assert (column.tolist() if given else column) == (values if given else None)


def write_2021(tmp_path):
  """Scores and a protocol of 40 trials, every fourth of another phase."""
  rng = np.random.default_rng(0)
  label = np.arange(40) % 5 == 0
  scores = rng.normal(size=40) + label
  phase = np.where(np.arange(40) % 4 == 1, 'progress', 'eval')
  (tmp_path / 'meta.txt').write_text(
    ''.join(
      f'S{n % 4} U{n} gsm sin_tx {"bonafide bonafide" if one else "A07 spoof"} '
      f'notrim {phase[n]}\n'
      for n, one in enumerate(label)
    )
  )
  (tmp_path / 'scores.txt').write_text(
    ''.join(f'U{n} {score!r}\n' for n, score in enumerate(scores.tolist()))
  )
  return scores, label.astype(int), phase


def test_one_phase_of_the_challenge_is_measured(tmp_path, capsys):
  scores, label, phase = write_2021(tmp_path)
  out = tmp_path / 'out.json'
  arguments = [tmp_path / 'scores.txt', f'--protocol={tmp_path / "meta.txt"}']
  for name in (None, 'progress'):
    chosen = phase == (name or 'eval')
    options = [f'--phase={name}'] if name else []
    status, said, _ = run(capsys, *arguments, *options, f'--json={out}')
    found = json.loads(out.read_text())
    assert status == 0
    assert found['eer'] == eer(scores[chosen], label[chosen]).eer
    assert found['trials']['total'] == chosen.sum()
    assert found['protocol'] == {
      'phase': name or 'eval',
      'phases': {'eval': 30, 'progress': 10},
      'conditions': ['gsm/sin_tx'],
    }
    assert f'phase {name or "eval"} of the protocol' in said
    assert 'conditions, pooled: gsm/sin_tx' in said
  status, _, said = run(capsys, *arguments, '--phase=hidden')
  assert status == 2 and "no phase 'hidden'; it has eval, progress" in said
  # A trial of the phase that has no score is missed, one of another is not.
  lines = (tmp_path / 'scores.txt').read_text().splitlines()
  (tmp_path / 'scores.txt').write_text('\n'.join(lines[2:]))
  status, _, said = run(capsys, *arguments)
  assert status == 2 and 'no score of U0' in said and 'U1\n' not in said


def test_verification_scores_of_2021_are_those_of_their_phase(tmp_path, capsys):
  scores, _, _ = write_2021(tmp_path)
  rng = np.random.default_rng(1)
  old, new, trials = [], [], []
  for n in range(90):
    kind = asv_scores.KINDS[n % 3]
    key, score = (
      'A07' if kind == 'spoof' else 'bonafide',
      rng.normal() + (2, 0, 1)[n % 3],
    )
    phase = 'progress' if n % 4 == 3 else 'eval'
    new.append(f'S{n % 5}-gsm U{n}-gsm {score!r}\n')
    trials.append(f'S{n % 5}-gsm U{n}-gsm gsm - {key} {kind} notrim {phase}\n')
    old += [f'{key} {kind} {score!r}\n'] if phase == 'eval' else []
  for name, lines in (('old', old), ('new', new), ('trials', trials)):
    (tmp_path / f'{name}.txt').write_text(''.join(lines))
  found = []
  for name, options in (
    ('old', []),
    ('new', [f'--asv_protocol={tmp_path / "trials.txt"}']),
  ):
    status, _, said = run(
      capsys,
      tmp_path / 'scores.txt',
      f'--protocol={tmp_path / "meta.txt"}',
      f'--asv_scores={tmp_path / name}.txt',
      f'--json={tmp_path / "out.json"}',
      *options,
    )
    assert status == 0, said
    found.append(json.loads((tmp_path / 'out.json').read_text()))
  assert found[0]['min_tdcf_revised'] is not None
  assert found[0] == found[1]
  (tmp_path / 'new.txt').write_text(''.join(new[1:]) + 'S9 U9 1.0\n')
  with pytest.raises(scores_lib.ScoreFileError) as caught:
    asv_scores.read(tmp_path / 'new.txt', tmp_path / 'trials.txt')
  assert 'no score of S0-gsm U0-gsm' in str(caught.value)
  assert 'not a trial of' in str(caught.value)


@pytest.mark.parametrize(
  'layout',
  [
    '{u} {s}',
    '{u}.flac {s}',
    'flac/eval/{u}.flac {s}',
    'C:\\data\\{u}.wav {s}',
    '{{"path": "some folder/{u}.flac", "score": {s}, "duration": 1.0}}',
  ],
)
@pytest.mark.parametrize('header', ['', 'filename\tcm-score\n'])
def test_score_files_as_people_have_them(tmp_path, layout, header):
  scores, label, _ = write_2021(tmp_path)
  path = tmp_path / 'theirs.txt'
  rows = ''.join(
    layout.format(u=f'U{n}', s=repr(score)) + '\r\n'
    for n, score in enumerate(scores.tolist())
  )
  path.write_bytes(f'\ufeff{header}{rows}\n\n'.encode())
  protocol = protocols.read(tmp_path / 'meta.txt')
  found = score_lists.read(path, protocol)
  np.testing.assert_array_equal(found.scores, scores)
  np.testing.assert_array_equal(found.label, label)
  assert bool(found.notes) == (layout != '{u} {s}')
  assert all('agree with those of the protocol' in note for note in found.notes)


def test_json_lines_that_hold_no_score_are_listed(tmp_path):
  path = tmp_path / 'out.jsonl'
  path.write_text('{"path": "U1.wav", "error": "U1.wav: no such file"}\n{]\n')
  (tmp_path / 'trl.txt').write_text('S1 U1 - A07 spoof\n')
  with pytest.raises(scores_lib.ScoreFileError) as caught:
    score_lists.read(path, protocols.read(tmp_path / 'trl.txt'))
  text = str(caught.value)
  assert "line 1: score 'U1.wav: no such file' is not a number" in text
  assert 'line 2: ' in text and 'no output of detect.py --json' in text


def test_ties_between_the_classes_are_named(tmp_path, capsys):
  """The official order is one of two: what the other gives is said."""
  path = tmp_path / 'a.txt'
  path.write_text(
    'U1 1 bonafide\nU2 1 spoof\nU3 1 bonafide\nU4 0 spoof\nU5 2 bonafide\n'
    'U6 0 spoof\n'
  )
  status, _, err = run(capsys, path)
  assert status == 0
  assert (
    '3 of 6 scores are shared by bona fide and spoof trials, most often 1 (3 '
    'trials)' in err
  )
  assert 'gives an EER of 33.33%; the other order gives 0.00%' in err
  corpus(tmp_path)
  assert 'shared' not in run(capsys, tmp_path / 'b.txt')[2]


def test_decisions_have_no_tandem_cost_and_that_is_said(tmp_path, capsys):
  label = corpus(tmp_path)[0]
  lines = (tmp_path / 'a.txt').read_text().splitlines()
  rows = zip(map(str.split, lines), label, strict=True)
  (tmp_path / 'c.txt').write_text(
    ''.join(f'{u} {a} {k} {float(one)}\n' for (u, a, k, _), one in rows)
  )
  status, out, err = run(
    capsys,
    tmp_path / 'c.txt',
    f'--asv_scores={tmp_path / "asv.txt"}',
    f'--against={tmp_path / "a.txt"}',
  )
  assert status == 0
  assert 'c.txt: t-DCF: needs soft scores' in err and 'decisions?' in err
  row = next(x for x in out.splitlines() if x.startswith('min t-DCF, 2019'))
  assert re.search(r'2019 +not defined +0\.\d{6}$', row), row


def test_negated_scores_are_noticed_and_turned_round(tmp_path, capsys):
  label, _, first, _ = corpus(tmp_path)
  lines = (tmp_path / 'a.txt').read_text().splitlines()
  rows = [line.split() for line in lines]
  (tmp_path / 'c.txt').write_text(
    ''.join(f'{u} {-float(s)!r} {k}\n' for u, _, k, s in rows)
  )
  path = tmp_path / 'out.json'
  status, out, err = run(capsys, tmp_path / 'c.txt', f'--json={path}')
  assert status == 0 and 'look negated' in err and '--negate' in err
  assert 'speakers are unknown without a protocol that' in err
  assert json.loads(path.read_text())['per_attack'] == {}
  assert json.loads(path.read_text())['min_tdcf_legacy'] is None
  assert 't-DCF' not in out
  status, _, err = run(capsys, tmp_path / 'c.txt', '--negate', f'--json={path}')
  assert status == 0 and 'negated' not in err
  assert json.loads(path.read_text())['eer'] == eer(first, label).eer


def test_errors_leave_nothing_behind(tmp_path, capsys):
  corpus(tmp_path)
  path = tmp_path / 'out.json'
  lines = (tmp_path / 'b.txt').read_text().splitlines()
  (tmp_path / 'short.txt').write_text(
    '\n'.join(lines[1:]) + '\nV1 - bonafide 1'
  )
  given = (tmp_path / 'a.txt', f'--json={path}')
  status, out, err = run(capsys, *given, f'--against={tmp_path / "short.txt"}')
  assert (status, out) == (2, '') and not path.exists()
  assert 'no score of U0000' in err and 'unknown utterance V1' in err
  status, _, err = run(capsys, tmp_path / 'none.txt')
  assert status == 2 and 'No such file' in err
  status, _, err = run(capsys, *given, resamples=0)
  assert status == 2 and 'resamples must be at least 1' in err
  status, _, err = run(capsys, *given, '--confidence=95')
  assert status == 2 and 'confidence must lie in (0, 1)' in err
  (tmp_path / 'wide.txt').write_text('a b c d e\n')
  status, _, err = run(capsys, tmp_path / 'wide.txt')
  assert status == 2 and '5 columns' in err


def test_published_scores(reference, tmp_path, capsys):
  folder, path = reference / 'scores', tmp_path / 'out.json'
  asv = 'ASVspoof2019.LA.asv.eval.gi.trl.scores.txt.gz'
  status, out, _ = run(
    capsys,
    folder / 'air1028_ocsoftmax.txt.gz',
    '--negate',
    f'--protocol={folder / "ASVspoof2019.LA.cm.eval.trl.txt.gz"}',
    f'--asv_scores={folder / asv}',
    f'--against={folder / "rawgat_mul.txt.gz"}',
    f'--json={path}',
    resamples=20,
  )
  assert status == 0
  found = json.loads(path.read_text())
  assert found['resampled'] == '67 speakers and 13 attacks'
  expected = dict(
    eer=2.177987, min_tdcf_legacy=0.055816, min_tdcf_revised=0.115047,
    min_dcf=0.051856, act_dcf=0.079201, cllr=0.503788,
  )  # fmt: skip
  for name, value in expected.items():
    assert round(METRICS[name].scale * found[name], 6) == value
  assert '2.177987' in out and '0.055816' in out
  per_attack = dict(
    A07=0.3429, A08=0.5297, A09=0.0815, A10=0.3905, A11=0.2852, A12=0.3429,
    A13=0.3022, A14=0.2852, A15=0.2682, A16=0.8149, A17=1.7452, A18=3.0898,
    A19=0.7096,
  )  # fmt: skip
  rows = found['against']['per_attack']
  assert {k: round(100 * v['eer'], 4) for k, v in rows.items()} == per_attack
