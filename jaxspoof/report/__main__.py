"""Makes reports again, or a comparison.

python -m jaxspoof.report WORKDIR ...
python -m jaxspoof.report WORKDIR WORKDIR ... --out=compare.html
"""

import argparse
import sys

from jaxspoof import report


def main(argv: list[str] | None = None) -> None:
  """Write the report of each workdir, or of all together; print where."""
  parser = argparse.ArgumentParser(
    prog='python -m jaxspoof.report',
    description='Make report.html in the folder of each run again, from the'
    ' files there; or, with --out, one page that compares the runs.',
  )
  parser.add_argument('workdir', nargs='+', help='folder of a run')
  parser.add_argument(
    '--out', help='HTML file to write, in which all runs are compared'
  )
  options = parser.parse_args(argv)
  try:
    if options.out:
      print(report.compare(options.workdir, options.out))
      return
    for workdir in options.workdir:
      print(report.write(workdir))
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
