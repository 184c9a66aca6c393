"""Makes the report of a run again: python -m jaxspoof.report WORKDIR ..."""

import argparse
import sys

from jaxspoof import report


def main(argv: list[str] | None = None) -> None:
  """Write the report of each workdir and print where it is."""
  parser = argparse.ArgumentParser(
    prog='python -m jaxspoof.report',
    description='Make report.html from the files of a run.',
  )
  parser.add_argument('workdir', nargs='+', help='folder of a run')
  for workdir in parser.parse_args(argv).workdir:
    try:
      print(report.write(workdir))
    except (ValueError, OSError) as error:
      sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
