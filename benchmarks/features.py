"""Speed of MFCC: compiled batches beside librosa and beside numpy.

  python benchmarks/features.py
  python benchmarks/features.py --batches 1 64 --preset ecapa_mfcc

All run in one process on the same clips, in alternating rounds; the table
gives the fastest and the median round, and how far the features are apart:

  jaxspoof      one compiled call for the batch; on a GPU or TPU with the
                clips already there, and once with the way there and back
  with lengths  the same for a padded batch, with masks
  gradient      of the sum of the features with respect to the waves
  librosa       `librosa.feature.mfcc` on one clip after the other, on one
                core: a pool of processes is at best as many times as fast
  numpy         the whole batch at once in float32, on one core
  scipy.fft     the same with FFT and BLAS on all cores

BLAS gets one core in the first two of these because its threads wait for
XLA's: librosa takes up to ten times as long with more.
"""

import argparse
import os
import statistics

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import scipy.fft
import threadpoolctl
import timing

from jaxspoof import frontends
from jaxspoof.machine import huge_pages
from jaxspoof.training import cost


def main() -> None:
  """Measures and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--samples', type=int, default=64_600)
  parser.add_argument('--batches', type=int, nargs='*', default=[1, 32])
  parser.add_argument('--rounds', type=int, default=10)
  parser.add_argument('--preset', default='ecapa_mfcc')
  options = parser.parse_args()
  frontend = frontends.make(options.preset)
  if frontend.config.kind != 'mfcc':
    raise SystemExit(f'{options.preset} is no MFCC: librosa has no other')
  print(heading(options, frontend))
  for batch in options.batches:
    wave = np.random.default_rng(0).standard_normal((batch, options.samples))
    wave = 0.1 * wave.astype(np.float32)
    runs = ours(frontend, wave) | theirs(frontend, wave)
    results = {name: np.asarray(call()) for name, call in runs.items()}
    report(batch, timing.measure(runs, options.rounds), results)


def ours(frontend: frontends.Spectral, wave: np.ndarray) -> dict:
  """Functions that compute the features once and wait for them, by name."""
  here = jax.block_until_ready(jnp.asarray(wave))
  samples = jnp.full(wave.shape[0], wave.shape[1], jnp.int32)
  # Compiled from outside, so that values of the lengths are not checked, as
  # in a training step.
  lengths = jax.jit(lambda w, n: frontend(w, n)[0])
  gradient = jax.jit(jax.grad(lambda w: frontend(w)[0].sum()))
  runs = {
    'jaxspoof': lambda: frontend(here)[0].block_until_ready(),
    'with lengths': lambda: lengths(here, samples).block_until_ready(),
    'gradient': lambda: gradient(here).block_until_ready(),
  }
  if jax.default_backend() != 'cpu':
    runs['and transfers'] = lambda: np.asarray(frontend(jnp.asarray(wave))[0])
  return runs


def theirs(frontend: frontends.Spectral, wave: np.ndarray) -> dict:
  """The same features by the other ways."""
  workers = os.cpu_count()
  return {
    'librosa': on_one_core(lambda: librosa_clips(frontend.config, wave)),
    'numpy': on_one_core(lambda: in_numpy(frontend, wave, np.fft.rfft)),
    'scipy.fft': lambda: in_numpy(
      frontend, wave, lambda *a: scipy.fft.rfft(*a, workers=workers)
    ),
  }


def on_one_core(call):
  """The same with one thread of BLAS."""
  libraries = threadpoolctl.ThreadpoolController()

  def limited():
    with libraries.limit(limits=1):
      return call()

  return limited


def librosa_clips(c: frontends.SpectralConfig, wave: np.ndarray) -> np.ndarray:
  """Clip by clip, as users of librosa do."""
  clips = [
    librosa.feature.mfcc(
      y=clip,
      sr=c.sample_rate,
      n_mfcc=c.ceps,
      n_mels=c.filters,
      n_fft=c.n_fft,
      win_length=c.win_length,
      hop_length=c.hop_length,
      window=c.window,
      htk=c.htk,
      mel_norm=c.norm,
      dct_type=c.dct_type,
      norm=c.dct_norm,
      lifter=c.lifter,
      center=c.center,
      pad_mode=c.pad_mode,
    ).T
    for clip in wave
  ]
  return np.stack([clip - clip.mean(0) for clip in clips])


def in_numpy(frontend: frontends.Spectral, wave: np.ndarray, rfft):
  """The batch at once in float32, constants made before."""
  c = frontend.config
  wave = np.pad(wave, ((0, 0), (c.pad, c.pad)), mode=c.pad_mode)
  wave = wave[:, (c.n_fft - c.win_length) // 2 :]
  frames = np.lib.stride_tricks.sliding_window_view(wave, c.win_length, 1)
  last = wave.shape[1] - (c.n_fft + c.win_length) // 2
  frames = frames[:, : last + 1 : c.hop_length]
  spectrum = rfft(frames * np.float32(frontend.window_K), c.n_fft)
  power = spectrum.real**2 + spectrum.imag**2
  energy = power @ np.float32(frontend.bank_WxF)
  log = 10 * np.log10(np.maximum(energy, np.float32(c.floor)))
  log = np.maximum(log, log.max((1, 2), keepdims=True) - np.float32(c.top_db))
  ceps = log @ np.float32(frontend.dct_FxC)
  return ceps - ceps.mean(1, keepdims=True)


def heading(options, frontend) -> str:
  """What is measured, on what."""
  return (
    f'{options.preset}: {frontend.features} features, '
    f'{frontend.frames(options.samples)} frames of {options.samples:,} '
    f'samples, float32, {options.rounds} rounds, '
    f'{jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores, '
    f'jax {cost.versions()["jax"]}, librosa {librosa.__version__}, '
    f'numpy {np.__version__}, huge pages '
    f'{"asked for" if huge_pages.asked() else "not asked for"}\n\n'
    f'{"batch":>5}  {"what":14} {"min ms":>9} {"median":>9} {"clips/s":>9} '
    f'{"ratio":>7} {"apart":>8}'
  )


def report(batch: int, seconds: dict, results: dict) -> None:
  """A line for each run; ratio: time over ours, apart: share of the largest."""
  base, wanted = min(seconds['jaxspoof']), results['jaxspoof']
  for name, values in seconds.items():
    best, apart = min(values), '-'
    if name != 'gradient':
      apart = np.abs(results[name] - wanted).max() / np.abs(wanted).max()
      apart = f'{apart:.0e}'
    print(
      f'{batch:>5}  {name:14} {1e3 * best:9.2f} '
      f'{1e3 * statistics.median(values):9.2f} {batch / best:9.1f} '
      f'{best / base:7.2f} {apart:>8}',
      flush=True,
    )


if __name__ == '__main__':
  huge_pages.ensure()
  main()
