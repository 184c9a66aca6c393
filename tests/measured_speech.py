"""Measures of speech of the quickstart corpus, kept: building it takes long."""

import pathlib
from collections.abc import Mapping

import numpy as np
import soxr

from jaxspoof import audio
from jaxspoof.audio import measures
from jaxspoof.data import pipeline
from tests import fixtures_corpus

RATE, SAMPLES = 16_000, 32_000


def telephone(wave: np.ndarray) -> np.ndarray:
  """8 kHz, mu-law."""
  low = soxr.resample(wave, RATE, 8_000)
  packed = np.sign(low) * np.log1p(255 * np.abs(low)) / np.log(256)
  packed = np.round(packed * 128) / 128
  low = np.sign(packed) * np.expm1(np.abs(packed) * np.log(256)) / 255
  return soxr.resample(low.astype(np.float32), 8_000, RATE)


def measure(data_dir: pathlib.Path) -> dict[str, np.ndarray]:
  """Measures every other dev clip, and half of these as telephone speech.

  Args:
    data_dir: where the corpus is built.

  Returns:
    `speech` and `telephone`, [clips, measures], in the order of `MEASURES`.
  """
  source = pipeline.open_source('quickstart', 'dev', data_dir)
  waves = [
    audio.load(source[n]['audio'], 'clip')[:SAMPLES]
    for n in range(0, len(source), 2)
  ]
  heard = {'speech': waves, 'telephone': map(telephone, waves[1::2])}
  return {
    name: np.array([list(measures.measure(w).values()) for w in those])
    for name, those in heard.items()
  }


def recipe() -> str:
  """A hash of all that these measures follow from."""
  files = (pathlib.Path(measures.__file__), pathlib.Path(__file__))
  return fixtures_corpus.recipe(*files)


def kept() -> Mapping[str, np.ndarray] | None:
  """What was measured before, if it would be the same today."""
  with np.load(fixtures_corpus.FEATURES) as file:
    if file['measures/recipe'] != recipe():
      return None
    return {name: file[f'measures/{name}'] for name in ('speech', 'telephone')}
