"""A small detector with random weights, and sound for it."""

import json

import numpy as np
from flax import nnx

from jaxspoof import bundle, models
from jaxspoof.detector import Detector
from jaxspoof.runs import weights_file
from jaxspoof.training import state

RATE, SAMPLES = 16_000, 8_000
SMALL = {
  'name': 'aasist_l',
  'channels': [4, 4, 4, 4, 4, 4],
  'gat_dims': [4, 4],
}
# Takes clips of any length: padded ones, with their lengths. Compiles quickly.
PADDED = {
  'name': 'ecapa', 'channels': [8, 8, 10], 'kernel_sizes': [5, 3, 1],
  'dilations': [1, 2, 1], 'groups': [1, 1, 1], 'res2net_scale': 2,
  'attention_channels': 4, 'se_channels': 3, 'lin_neurons': 6,
}  # fmt: skip


def wave(seed):
  """Half a second of a voice: pulses through a moving resonance."""
  rng = np.random.default_rng(seed)
  time = np.arange(SAMPLES) / RATE
  pitch = 120 + 60 * rng.random() + 20 * np.sin(2 * np.pi * 3 * time)
  voice = np.sin(np.cumsum(2 * np.pi * pitch / RATE))
  sound = np.sign(voice) * np.abs(voice) ** 0.3 * (time % 0.2 > 0.05)
  return (0.1 * sound + rng.normal(0, 0.005, SAMPLES)).astype(np.float32)


def heard(detector, count=40):
  """What a detector says of clips; the labels are those that it believes."""
  waves = [wave(seed) for seed in range(count)]
  embeddings, outputs = detector.embed(waves)
  scores = np.asarray(detector.loss.score(outputs))
  labels = (np.argsort(np.argsort(scores)) >= count // 3).astype(int)
  labels[::7] ^= 1  # it errs
  measured = [bundle.measures.measure(wave) for wave in waves]
  return bundle.Heard('own, split dev', scores, labels, embeddings, measured)


def write(workdir, calibrated=True, model=SMALL, **data):
  """A workdir with random weights and the bundle that training leaves."""
  workdir.mkdir()
  config = {
    'model': model,
    'data': {
      'name': 'own', 'train': 'train', 'dev': 'dev', 'eval': ['eval'],
      'eval_samples': SAMPLES, 'padded': False, **data,
    },
    'loss': {'name': 'weighted_cross_entropy'},
    'seed': 3,
  }  # fmt: skip
  (workdir / 'config.json').write_text(json.dumps(config))
  system = models.system(model)
  _, params, stats = state.split(system.make(nnx.Rngs(3)))
  weights_file.save(workdir, params, stats)
  plain = Detector.load(workdir, batch=4)
  assert not plain.calibrated
  if not calibrated:
    return workdir
  bundle.of_run(workdir, heard(plain), {}, 'the lowest EER')
  return workdir
