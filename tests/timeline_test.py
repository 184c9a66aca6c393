"""Long recordings: windows, segments, formats, blocks of constant memory."""

import csv
import io
import itertools
import json
import tracemalloc

import numpy as np
import pytest
import soundfile

from jaxspoof import audio, timelines
from jaxspoof.audio import media, streams
from jaxspoof.bundles import verdict
from jaxspoof.detect.picture import COLUMNS, Overview
from jaxspoof.timelines import Segment, Window

RATE = 16_000
RULE = verdict.Rule()


# ---------------------------------------------------------------- windows ---
@pytest.mark.parametrize('total', [1, 9, 10, 11, 14, 15, 16, 37, 40])
@pytest.mark.parametrize('hop', [3, 5, 10])
def test_windows_are_those_of_the_whole(total, hop):
  wave = np.arange(total, dtype=np.float32)
  starts = list(range(0, total - 10 + 1, hop)) or [0]
  if total > 10 and starts[-1] + 10 < total:
    starts.append(total - 10)
  expected = [(start, wave[start : start + 10].tolist()) for start in starts]
  rng = np.random.default_rng(total)
  for size in (1, 4, 100):
    cuts = np.cumsum(rng.integers(1, size + 1, total))
    blocks = np.split(wave, cuts[cuts < total])
    found = [(s, w.tolist()) for s, w in timelines.cut(blocks, 10, hop)]
    assert found == expected


def test_windows_of_nothing():
  assert not list(timelines.cut([], 10, 5))
  assert not list(timelines.cut([np.zeros(0, np.float32)], 10, 5))


def test_memory_does_not_grow_with_the_recording():
  block = np.zeros(60 * RATE, np.float32)
  tracemalloc.start()
  blocks = (block for _ in range(120))
  count = sum(1 for _ in timelines.cut(blocks, 64_000, 8_000))
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert count == (120 * 60 * RATE - 64_000) // 8_000 + 1  # of two hours
  assert peak < 20e6


def by_level(waves):
  """A judge that calls what is loud bona fide."""
  return [(20 * float(np.abs(w).mean()) - 5, ()) for w in waves]


def recording(*levels, seconds=4.0):
  """Noise of one level after the other."""
  rng = np.random.default_rng(0)
  return np.concatenate([
    level * rng.choice([-1.0, 1.0], int(seconds * RATE)) for level in levels
  ]).astype(np.float32)  # fmt: skip


def timeline(wave, hop=0.5, judge=by_level, batch=4):
  windows = timelines.follow(
    [wave], judge, RULE, samples=2 * RATE, hop=int(hop * RATE), rate=RATE,
    batch=batch,
  )  # fmt: skip
  return timelines.collect('a.wav', list(windows), RULE, ['odd'])


@pytest.mark.parametrize('batch', [1, 4, 99])
def test_a_spoofed_middle_is_found_within_a_hop(batch):
  found = timeline(recording(0.6, 0.01, 0.6), batch=batch)
  verdicts = [one.verdict for one in found.segments if one.llr is not None]
  assert [v for v in verdicts if v != 'uncertain'] == [
    'bona fide', 'spoof', 'bona fide',
  ]  # fmt: skip
  spoof = next(one for one in found.segments if one.verdict == 'spoof')
  assert spoof.start == pytest.approx(4, abs=0.5)
  assert spoof.end == pytest.approx(8, abs=0.5)
  assert found.segments[0].start == 0 and found.segments[-1].end == 12
  ends = [one.end for one in found.segments]
  assert ends[:-1] == [one.start for one in found.segments[1:]]
  # As a whole it is more like bona fide, but not all of it.
  assert found.llr > 1.4 and found.verdict == 'uncertain'
  assert 's of it are rather a spoof, such as from' in found.reasons[0]
  assert found.warnings == ('odd',)


def test_whole_recordings_of_one_kind():
  for level, expected in ((0.5, 'bona fide'), (0.01, 'spoof')):
    found = timeline(recording(level))
    assert found.verdict == expected and not found.reasons
    assert len(found.segments) == 1
    mean = np.mean([window.llr for window in found.windows])
    assert found.llr == pytest.approx(mean)
    assert found.p_spoof == pytest.approx(RULE.p_spoof(mean))
  quiet = timeline(recording(0.25))  # LLR 0
  assert quiet.verdict == 'uncertain' and 'undecided' in quiet.reasons[0]


def test_silence_is_not_scored():
  found = timeline(recording(0.5, 0.0, 0.5))
  silent = [one for one in found.segments if one.verdict == 'no sound']
  assert len(silent) == 1 and silent[0].llr is None
  assert 4 <= silent[0].start <= 5.1 and 6.9 <= silent[0].end <= 8
  assert found.verdict == 'bona fide'  # silence counts for nothing
  assert found.llr > 3
  with pytest.raises(ValueError, match='a.wav: holds no sound'):
    timeline(recording(0.0))


def test_a_domain_that_most_windows_are_outside_of():
  def judge(waves):
    return [(9.0, (f'bandwidth {n} kHz, outside',)) for n in range(len(waves))]

  found = timeline(recording(0.5), judge=judge)
  assert found.verdict == 'uncertain'
  assert (
    'windows are outside the training domain, such as: bandwidth'
    in (found.reasons[0])
  )
  assert f'{len(found.windows)} of {len(found.windows)}' in found.reasons[0]


def test_moments_have_the_mean_of_their_windows():
  windows = [
    Window(0, 2, 3.0, 0.0), Window(1, 3, -1.0, 0.5), Window(2, 4, None, None),
    Window(3, 5, -3.0, 1.0),
  ]  # fmt: skip
  assert timelines.segments_of(windows, RULE) == (
    Segment(0.0, 1.0, 'bona fide', 3.0),
    Segment(1.0, 3.0, 'uncertain', 0.0),  # mean of 1 and of -1
    Segment(3.0, 5.0, 'spoof', -3.0),
  )


# ---------------------------------------------------------------- moments ---
@pytest.mark.parametrize('total', [960, 12_799, 12_800, 32_000, 40_123])
@pytest.mark.parametrize('batch', [1, 3])
def test_each_moment_is_judged_once_with_what_surrounds_it(total, batch):
  wave = 0.1 + np.arange(total) / 1e6  # a sample says where it is
  chunks = []

  def judge(waves):
    found = []
    for wave in waves:
      at = np.rint((wave[::320] - 0.1) * 1e6)
      chunks.append((at[0], len(wave)))
      found.append((at[: max(1, len(wave) // 320)] / 320, ()))
    return found

  blocks = np.split(wave, [total // 3])
  how = dict(judge=judge, rule=RULE, samples=12_800, rate=RATE)
  found = list(timelines.follow_moments(blocks, batch=batch, **how))
  assert [window.llr for window in found] == list(range(total // 320))
  starts = np.arange(len(found)) / 50
  np.testing.assert_allclose([window.start for window in found], starts)
  assert found[-1].end == total / RATE
  assert all(start % 320 == 0 for start, _ in chunks)
  assert len(chunks) == len({*chunks}) <= 1 + total // 6_400
  with pytest.raises(
    ValueError, match='chunks of 1279 samples: expected at le'
  ):
    next(timelines.follow_moments(blocks, **(how | {'samples': 1_279})))


def test_segments_of_moments_end_where_their_kind_does():
  rng = np.random.default_rng(0)
  llrs = np.repeat([2.0, -3.0, 2.0, None, 0.5], [40, 10, 30, 5, 20])
  moments = [
    Window(n / 50, (n + 1) / 50, None, None)
    if llr is None
    else Window(n / 50, (n + 1) / 50, llr + rng.normal(0, 0.8), 0.5)
    for n, llr in enumerate(llrs)
  ]
  moments[20] = moments[20].__class__(20 / 50, 21 / 50, -1.5, 0.8)  # a flicker
  found = timelines.segments_of_moments(moments, RULE)
  assert [(s.start, s.end, s.verdict) for s in found] == [
    (0.0, 0.8, 'bona fide'), (0.8, 1.0, 'spoof'), (1.0, 1.6, 'bona fide'),
    (1.6, 1.7, 'no sound'), (1.7, 2.1, 'uncertain'),
  ]  # fmt: skip
  assert found[1].llr == pytest.approx(-3, abs=0.8) and found[3].llr is None
  # Where spoofs are expected, what is undecided is one.
  expects = verdict.Rule(prior=0.99)
  assert timelines.segments_of_moments(moments, expects)[-1].verdict == 'spoof'


@pytest.mark.parametrize('total', [500, 6_400, 6_720, 40_000])
def test_parts_of_a_stream_come_with_their_moments(total):
  """A line for each kind of speech, none later than its last moment."""
  came = []

  def judge(waves):
    found = []
    for wave in waves:
      firsts = wave[: max(len(wave) // 320, 1) * 320 : 320]
      found.append((4.0 * np.sign(firsts), ('odd',)))
    return found

  def follow():
    wave = np.resize(np.repeat([0.1, -0.1], 80), total).astype(np.float32)
    wave[16_000:24_000] *= -1  # a spoof

    def blocks():
      for start in range(0, total, 320):
        came.append(start)
        yield wave[start : start + 320]

    came.clear()
    return timelines.follow_moments(
      blocks(), judge, RULE, samples=6_400, rate=RATE
    )

  # How much of the stream had come when a moment was there.
  when = {moment.end: len(came) for moment in follow()}
  found = []
  for part in timelines.parts(follow(), RULE, 6_400):
    inside = {at for end, at in when.items() if part.start < end <= part.end}
    assert inside == {len(came)}  # none of its moments has waited
    found.append(part)
  assert found[0].start == 0 and found[-1].end == max(when) == total / RATE
  assert all(a.end == b.start for a, b in itertools.pairwise(found))
  assert len(found) <= 3 + total / 3_200
  assert all(part.doubts == ('odd',) for part in found)
  assert all(part.p_spoof == RULE.p_spoof(part.llr) for part in found)
  if total == 40_000:
    spoofed = [part for part in found if part.llr < 0]
    assert (spoofed[0].start, spoofed[-1].end) == (1.0, 1.5)
    assert {part.llr for part in found} == {4.0, -4.0}


@pytest.mark.parametrize('seed', range(4))
def test_the_most_probable_sequence_is_that_of_all(seed):
  odds = np.random.default_rng(seed).normal(0, 2, 9)
  best = max(
    itertools.product((0, 1), repeat=9),
    key=lambda kinds: np.dot(kinds, odds) - 1.5 * np.abs(np.diff(kinds)).sum(),
  )
  assert timelines.decoded(odds, 1.5).astype(int).tolist() == list(best)


def test_formats():
  segments = (
    Segment(0.0, 1.5, 'bona fide', 3.25), Segment(1.5, 2.0, 'no sound', None),
    Segment(2.0, 4.0, 'spoof', -2.0),
  )  # fmt: skip
  found = timelines.Timeline(
    'my call.wav', 4.0, (), segments, 'uncertain', 0.5, 0.4, 0.5, ('why',)
  )
  assert timelines.as_rttm([found]) == (
    'SPEAKER my_call.wav 1 0.000 1.500 <NA> <NA> bona_fide 3.2500 <NA>\n'
    'SPEAKER my_call.wav 1 2.000 2.000 <NA> <NA> spoof -2.0000 <NA>\n'
  )
  assert timelines.as_audacity([found]) == (
    '0.000000\t1.500000\tbona fide +3.25\n'
    '1.500000\t2.000000\tno sound\n'
    '2.000000\t4.000000\tspoof -2.00\n'
  )
  rows = list(csv.DictReader(io.StringIO(timelines.as_csv([found]))))
  assert rows[1] == {
    'path': 'my call.wav', 'start': '1.500', 'end': '2.000',
    'verdict': 'no sound', 'llr': '',
  }  # fmt: skip
  (values,) = json.loads(timelines.as_json([found]))
  assert values['segments'][2]['llr'] == -2 and values['reasons'] == ['why']


# ----------------------------------------------------------------- blocks ---
@pytest.mark.parametrize(
  ('suffix', 'rate', 'channels'),
  [('wav', 16_000, 1), ('flac', 44_100, 2), ('mp3', 16_000, 1),
   ('ogg', 48_000, 1)],
)  # fmt: skip
def test_blocks_are_the_recording(
  tmp_path, monkeypatch, suffix, rate, channels
):
  rng = np.random.default_rng(0)
  time = np.arange(9 * rate) / rate
  gains = np.linspace(1, 0.5, channels)
  wave = 0.3 * np.sin(1400 * time * (1 + time))[:, None] * gains
  wave += rng.normal(0, 0.01, wave.shape)
  path = tmp_path / f'a.{suffix}'
  soundfile.write(path, wave, rate)
  expected = audio.load(path)
  for whole in (1 << 30, 0):  # decoded whole, and as it is read
    monkeypatch.setattr(streams, '_WHOLE', whole)
    found = list(streams.blocks(path))
    assert len(found) > 1 and max(map(len, found)) <= 1 << 16
    found = np.concatenate(found)
    assert abs(len(found) - len(expected)) <= 2_500  # an mp3's padding
    first = min(len(found), len(expected))
    delay = 0
    if suffix == 'mp3':  # which decoders cut off or do not
      delay = int(np.argmax(np.correlate(found[:9000], expected[3000:6000])))
      delay -= 3000
    np.testing.assert_allclose(
      found[3000 + delay : first - 3000 + delay],
      expected[3000 : first - 3000],
      atol=2e-3,
    )
  if channels == 2:
    second = np.concatenate(list(streams.blocks(path, channel=2)))
    np.testing.assert_allclose(
      second, audio.read(path, channel=2).wave, atol=2e-3
    )


def test_blocks_of_samples_and_of_bad_files(tmp_path, monkeypatch):
  wave = recording(0.5, 0.2)
  found = np.concatenate(list(streams.blocks(wave, rate=RATE)))
  np.testing.assert_array_equal(found, wave)
  path = tmp_path / 'a.wav'
  soundfile.write(path, np.stack([wave, -wave], 1), RATE, subtype='FLOAT')
  heard = []
  mono = np.concatenate(list(streams.blocks(path, heard=heard.append)))
  np.testing.assert_array_equal(mono, wave)
  assert len(heard) == 1 and 'channels is nearly silent' in heard[0]
  monkeypatch.setattr(streams, '_WHOLE', 0)
  flac = tmp_path / 'a.flac'
  soundfile.write(flac, wave, RATE)
  flac.write_bytes(flac.read_bytes()[:-9000])
  with pytest.raises(audio.AudioError, match='a.flac: .*damaged'):
    list(streams.blocks(flac))
  for name, content, words in (
    ('text.wav', b'these are words', 'not audio'),
    ('empty.wav', b'', 'the file is empty'),
  ):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(audio.AudioError, match=words):
      list(streams.blocks(tmp_path / name))
  with pytest.raises(audio.AudioError, match='no such file'):
    list(streams.blocks(tmp_path / 'gone.wav'))


def test_blocks_of_what_av_decodes(tmp_path):
  pytest.importorskip('av', reason='the extra media is not installed')
  from tests import media_test

  path = tmp_path / 'a.m4a'
  path.write_bytes(media_test.encode('ipod', 'aac', 44_100, 2, seconds=7))
  found = list(streams.blocks(path))
  assert len(found) >= 6
  np.testing.assert_allclose(
    np.concatenate(found)[:100_000], audio.load(path)[:100_000], atol=1e-4
  )
  next(streams.blocks(path))  # who has heard enough leaves no one waiting
  assert audio.load(path).size
  path.write_bytes(path.read_bytes()[:200])
  with pytest.raises(audio.AudioError, match='a.m4a: MP4'):
    list(streams.blocks(path))
  media.close()


@pytest.mark.parametrize(
  ('form', 'kind', 'scale'),
  [('s16le', '<i2', 2**15), ('s32le', '<i4', 2**31), ('f32le', '<f4', 1)],
)
def test_raw_samples_come_in_any_pieces(form, kind, scale):
  wave = np.linspace(-0.9, 0.9, 3000).reshape(-1, 2)
  file = io.BytesIO((wave * scale).astype(kind).tobytes())
  sizes = iter([1, 3, 5, 7, *[997] * 100])
  found = list(streams.raw(lambda _: file.read(next(sizes)), form, 2, 48_000))
  assert {rate for _, rate in found} == {48_000}
  samples = np.concatenate([samples for samples, _ in found])
  np.testing.assert_allclose(samples, wave, atol=1e-4)


def test_raw_samples_of_24_bits():
  data = b'\x00\x00\x80' + b'\xff\xff\x7f' + b'\x00\x00\x40'
  ((samples, _),) = streams.raw(io.BytesIO(data).read, 's24le', 1, RATE)
  np.testing.assert_allclose(samples[:, 0], [-1, 1, 0.5], atol=1e-6)


# ---------------------------------------------------------------- pictures ---
def test_a_picture_of_any_length_has_as_many_columns():
  found = timeline(recording(0.5, 0.01, 0.5))
  for seconds in (3, 12, 150):
    overview = Overview()
    wave = recording(0.5, 0.01, 0.5, seconds=seconds / 3)
    for start in range(0, len(wave), 50_000):
      overview.add(wave[start : start + 50_000])
    columns, samples = len(overview._columns), overview._samples
    assert columns < COLUMNS and columns * samples <= len(wave)
    assert columns * samples > len(wave) - 2 * samples
    if seconds > 60:
      assert columns >= COLUMNS // 2 - 1
    highest = np.array([column[1] for column in overview._columns])
    third = columns // 3
    assert highest[: third - 2].min() > 0.4
    assert highest[third + 2 : 2 * third - 2].max() < 0.05
  picture = overview.svg(found)
  assert picture.startswith('<?xml') and 'a.wav: uncertain' in picture
  assert picture == overview.svg(found)
  for colour in ('#1f6fb2', '#c8551b'):
    assert colour in picture
