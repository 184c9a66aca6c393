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
def direct_filter(rng, config, gain_range):
  """Band stops convolved, the peak at a drawn gain: firwin and freqz."""
  taps = np.ones(1)
  for _ in range(config.notches):
    center = rng.uniform(*config.center)
    width = rng.uniform(*config.width)
    count = int(rng.uniform(*config.taps)) // 2 * 2 + 1
    edges = (
      max(center - width / 2, 1e-3),
      min(center + width / 2, RATE / 2 - 1e-3),
    )
    stop = signal.firwin(count, edges, fs=RATE)
    if not config.reference and stop[count // 2] < 0:
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


def direct_convolutive(wave, rng, config):
  out, gain = 0, config.gain
  for power in range(1, config.orders + 1):
    taps = direct_filter(rng, config, gain)
    out = out + direct_filtered(taps, wave**power, int(config.reference))
    gain = np.subtract(config.gain, config.drop)
  return limited(out - out.mean())


def direct_impulsive(wave, rng, config):
  count = int(rng.uniform(0, config.impulses) * len(wave))
  where = rng.permutation(len(wave))[:count]
  u, v = (rng.uniform(-1, 1, count) for _ in range(2))
  out = wave.copy()
  out[where] += config.impulse_gain * wave[where] * u * v
  return limited(out)


def direct_stationary(wave, rng, config):
  white = rng.normal(size=len(wave))
  taps = direct_filter(rng, config, config.gain)
  noise = direct_filtered(taps, white, int(config.reference))
  snr = rng.uniform(*config.snr)
  power = np.mean(wave**2) / 10 ** (snr / 10)
  return wave + noise * np.sqrt(power / np.mean(noise**2))


DIRECT = {
  'L': direct_convolutive,
  'I': direct_impulsive,
  'S': direct_stationary,
}


def direct(wave, rng, config):
  wave = wave.astype(np.float64)
  if config.algo == 8:
    first = direct_convolutive(wave, rng, config)
    return limited(first + direct_impulsive(wave, rng, config))
  for name in SERIES[config.algo]:
    wave = DIRECT[name](wave, rng, config)
  return wave


OTHER = dict(
  orders=3,
  notches=2,
  center=(3_000.0, 4_000.0),
  width=(200.0, 900.0),
  taps=(90, 131),
  gain=(-20.0, -5.0),
  drop=(2.0, 7.0),
  impulses=0.3,
  impulse_gain=5.0,
  snr=(-5.0, 60.0),
)
LONG = dict(notches=3, taps=(1_001, 1_001.5))


@pytest.mark.parametrize('reference', [True, False])
@pytest.mark.parametrize(
  ('algo', 'fields'),
  [(algo, fields) for algo in range(1, 9) for fields in ({}, OTHER)]
  + [(1, LONG), (3, LONG)],
)
def test_equals_the_equations_written_out(algo, fields, reference):
  """A RandomState gives both the same numbers, in the order of the authors."""
  config = RawBoostConfig(algo=algo, reference=reference, **fields)
  more = (600,) * (2 if fields else 12)
  for seed, n in enumerate((8_000, 9_001, 500, 300, 40, 2, 1) + more):
    wave = speech(n, seed, level=(0.1, 0.4)[seed % 2])
    expected = direct(wave, np.random.RandomState(seed), config)
    out = rawboost.rawboost(wave, np.random.RandomState(seed), config)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6 * scale)


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


# ------------------------------------------------------------- in general ---
def test_stationary_noise_too_weak_for_single_precision_is_left_out():
  wave = speech()
  out = boost(wave, algo=3, gain=(-2_000, -2_000))
  np.testing.assert_array_equal(out, wave)


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


def test_run_configs_hold_rawboost_and_leave_it_off(repository):
  values = overrides.load(f'{repository}/configs/aasist.py')
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
