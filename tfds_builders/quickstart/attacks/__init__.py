"""The attacks of the quickstart corpus, by their identifiers.

Named as the field does: A01 to A06 are in train and dev, A07 and later only
in eval; A03 is in eval too, as the attack the training has seen. The last
four are kept apart (split `eval_hard`): they keep most of the natural phase or
a consistent one, and are near chance for a magnitude front end.

An attack is a function `(clip, rng) -> wave` (float64 at 16 kHz, any length);
`clip` is a `Clip`. To add one: write it, add a row to `ATTACKS`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from tfds_builders.quickstart.attacks import (
  conversion,
  synthesis,
  transforms,
  vocoders,
)
from tfds_builders.quickstart.attacks.clip import Clip


@dataclasses.dataclass(frozen=True)
class Attack:
  """One way of making a spoof.

  Attributes:
    name: readable name.
    make: the method, `(clip, rng) -> wave`.
    speaks: reads the clip's text instead of re-synthesising its wave.
    needs_voice: cuts from other clips of the speaker.
  """

  name: str
  make: Callable[[Clip, np.random.Generator], np.ndarray]
  speaks: bool = False
  needs_voice: bool = False


ATTACKS = {
  'A01': Attack('LPC vocoder, pulse or noise', vocoders.lpc),
  'A02': Attack('mel spectrogram, Griffin-Lim', transforms.mel_griffin_lim),
  'A03': Attack('mixed-excitation vocoder', vocoders.mixed_excitation),
  'A04': Attack('harmonic plus noise model', vocoders.harmonic_plus_noise),
  'A05': Attack('channel vocoder', vocoders.channel),
  'A06': Attack('formant text-to-speech', synthesis.formant, speaks=True),
  'A07': Attack('mel-cepstral vocoder', vocoders.mel_cepstral),
  'A08': Attack('quantised low-rate vocoder', vocoders.low_rate),
  'A09': Attack('vocoder voice conversion', conversion.vocoder),
  'A10': Attack('mel spectrogram, single pass', transforms.mel_single_pass),
  'A11': Attack(
    'unit concatenation', conversion.concatenation, needs_voice=True
  ),
  'A12': Attack(
    'text-to-speech by units', synthesis.units, speaks=True, needs_voice=True
  ),
  'A13': Attack('spectral-filtering conversion', conversion.filtering),
  'A14': Attack('linear Griffin-Lim', transforms.linear_griffin_lim),
  'A15': Attack('PSOLA conversion', conversion.psola),
  'A16': Attack('phase vocoder there and back', transforms.phase_vocoder),
  'A17': Attack('half-phase resynthesis', transforms.half_phase),
}
TRAIN = ('A01', 'A02', 'A03', 'A04', 'A05', 'A06')
EVAL = ('A03', 'A07', 'A08', 'A09', 'A10', 'A11', 'A12', 'A13')
HARD = ('A14', 'A15', 'A16', 'A17')
