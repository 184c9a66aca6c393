"""Why: the times and bands that carried a score, in words and as a picture."""

import io
import itertools
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxspoof import audio, explanations
from jaxspoof.bundles import verdict
from jaxspoof.detect import inputs, outputs
from jaxspoof.detect.picture import colours
from jaxspoof.detector import Detector, Explanation, Failure
from jaxspoof.machine import files

SUFFIXES = '.png', '.svg'
_RANGE = 80  # dB that are shown
_GREEN = '#1a7f37'  # what graphs keep
_STRONGEST = 99.0  # percentile of the tiles that has the full colour


def check(options, paths: Sequence[str]) -> None:
  """Raises ValueError for what cannot be asked for together."""
  asked = f'--explain {options.explain}'
  if pathlib.Path(options.explain).suffix not in SUFFIXES:
    raise ValueError(
      f'{asked}: expected a name that ends in {", ".join(SUFFIXES)}'
    )
  if len(paths) > 1:
    raise ValueError(f'{asked}: is of one recording; {len(paths)} are named')
  if options.csv or options.out:
    raise ValueError(f'{asked}: CSV has no place for it; see --json')


def show(
  detector: Detector,
  paths: Sequence[str],
  problems: Sequence[Failure],
  options,
) -> int:
  """Prints what is said of a recording and why, and draws it.

  Args:
    detector: loaded.
    paths: the recording, or nothing if `problems` says why.
    problems: what named none.
    options: of the command line.

  Returns:
    How many failed.

  Raises:
    OSError: a picture that cannot be written.
  """
  results, found = list(problems), None
  for path in paths:
    try:
      data = inputs.from_stdin() if path == inputs.STDIN else path
      found = detector.explain(data, channel=options.channel, name=path)
      results.append(found.detection)
    except audio.AudioError as error:
      results.append(Failure(path, str(error)))
  if found is not None:
    with files.replacing(pathlib.Path(options.explain)) as file:
      file.write(picture(found, options.explain))
  if not options.json:
    failed = outputs.show_table(results, list(paths), detector)
    for line in lines(found) if found else ():
      print(line)
    return failed
  for result in results:
    values = outputs.values_of(result, detector)
    if isinstance(result, Failure):
      print(result.error, file=sys.stderr, flush=True)
    else:
      values['explanation'] = values_of(found)
    print(json.dumps(values), flush=True)
  return sum(isinstance(result, Failure) for result in results)


def values_of(found: Explanation) -> dict:
  """What is said of the reasons, for JSON; its numbers rounded."""
  given = found.attribution
  return {
    'of': _unit(found)[0],
    'value': round(given.score, 4),
    'missed': round(given.error, 4),
    'gradients': given.steps,
    'start': round(found.start, 3),
    'tile_seconds': explanations.TIME,
    'tile_hertz': explanations.BAND,
    'regions': [
      {name: round(value, 4) for name, value in vars(region).items()}
      for region in found.regions
    ],
    'silenced': {
      name: round(value, 4) for name, value in vars(found.deletion).items()
    },
    'holds': found.deletion.holds,
    'kept': _kept_values(found),
  }


def _kept_values(found: Explanation) -> dict | None:
  """Nodes that AASIST's graphs keep, with their scores."""
  if found.kept is None:
    return None
  return {
    'times': [
      {'start': round(a, 3), 'end': round(b, 3), 'score': round(score, 4)}
      for (a, b), score in _times(found)
    ],
    'bands': [
      {'low': round(a, 1), 'high': round(b, 1), 'score': round(score, 4)}
      for (a, b), score in _bands(found)
    ],
  }


def _times(found: Explanation) -> list[tuple[tuple[float, float], float]]:
  """Ends of nodes of time that are kept, in seconds, and their scores."""
  step = float(found.kept.samples) / audio.SAMPLE_RATE
  last = found.start + len(found.wave) / audio.SAMPLE_RATE
  return [
    (
      (found.start + n * step, min(found.start + (n + 1) * step, last)),
      float(x),
    )
    for n, x in enumerate(found.kept.times)
    if x > 0
  ]


def _bands(found: Explanation) -> list[tuple[tuple[float, float], float]]:
  """Ends of nodes of frequency that are kept, in Hz, and their scores."""
  ends = itertools.pairwise(map(float, found.kept.edges))
  return [
    (pair, float(x))
    for pair, x in zip(ends, found.kept.bands, strict=True)
    if x > 0
  ]


def lines(found: Explanation) -> Iterator[str]:
  """The regions as a table, what the numbers are, and whether they hold."""
  unit, moved = _unit(found)[0], found.deletion
  yield ''
  yield (
    f'{"speaks for":<10}  {unit:>7}  {"silenced":>8}  {"share":>6}  '
    f'{"from":>8}  {"to":>8}  band'
  )
  for one in found.regions:
    yield (
      f'{_speaks_for(one.amount):<10}  {one.amount:>+7.2f}  '
      f'{one.measured:>+8.2f}  {one.share:>6.1%}'
      f'  {one.start:>6.2f} s  {one.end:>6.2f} s'
      f'  {one.low / 1000:.2f} to {one.high / 1000:.2f} kHz'
    )
  yield (
    f'{unit}: what it owes to a region, by integrated gradients. silenced: by '
    'how much it falls when the region is silenced. share: of the absolute '
    'values of all tiles.'
  )
  if found.kept is not None:
    yield from _kept_lines(found)
  decision = _speaks_for(found.attribution.score)
  yield (
    f'{"check" if moved.holds else "THIS EXPLANATION DOES NOT HOLD"}: when the '
    f'twentieth of all tiles is silenced that speaks most for {decision}, the '
    f'{unit} moves by {_moves(moved.marked, decision)}; when as many, as loud, '
    f'by {_moves(moved.as_loud, decision)}; at random, by '
    f'{_moves(moved.random, decision)}.'
  )


def _kept_lines(found: Explanation) -> Iterator[str]:
  """What the graphs keep, in words: the best three nodes of either kind."""

  def best(nodes, unit, scale, digits):
    some = sorted(nodes, key=lambda node: -node[1])[:3]
    return ', '.join(
      f'{a / scale:.{digits}f} to {b / scale:.{digits}f} {unit}'
      for (a, b), _ in some
    )

  times, bands = _times(found), _bands(found)
  yield (
    f'graphs: kept are {len(times)} of {len(found.kept.times)} nodes of time '
    f'(best: {best(times, "s", 1, 2)}) and {len(bands)} of '
    f'{len(found.kept.bands)} of frequency (best: '
    f'{best(bands, "kHz", 1000, 2)}); green at the edges of the picture.'
  )


def _moves(against: float, decision: str) -> str:
  """A change against a decision as one of the score."""
  return f'{-against if decision == verdict.BONA_FIDE else against:+.2f}'


def picture(found: Explanation, name: str) -> bytes:
  """The spectrogram with the tiles that speak for either class.

  Args:
    found: from `Detector.explain`.
    name: of the file; it says by its end which format is drawn.
  """
  tiles_TxF = found.attribution.tiles_TxF
  limit = float(np.percentile(np.abs(tiles_TxF), _STRONGEST)) or 1.0
  unit, words = _unit(found)
  end = found.start + len(found.wave) / audio.SAMPLE_RATE
  figure = Figure(figsize=(10, 5), layout='constrained')
  top, bottom = figure.subplots(
    2, 1, sharex=True, gridspec_kw={'height_ratios': (4, 1)}
  )
  _spectrogram(top, found, end)
  shown = top.imshow(
    tiles_TxF.T,
    origin='lower',
    aspect='auto',
    extent=(
      found.start,
      found.start + len(tiles_TxF) * explanations.TIME,
      0,
      tiles_TxF.shape[1] * explanations.BAND / 1000,
    ),
    cmap=_colour_map(),
    vmin=-limit,
    vmax=limit,
    interpolation='nearest',
  )
  for number, one in enumerate(found.regions, 1):
    _mark(top, number, one)
  if found.kept is not None:
    _edges(top, found, end)
  top.set_xlim(found.start, end)
  top.set_ylim(0, audio.SAMPLE_RATE / 2000)
  top.set_ylabel('kHz')
  title = _title(found)
  if not found.deletion.holds:
    title += '\nthis explanation does not hold: silencing what is marked'
    title += ' matters no more than silencing what is not'
  top.set_title(title, fontsize=9, loc='left')
  bar = figure.colorbar(shown, ax=top, pad=0.01, extend='both')
  bar.set_label(f'{words} of a tile\nspoof  ←   → bona fide', fontsize=8)
  sums = tiles_TxF.sum(axis=1)
  kinds = colours()
  bottom.bar(
    found.start + (np.arange(len(sums)) + 0.5) * explanations.TIME,
    sums,
    width=explanations.TIME,
    color=[kinds[_speaks_for(value)] for value in sums],
  )
  bottom.axhline(0, color='#888', linewidth=0.5)
  bottom.set_ylabel(unit)
  bottom.set_xlabel('seconds')
  buffer = io.BytesIO()
  form = pathlib.Path(name).suffix[1:]
  nothing = ('Date', 'Creator') if form == 'svg' else ('Software',)
  style = {'svg.hashsalt': 'explanation', 'text.parse_math': False}
  with matplotlib.rc_context(style):
    figure.savefig(
      buffer, format=form, dpi=120, metadata=dict.fromkeys(nothing)
    )
  return buffer.getvalue()


def _spectrogram(axes, found: Explanation, end: float) -> None:
  """In shades of grey, so that colours say something else."""
  sft = explanations.transform()
  decibel = 20 * np.log10(np.abs(sft.stft(found.wave)) + 1e-9)
  step = sft.hop / audio.SAMPLE_RATE
  first = found.start + (sft.p_min - 0.5) * step
  axes.imshow(
    decibel,
    origin='lower',
    aspect='auto',
    extent=(
      first,
      first + decibel.shape[1] * step,
      0,
      audio.SAMPLE_RATE / 2000,
    ),
    cmap='gray_r',
    vmin=decibel.max() - _RANGE,
    vmax=decibel.max() + _RANGE / 2,  # not black: colours lie over it
    interpolation='nearest',
  )


def _edges(axes, found: Explanation, end: float) -> None:
  """What AASIST's graphs keep: of time above, of frequency at the right."""
  top = audio.SAMPLE_RATE / 2000
  high, wide = 0.03 * top, 0.01 * (end - found.start)
  boxes = [(a, top - high, b - a, high, s) for (a, b), s in _times(found)]
  boxes += [
    (end - wide, a / 1000, wide, (b - a) / 1000, s)
    for (a, b), s in _bands(found)
  ]
  for x, y, width, height, score in boxes:
    axes.add_patch(
      Rectangle((x, y), width, height, color=_GREEN, alpha=score, linewidth=0)
    )


def _mark(axes, number: int, one: explanations.Region) -> None:
  colour = colours()[_speaks_for(one.amount)]
  corner = one.start, one.low / 1000
  axes.add_patch(
    Rectangle(
      corner,
      one.end - one.start,
      (one.high - one.low) / 1000,
      fill=False,
      edgecolor=colour,
      linewidth=1.5,
    )
  )
  axes.annotate(
    f'{number}: {one.share:.0%}',
    (one.start, one.high / 1000),
    xytext=(1, 1),
    textcoords='offset points',
    fontsize=8,
    color=colour,
    weight='bold',
  )


def _colour_map() -> LinearSegmentedColormap:
  """From spoof to bona fide, clear where nothing is said."""
  kinds = colours()
  spoof, real = to_rgb(kinds[verdict.SPOOF]), to_rgb(kinds[verdict.BONA_FIDE])
  shades = (
    (0, (*spoof, 0.9)),
    (0.5, (*spoof, 0)),
    (0.5, (*real, 0)),
    (1, (*real, 0.9)),
  )
  return LinearSegmentedColormap.from_list('speaks_for', shades)


def _speaks_for(amount: float) -> str:
  return verdict.BONA_FIDE if amount > 0 else verdict.SPOOF


def _unit(found: Explanation) -> tuple[str, str]:
  """Name of the quantity that is divided, and it in words."""
  if found.detection.llr is None:
    return 'score', 'score'
  return 'LLR', 'LLR (nats)'


def _title(found: Explanation) -> str:
  one = found.detection
  if one.llr is None:
    return f'{one.path}: score {one.score:+.2f} (not calibrated)'
  return (
    f'{one.path}: {one.verdict}, P(spoof) {one.p_spoof:.1%} at a prior of '
    f'{one.prior:g}, LLR {one.llr:+.2f}'
  )
