"""Linear probes: does something shallow give the class away?

  python -m tfds_builders.quickstart.probe [--data_dir=DIR]

A corpus made by a program may hide a shortcut: spoofs a little longer, quieter
or duller than speech. A detector finds such a thing first and learns nothing
else. So two logistic regressions are fitted on the training split, on features
that cannot tell how a waveform was made: 15 scalars about level, length and
silence, and average log-mel bands. Their error must stay bad.
"""

import argparse
import dataclasses
import io
import pathlib

import numpy as np
import scipy.optimize
import scipy.stats
import soundfile

from jaxspoof.metrics import eer
from tfds_builders import build
from tfds_builders.quickstart import dsp

SPLITS = ('dev', 'eval', 'eval_hard')
SCALARS = (
  'seconds', 'offset', 'level', 'active level', 'peak', 'silence at start',
  'silence at end', 'share of silence', 'quietest frames', 'loudness spread',
  'roll-off', 'low band', 'high band', 'low bit', 'zero crossings',
)  # fmt: skip


def scalars(wave: np.ndarray) -> np.ndarray:
  """Returns the values named in `SCALARS` for a wave in [-1, 1)."""
  level = 10 * np.log10(dsp.frame_energy(wave, dsp.RATE // 100) + 1e-12)
  silent = level < level.max() - 35
  spoken = np.flatnonzero(~silent)
  power = np.mean(np.abs(dsp.stft(wave, 1024, 512)) ** 2, axis=0)
  hertz = np.fft.rfftfreq(1024, 1 / dsp.RATE)
  share = lambda keep: np.log(power[keep].sum() / power.sum() + 1e-12)
  reached = np.searchsorted(np.cumsum(power), 0.95 * power.sum())
  pcm = np.round(wave * 32768).astype(int)
  return np.array(
    [
      len(wave) / dsp.RATE,
      1e3 * wave.mean(),
      20 * np.log10(wave.std() + 1e-9),
      20 * np.log10(dsp.active_level(wave) + 1e-9),
      20 * np.log10(np.abs(wave).max() + 1e-9),
      spoken[0] / 100,
      (len(level) - 1 - spoken[-1]) / 100,
      silent.mean(),
      np.percentile(level, 5) - level.max(),
      level.std(),
      hertz[reached] / 1000,
      share(hertz < 100),
      share(hertz > 6500),
      (pcm & 1).mean(),
      np.mean(np.diff(np.sign(wave)) != 0),
    ]
  )


def log_mel(wave: np.ndarray, bands: int = 40) -> np.ndarray:
  """Returns the average over time of the log power in mel bands."""
  power = np.abs(dsp.stft(wave, 512, 160)) ** 2
  return np.log(power @ dsp.mel_filters(bands, 257).T + 1e-6).mean(axis=0)


FEATURES = {'scalars': scalars, 'average log-mel bands': log_mel}


@dataclasses.dataclass(frozen=True)
class Split:
  """Features of a split.

  Attributes:
    features: name of a probe -> [trials, features].
    labels: int32 [trials], 1 bona fide, 0 spoof.
    attacks: attack names [trials].
  """

  features: dict[str, np.ndarray]
  labels: np.ndarray
  attacks: np.ndarray


def read(made, split: str) -> Split:
  """Computes the features of all trials of a split."""
  features = {name: [] for name in FEATURES}
  labels, attacks = [], []
  for record in made.as_data_source(split=split):
    wave, _ = soundfile.read(io.BytesIO(record['audio']))
    for name, function in FEATURES.items():
      features[name].append(function(wave))
    labels.append(record['label'])
    attacks.append(record['attack'].decode())
  stacked = {name: np.stack(rows) for name, rows in features.items()}
  return Split(stacked, np.array(labels, np.int32), np.array(attacks))


def fit(
  features: np.ndarray, labels: np.ndarray, penalty: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
  """Fits a logistic regression, both classes of equal weight.

  Returns:
    Weights and offset such that `features @ weights + offset` is high for
    bona fide trials.
  """
  mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
  x = np.c_[(features - mean) / scale, np.ones(len(features))]
  sign = 2.0 * labels - 1
  weight = np.where(labels == 1, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())

  def loss(w):
    margin = sign * (x @ w)
    slope = -weight * sign * scipy.special.expit(-margin)
    value = weight @ np.logaddexp(0, -margin) + penalty * w[:-1] @ w[:-1] / 2
    return value, x.T @ slope + penalty * np.r_[w[:-1], 0]

  best = scipy.optimize.minimize(
    loss, np.zeros(x.shape[1]), jac=True, method='L-BFGS-B'
  ).x
  weights = best[:-1] / scale
  return weights, best[-1] - mean @ weights


def row(name: str, splits: dict[str, Split]) -> dict[str, float]:
  """Fits a probe on train; returns EERs in percent.

  Args:
    name: a key of `FEATURES`.
    splits: 'train' and those to evaluate.

  Returns:
    By split, and by split and attack (`'eval A07'`, against all bona fide).
  """
  train = splits['train']
  weights, offset = fit(train.features[name], train.labels)
  found = {}
  for split, data in splits.items():
    found[split] = _eer(data, name, weights, offset)
    for attack in sorted(set(data.attacks) - {'-'}):
      kept = np.isin(data.attacks, (attack, '-'))
      found[f'{split} {attack}'] = _eer(data, name, weights, offset, kept)
  return found


def _eer(data: Split, name: str, weights, offset, keep=slice(None)) -> float:
  scores = data.features[name][keep] @ weights + offset
  rate, _ = eer.eer(scores.astype(np.float32), data.labels[keep])
  return 100 * float(rate)


def main() -> None:
  """Prints the table of the README."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--data_dir', type=pathlib.Path)
  parser.add_argument('--per_attack', action='store_true')
  args = parser.parse_args()
  made = build.build('quickstart', args.data_dir)
  splits = {split: read(made, split) for split in ('train', *SPLITS)}
  for name in FEATURES:
    rates = row(name, splits)
    keys = rates if args.per_attack else splits
    print(name, *(f'{key} {rates[key]:.1f}' for key in keys), sep='  ')


if __name__ == '__main__':
  main()
