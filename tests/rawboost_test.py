"""RawBoost beside the equations written out, and what its noises promise."""

import json
import pickle

import numpy as np
import pytest
from scipy import signal

from jaxspoof import audio, overrides
from jaxspoof import config as config_lib
from jaxspoof.data import augment, fir, rawboost
from jaxspoof.data.rawboost import RawBoostConfig

RATE = 16_000
SERIES = {1: 'L', 2: 'I', 3: 'S', 4: 'LIS', 5: 'LI', 6: 'LS', 7: 'IS'}


def speech(n=4000, seed=0, level=0.15):
  return np.random.default_rng(seed).normal(0, level, n).astype(np.float32)


def boost(wave, seed=0, **fields):
  rng = np.random.default_rng(seed)
  return rawboost.rawboost(wave, rng, RawBoostConfig(**fields))


# ------------------------------------------------- the equations, directly ---
def direct_filter(rng, gain_range, upright):
  """Five band stops convolved, the peak at a drawn gain: firwin and freqz."""
  taps = np.ones(1)
  for _ in range(5):
    center = rng.uniform(20, 8_000)
    width = rng.uniform(100, 1_000)
    count = int(rng.uniform(10, 100)) // 2 * 2 + 1
    edges = (
      max(center - width / 2, 1e-3),
      min(center + width / 2, RATE / 2 - 1e-3),
    )
    stop = signal.firwin(count, edges, fs=RATE)
    if upright and stop[count // 2] < 0:
      stop = -stop
    taps = np.convolve(taps, stop)
  db = rng.uniform(*gain_range)
  _, response = signal.freqz(taps, worN=512)
  return taps * 10 ** (db / 20) / np.abs(response).max()


def direct_filtered(taps, wave, early):
  """y[n] = sum over k of h[k] x[n + delay + early - k], zeros outside."""
  delay = len(taps) // 2 + early
  full = np.append(np.convolve(wave, taps), np.zeros(early))
  return full[delay : delay + len(wave)]


def limited(wave):
  return wave / max(1.0, np.abs(wave).max())


def direct_convolutive(wave, rng, reference):
  out = 0
  for power in range(1, 6):
    gain = (0, 0) if power == 1 else (-5, -20)
    taps = direct_filter(rng, gain, not reference)
    out = out + direct_filtered(taps, wave**power, int(reference))
  return limited(out - out.mean())


def direct_impulsive(wave, rng, reference):
  count = int(rng.uniform(0, 10) / 100 * len(wave))
  where = rng.permutation(len(wave))[:count]
  u, v = (rng.uniform(-1, 1, count) for _ in range(2))
  out = wave.copy()
  out[where] += 2 * wave[where] * u * v
  return limited(out)


def direct_stationary(wave, rng, reference):
  white = rng.normal(size=len(wave))
  taps = direct_filter(rng, (0, 0), not reference)
  noise = direct_filtered(taps, white, int(reference))
  snr = rng.uniform(10, 40)
  power = np.mean(wave**2) / 10 ** (snr / 10)
  return wave + noise * np.sqrt(power / np.mean(noise**2))


DIRECT = {
  'L': direct_convolutive,
  'I': direct_impulsive,
  'S': direct_stationary,
}


def direct(wave, rng, algo, reference):
  wave = wave.astype(np.float64)
  if algo == 8:
    first = direct_convolutive(wave, rng, reference)
    return limited(first + direct_impulsive(wave, rng, reference))
  for name in SERIES[algo]:
    wave = DIRECT[name](wave, rng, reference)
  return wave


@pytest.mark.parametrize('reference', [True, False])
@pytest.mark.parametrize('algo', range(1, 9))
def test_equals_the_equations_written_out(algo, reference):
  """A RandomState gives both the same numbers, in the order of the authors."""
  config = RawBoostConfig(algo=algo, reference=reference)
  for seed, n in enumerate((8_000, 9_001, 500, 300, 40, 2, 1) + 12 * (600,)):
    wave = speech(n, seed, level=(0.1, 0.4)[seed % 2])
    expected = direct(wave, np.random.RandomState(seed), algo, reference)
    out = rawboost.rawboost(wave, np.random.RandomState(seed), config)
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6)


# Samples 0, 1, 500, 1000, 1500 and 1999 of what the code released by the
# authors (RawBoost.py, commit d86a393) makes of `tones` after
# np.random.seed(7), with the parameters of its command line.
RELEASED = {
  1: (0.1177241, 0.1130626, -0.0927627, 0.1387492, -0.0628941, -0.0137027),
  2: (0.0000000, 0.1141102, -0.0266295, 0.1727010, 0.0114083, -0.2845751),
  3: (-0.0090470, 0.1100057, -0.0642497, 0.1542476, -0.0141559, -0.2817854),
  4: (0.1372622, 0.1195565, -0.0856769, 0.1192232, -0.0614495, -0.0151181),
  5: (0.1177241, 0.1130626, -0.0927627, 0.1387492, -0.0628941, -0.0137027),
  6: (0.1076016, 0.1254435, -0.0866912, 0.1479789, -0.0488552, -0.0107841),
  7: (0.0023652, 0.1168690, -0.0158384, 0.1709196, 0.0218854, -0.2837536),
  8: (0.1177241, 0.2271728, -0.1193922, 0.3114502, -0.0836386, -0.2982778),
}


@pytest.mark.parametrize('algo', RELEASED)
def test_equals_the_released_code(algo):
  n = np.arange(2_000)
  tones = 0.5 * np.sin(0.05 * n) * np.cos(0.003 * n) + 0.1 * np.sin(1.1 * n)
  rng = np.random.RandomState(7)
  out = rawboost.rawboost(
    tones.astype(np.float32), rng, RawBoostConfig(algo=algo)
  )
  found = out[[0, 1, 500, 1_000, 1_500, 1_999]]
  np.testing.assert_allclose(found, RELEASED[algo], rtol=0, atol=1e-6)


# ------------------------------------------------------------ each noise ---
def filters(count=200, seed=0, **fields):
  config = RawBoostConfig(**fields)
  rng = np.random.default_rng(seed)
  gain = (np.full(count, bound) for bound in config.gain)
  return rawboost._filters(rng, config, *gain)


def spectrum(taps, points=512):
  """Real response of zero-phase filters at `points` from 0 Hz to Nyquist."""
  half = taps.shape[1] // 2
  turn = np.exp(1j * np.pi * np.arange(points) / points * half)
  full = np.fft.rfft(taps, 2 * points)[:, :points] * turn
  assert np.abs(full.imag).max() < 1e-5
  return full.real


def test_filters_peak_at_their_gain():
  for low, high in ((0.0, 0.0), (-20.0, -5.0)):
    peak = np.abs(spectrum(filters(gain=(low, high)))).max(axis=1)
    db = 20 * np.log10(peak)
    assert low - 1e-3 < db.min() and db.max() < high + 1e-3
    assert abs(db.mean() - (low + high) / 2) < 1


def test_filters_stop_where_they_should():
  """One long, wide notch: -50 dB inside of it, 0 dB well outside."""
  taps = filters(
    notches=1, center=(3_000, 3_000), width=(1_000, 1_000), taps=(99, 99.9)
  )
  assert taps.shape == (200, 99)
  db = 20 * np.log10(np.abs(spectrum(taps)) + 1e-9)
  hertz = np.arange(512) / 512 * 8_000
  assert (db[:, abs(hertz - 3_000) < 150] < -40).all()
  assert (db[:, abs(hertz - 3_000) > 900] > -0.2).all()


def test_filters_upright_only_without_the_fault_of_the_released_code():
  """Their middle tap is the mean of the response: its sign is theirs."""
  turned = {}
  for reference in (True, False):
    taps = filters(count=1_000, reference=reference)
    turned[reference] = np.mean(taps[:, taps.shape[1] // 2] < 0)
  assert 0.03 < turned[True] < 0.08
  assert turned[False] == 0


def test_parameters_of_filters_fill_their_ranges(monkeypatch):
  drawn = {}

  def keep(low, high, reach, gain, unit_dc):
    drawn.update(low=low, high=high, taps=2 * reach + 1, gain=gain)
    return np.ones((len(low), 3), np.float32)

  monkeypatch.setattr(fir, 'notch_cascades', keep)
  filters(count=2_000, gain=(-20, -5))
  low, high = drawn['low'] * 8_000, drawn['high'] * 8_000
  inside = (low > 1) & (high < 7_999)  # not cut off at 0 Hz or Nyquist
  for values, least, most in (
    ((high - low)[inside], 100, 1_000),
    ((high + low)[inside] / 2, 70, 7_950),
    (drawn['taps'], 11, 99),
    (drawn['gain'], -20, -5),
  ):
    span = most - least
    assert least - 1e-6 <= values.min() < least + 0.02 * span
    assert most - 0.02 * span < values.max() <= most + 1e-6
    assert abs(values.mean() - (least + most) / 2) < 0.03 * span
    assert abs(values.std() - span / 12**0.5) < 0.03 * span
  assert set(np.unique(drawn['taps'])) == set(range(11, 100, 2))
  assert low.min() >= 1e-3 - 1e-9 and high.max() <= 8_000 - 1e-3 + 1e-9


@pytest.mark.parametrize('taps', [3, 491, 2_999])
@pytest.mark.parametrize('n', [1, 2, 490, 3_605, 3_606, 3_607, 12_345])
def test_filtered_sum_is_the_sum_of_convolutions(taps, n):
  """Also where blocks of the fast convolution meet, and beyond one."""
  rng = np.random.default_rng(n)
  signals = rng.normal(size=(3, n)).astype(np.float32)
  kernels = rng.normal(size=(3, taps)).astype(np.float32)
  for early in (0, 1):
    out = fir.filtered_sum(signals, kernels, early)
    expected = sum(
      direct_filtered(h, x, early)
      for h, x in zip(kernels, signals, strict=True)
    )
    assert out.dtype == np.float32 and out.shape == (n,)
    scale = np.abs(expected).max() + taps**0.5
    np.testing.assert_allclose(out, expected, rtol=0, atol=3e-6 * scale)


def test_long_cascades_do_not_wrap_around():
  taps = filters(count=3, notches=3, taps=(1_001, 1_001.5))
  assert taps.shape == (3, 3_001)
  assert np.abs(taps[:, :3]).max() < 1e-4 < np.abs(taps[:, 1_500]).min()
  np.testing.assert_allclose(
    np.abs(spectrum(taps, 4_096)).max(axis=1), 1, atol=0.02
  )


def test_convolutive_noise_of_order_one_is_linear():
  wave = speech()
  out = boost(wave, algo=1, orders=1)
  np.testing.assert_allclose(
    boost(0.5 * wave, algo=1, orders=1), 0.5 * out, atol=1e-6
  )
  assert not np.allclose(boost(0.5 * wave, algo=1), 0.5 * boost(wave, algo=1))


def test_convolutive_noise_of_higher_orders_adds_harmonics():
  """500 Hz in; multiples up to the order come out, weaker by `drop`."""
  tone = np.sin(2 * np.pi * 500 / RATE * np.arange(RATE)).astype(np.float32)
  flat = {'center': (7_990, 7_990), 'width': (1, 1)}  # filters that do nothing
  for orders in (1, 2, 5):
    out = boost(tone, algo=1, orders=orders, drop=(20, 20), **flat)
    line = np.abs(np.fft.rfft(out * np.hanning(RATE)))[::500] / (RATE / 4)
    there = line[1:8] > 1e-3
    assert there.tolist() == [k <= orders for k in range(1, 8)]
    assert (line[2:8] < 0.1).all()
    assert abs(out.mean()) < 1e-6


def test_convolutive_noise_has_no_mean():
  for seed in range(5):
    assert abs(boost(speech(seed=seed) + 0.2, seed, algo=1).mean()) < 1e-6


def test_impulsive_noise_changes_a_random_share_of_the_samples():
  wave = speech(2_000, level=0.05)
  shares, where, factors = [], np.zeros(2_000), []
  for seed in range(400):
    out = boost(wave, seed, algo=2)
    changed = out != wave
    shares.append(changed.mean())
    where += changed
    factors.append((out[changed] / wave[changed] - 1) / 2)
  factors = np.concatenate(factors)
  assert max(shares) <= 0.1 and min(shares) < 0.002
  assert abs(np.mean(shares) - 0.05) < 0.005
  assert where.min() >= 3 and where.max() <= 45  # 20 expected, everywhere
  # The product of two uniform variables: mean |uv| 1/4, variance 1/9.
  assert np.abs(factors).max() <= 1
  assert abs(factors.mean()) < 0.01
  assert abs(np.abs(factors).mean() - 1 / 4) < 0.01
  assert abs(factors.var() - 1 / 9) < 0.01


def test_stationary_noise_has_the_drawn_snr():
  found = []
  for seed in range(400):
    wave = speech(1_000, seed)
    noise = boost(wave, seed, algo=3).astype(np.float64) - wave
    found.append(10 * np.log10(np.sum(wave**2) / np.sum(noise**2)))
  found = np.array(found)
  assert 10 - 1e-3 < found.min() < 11 and 39 < found.max() < 40 + 1e-3
  assert abs(found.mean() - 25) < 1.5 and abs(found.std() - 30 / 12**0.5) < 1
  for seed, snr in enumerate((-5.0, 0.0, 60.0)):
    wave = speech(5_000, seed)
    noise = boost(wave, seed, algo=3, snr=(snr, snr)) - wave
    ratio = 10 * np.log10(np.sum(wave**2) / np.sum(noise**2))
    assert abs(ratio - snr) < 0.01


def test_stationary_noise_does_not_depend_on_the_signal():
  first, second = speech(), np.ones(4_000, np.float32)
  noises = [boost(w, 3, algo=3, snr=(0, 0)) - w for w in (first, second)]
  unit = [noise / np.linalg.norm(noise) for noise in noises]
  np.testing.assert_allclose(*unit, atol=1e-6)


def test_stationary_noise_is_coloured_by_one_filter():
  taps = filters(count=1, center=(2_000, 2_000), width=(1_000, 1_000))
  stopped = np.abs(spectrum(taps)[0]) < 0.01
  noise = boost(
    np.full(60_000, 0.1, np.float32), algo=3, snr=(0, 0), taps=(99, 99.9),
    center=(2_000, 2_000), width=(1_000, 1_000),
  ) - np.float32(0.1)  # fmt: skip
  _, power = signal.welch(noise, nperseg=1_024)
  assert stopped.sum() > 20
  assert power[:512][stopped].max() < 1e-3 * np.median(power)


# ------------------------------------------------------------- in general ---
@pytest.mark.parametrize('algo', [1, 2, 5, 8])
def test_peaks_above_full_scale_are_scaled_to_it(algo):
  loud = speech(level=1.0)
  for seed in range(3):
    assert abs(np.abs(boost(loud, seed, algo=algo)).max() - 1) < 1e-6


def test_stationary_noise_does_not_scale():
  loud = speech(level=1.0)
  assert np.abs(boost(loud, algo=3)).max() > 3


def test_stationary_noise_too_weak_for_single_precision_is_left_out():
  wave = speech()
  out = boost(wave, algo=3, gain=(-2_000, -2_000))
  np.testing.assert_array_equal(out, wave)


def test_quiet_clips_are_not_scaled():
  quiet = speech(level=1e-3)
  for algo in (2, 3):
    change = np.abs(boost(quiet, algo=algo, impulses=0.01) / quiet)
    assert abs(np.median(change) - 1) < 0.2


@pytest.mark.parametrize('algo', range(9))
@pytest.mark.parametrize('reference', [True, False])
def test_silence_and_very_short_clips(algo, reference):
  fields = {'algo': algo, 'reference': reference}
  assert not boost(np.zeros(1_000, np.float32), **fields).any()
  for wave in (
    np.full(1, 0.5, np.float32),
    np.full(500, 0.3, np.float32),
    np.full(500, 1.0, np.float32),
    speech(2),
    speech(7),
    np.full(100, 1e-30, np.float32),
    np.full(100, 16.0, np.float32),
  ):
    before = wave.copy()
    out = boost(wave, **fields)
    assert out.shape == wave.shape and out.dtype == np.float32
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(wave, before)


@pytest.mark.parametrize('algo', range(1, 9))
def test_the_generator_decides_everything(algo):
  wave = speech()
  np.random.seed(0)
  first = boost(wave, 5, algo=algo)
  np.random.seed(1)
  np.testing.assert_array_equal(boost(wave, 5, algo=algo), first)
  assert not np.array_equal(boost(wave, 6, algo=algo), first)


def test_algo_0_does_nothing():
  wave = speech()
  np.testing.assert_array_equal(boost(wave, algo=0), wave)


@pytest.mark.parametrize(
  ('wave', 'found'),
  [
    (np.zeros(0, np.float32), r'float32 \[0\]'),
    (np.zeros((2, 5), np.float32), r'float32 \[2, 5\]'),
    (np.zeros(5), r'float64 \[5\]'),
    (np.zeros(5, np.int16), r'int16 \[5\]'),
  ],
)
def test_what_is_no_clip_is_refused(wave, found):
  with pytest.raises(ValueError, match=f'got {found}, expected float32'):
    boost(wave)


def test_config_names_all_that_is_wrong():
  with pytest.raises(ValueError) as caught:
    RawBoostConfig(
      algo=9,
      orders=0,
      notches=2.5,
      center=(20, 9_000),
      width=(0, 100),
      taps=(100, 10),
      gain=(0, float('nan')),
      drop=5,
      impulses=10,
      impulse_gain=-1,
      snr=('10', 'x'),
    )
  problems = str(caught.value).split('; ')
  assert len(problems) == 11
  assert problems[0] == 'rawboost.algo=9: expected a whole number from 0 to 8'
  assert problems[5].startswith('rawboost.taps=(100, 10): expected two numbers')


def test_sample_rate_is_that_of_the_pipeline():
  assert audio.SAMPLE_RATE == RATE  # frequencies here are of this rate


def data_config(**fields):
  return config_lib.DataConfig(name='any', **fields)


def test_transforms_follow_the_config():
  data = data_config(
    augment='rawboost+rawboost', rawboost=RawBoostConfig(algo=3)
  )
  transforms = pickle.loads(pickle.dumps(augment.transforms(data)))
  assert len(transforms) == 2
  wave = speech()
  np.testing.assert_array_equal(
    transforms[1](wave, np.random.default_rng(2)), boost(wave, 2, algo=3)
  )
  assert augment.transforms(data_config()) == ()


def test_every_augmentation_has_a_config_and_a_field():
  assert augment.AUGMENTATIONS.keys() == augment.CONFIGS.keys()
  for name, kind in augment.CONFIGS.items():
    assert getattr(data_config(), name) == kind()


@pytest.mark.parametrize('names', ['rawbost', 'rawboost+rawbost', 'Rawboost'])
def test_a_misspelt_augmentation_names_the_near_one(names):
  with pytest.raises(ValueError, match="is unknown: did you mean 'rawboost'"):
    data_config(augment=names)


@pytest.mark.parametrize('variant', ['', ':quickstart'])
def test_run_configs_hold_rawboost_and_leave_it_off(variant, repository):
  values = overrides.load(f'{repository}/configs/aasist.py{variant}')
  config = config_lib.run_config(values.to_dict())
  assert config.data.augment == 'none'
  assert config.data.rawboost == RawBoostConfig()
  values.data.augment = 'rawboost'
  values.data.rawboost.algo = 3
  values.data.rawboost.snr = (0.0, 20.0)
  as_saved = json.loads(json.dumps(values.to_dict()))
  data = config_lib.run_config(as_saved).data
  assert data.rawboost == RawBoostConfig(algo=3, snr=(0.0, 20.0))
  assert data.augment == 'rawboost'


def test_a_misspelt_field_of_rawboost_names_the_near_one(repository):
  values = overrides.load(f'{repository}/configs/aasist.py').to_dict()
  values['data']['rawboost']['impulse'] = 0.2
  with pytest.raises(
    ValueError, match=r"config.data.rawboost.impulse: did you mean 'impulses'"
  ):
    config_lib.run_config(values)


def test_configs_written_before_augmentation_still_load(repository):
  values = overrides.load(f'{repository}/configs/aasist.py').to_dict()
  del values['data']['rawboost'], values['data']['augment']
  assert config_lib.run_config(values).data.augment == 'none'
