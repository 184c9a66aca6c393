import collections
import hashlib
import io
import zipfile

import numpy as np
import pytest
import soundfile

from tfds_builders import build, flac
from tfds_builders.quickstart import (
  attacks,
  conditioning,
  dsp,
  espeak,
  pack,
  recipe,
  render,
)
from tfds_builders.quickstart.attacks import conversion, transforms, vocoders

COPY_SYNTHESIS = [k for k, a in attacks.ATTACKS.items() if not a.speaks]


@pytest.fixture(scope='module')
def entry():
  return next(e for e in pack.manifest() if e.utterance == 'june_fr_003')


@pytest.fixture(scope='module')
def clip(entry):
  others = [e for e in pack.manifest() if e.speaker == entry.speaker]
  voice = tuple(pack.wave(e) for e in others if e != entry)[:8]
  text = 'Quatre personnes attendent avant vous.'
  spoken = espeak.speak_for(text, 'fr', 2.0, np.random.default_rng(0))
  return attacks.Clip(pack.wave(entry), spoken, voice)


def tone(hertz, seconds=1.0):
  return np.sin(2 * np.pi * hertz * np.arange(int(seconds * 16_000)) / 16_000)


def voice_like(hertz, seconds=1.0):
  """A pulse train through two formants."""
  f0 = np.full(int(seconds * 200) + 1, float(hertz))
  flat = np.zeros((len(f0), 513), np.float32)
  pulses = dsp.filtered_pulses(flat, f0, int(seconds * 16_000))
  poly = np.convolve([1, -1.6, 0.9], [1, -0.5, 0.85])
  return dsp.frame_all_pole(pulses, poly[None])


# -------------------------------------------------------------------- the pack


def test_pack_is_what_the_manifest_says():
  entries = pack.manifest()
  assert len({e.utterance for e in entries}) == len(entries) > 400
  for e in entries:
    wave = pack.wave(e)  # compares the checksum
    assert len(wave) == e.samples
    assert 1.5 <= len(wave) / dsp.RATE <= 3.5, e.utterance
    assert dsp.active_level(wave) > 0.005, e.utterance


def test_pack_archives_hold_nothing_else():
  by_licence = collections.defaultdict(set)
  for e in pack.manifest():
    by_licence[e.licence].add(f'{e.utterance}.flac')
  archives = {p.stem: set(zipfile.ZipFile(p).namelist())
              for p in pack.HUMAN.glob('*.zip')}  # fmt: skip
  assert archives == by_licence


def test_every_source_has_its_licence_text():
  for e in pack.manifest():
    text = (pack.HUMAN / 'licences' / f'{e.package}.txt').read_text('utf-8')
    assert 'Copyright' in text
    assert len(text) > 1000


def test_pack_is_small_enough_to_ship():
  assert sum(p.stat().st_size for p in pack.HUMAN.rglob('*')) < 17e6


def test_damaged_pack_is_named(tmp_path, monkeypatch, entry):
  with zipfile.ZipFile(tmp_path / f'{entry.licence}.zip', 'w') as archive:
    archive.writestr(f'{entry.utterance}.flac', b'fLaC, but not this one')
  monkeypatch.setattr(pack, 'HUMAN', tmp_path)
  pack._archive.cache_clear()
  with pytest.raises(
    ValueError, match='june_fr_003.flac: the checksum differs'
  ):
    pack.wave(entry)
  pack._archive.cache_clear()


# -------------------------------------------------------------------- the plan


def test_speakers_are_in_one_split_each():
  splits = collections.defaultdict(set)
  for e in pack.manifest():
    splits[e.speaker].add(e.split)
  assert all(len(found) == 1 for found in splits.values())
  assert len(splits) == 19


def test_attacks_are_disjoint_but_for_the_seen_one():
  seen = set(attacks.TRAIN)
  assert recipe.SPLITS['train'].attacks == recipe.SPLITS['dev'].attacks
  assert seen & set(recipe.SPLITS['eval'].attacks) == {'A03'}
  assert not set(attacks.HARD) & (seen | set(attacks.EVAL))
  used = seen | set(attacks.EVAL) | set(attacks.HARD)
  assert used == set(attacks.ATTACKS)


def test_plan_uses_every_attack_about_equally():
  counts = collections.Counter(
    (split, attack)
    for task in recipe.plan()
    for split, names in task.attacks
    for attack in names
  )
  for split, part in recipe.SPLITS.items():
    per_attack = [counts[split, name] for name in part.attacks]
    assert min(per_attack) > 0.5 * max(per_attack), split
    bona_fide = counts[split, '-']
    assert 3.5 * bona_fide < sum(per_attack) < 5.5 * bona_fide


def test_small_plan_is_part_of_the_full_one():
  full = {task.entry.utterance: task for task in recipe.plan()}
  for task in recipe.plan(3):
    assert full[task.entry.utterance] == task


def test_voices_of_other_clips_stay_in_the_split():
  for task in recipe.plan():
    assert task.entry not in task.others
    assert {e.speaker for e in task.others} <= {task.entry.speaker}


# ------------------------------------------------------------------ the attacks


@pytest.mark.parametrize('name', COPY_SYNTHESIS)
def test_attack_keeps_the_content_and_not_the_wave(clip, name):
  wave = attacks.ATTACKS[name].make(clip, np.random.default_rng(0))
  assert np.isfinite(wave).all()
  wave = dsp.fit(dsp.equalised(wave, clip.colour), len(clip.wave))
  assert content_match(wave, clip.wave) > 0.6
  assert signal_to_difference_db(wave, clip.wave) < 12


def content_match(wave, reference):
  """Correlation of log-mel spectrograms, each band's mean removed."""

  def pattern(x):
    power = np.abs(dsp.stft(x / dsp.active_level(x), 512, 160)) ** 2
    bands = np.log(power @ dsp.mel_filters(24, 257).T + 0.1)
    return (bands - bands.mean(axis=0)).ravel()

  return np.corrcoef(pattern(wave), pattern(reference))[0, 1]


def signal_to_difference_db(wave, reference):
  wave = wave * (wave @ reference) / (wave @ wave)
  return 10 * np.log10(np.sum(reference**2) / np.sum((reference - wave) ** 2))


@pytest.mark.parametrize('name', attacks.ATTACKS)
def test_attack_is_the_same_for_the_same_seed(clip, name):
  method = attacks.ATTACKS[name].make
  once = method(clip, np.random.default_rng(5))
  fresh = attacks.Clip(clip.wave, clip.spoken, clip.others)
  again = method(fresh, np.random.default_rng(5))
  np.testing.assert_array_equal(once, again)


def test_attacks_survive_a_clip_without_voice():
  hiss = 0.01 * np.random.default_rng(0).standard_normal(24_000)
  clip = attacks.Clip(hiss, hiss, (hiss, hiss))
  for name, attack in attacks.ATTACKS.items():
    wave = attack.make(clip, np.random.default_rng(0))
    assert np.isfinite(wave).all(), name
    assert len(wave) > 20_000, name


def test_conversion_changes_the_pitch(clip):
  median = lambda f0: np.median(f0[f0 > 0])
  before = median(clip.speech.f0_T)
  for method in (conversion.vocoder, conversion.psola):
    changed = method(clip, np.random.default_rng(1))
    ratio = median(dsp.pitch(changed)) / before
    assert abs(np.log2(ratio)) > 0.1, method.__name__


def test_concatenation_uses_only_the_voice_it_is_given():
  # A voice that only hums 200 Hz cannot say anything else.
  hum = 0.1 * tone(200, 2.0)
  wave = conversion.from_units(voice_like(120, 1.5), (hum, hum))
  power = np.abs(np.fft.rfft(wave)) ** 2
  hertz = np.fft.rfftfreq(len(wave), 1 / dsp.RATE)
  assert power[np.abs(hertz - 200) < 60].sum() > 0.9 * power.sum()
  with pytest.raises(ValueError, match='other clips of the speaker'):
    conversion.from_units(hum, ())


def test_linear_griffin_lim_keeps_the_magnitudes(clip):
  wave = transforms.linear_griffin_lim(clip, np.random.default_rng(0))
  wanted = np.abs(dsp.stft(clip.wave, 512, 128))
  given = np.abs(dsp.stft(wave, 512, 128))
  error = np.linalg.norm(wanted - given) / np.linalg.norm(wanted)
  assert error < 0.25


def test_low_rate_vocoder_quantises_the_gain(clip):
  poly = np.array([[1.0, -0.9, 0.2], [1.0, 0.3, 0.1]])
  coarse = vocoders._coarse(poly, step=1e-6)
  np.testing.assert_allclose(coarse, poly, atol=1e-5)
  assert np.abs(vocoders._coarse(poly) - poly).max() > 0.01


# ------------------------------------------------------------ signal processing


@pytest.mark.parametrize('hertz', [80, 120, 190, 300])
def test_pitch_of_a_pulse_train(hertz):
  f0 = dsp.pitch(voice_like(hertz))[20:-20]
  assert (f0 > 0).all()
  np.testing.assert_allclose(f0, hertz, rtol=0.01)


def test_noise_has_no_pitch():
  noise = np.random.default_rng(0).standard_normal(16_000)
  assert np.mean(dsp.pitch(noise) > 0) < 0.05


@pytest.mark.parametrize(('size', 'hop'), [(512, 128), (1024, 256), (512, 160)])
def test_istft_inverts_stft(size, hop):
  wave = np.random.default_rng(0).standard_normal(5000)
  back = dsp.istft(dsp.stft(wave, size, hop), hop, len(wave))
  np.testing.assert_allclose(back[size:-size], wave[size:-size], atol=1e-4)


def test_minimum_phase_has_the_power_and_starts_at_once():
  log_power = np.log(1.2 + np.cos(np.linspace(0, 9, 513)))[None]
  spectra = dsp.minimum_phase(log_power)
  np.testing.assert_allclose(np.log(np.abs(spectra) ** 2), log_power, atol=1e-3)
  response = np.fft.irfft(spectra[0])
  assert np.sum(response[:64] ** 2) > 0.99 * np.sum(response**2)


def test_linear_prediction_finds_the_filter():
  poly = np.convolve([1, -1.6, 0.9], [1, -0.5, 0.85])
  power = np.abs(np.fft.rfft(poly, 1024)) ** -2.0
  found, error = dsp.linear_prediction(3.0 * power[None], 4)
  np.testing.assert_allclose(found[0], poly, atol=2e-3)
  assert error[0] == pytest.approx(3.0, rel=1e-2)


def test_all_pole_filter_undoes_the_fir_filter():
  wave = np.random.default_rng(0).standard_normal(2000)
  angles = np.linspace(0.3, 2.0, 25)  # a resonance that moves at every frame
  poly = np.stack([
    np.ones(25), -1.8 * np.cos(angles), np.full(25, 0.81), np.full(25, -0.1)
  ], axis=1)  # fmt: skip
  there = dsp.frame_fir(wave, poly)
  np.testing.assert_allclose(there[:80], np.convolve(wave, poly[0])[:80])
  np.testing.assert_allclose(dsp.frame_all_pole(there, poly), wave)


def test_envelope_of_a_pulse_train_is_its_filter():
  f0 = np.full(201, 120.0)
  found = dsp.envelope(voice_like(120), f0)[50:150].mean(axis=0)
  poly = np.convolve([1, -1.6, 0.9], [1, -0.5, 0.85])
  wanted = -2 * np.log(np.abs(np.fft.rfft(poly, 1024)))
  gap = (found - wanted)[10:450] * 4.343
  assert np.abs(gap).mean() < 2.5  # dB


def test_synthesis_has_the_power_of_the_envelope():
  f0 = np.full(401, 100.0)
  flat = np.zeros((401, 513))
  rng = np.random.default_rng(0)
  noise = dsp.filtered_noise(flat, 32_000, rng)
  pulses = dsp.filtered_pulses(flat, f0, 32_000)
  for wave in (noise, pulses, dsp.excitation(f0, 32_000, rng)):
    assert np.mean(wave[2000:-2000] ** 2) == pytest.approx(1, rel=0.07)


def test_equaliser_gives_the_wanted_colour(clip):
  rng = np.random.default_rng(0)
  noise = rng.standard_normal(48_000)
  made = dsp.equalised(noise, clip.colour, limit_db=60)
  # Their shapes: levels are matched later.
  assert np.std(dsp.colour(noise) - clip.colour) > 1
  assert np.std(dsp.colour(made) - clip.colour) < 0.4


def test_trim_cuts_silence_and_keeps_a_margin():
  wave = np.concatenate([np.zeros(8000), tone(300), np.zeros(4000)])
  assert len(dsp.trim(wave)) == pytest.approx(16_000 + 1600, abs=320)
  assert len(dsp.trim(np.zeros(10))) == 10


# ----------------------------------------------------------------- conditioning


@pytest.mark.parametrize('codec', sorted(set(conditioning.CODECS)))
def test_chain_fixes_length_level_offset_and_band(clip, codec):
  channel = conditioning.Channel(-26.0, 40.0, codec)
  loud = 3 * clip.wave + 0.1
  for wave in (loud, loud[:-500]):
    pcm = conditioning.condition(
      wave, channel, len(loud), np.random.default_rng(0)
    )
    out = pcm / 32768
    assert pcm.dtype == np.int16 and len(pcm) == len(loud)
    assert 20 * np.log10(dsp.active_level(out)) == pytest.approx(-26, abs=0.7)
    assert abs(out.mean()) < 1e-4
    assert 20 * np.log10(np.abs(out).max()) < -26 + 14
    assert np.unique(pcm & 1).size == 2
    power = np.abs(np.fft.rfft(out)) ** 2
    assert power[: int(40 / 8000 * len(power))].sum() < 1e-3 * power.sum()


@pytest.mark.parametrize('codec', ['vorbis', 'mp3', 'alaw'])
def test_codecs_do_not_move_the_wave(clip, codec):
  wave = conditioning._band(clip.wave / np.abs(clip.wave).max() / 2)
  coded = conditioning._coded(wave, codec)
  assert len(coded) == len(wave)
  middle = slice(2000, len(wave) - 2000)
  gain = coded[middle] @ wave[middle] / (wave[middle] @ wave[middle])
  assert gain == pytest.approx(1, abs=0.1)
  assert signal_to_difference_db(coded[middle], wave[middle]) > 10
  assert not np.allclose(coded, wave, atol=1e-6)


def test_alaw_has_256_levels():
  ramp = np.linspace(-0.99, 0.99, 100_001)
  levels = np.unique(np.round(conditioning._alaw(ramp), 9))
  assert 200 < len(levels) <= 256
  assert np.abs(conditioning._alaw(ramp) - ramp).max() < 0.03


# -------------------------------------------------------------- text-to-speech


def test_reading_takes_about_the_wanted_time():
  text = 'Please hold the line while we find someone to help you.'
  for seconds in (2.4, 3.2):
    wave = espeak.speak_for(text, 'en', seconds, np.random.default_rng(0))
    assert len(wave) / dsp.RATE == pytest.approx(seconds, rel=0.12)


def test_every_language_has_a_voice_and_what_is_read_differs():
  style = dict(rate=165, pitch=50, intonation=50)
  waves = [espeak.speak('123', code, **style) for code in espeak.LANGUAGES]
  assert all(np.abs(wave).max() > 0.05 for wave in waves)
  assert len({hashlib.sha256(w.tobytes()).digest() for w in waves}) == len(
    waves
  )
  with pytest.raises(ValueError, match="no voice for 'xx'.*'de'"):
    espeak.speak('a', 'xx', **style)


# ------------------------------------------------------------------- the corpus


def test_same_bytes_for_any_number_of_workers():
  tasks = recipe.plan(1)
  one = [trial for trials in render.render(tasks, 1) for trial in trials]
  three = [trial for trials in render.render(tasks, 3) for trial in trials]
  assert one == three
  assert len({trial.audio for trial in one}) > 15


@pytest.fixture(scope='module')
def tiny(quickstart_tiny):
  return build.builder('quickstart/tiny', quickstart_tiny)


@pytest.mark.parametrize('split', recipe.SPLITS)
def test_records(tiny, split):
  source = tiny.as_data_source(split=split)
  assert {r['attack'].decode() for r in source} <= {
    '-', *recipe.SPLITS[split].attacks
  }  # fmt: skip
  label = tiny.info.features['label']
  for record in source:
    attack, name = record['attack'].decode(), record['utterance'].decode()
    assert label.int2str(record['label']) == (
      'bonafide' if attack == '-' else 'spoof'
    )
    assert name.startswith(record['speaker'].decode())
    assert name.endswith(attack) or attack == '-'
    info = flac.verify(record['audio'], name)
    assert (info.rate, info.channels, info.bits) == (16_000, 1, 16)


def test_pairs_have_one_length_and_hard_bona_fide_is_that_of_eval(tiny):
  audio = {}
  for split in recipe.SPLITS:
    for record in tiny.as_data_source(split=split):
      key = (record['utterance'].decode(), record['attack'].decode())
      assert audio.setdefault(key, record['audio']) == record['audio']
  lengths = {
    key: len(soundfile.read(io.BytesIO(data))[0]) for key, data in audio.items()
  }
  for (name, attack), samples in lengths.items():
    if attack in COPY_SYNTHESIS:
      pair = name.removesuffix(f'_{attack}')
      assert samples == lengths[pair, '-'], name


def test_bona_fide_trials_come_first_by_chance_only(tiny):
  labels = [r['label'] for r in tiny.as_data_source(split='train')]
  assert 0 < np.flatnonzero(labels).mean() / len(labels) < 0.9
  assert np.flatnonzero(np.diff(labels)).size > 3
