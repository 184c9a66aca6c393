"""Range and segment EERs against plain loops, and the files they are of."""

import numpy as np
import pytest

from jaxspoof.metrics import clustered, clusters, det, localisation
from jaxspoof.metrics.localisation import Located
from jaxspoof.score_files import moments
from jaxspoof.score_files.columns import ScoreFileError

GRID = 1 / 16_000


def drawn(seed, seconds=0.02, exact=True):
  """A recording with ranges at samples, or on the grid of its moments."""
  rng = np.random.default_rng(seed)
  count = int(rng.integers(5, 40))
  unit = GRID if exact else seconds
  most = int(count * seconds / unit)
  edges = np.sort(rng.choice(most, 2 * int(rng.integers(0, 3)), replace=False))
  spoofed = [
    (float(a * unit), float(b * unit)) for a, b in edges.reshape(-1, 2) if b > a
  ]
  duration = float((most - (int(rng.integers(0, 300)) if exact else 0)) * unit)
  spoofed = [(a, min(b, duration)) for a, b in spoofed if a < duration]
  scores = np.round(rng.normal(0, 1, count), 2)  # some are equal
  return Located(scores, seconds, spoofed, duration)


def label_at(one, time):
  return 0 if any(a <= time < b for a, b in one.spoofed) else 1


def by_samples(located):
  """(score, label) of every sample of 16 kHz, by plain loops."""
  found = []
  for one in located:
    for n in range(round(one.duration / GRID)):
      time = (n + 0.5) * GRID
      at = min(int(time / one.seconds), len(one.scores) - 1)
      found.append((one.scores[at], label_at(one, time)))
  return np.array(found)


def plain_eer(found):
  """The mean of both rates where they are closest, over all thresholds."""
  scores, labels = found.T
  best = None
  for threshold in [scores.min() - 1, *np.unique(scores)]:
    miss = np.mean(scores[labels == 1] <= threshold)
    alarm = np.mean(scores[labels == 0] > threshold)
    if best is None or abs(miss - alarm) < best[0] - 1e-15:
      best = abs(miss - alarm), (miss + alarm) / 2, threshold
  return best


@pytest.mark.parametrize('seconds', [0.02, 0.01, 0.05])
def test_range_eer_is_that_of_every_sample(seconds):
  for seed in range(3):
    located = [drawn(10 * seed + n, seconds) for n in range(6)]
    found = localisation.range_eer(located)
    _, eer, threshold = plain_eer(by_samples(located))
    assert found.eer == pytest.approx(eer, abs=1e-12)
    assert found.threshold == threshold
    for one in located:
      both = localisation.durations(one)
      assert sum(x.sum() for x in both) == round(one.duration * 1e7)
      assert min(x.min() for x in both) >= 0


@pytest.mark.parametrize('length', localisation.RESOLUTIONS)
def test_segments_are_those_of_a_plain_loop(length):
  for seed in range(20):
    one = drawn(seed)
    scores, labels = localisation.segments(one, length / 1000)
    at, n = 0.0, 0
    while at < one.duration - 1e-9:
      inside = [
        i
        for i in range(len(one.scores))
        if at - 1e-9
        <= i * one.seconds
        < min(at + length / 1000, one.duration) - 1e-9
      ]
      # What follows the last moment has its score.
      lowest = min((one.scores[i] for i in inside), default=one.scores[-1])
      samples = range(
        round(at / GRID), round(min(at + length / 1000, one.duration) / GRID)
      )
      label = min(label_at(one, (s + 0.5) * GRID) for s in samples)
      assert (scores[n], labels[n]) == (lowest, label)
      at, n = at + length / 1000, n + 1
    assert n == len(scores) == len(labels)


def test_coarse_scores_of_fine_segments():
  one = Located(np.array([1.0, -1.0]), 0.16, [(0.2, 0.3)], 0.32)
  scores, labels = localisation.segments(one, 0.02)
  assert scores.tolist() == [1.0] * 8 + [-1.0] * 8
  assert labels.tolist() == [1] * 10 + [0] * 5 + [1]


def test_both_are_one_where_ranges_lie_on_the_grid():
  rng = np.random.default_rng(0)
  located = [drawn(n, exact=False) for n in range(30)]
  located = [
    one._replace(scores=rng.normal(size=len(one.scores))) for one in located
  ]
  found = localisation.range_eer(located)
  assert found == localisation.segment_eer(located, 0.02)
  scores, labels = (
    np.concatenate(x)
    for x in zip(
      *(localisation.segments(o, 0.02) for o in located), strict=True
    )
  )
  assert found == det.equal_error(scores, labels)


def test_labels_one_moment_late_are_found():
  """A perfect detector is no more perfect where labels are shifted."""
  located = [drawn(n, exact=False) for n in range(30)]
  perfect = [
    one._replace(
      scores=np.array([
        float(label_at(one, (i + 0.5) * 0.02)) for i in range(len(one.scores))
      ])
    )
    for one in located
  ]  # fmt: skip
  assert localisation.range_eer(perfect).eer == 0
  found = localisation.at_threshold(perfect, 0.5)
  assert found['edges']['within_moment'] == 1 and found['miss'] == 0
  assert found['edges']['p90_ms'] == pytest.approx(0, abs=1e-6)
  assert found['edges']['found'] == found['edges']['count'] > 0
  # Who guesses has an edge near every true one, and many more.
  rng = np.random.default_rng(1)
  guessed = [o._replace(scores=rng.random(len(o.scores))) for o in perfect]
  edges = localisation.at_threshold(guessed, 0.5)['edges']
  assert edges['median_ms'] <= 20 and edges['found'] > 5 * edges['count']
  late = [
    one._replace(scores=np.append(one.scores[0], one.scores[:-1]))
    for one in perfect
  ]
  assert localisation.range_eer(late).eer > 0.02
  found = localisation.at_threshold(late, 0.5)
  assert found['edges']['median_ms'] == pytest.approx(20)
  # Nothing was found in one recording: its edges are far away.
  blind = [Located(np.ones(50), 0.02, [(0.4, 0.6)], 1.0)]
  found = localisation.at_threshold(blind, 0.5)
  assert (found['miss'], found['false_alarm']) == (0, 1)
  assert found['edges']['median_ms'] == 1000


def test_moments_after_the_end_do_not_count():
  one = drawn(3)
  longer = one._replace(scores=np.append(one.scores, [-9.0, 9.0]))
  most = int(np.ceil(one.duration / one.seconds - 1e-9))
  cut = one._replace(scores=one.scores[:most])
  assert localisation.figures([longer]) == localisation.figures([cut])


def test_intervals_are_those_of_recordings_that_count_several_times():
  rng = np.random.default_rng(1)
  located = [drawn(n) for n in range(24)]
  labels = np.array([not one.spoofed for one in located], int)
  speaker = np.array([f'S{n % 4}' for n in range(24)])
  attack = np.where(labels, '-', rng.choice(['A', 'B', 'C'], 24))
  cells = clusters.make_cells(labels, speaker, attack)
  values = []
  for weights in clusters.weights(cells, 7, range(30)):
    often = weights[cells.of_trial].astype(int)
    again = [o for o, n in zip(located, often, strict=True) for _ in range(n)]
    values.append(localisation.range_eer(again).eer)
  expected = clustered.interval(
    values, clusters=clustered.clusters_of(labels, speaker, attack)
  )
  found = localisation.range_eer_interval(
    located, labels, speaker, attack, resamples=30, seed=7
  )
  assert found == pytest.approx(expected, abs=1e-9)
  assert expected.low < localisation.range_eer(located).eer < expected.high


def test_one_class_alone_has_no_error():
  bona_fide = Located(np.arange(5.0), 0.02, [], 0.1)
  found = localisation.figures([bona_fide])
  assert found['range_eer'] is None and found['segment_eer']['20'] is None
  assert found['seconds'] == {'bonafide': 0.1, 'spoof': 0.0}
  with pytest.raises(ValueError, match='bona fide and spoofed time; got 0.1 s'):
    localisation.range_eer([bona_fide])
  with pytest.raises(ValueError, match='scores must be finite'):
    broken = Located(np.array([1.0, np.nan]), 0.02, [(0, 0.02)], 0.04)
    localisation.range_eer([broken])


# ------------------------------------------------------------------- files ---
def test_files_keep_every_bit(tmp_path, capsys):
  located = {f'u{n}': drawn(n) for n in range(12)}
  located = {
    name: one._replace(scores=one.scores.astype(np.float32) / np.float32(3))
    for name, one in located.items()
  }
  scores, ranges = tmp_path / 'eval.txt.gz', tmp_path / 'eval.rttm'
  moments.write_scores(
    scores,
    {k: moments.Moments(v.seconds, v.scores) for k, v in located.items()},
  )
  moments.write_ranges(
    ranges,
    {k: moments.whole(v.spoofed, v.duration) for k, v in located.items()},
  )
  again = localisation.located_in(
    moments.read_scores(scores), moments.read_ranges(ranges)
  )
  found = localisation.figures(list(located.values()))
  assert localisation.figures(list(again.values())) == found
  arguments = [str(scores), '--ranges', str(ranges)]
  assert localisation.main(arguments) == 0
  said = capsys.readouterr().out
  assert f'range EER          {found["range_eer"]:.2%}\n' in said
  assert f'segment EER  40 ms {found["segment_eer"]["40"]:.2%}\n' in said
  assert localisation.main([*arguments, '--negate']) == 0
  assert f'{found["range_eer"]:.2%}' not in capsys.readouterr().out


def test_ranges_as_others_write_them(tmp_path):
  path = tmp_path / 'a.rttm'
  path.write_text(
    'SPEAKER a 1 0.5 0.25 <NA> <NA> spoof <NA> <NA>\n'
    'SPEAKER a 1 0 0.500 <NA> <NA> bona_fide 3.25 <NA>\n'
    'SPEAKER b 1 0.0 1.5 <NA> <NA> bonafide <NA> <NA>\n'
  )
  assert moments.read_ranges(path) == {
    'a': ((0.0, 0.5, 1), (0.5, 0.75, 0)),
    'b': ((0.0, 1.5, 1),),
  }


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('SPEAKER a 1 0 1 <NA> <NA> fake', "line 1: label 'fake' is neither"),
    ('SPEAKER a 1 -1 1 <NA> <NA> spoof', "line 1: start '-1' is no time"),
    ('SPEAKER a 1 0 x <NA> <NA> spoof', "line 1: seconds 'x' is no time"),
    ('SPKR a 1 0 1 <NA> <NA> spoof', "'SPKR' in place of SPEAKER"),
    ('SPEAKER a 1 0', '4 columns, at least 8 expected'),
    (
      'SPEAKER a 1 0 1 <NA> <NA> spoof\nSPEAKER a 1 0.5 1 <NA> <NA> spoof',
      'a: a range from 0.5 s begins before the one from 0 s has ended',
    ),
  ],
)
def test_broken_ranges_are_told(tmp_path, text, message):
  path = tmp_path / 'a.rttm'
  path.write_text(text)
  with pytest.raises(ScoreFileError, match=message):
    moments.read_ranges(path)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('a 0.02', '2 columns, at least 3 expected'),
    ('a 0.02 1 nan', 'score nan is not finite'),
    ('a 0 1', '0 seconds from one score to the next'),
    ('a 0.02 1\na 0.02 1', 'line 2: utterance seen before'),
  ],
)
def test_broken_scores_are_told(tmp_path, text, message):
  path = tmp_path / 'a.txt'
  path.write_text(text)
  with pytest.raises(ScoreFileError, match=message):
    moments.read_scores(path)


def test_what_belongs_to_nothing_is_told(tmp_path, capsys):
  one = {'a': moments.Moments(0.02, np.zeros(3))}
  ranges = {'a': (moments.Range(0, 1, 1),), 'b': (moments.Range(0, 1, 1),)}
  with pytest.raises(ValueError, match='there are no scores of b'):
    localisation.located_in(one, ranges)
  with pytest.raises(ValueError, match='there are no range of a'):
    localisation.located_in(one, {})
  for bad in ({'a b': one['a']}, {'a': moments.Moments(1, np.array([np.inf]))}):
    with pytest.raises(ScoreFileError, match='a name without blanks'):
      moments.write_scores(tmp_path / 'x', bad)
  assert localisation.main([str(tmp_path / 'x'), '--ranges', 'y']) == 2
  assert 'error: ' in capsys.readouterr().err
