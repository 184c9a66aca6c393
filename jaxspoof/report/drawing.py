"""Drawing: SVG that takes its colours and its font from the page.

matplotlib draws with placeholder colours; each becomes a CSS variable, so the
pictures follow the light or dark style of the page.
"""

import io
import re
import warnings

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from jaxspoof.report.markup import Html, text

INK, MUTED, GRID = '#010101', '#020202', '#030303'
BONAFIDE, SPOOF = '#040404', '#050505'
SERIES = ('#060606', '#070707', '#080808', '#090909')
CLASSES = tuple(f'#1{n}1{n}1{n}' for n in range(9))
PAPER = '#0b0b0b'
VARIABLES = {
  INK: 'ink',
  MUTED: 'muted',
  GRID: 'grid',
  BONAFIDE: 'bonafide',
  SPOOF: 'spoof',
  PAPER: 'paper',
  **{color: f'series{n}' for n, color in enumerate(SERIES, 1)},
  **{color: f'class{n}' for n, color in enumerate(CLASSES, 1)},
}
WIDTH = 4.9  # inches of the drawing; the page scales it to its column
STYLE = {
  'svg.fonttype': 'none',  # text stays text
  'text.parse_math': False,  # a name may hold a dollar sign
  'font.size': 9.5,
  'axes.titlesize': 9.5,
  'axes.titlelocation': 'left',
  'axes.edgecolor': MUTED,
  'axes.labelcolor': MUTED,
  'axes.linewidth': 0.7,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'axes.axisbelow': True,
  'axes.formatter.useoffset': False,
  'grid.color': GRID,
  'grid.linewidth': 0.7,
  'legend.frameon': False,
  'legend.labelcolor': INK,
  'lines.linewidth': 1.6,
  'text.color': INK,
  'xtick.color': MUTED,
  'ytick.color': MUTED,
}


def picture(
  name: str, words: str, draw, height: float, width: float = WIDTH
) -> Html:
  """Draw on one pair of axes; the same input gives the same bytes.

  Args:
    name: a name that no other picture of the page has.
    words: the picture in words, for those who do not see it.
    draw: function that draws on a matplotlib `Axes`.
    height: inches.
    width: inches.
  """
  nothing = dict.fromkeys(('Date', 'Creator', 'Format', 'Type'))
  buffer = io.StringIO()
  with (
    matplotlib.rc_context({**STYLE, 'svg.hashsalt': name}),
    warnings.catch_warnings(),
  ):
    # The font of the page is used in the end, and may have the glyph.
    warnings.filterwarnings('ignore', message='Glyph .* missing')
    figure = Figure(figsize=(width, height), layout='constrained')
    axes = figure.add_subplot()
    draw(axes)
    for patch in (figure.patch, axes.patch):
      patch.set(facecolor='none', edgecolor='none')
    # `savefig` would draw everything once more, to lay it out.
    FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
  return _inline(buffer.getvalue(), words)


def _inline(svg: str, words: str) -> Html:
  """Fit a finished SVG file into the page."""
  start, rest = svg[svg.index('<svg') :].split('>', 1)
  box = re.search(r'viewBox="[^"]*"', start)[0]
  used = set(re.findall(r'<[^>]*(?:href="|url\()#([\w-]+)', rest))
  rest = re.sub('<[^>]*>', lambda tag: _restyled(tag[0], used), rest)
  return Html(
    f'<svg {box} role="img" aria-label="{text(words)}" '
    f'xmlns:xlink="http://www.w3.org/1999/xlink">{rest}'
  )


def _restyled(tag: str, used: set[str]) -> str:
  """One tag with the colours and the font of the page."""
  tag = re.sub(r'(font: [^;"]*?px) [^;"]*', r'\1 var(--font)', tag)
  for color, name in VARIABLES.items():
    tag = tag.replace(color, f'var(--{name})')
  # Names of parts repeat between pictures; those nobody refers to can go.
  return re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else '', tag)
