"""Draws the picture of a run that the README shows.

  python tools/picture.py runs/aasist_quickstart docs/quickstart.svg

It is the DET curve and the histogram of the headline split, as in the report of
the run, in one SVG file of the colours of the report's light style.
"""

import argparse
import pathlib
import re

import numpy as np

from jaxspoof.machine import files
from jaxspoof.report import charts, style
from jaxspoof.runs import run as run_lib

GAP = 24  # points between the pictures


def main() -> None:
  """Writes the file that the command line names."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('workdir', help='folder of a run that has ended')
  parser.add_argument('out', type=pathlib.Path, help='SVG file to write')
  options = parser.parse_args()
  svg = picture(run_lib.load(options.workdir))
  files.write_atomically(options.out, svg)
  print(f'{options.out}: {len(svg) / 1000:.0f} kB')


def picture(run: run_lib.Run) -> str:
  """Both drawings of a run beside each other, as the text of an SVG file."""
  split = next(iter(run.summaries))
  trials, rate = run.scores[split], run.rates[split]
  drawn = [
    charts.det(
      {name: (run.scores[name], run.rates[name].eer) for name in run.summaries}
    ),
    charts.histogram(split, trials.scores, trials.label, rate.threshold),
  ]
  sizes = np.array([_size(svg) for svg in drawn])
  height = sizes[:, 1].max()
  left, placed = 0.0, ''
  for svg, (own_width, own_height) in zip(drawn, sizes, strict=True):
    place = (
      f'<svg x="{left:g}" y="{height - own_height:g}" width="{own_width:g}" '
      f'height="{own_height:g}" '
    )
    placed += svg.replace('<svg ', place, 1)
    left += own_width + GAP
  width = left - GAP
  return (
    '<svg xmlns="http://www.w3.org/2000/svg" '
    'xmlns:xlink="http://www.w3.org/1999/xlink" '
    f'viewBox="0 0 {width:g} {height:g}">'
    # Of its own: the page around it may be dark.
    f'<rect width="100%" height="100%" fill="white"/>{_colours(placed)}</svg>\n'
  )


def _size(svg: str) -> tuple[float, float]:
  box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
  return float(box[1]), float(box[2])


def _colours(svg: str) -> str:
  """The variables of the page replaced by their values in the light style."""
  light = style.CSS[: style.CSS.index('@media')]
  values = dict(re.findall(r'--(\w+): ([^;]+);', light))
  values['font'] = 'sans-serif'
  return re.sub(r'var\(--(\w+)\)', lambda found: values[found[1]], svg)


if __name__ == '__main__':
  main()
