"""What defines a spectral front end, and the published ones by name."""

import dataclasses

from jaxspoof.frontends import filters, masked, stft

CEPSTRA = ('mfcc', 'lfcc')
KINDS = ('spectrogram', 'log_spectrogram', 'mel', 'log_mel', *CEPSTRA)
NORMALISATIONS = ('none', 'mean', 'mean_variance')


@dataclasses.dataclass(frozen=True)
class SpectralConfig:
  """What defines a spectral front end.

  The defaults are 80 MFCCs for ECAPA-TDNN: those of `librosa.feature.mfcc`
  with 80 mel filters, windows of 25 ms every 10 ms at 16 kHz, less their mean
  over the clip. 512 points and not 400: faster, and bins of 31 Hz leave no
  narrow mel filter with fewer than two.

  Attributes:
    kind: 'spectrogram', 'log_spectrogram', 'mel', 'log_mel', 'mfcc' or 'lfcc'
      (cepstra of linearly spaced filters).
    sample_rate: sampling rate of the waves in Hz.
    n_fft: points of the Fourier transform.
    win_length: length of the window in samples; zeros around it fill n_fft.
    hop_length: samples from one frame to the next.
    window: 'hann', 'hamming', 'blackman' or 'rectangular', all periodic.
    center: pad n_fft // 2 samples at each end, so that frame i is centred at
      sample i hop_length; otherwise it starts there.
    pad_mode: what these samples are: 'constant' (zeros) or 'reflect'.
    pre_emphasis: the factor a in x[t] - a x[t - 1]; 0 for no pre-emphasis.
    power: exponent of the magnitudes, above 0; 2 gives energies.
    filters: number of triangular filters in the bank.
    fmin: lowest edge of the bank in Hz.
    fmax: highest edge in Hz; None for half the rate.
    htk: if True the mel scale is HTK's, otherwise Slaney's Auditory Toolbox's.
    norm: 'slaney' for filters of area 1, None for peaks of 1.
    symmetric: if True filters fall as steeply as they rise, as SpeechBrain's
      do; otherwise each ends at the peak of the next one.
    log: which logarithm: 'ln', 'log10' or 'db' (10 times log10).
    floor: a small energy that keeps the logarithm of silence finite.
    floor_added: if True the floor is added to all energies; otherwise smaller
      energies are replaced by it.
    top_db: dynamic range of a clip in dB below its largest value; None for
      no limit.
    ceps: number of cepstral coefficients, at most `filters`.
    dct_type: type of the cosine transform, 2 or 3.
    dct_norm: its normalisation, 'ortho' or None, as in scipy.
    lifter: strength of the liftering of cepstra, see `filters.lifter_weights`;
      0 for none.
    energy: if True the first coefficient is replaced by the logarithm of the
      frame's energy between fmin and fmax, divided by n_fft.
    deltas: 0 for none, 1 for deltas, 2 for deltas and their deltas.
    delta_width: 0 for plain differences or an odd number of frames for
      regression, see `masked.delta`.
    normalise: 'none', 'mean' or 'mean_variance' of each feature over a clip,
      deltas included.
  """

  kind: str = 'mfcc'
  sample_rate: int = 16_000
  n_fft: int = 512
  win_length: int = 400
  hop_length: int = 160
  window: str = 'hann'
  center: bool = True
  pad_mode: str = 'constant'
  pre_emphasis: float = 0.0
  power: float = 2.0
  filters: int = 80
  fmin: float = 0.0
  fmax: float | None = None
  htk: bool = False
  norm: str | None = 'slaney'
  symmetric: bool = False
  log: str = 'db'
  floor: float = 1e-10
  floor_added: bool = False
  top_db: float | None = 80.0
  ceps: int = 80
  dct_type: int = 2
  dct_norm: str | None = 'ortho'
  lifter: float = 0.0
  energy: bool = False
  deltas: int = 0
  delta_width: int = 0
  normalise: str = 'mean'

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    self._check_choices()
    for name in ('sample_rate', 'n_fft', 'win_length', 'hop_length', 'filters'):
      whole = isinstance(getattr(self, name), int) and getattr(self, name) > 0
      self._need(name, whole, 'a whole number above 0')
    fits = self.win_length <= self.n_fft
    self._need('win_length', fits, f'at most n_fft={self.n_fft}')
    for name in ('power', 'floor'):
      self._need(name, getattr(self, name) > 0, 'a value above 0')
    for name in ('lifter', 'top_db'):
      self._need(name, (getattr(self, name) or 0) >= 0, 'no value below 0')
    self._need('pre_emphasis', 0 <= self.pre_emphasis < 1, 'a value in [0, 1)')
    self._need('fmin', 0 <= self.fmin < self.top, f'0 to fmax={self.top} Hz')
    half = self.sample_rate / 2
    self._need('fmax', self.top <= half, f'at most {half} Hz, half the rate')
    fits = self.kind not in CEPSTRA or 0 < self.ceps <= self.filters
    self._need('ceps', fits, f'1 to filters={self.filters}')
    cepstra = self.kind in CEPSTRA and self.power == 2
    self._need('energy', cepstra or not self.energy, 'cepstra and power=2')
    width = self.delta_width
    odd = width == 0 or (width > 2 and width % 2)
    self._need('delta_width', odd, '0 or an odd number from 3 on')

  def _check_choices(self):
    for name, known in (
      ('kind', KINDS),
      ('window', filters.WINDOWS),
      ('pad_mode', stft.PAD_MODES),
      ('norm', ('slaney', None)),
      ('log', tuple(masked.LOGS)),
      ('dct_type', (2, 3)),
      ('dct_norm', ('ortho', None)),
      ('deltas', (0, 1, 2)),
      ('normalise', NORMALISATIONS),
    ):
      self._need(name, getattr(self, name) in known, f'one of {known}')

  def _need(self, name: str, fulfilled: bool, wanted: str):
    if not fulfilled:
      raise ValueError(f'{name}={getattr(self, name)!r}: needs {wanted}')

  @property
  def top(self) -> float:
    """Highest edge of the bank in Hz."""
    return self.sample_rate / 2 if self.fmax is None else self.fmax

  @property
  def pad(self) -> int:
    """Samples added at each end of a clip."""
    return self.n_fft // 2 if self.center else 0

  @property
  def min_samples(self) -> int:
    """Samples of the shortest clip: one frame, and what is reflected."""
    if not self.center:
      return self.n_fft
    return self.pad + 1 if self.pad_mode == 'reflect' else self.n_fft % 2 + 1

  def samples_needed(self, frames: int) -> int:
    """Length in samples of the shortest clip with so many frames."""
    reached = (frames - 1) * self.hop_length + self.n_fft - 2 * self.pad
    return max(self.min_samples, reached)

  @property
  def features(self) -> int:
    """Number of features in a frame, deltas included."""
    if self.kind in CEPSTRA:
      static = self.ceps
    elif self.kind.endswith('spectrogram'):
      static = self.n_fft // 2 + 1
    else:
      static = self.filters
    return static * (1 + self.deltas)

  def frames(self, samples: int) -> int:
    """Number of frames of a clip; 0 for one shorter than `min_samples`."""
    if samples < self.min_samples:
      return 0
    return stft.frames_made(samples, self.n_fft, self.hop_length, self.pad)


# What the linear cepstra of the field's baselines share: energies, base 10,
# peaks of 1, the float32 rounding unit added, x[t + 1] - x[t - 1] twice.
_LFCC = SpectralConfig(
  kind='lfcc',
  window='hamming',
  norm=None,
  log='log10',
  floor=2.0**-23,
  floor_added=True,
  top_db=None,
  ceps=20,
  deltas=2,
  normalise='none',
)
_LCNN = dataclasses.replace(
  _LFCC,
  n_fft=512,
  win_length=320,
  hop_length=160,
  pre_emphasis=0.97,
  filters=20,
  energy=True,
)

PRESETS = {
  # ECAPA-TDNN (Desplanques et al. 2020, arXiv 2005.07143, section 4): 80
  # MFCCs of 25 ms every 10 ms less their mean. The rest is librosa's.
  'ecapa_mfcc': SpectralConfig(),
  # 80 log mel energies less their mean, of the same windows: SpeechBrain's
  # features of ECAPA-TDNN, number by number.
  'fbank80': SpectralConfig(
    kind='log_mel',
    n_fft=400,
    window='hamming',
    htk=True,
    norm=None,
    symmetric=True,
  ),
  # PC-DARTS (Ge et al. 2021, arXiv 2104.03123), eurecom-asp.
  'lfcc_pc_darts': dataclasses.replace(
    _LFCC, n_fft=1024, win_length=1024, hop_length=256, filters=70
  ),
  # LFCC-LCNN on ASVspoof 2019 LA (Wang & Yamagishi 2021, arXiv 2103.11326).
  'lfcc_lcnn_2019': _LCNN,
  # LFCC-LCNN, the baseline of ASVspoof 2021 LA and DF: the 256 lowest bins of
  # 513, so that the highest edge is bin 255 and not 4 kHz.
  'lfcc_asvspoof2021': dataclasses.replace(_LCNN, n_fft=1024, fmax=3984.375),
}
