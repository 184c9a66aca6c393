"""Clips with spoofed stretches: what is replaced, and what the labels say."""

import contextlib
import io
import re

import numpy as np
import pytest

from jaxspoof import audio
from jaxspoof.data import pipeline, segments
from tfds_builders import build
from tfds_builders.errors import BuildError
from tfds_builders.quickstart import attacks
from tfds_builders.spliced import builder, splice

SPLITS = ('train', 'dev', 'eval', 'eval_hard')


def records_of(name, split, data_dir):
  source = pipeline.open_source(name, split, data_dir)
  found = [source[n] for n in range(len(source))]
  return {pipeline.text(record['utterance']): record for record in found}


def wave_of(record):
  return audio.load(record['audio'], 'clip')


@pytest.mark.parametrize('split', SPLITS)
def test_what_is_spoofed_is_what_the_labels_say(spliced_tiny, split):
  made = records_of('spliced/quickstart.tiny', split, spliced_tiny)
  of = records_of('quickstart/tiny', split, spliced_tiny)
  hosts = [k for k, record in of.items() if record['label'] == 1]
  assert len(made) == 5 * len(hosts) == 30
  for utterance, record in made.items():
    form, donor = (pipeline.text(record[k]) for k in ('form', 'donor'))
    spoofed, known = segments.spoofed(record, utterance)
    wave, text = wave_of(record), pipeline.text(record['segments'])
    assert known >= len(wave) / 16_000 > known - 0.02
    assert record['label'] == (form == 'bonafide')
    if form == 'bonafide':
      assert record['audio'] == of[utterance]['audio'] and set(text) == {'1'}
      continue
    assert donor in of and donor.endswith(pipeline.text(record['attack']))
    if form == 'whole':
      assert record['audio'] == of[donor]['audio'] and set(text) == {'0'}
      continue
    host = wave_of(of[utterance.rpartition(f'_{form}')[0]])
    assert donor.startswith(utterance.rpartition(f'_{form}')[0])
    inside = np.zeros(len(host), bool)
    for start, end in spoofed:
      inside[round(start * 16_000) : round(end * 16_000)] = True
    # Outside not a sample has changed; inside it is the donor, scaled.
    np.testing.assert_array_equal(wave[~inside], host[~inside])
    if '_A06' in donor or '_A12' in donor:  # says it at other times, and louder
      continue
    other = wave_of(of[donor])
    for start, end in spoofed:
      first, last = round(start * 16_000) + 80, round(end * 16_000) - 80
      part = slice(first, last)
      assert np.corrcoef(wave[part], other[part])[0, 1] > 0.999
    if form == 'middle':
      (ends,) = spoofed
      assert ends[0] == pytest.approx(len(host) / 48_000, abs=1e-4)
      assert ends[1] == pytest.approx(len(host) / 24_000, abs=1e-4)


def test_nothing_is_in_two_splits(spliced_tiny):
  made = {
    split: records_of('spliced/quickstart.tiny', split, spliced_tiny)
    for split in SPLITS
  }

  def fields(split, name):
    return {pipeline.text(r[name]) for r in made[split].values()} - {'-'}

  for field in ('speaker', 'utterance', 'donor'):
    for other in ('dev', 'eval', 'eval_hard'):
      assert not fields('train', field) & fields(other, field)
    assert not fields('dev', field) & fields('eval', field)
  assert fields('train', 'attack') <= set(attacks.TRAIN)
  assert fields('dev', 'attack') <= set(attacks.TRAIN)
  assert not fields('eval', 'attack') & (set(attacks.TRAIN) - {'A03'})
  assert not fields('eval_hard', 'attack') & set(attacks.TRAIN)


def test_the_same_corpus_gives_the_same_clips(spliced_tiny, tmp_path):
  (tmp_path / 'quickstart').symlink_to(spliced_tiny / 'quickstart')
  with contextlib.redirect_stdout(io.StringIO()):
    build.build('spliced/quickstart.tiny', tmp_path)
  for split in ('dev', 'eval'):
    name = 'spliced/quickstart.tiny'
    first = records_of(name, split, spliced_tiny)
    assert first == records_of(name, split, tmp_path)


def test_donors_of_other_corpora():
  """A spoof of the same clip, else of the same speaker, else any."""

  def named(*rows):
    return [builder.Clip(n, *row) for n, row in enumerate(rows)]

  clips = named(
    ('a', 'S1', '-'), ('b', 'S2', '-'), ('c', 'S3', '-'),
    ('a_X', 'S1', 'X'), ('x1', 'S1', 'X'), ('x2', 'S2', 'Y'),
  )  # fmt: skip
  pieces = builder.plan('train', clips)
  donors = {}
  for piece in pieces:
    if piece.donor:
      found = donors.setdefault(piece.host.utterance, set())
      found.add(piece.donor.utterance)
  assert donors['a'] == {'a_X'} and donors['b'] == {'x2'}
  assert donors['c'] <= {'a_X', 'x1', 'x2'} and len(donors['c']) == 3
  assert len({piece.name for piece in pieces}) == len(pieces) == 15
  assert not builder.plan('train', clips[:3])
  assert not builder.plan('train', clips[3:])


def test_a_donor_that_is_not_aligned_is_taken_from_anywhere():
  rng = np.random.default_rng(0)
  host, donor = rng.normal(0, 0.1, 16_000), rng.normal(0, 0.02, 5_000)
  wave, ranges = splice.splice(host, donor, ((1_000, 9_000),), False, rng)
  assert ranges == ((1_000, 6_000),)  # no longer than the donor
  part = wave[1_080:5_920]
  assert np.corrcoef(part, donor[80:4_920])[0, 1] > 0.999
  assert part.std() == pytest.approx(0.08, rel=0.1)  # at most 4 times louder
  np.testing.assert_array_equal(wave[6_000:], host[6_000:])
  _, ranges = splice.splice(host, donor[:100], ((0, 9_000),), False, rng)
  assert ranges == ()
  _, ranges = splice.splice(host, donor, ((4_000, 9_000),), True, rng)
  assert ranges == ((4_000, 5_000),)


def test_stretches_lie_in_their_parts_where_it_is_loud():
  rng = np.random.default_rng(0)
  wave = rng.normal(0, 0.001, 64_000)
  wave[20_000:40_000] *= 100
  loud = []
  for _ in range(300):
    ranges = splice.stretches(wave, rng)
    ends = [x for pair in ranges for x in pair]
    assert ends == sorted(ends) and 0 <= ends[0] and ends[-1] <= 64_000
    assert all(3_200 <= b - a <= 16_000 for a, b in ranges)
    loud += [np.std(wave[a:b]) > 0.01 for a, b in ranges if len(ranges) == 1]
  assert np.mean(loud) > 0.85
  assert len(splice.stretches(wave[:4_000], rng)) == 1


def test_names_of_corpora(tmp_path):
  assert builder.corpus_of('quickstart') == 'quickstart'
  assert builder.corpus_of('wav_folder.a.b') == 'wav_folder/a.b'
  with pytest.raises(BuildError, match=r"of 'wav_folder/no', which is not bu"):
    build.build('spliced/wav_folder.no', tmp_path)
  with pytest.raises(
    BuildError, match=re.escape('spliced/: expected spliced/')
  ):
    build.build('spliced', tmp_path)
