"""What configs of back ends share: networks for the features of an encoder."""

from jaxspoof.frontends.spectral import PRESETS, SpectralConfig
from jaxspoof.system import FrontendConfig


class BackEndConfig:
  """Base of the configs of encoders that take any sequence of features.

  See `system.EncoderConfig` for what each of these says.
  """

  @property
  def own_frontend(self) -> SpectralConfig:
    """80 log mel energies, where a run names no front end."""
    return PRESETS['fbank80']

  @property
  def min_frames(self) -> int:
    """One frame is enough."""
    return 1

  def check_frontend(self, frontend: FrontendConfig) -> None:
    """Takes the features of any front end."""
