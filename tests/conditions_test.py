"""Conditions: what they do to a wave, and what the chance depends on."""

import io
import itertools
import pathlib
import pickle
import re
import sys

import numpy as np
import pytest
import scipy
import soundfile

from jaxspoof.data import augment, conditions, pipeline
from jaxspoof.data.conditions import (
  active,
  av_codecs,
  codecs,
  enhance,
  rooms,
  sounds,
  training,
)
from jaxspoof.data.conditions.training import ConditionsConfig
from jaxspoof.enhance import weights
from jaxspoof.enhance.conv_tasnet import ConvTasNetConfig
from jaxspoof.sweep import scored

RATE = 16_000
NOISE = conditions.make('noise:10', seed=7)
GOLDENS = pathlib.Path(__file__).parent / 'goldens'
ENHANCER = GOLDENS / 'conv_tasnet_asteroid.pt'
ALL = [
  kind.example.replace('WORKDIR', str(ENHANCER))
  for kind in conditions.CONDITIONS.values()
]
CODECS = [
  'codec:mp3:8k', 'codec:mp3:32k', 'codec:mp3', 'codec:mp3:160k',
  'codec:vorbis:q0', 'codec:vorbis', 'codec:opus:6k', 'codec:opus',
  'codec:opus:64k', 'codec:alaw', 'codec:ulaw', 'codec:gsm', 'codec:g721',
  'codec:g723_24',
]  # fmt: skip
AV_CODECS = ['codec:aac', 'codec:aac:64k', 'codec:g722']


def wave(seed=0, samples=9_000, level=0.1):
  rng = np.random.default_rng(seed)
  return rng.normal(0, level, samples).astype(np.float32)


def speech(seconds=1.5, pause=0.5):
  """Syllables with a pause before, after and in the middle; -60 dB of noise."""
  rng = np.random.default_rng(5)
  voice = conditions.babble.synthetic(int(seconds * RATE), rng)
  pause = np.zeros(int(pause * RATE))
  half = len(voice) // 2
  found = np.concatenate([pause, voice[:half], pause, voice[half:], pause])
  found *= 0.3 / np.abs(found).max()
  found += 1e-4 * rng.standard_normal(len(found))
  return found.astype(np.float32)


def decibels(signal, noise):
  powers = [np.mean(np.square(x, dtype=np.float64)) for x in (signal, noise)]
  return 10 * np.log10(powers[0] / powers[1])


def bands_of(wave, edges):
  """Mean power in each band between edges in Hz."""
  hertz, power = scipy.signal.welch(wave.astype(float), RATE, nperseg=2048)
  return np.array(
    [
      power[(hertz > low) & (hertz < high)].mean()
      for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
  )


def lag(clean, found):
  """By how many samples `found` comes later."""
  correlation = scipy.signal.correlate(found, clean, method='fft')
  return int(np.argmax(np.abs(correlation))) - len(clean) + 1


def write(path, clip, rate=RATE):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, clip, rate, 'FLOAT', format='WAV')
  return path


@pytest.fixture(scope='module')
def records():
  found = []
  for i in range(7):
    file = io.BytesIO()
    clip = wave(i, 2_000 + 900 * i)
    soundfile.write(file, clip, RATE, 'FLOAT', format='WAV')
    record = {'audio': file.getvalue(), 'utterance': f'u{i}'.encode()}
    found.append({**record, 'label': i % 2, 'speaker': b's', 'attack': b'-'})
  return found


# -------------------------------------------------------------- all kinds ---
@pytest.mark.parametrize('spelt', ALL)
def test_every_condition_gives_finite_samples_and_leaves_its_input(spelt):
  condition = conditions.make(spelt)
  for clean in (wave(2, 1), wave(2, 16), wave(2), np.zeros(4_000, np.float32)):
    before = clean.copy()
    found = condition(clean, 'u')
    assert found.dtype == np.float32 and found.ndim == 1
    assert 1 <= len(found) <= condition.samples(len(clean))
    if conditions.CONDITIONS[spelt.partition(':')[0]].samples is None:
      assert len(found) == len(clean)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(clean, before)


@pytest.mark.parametrize('spelt', [*ALL, 'speed:0.8', 'lead:0.1'])
def test_chance_is_that_of_seed_and_utterance(spelt):
  clean = speech(0.5, 0.1)
  condition = conditions.make(spelt, seed=7)
  found = condition(clean, 'a')
  again = pickle.loads(pickle.dumps(condition))(clean, 'a')
  np.testing.assert_array_equal(found, again)
  others = condition(clean, 'b'), conditions.make(spelt, 8)(clean, 'a')
  kind = conditions.CONDITIONS[spelt.partition(':')[0]]
  draws = kind.sound is not None or spelt in ('white:10', 'pink:10', 'brown:10')
  for other in others:
    assert np.array_equal(found, other) != draws


def test_conditions_follow_each_other():
  clean, both = wave(), conditions.make('gain:-6+noise:10+gain:6')
  first = conditions.make('gain:-6')(clean, 'u')
  noise = conditions.make('gain:-6')(both(clean, 'u'), 'u') - first
  assert decibels(first, noise) == pytest.approx(10, abs=0.1)
  np.testing.assert_array_equal(conditions.make('clean')(clean, 'u'), clean)
  two = conditions.make('codec:opus:16k+codec:mp3:64k')(clean, 'u')
  for name in ('codec:opus:16k', 'codec:mp3:64k'):
    clean = conditions.make(name)(clean, 'u')
  np.testing.assert_array_equal(two, clean)


def test_a_step_draws_the_same_wherever_it_stands():
  """Conditions that differ in one thing can be compared by that."""
  clean = wave()
  alone = NOISE(clean, 'a') - clean
  louder = conditions.make('noise:0', 7)(clean, 'a') - clean
  np.testing.assert_allclose(louder, alone * 10**0.5, atol=1e-6)
  after = conditions.make('clip:1+gain:0+noise:10', 7)(clean, 'a') - clean
  np.testing.assert_array_equal(after, alone)
  twice = conditions.make('noise:10+noise:10', 7)(clean, 'a') - clean - alone
  assert abs(np.corrcoef(twice, alone)[0, 1]) < 0.05


def test_a_range_is_drawn_for_each_utterance():
  clean, condition = wave(), conditions.make('noise:0..20')
  found = [
    decibels(clean, condition(clean, f'u{i}') - clean) for i in range(40)
  ]
  assert min(found) < 4 and max(found) > 16
  assert -0.1 < min(found) and max(found) < 20.1
  assert conditions.make('speed:0.8..1.2').samples(1_000) == 1_250


def test_a_condition_may_be_for_one_class(records):
  source = pipeline.Source(records, 'noise', 'eval')

  def waves(spelt):
    condition = spelt and conditions.make(spelt, seed=7)
    (batch,) = pipeline.eval_batches(
      source, batch=7, samples=3_000, condition=condition
    )
    return batch['wave']

  label = np.array([record['label'] for record in records])
  for name, chosen in (('spoof', label == 0), ('bonafide', label == 1)):
    found = waves(f'{name}=noise:10')
    np.testing.assert_array_equal(found[chosen], waves('noise:10')[chosen])
    np.testing.assert_array_equal(found[~chosen], waves(None)[~chosen])
    assert 0 < chosen.sum() < 7
  # A clip that is left as it is may be the longest.
  assert conditions.make('spoof=lead:0.1').samples(9_000) == 9_000
  with pytest.raises(ValueError, match="'spoof=gain:3' needs the label of"):
    conditions.make('spoof=gain:3')(wave(), 'u')
  with pytest.raises(ValueError, match="'spof=gain:3' is unknown"):
    conditions.make('spof=gain:3')
  with pytest.raises(ValueError, match='or it would tell them apart'):
    training.made(ConditionsConfig(names=('spoof=gain:3',)))


# -------------------------------------------------------------- by kind ---
@pytest.mark.parametrize('kind', ['noise', 'white', 'pink', 'music', 'babble'])
@pytest.mark.parametrize('snr', [-5, 0, 37.5])
def test_sounds_have_the_ratio_that_was_asked_for(kind, snr):
  """Of what there is to hear: with its pauses it would be 3 dB less."""
  clean = wave(1, 38_400, 1e-5)
  bursts = np.r_[6_400:16_000, 22_400:32_000]
  clean[bursts] = wave(2, 19_200)
  sound = conditions.make(f'{kind}:{snr}')(clean, 'u').astype(float) - clean
  assert decibels(clean[bursts], sound) == pytest.approx(snr, abs=0.1)
  short = wave(1, 40)
  sound = conditions.make(f'{kind}:{snr}')(short, 'u').astype(float) - short
  assert decibels(short, sound) == pytest.approx(snr, abs=0.1)


def test_noise_is_white_and_gaussian():
  clean = wave(1, 2**15)
  noise = conditions.make('noise:0')(clean, 'u') - clean
  assert abs(np.corrcoef(noise, clean)[0, 1]) < 0.03
  power = np.abs(np.fft.rfft(noise)[1:].reshape(16, -1)) ** 2
  bands = power.mean(axis=1) / power.mean()
  np.testing.assert_allclose(bands, 1, atol=0.15)  # 5 standard deviations
  assert np.mean((noise / noise.std()) ** 4) == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize(('kind', 'slope'), [('pink', -3.01), ('brown', -6.02)])
def test_coloured_noise_falls_by_octaves(kind, slope):
  clean = wave(1, 2**17)
  noise = conditions.make(f'{kind}:0')(clean, 'u') - clean
  octaves = 10 * np.log10(bands_of(noise, 125 * 2.0 ** np.arange(7)))
  np.testing.assert_allclose(np.diff(octaves), slope, atol=0.6)


def test_music_is_of_tones_and_babble_of_syllables():
  rng = np.random.default_rng(3)
  music = conditions.music.synthetic(4 * RATE, rng)
  voice = conditions.babble.synthetic(4 * RATE, rng)
  for sound, flat in ((music, 0.01), (voice, 0.2)):
    _, power = scipy.signal.welch(sound, RATE, nperseg=4096)
    assert scipy.stats.gmean(power) / power.mean() < flat  # white: about 1
  level = np.sqrt(np.mean(voice.reshape(-1, 160) ** 2, axis=1))
  hertz, power = scipy.signal.periodogram(level, 100, detrend='constant')
  spoken = power[(hertz > 2) & (hertz < 10)].sum() / power.sum()
  assert spoken > 0.5  # syllables, as in speech


def test_noise_to_silence_is_none():
  silence = np.zeros(100, np.float32)
  for spelt in ('noise:10', 'music:0', 'babble:0'):
    np.testing.assert_array_equal(conditions.make(spelt)(silence, 'u'), silence)


def test_active_frames_are_those_of_speech():
  clean = speech()
  assert active.power(np.zeros(700, np.float32)) == 0
  span = active.span(clean)
  assert 7_000 < span.start < 9_600 and 38_400 < span.stop < 41_000
  click = clean.copy()
  click[100] = 1.0
  assert active.power(click) == pytest.approx(active.power(clean), rel=0.01)
  assert active.power(4 * clean) == pytest.approx(16 * active.power(clean))


@pytest.mark.parametrize(
  ('spelt', 'factor'), [('gain:-20', 0.1), ('gain:20', 10), ('gain:0', 1)]
)
def test_gain_is_exact_and_clips_nothing(spelt, factor):
  clean = wave(level=0.5)
  found = conditions.make(spelt)(clean, 'u')
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, clean * np.float32(factor))


@pytest.mark.parametrize('spelt', CODECS)
def test_codecs_keep_length_place_and_level(spelt):
  keeps_length_place_and_level(spelt)


@pytest.mark.parametrize('spelt', AV_CODECS)
def test_codecs_of_pyav_keep_length_place_and_level(spelt):
  pytest.importorskip('av', reason="the extra 'media' is not installed")
  keeps_length_place_and_level(spelt)


def test_amr_keeps_length_place_and_level():
  av = pytest.importorskip('av', reason="the extra 'media' is not installed")
  if int(av.__version__.partition('.')[0]) >= 19:
    pytest.skip('PyAV 19 was built without AMR')
  keeps_length_place_and_level('codec:amr')


def keeps_length_place_and_level(spelt):
  clean = speech(2.0, 0.05)
  condition = conditions.make(spelt)
  for clip in (clean, clean[:8_003]):
    found = condition(clip, 'u')
    assert len(found) == len(clip)
    assert not np.array_equal(found, clip)
    # A sample is 0.06 ms; narrow bands turn phases by a little.
    assert abs(lag(clip, found)) <= 3, spelt
    assert abs(decibels(clip, found)) < 3
    assert np.corrcoef(clip, found)[0, 1] > 0.35
  np.testing.assert_array_equal(found, condition(clip, 'u'))
  end = clean[:20_000].copy()
  end[-1_600:] += wave(3, 1_600, 0.2)
  heard = condition(end, 'u')[-1_600:]
  assert abs(decibels(end[-1_600:], heard)) < 6  # nothing is lost at the end
  loud = condition(20 * clean, 'u')  # clipped, as an encoder of integers does
  assert np.isfinite(loud).all() and np.abs(loud).max() < 2


@pytest.mark.parametrize('kbps', [16, 32, 64])
def test_bit_rates_are_those_that_were_asked_for(kbps, monkeypatch):
  """What two codecs of soundfile write, which is told a level from 0 to 1."""
  sizes, read = [], codecs.decoders.read

  def counted(data, *rest, **more):
    sizes.append(len(data))
    return read(data, *rest, **more)

  monkeypatch.setattr(codecs.decoders, 'read', counted)
  seconds = 4
  for name in ('mp3', 'opus'):
    codecs.CODECS[name].code(wave(1, seconds * RATE), RATE, kbps)
  found = 8 * np.array(sizes) / seconds / 1_000
  assert kbps * 0.9 < found[0] < kbps * 1.1
  assert kbps * 0.9 < found[1] < kbps * 1.1 + 4  # pages of Ogg


@pytest.mark.parametrize(
  ('spelt', 'low', 'high'),
  [
    ('band:300-3400', 300, 3400),
    ('band:0-4000', 0, 4000),
    ('band:300-8000', 300, 8000),
    ('resample:8000', 0, 3640),
    ('codec:alaw', 0, 3640),
  ],
)
def test_bands_are_as_wide_as_asked_for(spelt, low, high):
  clean = wave(1, 2**16)
  found = conditions.make(spelt)(clean, 'u')
  hertz, before = scipy.signal.welch(clean.astype(float), RATE, nperseg=2048)
  _, after = scipy.signal.welch(found.astype(float), RATE, nperseg=2048)
  level = 10 * np.log10(after / before)
  inside = (hertz > low + 60) & (hertz < high - 60)
  stop = 4_060 if spelt[0] in 'rc' else high + 60
  outside = (hertz < low - 60) | (hertz > stop)
  outside &= hertz > 30  # Welch takes the mean away
  assert np.abs(level[inside]).max() < 0.5
  assert level[outside].max(initial=-99) < (
    -30 if spelt == 'codec:alaw' else -50
  )
  if spelt[0] == 'b':
    for edge in {low, high} - {0, 8000}:
      at = np.argmin(np.abs(hertz - edge))
      assert level[at] == pytest.approx(-6, abs=1.5)
  assert lag(clean, found) == 0


@pytest.mark.parametrize('seconds', [0.3, 0.6, 1.2])
def test_rooms_have_the_reverberation_time_that_was_asked_for(seconds):
  for seed in range(3):
    taps = rooms.synthetic(seconds, np.random.default_rng(seed)).astype(float)
    assert np.argmax(np.abs(taps)) == 0
    # Schroeder's integral of what comes after the direct sound.
    left = 10 * np.log10(np.cumsum(taps[:0:-1] ** 2)[::-1])
    left -= left[0]
    fitted = (left < -5) & (left > -25)
    slope = np.polyfit(np.flatnonzero(fitted) / RATE, left[fitted], 1)[0]
    assert -60 / slope == pytest.approx(seconds, rel=0.1)


def test_a_room_keeps_power_and_place():
  clean = speech()
  for spelt in ('room', 'room:0.3', 'room:1.5'):
    found = conditions.make(spelt)(clean, 'u')
    assert decibels(clean, found) == pytest.approx(0, abs=0.01)
    assert lag(clean, found) == 0
    assert np.corrcoef(clean, found)[0, 1] < 0.99
    # It rings on in the pause between the two halves.
    pause = slice(21_000, 25_000)
    assert decibels(found[pause], clean[pause]) > 10


def test_clipping_flattens_what_exceeds():
  clean = speech()
  found = conditions.make('clip:0.3')(clean, 'u')
  top = 0.3 * np.abs(clean).max()
  np.testing.assert_allclose(np.abs(found).max(), top, rtol=1e-6)
  below = np.abs(clean) < top
  np.testing.assert_array_equal(found[below], clean[below])


def test_times_are_cut_and_stretched():
  clean = speech()
  trimmed = conditions.make('trim')(clean, 'u')
  np.testing.assert_array_equal(trimmed, clean[active.span(clean)])
  assert len(clean) - len(trimmed) > 14_000  # two of the three pauses
  lead = conditions.make('lead:0.5')(clean, 'u')
  np.testing.assert_array_equal(lead, clean[:8_000])
  np.testing.assert_array_equal(conditions.make('lead:9')(clean, 'u'), clean)
  tone = np.sin(2 * np.pi * 1_000 * np.arange(RATE) / RATE).astype(np.float32)
  faster = conditions.make('speed:1.25')(tone, 'u')
  assert len(faster) == 12_800
  peak = np.argmax(np.abs(np.fft.rfft(faster))) * RATE / len(faster)
  assert peak == pytest.approx(1_250, abs=2)


def test_a_denoiser_takes_noise_away_and_leaves_speech():
  clean = speech()
  denoise = conditions.make('denoise')
  noisy = conditions.make('white:5')(clean, 'u')
  found = denoise(noisy, 'u')
  before, after = (decibels(clean, x - clean) for x in (noisy, found))
  assert after > before + 4
  pause = slice(0, 6_000)
  assert decibels(noisy[pause], found[pause]) > 12
  assert decibels(clean, denoise(clean, 'u') - clean) > 20
  assert lag(noisy, found) == 0


# -------------------------------------------------------- own recordings ---
@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """Miniatures of MUSAN and RIRS_NOISES, of which each file is a tone."""
  root = tmp_path_factory.mktemp('recordings')

  def tone(hertz, seconds=0.5, channels=1, rate=RATE):
    time = np.arange(int(seconds * rate)) / rate
    found = np.sin(2 * np.pi * hertz * time)
    return np.stack([found] * channels, axis=1)

  musan = root / 'musan'
  write(musan / 'noise/free-sound/noise-free-sound-0000.wav', tone(500))
  write(musan / 'noise/sound-bible/noise-sound-bible-0001.wav', tone(500))
  write(musan / 'music/fma/music-fma-0000.wav', tone(1_000, 3.0))
  write(musan / 'speech/librivox/speech-librivox-0000.wav', tone(1_500))
  write(musan / 'speech/us-gov/speech-us-gov-0000.wav', tone(1_500, rate=8_000))
  (musan / 'README').write_text('MUSAN')
  rirs = root / 'RIRS_NOISES'
  taps = np.zeros((800, 2))
  taps[100] = 1.0, 0.0
  taps[400] = 0.5, 0.9
  room = 'simulated_rirs/smallroom/Room001/Room001-00001.wav'
  write(rirs / room, taps[:, 0])
  real = rirs / 'real_rirs_isotropic_noises'
  write(real / 'RVB2014_type1_rir_largeroom1_far_angla.wav', taps)
  write(real / 'air_type1_air_binaural_aula_carolina_0_1.wav', taps)
  write(real / 'RVB2014_type1_noise_largeroom1_1.wav', tone(500))
  write(rirs / 'pointsource_noises/noise-free-sound-0000.wav', tone(500))
  (real / 'rir_list').write_text('--rir-id 1 --room-id 1 RIRS_NOISES/x.wav\n')
  write(root / 'mine/a.wav', tone(500))
  return root


@pytest.mark.parametrize(
  ('spelt', 'folder', 'hertz'),
  [
    ('noise:0', 'musan', 500),
    ('music:0', 'musan', 1_000),
    ('babble:0', 'musan', 1_500),
    ('noise:0', 'RIRS_NOISES', 500),
    ('noise:0', 'mine', 500),
  ],
)
def test_own_recordings_of_noise_take_the_place_of_synthetic(
  folders, spelt, folder, hertz
):
  clean = wave(1, 20_000)
  condition = conditions.make(spelt, 0, str(folders / folder))
  sound = condition(clean, 'u').astype(float) - clean
  assert decibels(clean, sound) == pytest.approx(0, abs=0.1)
  spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
  peak = np.argmax(spectrum) * RATE / len(sound)
  assert peak == pytest.approx(hertz, abs=3)
  assert condition.synthetic == ()
  assert conditions.make(spelt).synthetic == (
    conditions.CONDITIONS[spelt.partition(':')[0]].sound,
  )


def test_own_rooms_are_those_of_the_layout(folders):
  condition = conditions.make('room', 0, '', str(folders / 'RIRS_NOISES'))
  assert len(condition.steps[0].files) == 3 and not condition.synthetic
  clean = speech()
  found = condition(clean, 'u')
  expected = clean + 0.5 * np.pad(clean, (300, 0))[: len(clean)]
  expected *= np.sqrt(np.mean(clean**2) / np.mean(expected**2))
  np.testing.assert_allclose(found, expected, atol=1e-5)
  # A reverberation time is that of a synthetic room.
  other = conditions.make('room:0.6', 0, '', str(folders / 'RIRS_NOISES'))
  assert other.synthetic == ('room',)


def test_folders_without_such_recordings(folders, tmp_path):
  for spelt, options, words in (
    ('music:0', (str(folders / 'mine'), ''), 'no recordings of music .found 1'),
    ('room', ('', str(tmp_path)), 'found no recordings at all'),
    ('noise:0', (str(folders / 'none'), ''), 'none: no such folder'),
  ):
    with pytest.raises(ValueError, match=words):
      conditions.make(spelt, 0, *options)
  write(tmp_path / 'quiet/a.wav', np.zeros(4_000))
  quiet = conditions.make('noise:0', 0, str(tmp_path / 'quiet'))
  with pytest.raises(ValueError, match='nothing but silence'):
    quiet(wave(), 'u')
  (tmp_path / 'damaged').mkdir()
  (tmp_path / 'damaged/a.wav').write_bytes(b'RIFF....WAVEnothing')
  damaged = conditions.make('noise:0', 0, str(tmp_path / 'damaged'))
  with pytest.raises(ValueError, match='damaged/a.wav: '):
    damaged(wave(), 'u')
  write(tmp_path / 'rooms/a.wav', np.zeros(4_000))
  with pytest.raises(ValueError, match='a silent impulse response'):
    sounds.impulse_response(str(tmp_path / 'rooms/a.wav'))


# ---------------------------------------------------------- in the pipeline ---
def by_utterance(records, condition, **options):
  """First samples of each clip, by the name of its utterance."""
  found = {}
  for batch in pipeline.eval_batches(
    records, samples=5_000, condition=condition, **options
  ):
    for row in np.flatnonzero(batch['mask']):
      name = records[batch['index'][row]]['utterance'].decode()
      assert name not in found
      valid = batch['samples'][row] if 'samples' in batch else 5_000
      found[name] = batch['wave'][row][:valid]
  return found


BATCHES = (
  {'batch': 1},
  {'batch': 4},
  {'batch': 2, 'bucket': 1_000, 'shortest': 100},
)


@pytest.mark.parametrize(
  ('spelt', 'options'),
  [
    *itertools.product(['noise:10', 'speed:0.7', 'trim'], BATCHES),
    ('lead:0.1+room+codec:opus', {'batch': 3, 'workers': 1}),
  ],
  ids=str,
)
def test_an_utterance_sounds_the_same_in_any_batch(records, spelt, options):
  condition = conditions.make(spelt, seed=7)
  for order in (records, records[::-1]):
    found = by_utterance(order, condition, **options)
    assert sorted(found) == [f'u{i}' for i in range(7)]
    for i in range(7):
      expected = condition(wave(i, 2_000 + 900 * i), f'u{i}')
      if 'bucket' in options:
        expected = expected[:5_000]
      else:
        expected = np.resize(expected, 5_000)
      np.testing.assert_array_equal(found[f'u{i}'], expected)
    if 'workers' in options:
      break


def train_config(**fields):
  names = ('clean', 'noise:0..20', 'codec:mp3:32k', 'trim')
  fields = {'names': names, **fields}
  config = ConditionsConfig(**fields)

  class Data:
    augment = 'conditions'
    conditions = config

  return Data


def test_training_clips_are_put_under_one_of_the_conditions(records):
  transforms = augment.transforms(train_config())
  options = {'batch': 7, 'samples': 2_000, 'seed': 3, 'transforms': transforms}

  batches = iter(pipeline.train_batches(records, **options))
  assert np.isfinite(next(batches)['wave']).all()
  batches.close()
  (transform,) = pickle.loads(pickle.dumps(transforms))
  clean = wave(1, 4_000)
  found = [transform(clean, np.random.default_rng(i)) for i in range(60)]
  same = sum(np.array_equal(one, clean) for one in found)
  assert 15 < same < 45  # clean, and trimmed where there is no pause
  assert len({one.tobytes() for one in found}) > 10


def test_training_conditions_that_cannot_be():
  with pytest.raises(
    ValueError, match='data.conditions.names=.*expected names'
  ):
    ConditionsConfig(names=(3,))
  with pytest.raises(ValueError, match="data.conditions.names: cond.*'nose:3'"):
    augment.transforms(train_config(names=('nose:3',)))
  assert len(augment.training.made(ConditionsConfig())) > 3


def test_the_page_lists_every_condition(repository):
  page = (repository / 'docs/evaluate.md').read_text()
  rows = re.findall(r'^\| (`.+?`) \|', page, re.M)
  spelt = re.findall('`([^`]+)`', ' '.join(rows))
  listed = {name.partition(':')[0] for name in spelt}
  assert listed == {'clean', *conditions.CONDITIONS}
  for name in spelt:
    if 'NAME' not in name and 'WORKDIR' not in name:
      conditions.make(name)
  (row,) = [row for row in page.splitlines() if row.startswith('| `codec:')]
  for name in codecs.CODECS:
    assert re.search(f'`{name}[:`]', row), name


# ------------------------------------------------------------- bad input ---
@pytest.mark.parametrize(
  ('spelt', 'words'),
  [
    ('nose:10', "'nose:10' is unknown; expected 'clean', or NAME:VALUE, NAME"),
    ('', "condition '': '' is unknown"),
    ('clean+gain:3', "'clean' is unknown"),
    ('clean:3', "'clean:3' is unknown"),
    ('noise', 'expected a number dB, or LOW..HIGH; such as noise:10'),
    ('noise:ten', 'expected a number dB'),
    ('gain:nan', 'expected a number dB'),
    ('noise:20..0', '20..0: expected the lower number first'),
    ('noise:0..', 'expected a number dB, or LOW..HIGH'),
    ('gain:1e3', "'gain:1e3.: 1000 dB: expected -100 to 100 dB"),
    ('gain:3+noise:-200', "'noise:-200.: -200 dB: expected -100"),
    ('trim:3', "'trim:3': takes no value; such as trim"),
    ('lead:0', '0 s: expected 0.01 to 3600 s'),
    ('speed:3', '3: expected 0.5 to 2'),
    ('clip:0', '0: expected 0.001 to 1'),
    ('room:0', '0 s: expected 0.05 to 5 s'),
    ('band:3400-300', 'expected two frequencies in order, LOW-HIGH, from 0'),
    ('band:300', 'expected two frequencies in order'),
    ('resample:0', '0 Hz: expected 1000 to 16000 Hz'),
    ('codec', "codec '' is unknown; known: mp3, "),
    ('codec:mp9', "codec 'mp9' is unknown"),
    ('codec:mp3:32', 'expected such as mp3:64k'),
    ('codec:mp3:3k', "codec 'mp3' has 8k to 160k, not 3k"),
    ('codec:vorbis:3k', 'expected such as vorbis:q3'),
    ('codec:alaw:64k', "codec 'alaw' has no bit rates"),
  ],
)
def test_conditions_that_mean_nothing(spelt, words):
  with pytest.raises(ValueError, match=words):
    conditions.make(spelt)


def test_a_codec_whose_library_is_missing_names_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, 'av', None)
  with pytest.raises(ValueError, match=r"needs PyAV, .*extra 'media'"):
    codecs.read('aac')
  monkeypatch.undo()
  pytest.importorskip('av', reason="the extra 'media' is not installed")
  other = av_codecs.CODERS['aac']._replace(encoder='no_such_encoder')
  monkeypatch.setitem(av_codecs.CODERS, 'aac', other)
  with pytest.raises(ValueError, match="built without the enc.*'no_such_enc"):
    codecs.read('aac')


# --------------------------------------------------------- enhancement ---
def test_an_enhanced_clip_keeps_power_and_place():
  clean = speech(0.5, 0.1)
  found = conditions.make(f'enhance:{ENHANCER}')(clean, 'u')
  power = [np.mean(np.square(x, dtype=np.float64)) for x in (clean, found)]
  assert power[1] == pytest.approx(power[0], rel=1e-4)
  network = weights.on_numpy(weights.load(ENHANCER))
  own = network(clean[None])[0, 0]
  np.testing.assert_allclose(
    found, own * np.sqrt(power[0] / np.mean(own.astype(float) ** 2)), atol=1e-5
  )


def test_an_enhancer_of_another_rate_hears_that_rate(monkeypatch):
  rates = []

  class Passing:
    config = ConvTasNetConfig(sample_rate=8_000)

    def __call__(self, wave):
      rates.append(wave.shape[1])
      return wave[:, None]

  monkeypatch.setattr(enhance, '_loaded', lambda network: Passing())
  times = np.arange(16_001) / RATE
  tone = np.sin(2 * np.pi * 440 * times).astype(np.float32)
  found = conditions.make('enhance:x', seed=3)(tone, 'u')
  assert rates == [8_000] or rates == [8_001]
  assert found.shape == tone.shape and lag(tone, found) == 0
  assert decibels(tone[800:-800], (found - tone)[800:-800]) > 30


@pytest.mark.parametrize(
  ('spelt', 'message'),
  [
    ('enhance', "expected the workdir of a run of the job 'enhance'"),
    ('enhance:absent', 'absent: nothing there'),
    (
      f'enhance:{GOLDENS / "conv_tasnet_asteroid_causal.pt"}',
      'separates 2 sources',
    ),
    (f'enhance:{GOLDENS}', 'goldens is not a run'),
  ],
)
def test_what_enhances_nothing_is_refused(spelt, message):
  with pytest.raises(ValueError, match=message):
    conditions.make(spelt)


def test_a_worker_enhances_alike(records):
  condition = conditions.make(f'enhance:{ENHANCER}')
  source = pipeline.Source(records, 'noise', 'eval')
  options = dict(batch=4, samples=3_000, condition=condition)
  own = list(pipeline.eval_batches(source, **options))
  others = list(pipeline.eval_batches(source, workers=1, **options))
  for one, other in zip(own, others, strict=True):
    np.testing.assert_allclose(one['wave'], other['wave'], atol=1e-6)


def test_what_is_kept_of_scores_follows_from_the_weights(tmp_path):
  """A network that was trained again under the same path is another one."""
  found = []
  for name in ('asteroid', 'asteroid', 'asteroid_frame'):
    path = tmp_path / f'{len(found)}.pt'
    path.write_bytes((GOLDENS / f'conv_tasnet_{name}.pt').read_bytes())
    found.append(scored._sounds(conditions.make(f'enhance:{path}')))
  assert found[0] == found[1] != found[2]
  assert scored._sounds(conditions.make('gain:3')) == []
