"""Spectral front ends: one contract for all, librosa, definitions, masks."""

import contextlib
import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.fft

from jaxspoof import arithmetic, frontends
from jaxspoof.frontends import filters, masked, spec_augment, stft
from jaxspoof.frontends import spectral_config as configs
from jaxspoof.ops.platform import accelerator_form
from jaxspoof.training import sharding

pytestmark = pytest.mark.usefixtures('programs')

SMALL = {'n_fft': 128, 'win_length': 100, 'hop_length': 40, 'filters': 12}


def _wave(samples, batch=1, seed=0):
  rng = np.random.default_rng(seed)
  wave = 0.1 * rng.standard_normal((batch, samples)).astype(np.float32)
  # Digital silence and a loud end: floor and dynamic range matter.
  wave[:, samples // 2 : samples // 2 + 300] = 0
  return wave * np.linspace(0.1, 2, samples, dtype=np.float32)[None]


def _small(kind, **changes):
  changes = {'ceps': 9, 'deltas': 1, **SMALL, **changes}
  return frontends.make('ecapa_mfcc', kind=kind, **changes)


CONTRACT = [
  *(pytest.param(lambda k=k: _small(k), id=k) for k in configs.KINDS),
  pytest.param(lambda: _small('mfcc', pad_mode='reflect'), id='reflect'),
  pytest.param(lambda: _small('lfcc', center=False), id='not centred'),
  pytest.param(lambda: _small('lfcc', n_fft=127, win_length=99), id='odd'),
]


@pytest.mark.parametrize('make', CONTRACT)
def test_contract(make):
  frontend = make()
  for samples in (frontend.min_samples, frontend.min_samples + 641):
    wave = _wave(samples, 2)
    h, frames = jax.device_get(frontend(wave))
    assert h.shape == (2, frontend.frames(samples), frontend.features)
    assert h.shape[1] >= 1 and np.isfinite(h).all()
    assert h.dtype == jnp.float32 and frames.dtype == jnp.int32
    np.testing.assert_array_equal(frames, [h.shape[1]] * 2)
  assert frontend.frames(frontend.min_samples - 1) == 0
  # Clips do not see each other, and compiled code computes the same.
  np.testing.assert_allclose(h[1:], frontend(wave[1:])[0], atol=1e-4)
  np.testing.assert_allclose(h, jax.jit(frontend)(wave)[0], atol=1e-4)


@pytest.mark.parametrize('name', configs.PRESETS)
def test_presets(name):
  frontend = frontends.make(name)
  width = {'ecapa_mfcc': 80, 'fbank80': 80}.get(name, 60)
  assert frontend.features == width
  hop = 256 if name == 'lfcc_pc_darts' else 160
  assert frontend.frames(64_000) == 1 + 64_000 // hop
  assert (frontend.bank_WxF.max(0) > 0).all()


CENTRING = [(True, 'constant'), (True, 'reflect'), (False, 'constant')]


def _librosa(wave, frontend):
  c = frontend.config
  common = {
    'y': wave,
    'sr': c.sample_rate,
    'n_fft': c.n_fft,
    'win_length': c.win_length,
    'hop_length': c.hop_length,
    'window': c.window,
    'center': c.center,
    'pad_mode': c.pad_mode,
    'power': c.power,
    'n_mels': c.filters,
    'fmin': c.fmin,
    'fmax': c.fmax,
    'htk': c.htk,
  }
  if c.kind == 'mel':
    return librosa.feature.melspectrogram(norm=c.norm, **common).T
  return librosa.feature.mfcc(
    n_mfcc=c.ceps,
    dct_type=c.dct_type,
    norm=c.dct_norm,
    lifter=c.lifter,
    mel_norm=c.norm,
    **common,
  ).T


@pytest.mark.parametrize('htk', [False, True])
@pytest.mark.parametrize('norm', ['slaney', None])
@pytest.mark.parametrize('center, pad_mode', CENTRING)
def test_mfcc_and_mel_equal_librosa(htk, norm, center, pad_mode):
  wave = _wave(1700).astype(float)
  fields = {'htk': htk, 'norm': norm, 'center': center, 'pad_mode': pad_mode}
  fields |= {'filters': 20, 'n_fft': 256, 'win_length': 200, 'ceps': 13}
  with jax.enable_x64(True), jax.disable_jit():
    for power in (1, 2):
      mel = frontends.make(kind='mel', normalise='none', power=power, **fields)
      got = np.asarray(mel(jax.device_put(wave))[0])[0]
      np.testing.assert_allclose(got, _librosa(wave[0], mel), atol=1e-4)
    for dct_type, dct_norm, lifter in itertools.product(
      (2, 3), ('ortho', None), (0, 22)
    ):
      changes = {'dct_type': dct_type, 'dct_norm': dct_norm, 'lifter': lifter}
      mfcc = frontends.make(normalise='none', **fields, **changes)
      got = np.asarray(mfcc(jax.device_put(wave))[0])[0]
      wanted = _librosa(wave[0], mfcc)
      np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize('window', filters.WINDOWS)
def test_windows_and_band_equal_librosa_in_float32(window):
  wave = _wave(4000)
  name = {'rectangular': 'boxcar'}.get(window, window)
  frontend = frontends.make(
    filters=30, ceps=20, fmin=100.0, fmax=7000.0, normalise='none'
  )
  librosas = dataclasses.replace(frontend.config, window='hann')
  object.__setattr__(librosas, 'window', name)
  frontend = frontends.make(frontend.config, window=window)
  wanted = _librosa(wave[0], type('', (), {'config': librosas}))
  got = np.asarray(frontend(wave)[0])[0]
  np.testing.assert_allclose(
    got, wanted, rtol=1e-4, atol=1e-6 * abs(wanted).max()
  )


def test_default_is_librosas_mfcc_less_its_mean():
  wave = _wave(8000)
  frontend = frontends.make()
  wanted = _librosa(wave[0], frontend)
  got = np.asarray(frontend(wave)[0])[0]
  np.testing.assert_allclose(got, wanted - wanted.mean(0), atol=5e-4)


def test_fbank80_has_the_symmetric_triangles_of_speechbrain():
  edges = filters.mel_edges(80, 0, 8000, htk=True)
  low, peak = edges[:-2], edges[1:-1]
  hz = np.arange(201)[:, None] * 40
  wanted = np.maximum(0, 1 - np.abs(hz - peak) / (peak - low))
  bank = frontends.make('fbank80').bank_WxF
  np.testing.assert_allclose(bank, wanted, atol=1e-12)
  usual = frontends.make('fbank80', symmetric=False).bank_WxF
  assert 0.02 < np.abs(usual - bank).max() < 0.05
  # Areas of 1 are of the triangle as it is.
  edges = filters.linear_edges(5, 0, 8000) ** 1.2 / 8000**0.2
  bank = filters.triangles(edges, 1 << 16, 16_000, 'slaney', symmetric=True)
  np.testing.assert_allclose(bank[:, :4].sum(0) * 16_000 / (1 << 16), 1, 1e-4)


@pytest.mark.parametrize('dct_type', [2, 3])
@pytest.mark.parametrize('norm', ['ortho', None])
def test_dct_is_scipys(dct_type, norm):
  x = np.random.default_rng(0).normal(size=(3, 11))
  wanted = scipy.fft.dct(x, dct_type, norm=norm)[:, :7]
  got = x @ filters.dct_matrix(11, 7, dct_type, norm)
  np.testing.assert_allclose(got, wanted, atol=1e-12)


def _lfcc_by_definition(wave, c):
  """Loops over frames, bins and filters, straight from the formulas."""
  wave = np.concatenate([wave[:1], wave[1:] - c.pre_emphasis * wave[:-1]])
  wave = np.pad(wave, c.n_fft // 2)
  n = np.arange(c.win_length)
  window = 0.54 - 0.46 * np.cos(2 * np.pi * n / c.win_length)
  edges = np.linspace(0, c.fmax or c.sample_rate / 2, c.filters + 2)
  hz = np.arange(c.n_fft // 2 + 1) * c.sample_rate / c.n_fft
  rows = []
  for start in range(0, len(wave) - c.n_fft + 1, c.hop_length):
    first = start + (c.n_fft - c.win_length) // 2
    frame = wave[first : first + c.win_length] * window
    power = [
      abs(np.sum(frame * np.exp(-2j * np.pi * k * n / c.n_fft))) ** 2
      for k in range(len(hz))
    ]
    logs = np.array(
      [
        np.log10(np.interp(hz, edges[i : i + 3], [0, 1, 0]) @ power + 2**-23)
        for i in range(c.filters)
      ]
    )
    m = np.arange(c.filters) + 0.5
    row = [
      np.sqrt((2 if q else 1) / c.filters)
      * np.sum(logs * np.cos(np.pi * q * m / c.filters))
      for q in range(c.ceps)
    ]
    if c.energy:
      inside = hz <= edges[-1]
      row[0] = np.log10(np.array(power)[inside].sum() / c.n_fft + 2**-23)
    rows.append(row)
  static = np.array(rows)
  last = len(rows) - 1

  def difference(x):
    return np.array(
      [x[min(t + 1, last)] - x[max(t - 1, 0)] for t in range(last + 1)]
    )

  return np.concatenate(
    [static, difference(static), difference(difference(static))], 1
  )


@pytest.mark.parametrize('name', [n for n in configs.PRESETS if 'lfcc' in n])
def test_lfcc_by_definition(name):
  frontend = frontends.make(name)
  wave = _wave(1200)
  wanted = _lfcc_by_definition(wave[0].astype(float), frontend.config)
  got = np.asarray(frontend(wave)[0])[0]
  np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize('width', [3, 9])
def test_regression_deltas_equal_librosas(width):
  h = np.random.default_rng(0).normal(size=(1, 20, 4)).astype(np.float32)
  wanted = librosa.feature.delta(h[0], width=width, axis=0, mode='nearest')
  got = np.asarray(jax.jit(masked.delta, static_argnums=1)(h, width))
  np.testing.assert_allclose(got[0], wanted, atol=1e-6)


MASKED = [
  *({'kind': kind} for kind in configs.KINDS),
  {'pad_mode': 'reflect', 'deltas': 2, 'normalise': 'mean_variance'},
  {'pad_mode': 'reflect', 'delta_width': 5, 'pre_emphasis': 0.97},
  {'center': False, 'deltas': 2, 'energy': True, 'normalise': 'none'},
]


@pytest.mark.parametrize('fields', MASKED, ids=str)
def test_a_clip_alone_and_in_a_padded_batch(fields):
  frontend = _small(**{'kind': 'mfcc', 'log': 'ln', 'top_db': 30.0, **fields})
  samples = np.array([900, frontend.min_samples, 417], np.int32)
  wave = _wave(900, 3)
  # What lies behind a clip's end does not count.
  padded = wave.copy()
  for row, length in zip(padded, samples, strict=True):
    row[length:] = np.nan if length == 417 else 50
  # Slices of arrays of JAX would each be compiled.
  h, frames = jax.device_get(frontend(*jax.device_put((padded, samples))))
  for i, length in enumerate(samples):
    alone, count = jax.device_get(
      frontend(jax.device_put(wave[i : i + 1, :length]))
    )
    assert frames[i] == count[0] == frontend.frames(int(length))
    scale = max(1, abs(alone).max())
    np.testing.assert_allclose(
      h[i, : count[0]], alone[0], rtol=1e-5, atol=1e-5 * scale
    )
    np.testing.assert_array_equal(h[i, count[0] :], 0)


def test_lengths_equal_to_the_batch_change_nothing():
  frontend = _small('mfcc', pad_mode='reflect', deltas=2)
  wave = jnp.asarray(_wave(600, 2))
  whole, frames = frontend(wave)
  given, counted = frontend(wave, jnp.full(2, 600, jnp.int32))
  np.testing.assert_allclose(whole, given, atol=1e-4)
  np.testing.assert_array_equal(frames, counted)


def test_a_clip_too_short_in_compiled_code_has_no_frames():
  frontend = _small('mfcc', pad_mode='reflect', normalise='mean_variance')
  wave = jnp.asarray(_wave(600, 2))
  h, frames = jax.jit(frontend)(wave, jnp.array([600, 30], jnp.int32))
  np.testing.assert_array_equal(frames, [frontend.frames(600), 0])
  assert np.isfinite(h).all()
  np.testing.assert_array_equal(h[1], 0)


def _small_presets():
  """The published front ends, with what makes them differ and less of it."""
  for name, preset in configs.PRESETS.items():
    sizes = {'filters': 12, 'ceps': 9, 'fmax': None, **SMALL}
    yield pytest.param(
      lambda p=preset, s=sizes: frontends.make(p, **s), True, id=name
    )


@pytest.mark.parametrize(
  'make, lengths',
  [
    *(
      pytest.param(
        lambda kind=kind: _small(
          kind, deltas=2, power=1.5, normalise='mean_variance',
          pad_mode='reflect', pre_emphasis=0.9, top_db=20.0,
        ),
        lengths,
        id=f'{kind}, {"with" if lengths else "without"} lengths',
      )
      for kind, lengths in (*((k, True) for k in configs.KINDS), ('mfcc', 0))
    ),
    *_small_presets(),
  ],
)  # fmt: skip
def test_gradients_against_finite_differences(make, lengths):
  frontend = make()
  samples = 300
  with jax.enable_x64(True):
    wave = _wave(samples, 2).astype(float)
    wave[:, 150:280] = 0
    counts = np.array([samples, 250], np.int32) if lengths else None
    shape = (2, frontend.frames(samples), frontend.features)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=shape)
    loss = jax.jit(
      jax.value_and_grad(lambda w: (frontend(w, counts)[0] * weights).sum())
    )
    direction = rng.normal(size=wave.shape)
    # Not into digital silence, where the magnitude has a corner.
    direction[:, 150:280] = 0
    gradient = np.asarray(loss(wave)[1])
    assert gradient.dtype == jnp.float64 and np.isfinite(gradient).all()
    step = 1e-6
    values = [float(loss(wave + s * step * direction)[0]) for s in (1, -1)]
    slope = (values[0] - values[1]) / (2 * step)
    wanted = float((gradient * direction).sum())
    assert wanted != 0
    np.testing.assert_allclose(slope, wanted, rtol=1e-5)
    if lengths:
      np.testing.assert_array_equal(gradient[1, 250:], 0)


def test_half_precision_is_computed_in_float32():
  frontend = _small('log_mel')
  wave = jnp.asarray(_wave(400), jnp.bfloat16)
  h, _ = frontend(wave)
  assert h.dtype == jnp.float32
  np.testing.assert_array_equal(h, frontend(wave.astype(jnp.float32))[0])


def test_spectrum_by_product_equals_the_fft():
  h = np.random.default_rng(0).normal(size=(2, 3, 100)).astype(np.float32)
  forms = stft.power_by_fft, stft.power_by_product
  forms = [jax.jit(form, static_argnums=1) for form in forms]
  for n_fft in (128, 127, 100):
    by_fft, by_product = (form(h, n_fft) for form in forms)
    np.testing.assert_allclose(by_product, by_fft, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize(
  ('jaxlib', 'fft'),
  [
    ('0.10.2', True),
    ('0.11.0', True),
    ('0.11.1', False),
    ('0.11.2', False),
    ('0.11.3.dev20260901', False),
    ('0.12.0', True),
    ('0.12.0.1', True),
    ('1.0', True),
  ],
)
def test_no_fft_where_it_can_hang(monkeypatch, jaxlib, fft):
  monkeypatch.setattr('jaxlib.__version__', jaxlib)
  spectrum = functools.partial(
    stft.power_spectrum, window_K=np.ones(64), n_fft=64, hop=32, frames=3
  )
  program = jax.jit(spectrum).lower(jnp.zeros((1, 128), jnp.float32))
  assert ('stablehlo.fft' in program.as_text()) == fft


@pytest.mark.parametrize('jaxlib', ['0.11.0', '0.11.2'])
@pytest.mark.parametrize('form', [contextlib.nullcontext, accelerator_form])
def test_whatever_computes_a_transform_it_costs_the_same(
  monkeypatch, jaxlib, form
):
  monkeypatch.setattr('jaxlib.__version__', jaxlib)

  def power(wave):
    return stft.power_spectrum(wave, np.ones(40), 64, hop=32, frames=3).sum()

  wave = jnp.zeros((2, 128), jnp.float32)
  with form():
    once = arithmetic.count(power, wave)
    assert once == {'': 2 * 3 * 64 * 6}
    both = arithmetic.total(jax.value_and_grad(power), wave)
  assert both == 2 * once['']


@pytest.mark.usefixtures('compiled_anew')
def test_a_batch_over_four_devices(monkeypatch):
  # As on GPUs: on virtual CPU devices the FFT gathers the whole batch.
  monkeypatch.setattr(stft, 'power_by_fft', stft.power_by_product)
  split = sharding.make(4).batch
  frontend = _small('mfcc', pad_mode='reflect', deltas=2, sample_rate=8000)
  samples = jnp.array([600, 500, 400, 600], jnp.int32)
  wave = jnp.asarray(_wave(600, 4))
  wanted, _ = frontend(wave, samples)
  inputs = jax.device_put((wave, samples), split)
  compiled = jax.jit(frontend).lower(*inputs).compile()
  got, _ = compiled(*inputs)
  assert got.sharding.is_equivalent_to(split, 3)
  for word in ('all-gather', 'all-reduce', 'all-to-all'):
    assert word not in compiled.as_text()
  # Cepstra of up to 100 dB.
  np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_same_configs_are_equal():
  assert frontends.make('fbank80') == frontends.make('fbank80')
  assert hash(frontends.make('fbank80')) == hash(frontends.make('fbank80'))
  assert frontends.make('fbank80') != frontends.make('ecapa_mfcc')


def _refused(message, wave, samples=None, error=ValueError, **fields):
  frontend = _small('mfcc', **fields)
  with pytest.raises(error, match=message):
    frontend(wave, samples)


def test_bad_input_is_refused():
  wave = jnp.asarray(_wave(600, 2))
  _refused(
    'waves have 64 samples: needs at least 65, for 64 samples mirrored',
    wave[:, :64],
    pad_mode='reflect',
  )
  _refused(
    'waves have 127 samples: needs at least 128, for one frame of n_fft=128',
    wave[:, :127],
    center=False,
  )
  _refused(
    'clip 1 has 64 samples: needs at least 65',
    wave,
    jnp.array([600, 64], jnp.int32),
    pad_mode='reflect',
  )
  _refused(
    'clip 0 has 601 samples: the batch holds 600',
    wave,
    jnp.array([601, 64], jnp.int32),
  )
  _refused(r'waves of shape \(600,\): needs \[batch, samples\]', wave[0])
  _refused('dtype int16', wave.astype(jnp.int16), error=TypeError)
  _refused(r'samples_B of shape \(1,\)', wave, jnp.array([600], jnp.int32))
  _refused('samples_B of dtype', wave, jnp.array([1.0, 0.5]), TypeError)


@pytest.mark.parametrize(
  'field, value, wanted',
  [
    ('kind', 'cqcc', 'one of'),
    ('window', 'kaiser', 'one of'),
    ('pad_mode', 'edge', 'one of'),
    ('n_fft', 0, 'a whole number above 0'),
    ('hop_length', 1.5, 'a whole number above 0'),
    ('win_length', 513, 'at most n_fft=512'),
    ('floor', 0, 'a value above 0'),
    ('top_db', -1, 'no value below 0'),
    ('fmin', 8000, '0 to fmax=8000'),
    ('fmax', 8001, 'at most 8000'),
    ('ceps', 81, '1 to filters=80'),
    ('dct_type', 1, 'one of'),
    ('delta_width', 4, '0 or an odd number'),
    ('pre_emphasis', 1, r'a value in \[0, 1\)'),
    ('normalise', 'max', 'one of'),
  ],
)
def test_bad_configs_are_refused(field, value, wanted):
  with pytest.raises(ValueError, match=f'^{field}={value!r}: needs {wanted}'):
    frontends.make(**{field: value})


def test_more_that_is_refused():
  with pytest.raises(ValueError, match='the first number 0, hold no bin'):
    frontends.make(filters=128, htk=True)
  with pytest.raises(ValueError, match="'fbank' is not known; choose one of"):
    frontends.make('fbank')
  with pytest.raises(ValueError, match='energy=True: needs cepstra'):
    frontends.make('fbank80', energy=True)
  with pytest.raises(TypeError, match='n_mels'):
    frontends.make(n_mels=80)


# SpecAugment.

AUGMENT = spec_augment.SpecAugmentConfig(
  time_masks=1, time_width=6, freq_masks=1, freq_width=3
)


def _masked(config, frames, batch=2000, shape=(16, 8), seed=0):
  h = jnp.ones((batch, *shape))
  frames = jnp.full(batch, frames, jnp.int32)
  key = jax.random.key(seed)
  call = jax.jit(lambda: spec_augment.spec_augment(key, h, frames, config))
  return np.asarray(call()) == 0


def test_spec_augment_draws_every_width_and_place():
  hidden = _masked(AUGMENT, 12)
  assert not hidden[:, 12:].any()
  time = hidden[:, :12].all(2)
  freq = hidden[:, :12].all(1)
  np.testing.assert_array_equal(
    hidden[:, :12], time[:, :, None] | freq[:, None]
  )
  for bands, widest in ((time, 6), (freq, 3)):
    counts = np.bincount(bands.sum(1), minlength=widest + 1)
    expected = len(bands) / (widest + 1)
    assert len(counts) == widest + 1
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    edges = np.diff(bands.astype(int), axis=1, prepend=0, append=0)
    np.testing.assert_array_equal((edges == 1).sum(1), bands.any(1))
    assert bands.any(0).all()
    # The ends are reached by the widest bands too.
    assert bands[bands.sum(1) == widest][:, [0, -1]].any(0).all()


def test_spec_augment_respects_short_clips():
  config = dataclasses.replace(AUGMENT, freq_masks=0, time_share=0.5)
  assert _masked(config, 4).all(2).sum(1).max() == 2
  assert not _masked(config, 0).any()
  nothing = dataclasses.replace(config, time_masks=0)
  assert not _masked(nothing, 12).any()


def test_spec_augment_does_not_depend_on_the_batch():
  def augmented(h, frames, seed=5):
    key = jax.random.key(seed)
    return np.asarray(spec_augment.spec_augment(key, h, frames, AUGMENT))

  h = np.random.default_rng(0).normal(size=(4, 16, 8)).astype(np.float32)
  frames = np.array([16, 9, 12, 5], np.int32)
  whole = augmented(h, frames)
  np.testing.assert_array_equal(whole[:2], augmented(h[:2], frames[:2]))
  longer = np.pad(h, ((0, 0), (0, 7), (0, 0)))
  np.testing.assert_array_equal(augmented(longer, frames)[:, :16], whole)
  assert (augmented(h, frames, seed=6) != whole).any()


def test_spec_augment_fills_with_the_mean():
  config = dataclasses.replace(AUGMENT, fill='mean', freq_masks=0)
  h = np.random.default_rng(0).normal(size=(3, 16, 8)).astype(np.float32)
  frames = jnp.array([16, 9, 12], jnp.int32)
  key = jax.random.key(0)
  got = spec_augment.spec_augment(key, jnp.asarray(h), frames, config)
  changed = (np.asarray(got) != h).all(2)
  assert changed.any()
  for i, count in enumerate(frames):
    wanted = h[i, :count].mean(0)
    for t in np.flatnonzero(changed[i]):
      np.testing.assert_allclose(got[i, t], wanted, atol=1e-6)


def test_spec_augment_refuses():
  with pytest.raises(ValueError, match='freq_width=27: needs at most the 8'):
    spec_augment.spec_augment(jax.random.key(0), jnp.ones((1, 16, 8)))
  for field, value in (
    ('time_width', -1),
    ('time_share', 1.5),
    ('fill', 'noise'),
  ):
    with pytest.raises(ValueError, match=f'^{field}={value!r}: needs'):
      dataclasses.replace(AUGMENT, **{field: value})
