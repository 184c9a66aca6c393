"""A recording as a picture: spectrogram, and its waveform coloured by verdict.

What is drawn is gathered while the recording is read, in a number of columns
that does not grow with its length.
"""

import io
import re

import matplotlib
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from jaxspoof.audio import SAMPLE_RATE
from jaxspoof.bundles import verdict
from jaxspoof.report.style import CSS
from jaxspoof.timelines import SILENT, Timeline

COLUMNS = 2048  # at most; half of them at least, of a recording of any length
_SAMPLES = 400  # of a column at first: 25 ms
_BANDS = 96
_RANGE = 80  # dB that are shown


class Overview:
  """Columns of a recording: lowest and highest sample, and a spectrum."""

  def __init__(self):
    self._samples = _SAMPLES
    self._rest = np.zeros(0, np.float32)
    self._columns: list[tuple[float, float, np.ndarray]] = []

  def add(self, block: np.ndarray) -> None:
    """Takes in the next samples, float32 [n]."""
    self._rest = np.concatenate([self._rest, block])
    count = len(self._rest) // self._samples
    for start in range(0, count * self._samples, self._samples):
      self._add(self._rest[start : start + self._samples])
      if len(self._columns) >= COLUMNS:
        self._halve()
        # What is left of this block is cut into longer columns.
        rest = self._rest[start + self._samples // 2 :]
        self._rest = np.zeros(0, np.float32)
        return self.add(rest)
    self._rest = self._rest[count * self._samples :]
    return None

  def _add(self, part: np.ndarray) -> None:
    # Of long columns three short spectra are enough to be seen.
    starts = np.linspace(0, len(part) - _SAMPLES, 3 if len(part) > 1200 else 1)
    frames = np.stack([part[int(s) : int(s) + _SAMPLES] for s in starts])
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(_SAMPLES))))
    power = power.mean(axis=0)[: _BANDS * 2].reshape(_BANDS, 2).mean(axis=1)
    self._columns.append((float(part.min()), float(part.max()), power))

  def _halve(self) -> None:
    pairs = zip(self._columns[::2], self._columns[1::2], strict=True)
    self._columns = [
      (min(a[0], b[0]), max(a[1], b[1]), (a[2] + b[2]) / 2) for a, b in pairs
    ]
    self._samples *= 2

  def svg(self, found: Timeline) -> str:
    """The picture, an SVG file of its own."""
    low, high, power = zip(*self._columns, strict=True)
    decibel = 10 * np.log10(np.array(power).T + 1e-12)
    seconds = len(low) * self._samples / SAMPLE_RATE
    figure = Figure(figsize=(10, 4.6), layout='constrained')
    top, bottom = figure.subplots(
      2, 1, sharex=True, gridspec_kw={'height_ratios': (3, 2)}
    )
    peak = decibel.max()
    top.imshow(
      decibel,
      origin='lower',
      aspect='auto',
      extent=(0, seconds, 0, _BANDS * 2 * SAMPLE_RATE / _SAMPLES / 1000),
      cmap='magma',
      vmin=peak - _RANGE,
      vmax=peak,
      interpolation='nearest',
    )
    top.set_ylabel('kHz')
    bottom.add_collection(self._wave(found, low, high))
    limit = max(map(abs, (*low, *high))) or 1
    bottom.set_ylim(-limit, limit)
    bottom.set_xlim(0, seconds)
    bottom.set_xlabel('seconds')
    bottom.set_yticks([])
    bottom.set_title(_title(found), fontsize=9, loc='left')
    for said, colour in colours().items():
      bottom.plot([], [], color=colour, linewidth=5, label=said)
    bottom.legend(
      ncols=4,
      fontsize=8,
      frameon=False,
      loc='lower right',
      bbox_to_anchor=(1, 1),
    )
    buffer = io.StringIO()
    style = {'svg.hashsalt': 'timeline', 'svg.fonttype': 'none'}
    nothing = dict.fromkeys(('Date', 'Creator'))
    with matplotlib.rc_context({**style, 'text.parse_math': False}):
      figure.savefig(buffer, format='svg', metadata=nothing)
    return buffer.getvalue()

  def _wave(self, found: Timeline, low, high) -> PolyCollection:
    """A bar for each column, in the colour of its moment."""
    width = self._samples / SAMPLE_RATE
    starts = np.array([one.start for one in found.segments])
    shown = colours()
    shapes, faces = [], []
    for at, (bottom, top) in enumerate(zip(low, high, strict=True)):
      left, right = at * width, (at + 1) * width
      middle = (left + right) / 2
      segment = np.searchsorted(starts, middle, 'right') - 1
      shapes.append(
        [(left, bottom), (left, top), (right, top), (right, bottom)]
      )
      faces.append(shown[found.segments[max(segment, 0)].verdict])
    return PolyCollection(shapes, facecolors=faces, edgecolors=faces)


def colours() -> dict[str, str]:
  """Colours by verdict: those of the reports."""
  light = {}
  for name, value in re.findall(r'--(bonafide|spoof|edge): (#\w+)', CSS):
    light.setdefault(name, value)  # the light style comes first
  return {
    verdict.BONA_FIDE: light['bonafide'],
    verdict.SPOOF: light['spoof'],
    verdict.UNCERTAIN: light['edge'],
    SILENT: '#b8bec6',
  }


def _title(found: Timeline) -> str:
  return (
    f'{found.path}: {found.verdict}, P(spoof) {found.p_spoof:.1%} at a prior '
    f'of {found.prior:g}'
  )
