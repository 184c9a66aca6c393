import gzip
import json
import pathlib
import resource

import numpy as np
import pytest

from jaxspoof.metrics import eer as eer_lib
from jaxspoof.metrics import summary, tdcf
from jaxspoof.score_files import scores as scores_lib


def columns(count=500, dtype=np.float64):
  rng = np.random.default_rng(0)
  label = np.arange(count) % 3 == 0
  attack = np.where(label, '-', rng.choice(['A01', 'A02'], count))
  scores = rng.normal(size=count) * 10.0 ** rng.integers(-30, 30, count)
  utterance = [f'U_{n:05}' for n in range(count)]
  return utterance, attack, label.astype(np.int32), scores.astype(dtype)


@pytest.mark.parametrize('dtype', [np.float64, np.float32])
@pytest.mark.parametrize('name', ['eval.txt', 'new/folder/eval.txt.gz'])
def test_every_bit_of_a_score_comes_back(tmp_path, dtype, name):
  utterance, attack, label, scores = columns(dtype=dtype)
  scores_lib.write(tmp_path / name, utterance, attack, label, scores)
  found = scores_lib.read(tmp_path / name)
  assert found.utterance.tolist() == utterance
  np.testing.assert_array_equal(found.attack, attack)
  np.testing.assert_array_equal(found.label, label)
  np.testing.assert_array_equal(found.scores, scores.astype(np.float64))
  assert found.label.dtype == np.int32 and found.scores.dtype == np.float64
  assert eer_lib.eer(found.scores, label) == eer_lib.eer(scores, label)


def test_the_written_file_is_the_official_format(tmp_path):
  path = tmp_path / 'eval.txt'
  scores_lib.write(
    path, ['LA_E_1', 'LA_E_2'], ['A11', '-'], [0, 1], [-8.75, 4.0]
  )
  assert path.read_text() == 'LA_E_1 A11 spoof -8.75\nLA_E_2 - bonafide 4.0\n'
  assert [p.name for p in tmp_path.iterdir()] == ['eval.txt']


def test_an_official_file_is_read(tmp_path):
  path = tmp_path / 'scores.txt.gz'
  with gzip.open(path, 'wt') as file:
    file.write('LA_E_1 A11 spoof -8.7505\r\nLA_E_2\t-  bonafide 1e-3\n')
  found = scores_lib.read(path)
  assert found.utterance.tolist() == ['LA_E_1', 'LA_E_2']
  assert found.attack.tolist() == ['A11', '-']
  assert found.label.tolist() == [0, 1]
  assert found.scores.tolist() == [-8.7505, 0.001]


def test_blank_lines_and_a_byte_order_mark_are_nothing(tmp_path):
  path = tmp_path / 'eval.txt'
  path.write_bytes(b'\xef\xbb\xbfU1 A01 spoof 1.0\r\n\r\nU2 - bonafide 2\n \n')
  assert scores_lib.read(path).utterance.tolist() == ['U1', 'U2']


def test_all_broken_lines_are_listed_with_their_numbers(tmp_path):
  path = tmp_path / 'eval.txt'
  path.write_text(
    'U1 A01 spoof 1.0\n'
    'U2 A01 spoof\n'
    'U3 A01 fake 1.0\n'
    'U4 A01 spoof high\n'
    'U5 A01 spoof nan\n'
    'U6 - bonafide inf\n'
    'U1 - bonafide 2.0\n'
    '\n'
    'U7 A01 spoof 1_0\n' + 'U8\n' * 5
  )
  with pytest.raises(scores_lib.ScoreFileError) as caught:
    scores_lib.read(path)
  message = str(caught.value)
  assert message.splitlines() == [
    f'{path}: 12 problem(s); expected lines UTTERANCE SYSTEM KEY SCORE, KEY '
    'being bonafide or spoof',
    "  line 2: 3 columns: 'U2 A01 spoof'",
    "  line 3: key 'fake' is neither bonafide nor spoof: 'U3 A01 fake 1.0'",
    "  line 4: score 'high' is not a number: 'U4 A01 spoof high'",
    "  line 5: score nan is not finite: 'U5 A01 spoof nan'",
    "  line 6: score inf is not finite: 'U6 - bonafide inf'",
    "  line 7: utterance U1 is on line 1 already: 'U1 - bonafide 2.0'",
    "  line 9: score '1_0' is not a number: 'U7 A01 spoof 1_0'",
    "  line 10: 1 columns: 'U8'",
    "  line 11: 1 columns: 'U8'",
    "  line 12: 1 columns: 'U8'",
    '  and 2 more',
  ]


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'empty; expected lines UTT'),
    (b' \n\n', 'empty; expected lines UTT'),
    (b'\xff\xfe\x00', 'not a text file'),
  ],
)
def test_files_without_scores(tmp_path, content, message):
  path = tmp_path / 'eval.txt'
  path.write_bytes(content)
  with pytest.raises(scores_lib.ScoreFileError, match=message):
    scores_lib.read(path)
  (tmp_path / 'eval.gz').write_bytes(b'U1 A01 spoof 1.0\n')
  with pytest.raises(scores_lib.ScoreFileError, match='not a text file'):
    scores_lib.read(tmp_path / 'eval.gz')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(utterance=['U 1', 'U2']), "trial 1: 5 columns: 'U 1 A01 spoof"),
    (dict(utterance=['U1', 'U1']), 'trial 2: utterance U1 is on trial 1'),
    (dict(attack=['', '-']), 'trial 1: 3 columns'),
    (dict(label=[0, 2]), "trial 2: key '2'"),
    (dict(scores=[1.0, np.nan]), 'trial 2: score nan is not finite'),
    (dict(scores=[1.0]), 'columns of different lengths'),
  ],
)
def test_what_the_format_cannot_hold_is_not_written(tmp_path, change, message):
  values = dict(
    utterance=['U1', 'U2'], attack=['A01', '-'], label=[0, 1], scores=[0.0, 1.0]
  )
  with pytest.raises(scores_lib.ScoreFileError, match=message):
    scores_lib.write(tmp_path / 'eval.txt', **{**values, **change})
  assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'eval.txt'
  path.write_text('old')
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (3, limits[1]))
  try:
    with pytest.raises(OSError, match='File too large'):
      scores_lib.write(path, *columns())
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert path.read_text() == 'old'
  assert [p.name for p in tmp_path.iterdir()] == ['eval.txt']


def test_real_file_survives_the_round_trip(reference, tmp_path):
  trials = scores_lib.read(reference / 'scores' / 'rawgat_mul.txt.gz')
  assert len(trials.scores) == 71237
  scores_lib.write(tmp_path / 'eval.txt', *trials)
  again = scores_lib.read(tmp_path / 'eval.txt')
  for before, after in zip(trials, again, strict=True):
    np.testing.assert_array_equal(before, after)


def test_summary_holds_what_the_scores_say():
  utterance, attack, label, scores = columns()
  scores = np.sign(scores) * np.log10(1 + np.abs(scores)) + 5 * label
  asv = tdcf.AsvRates(0.02, 0.03, 0.3, 0.025, 1.5)
  found = summary.summarise(
    utterance,
    attack,
    label,
    scores,
    split='eval',
    selected_on='dev',
    corpus='quickstart',
    speaker=np.arange(500) % 9,
    asv=asv,
    seed=4,
    resamples=100,
  )
  value, threshold = eer_lib.eer(scores, label)
  assert (found['eer'], found['eer_threshold']) == (value, threshold)
  low, high = found['eer_interval']
  assert 0 <= low <= value <= high <= 1
  assert found['trials'] == {'total': 500, 'bonafide': 167, 'spoof': 333}
  assert list(found['per_attack']) == ['A01', 'A02']
  assert sum(a['trials'] for a in found['per_attack'].values()) == 333
  chosen = (label == 1) | (attack == 'A02')
  row = found['per_attack']['A02']
  assert (row['eer'], row['threshold']) == eer_lib.eer(scores, label, chosen)
  assert row['interval'][0] <= row['eer'] <= row['interval'][1]
  assert (found['split'], found['corpus']) == ('eval', 'quickstart')
  assert (found['selected_on'], found['unit']) == ('dev', 'fraction')
  assert (found['confidence'], found['resamples']) == (0.95, 100)
  assert found['resampled'] == '9 speakers and 2 attacks'
  cost = tdcf.min_tdcf_revised(scores, label, asv)
  assert found['min_tdcf_revised'] == cost.cost
  low, high = found['min_tdcf_revised_interval']
  assert low <= cost.cost <= high
  assert json.loads(json.dumps(found)) == found


def test_unknown_speakers_are_not_taken_for_one():
  utterance, attack, label, scores = columns()
  options = dict(split='eval', selected_on='dev', corpus='c', resamples=20)
  found = [
    summary.summarise(
      utterance, attack, label, 3 * label + scores, speaker=speaker, **options
    )
    for speaker in (None, np.full(500, '-'))
  ]
  assert found[0] == found[1]
  assert found[0]['resampled'] == 'trials one by one and 2 attacks'


def test_summary_refuses_an_utterance_scored_twice():
  utterance, attack, label, scores = columns()
  utterance[7] = utterance[3]
  with pytest.raises(ValueError, match=r"'eval': 1 utterances .*'U_00003'"):
    summary.summarise(
      utterance,
      attack,
      label,
      scores,
      split='eval',
      selected_on='dev',
      corpus='c',
    )


def test_readers_know_nothing_of_metrics():
  folder = pathlib.Path(scores_lib.__file__).parent
  texts = [path.read_text() for path in folder.glob('*.py')]
  assert len(texts) > 4 and not any('jaxspoof.metrics' in x for x in texts)


def test_a_run_whose_scores_are_all_equal_has_a_summary():
  utterance, attack, label, scores = columns()
  found = summary.summarise(
    utterance,
    attack,
    label,
    np.zeros_like(scores),
    split='eval',
    selected_on='dev',
    corpus='c',
    asv=tdcf.AsvRates(0.02, 0.03, 0.3, 0.025, 1.5),
    resamples=20,
  )
  assert found['eer'] == eer_lib.eer(np.zeros_like(scores), label)[0]
  assert found['min_tdcf_legacy'] is None
