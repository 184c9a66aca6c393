"""The command line of scoring large archives: `python -m jaxspoof.bulk`."""

import argparse
import os
import pathlib
import sys
import time

from jaxspoof.bulk import cores
from jaxspoof.machine import huge_pages, interrupts

EXAMPLES = """examples:
  python -m jaxspoof.bulk --input calls/ --out scored --workers 8
  python -m jaxspoof.bulk --input calls.csv --out scored --checkpoint mine.zip
  python -m jaxspoof.bulk --input 'shards/*.tar' --out scored --gpus 4

Given once more, the command goes on where it stopped; given on other hosts that
see the same folders, they share the work. The scores are scored/scores/*.csv,
with the columns of detect.py; a recording that cannot be scored has a row with
an error, and the exit status is 1."""


def main(argv: list[str] | None = None) -> int:
  """Scores what the command line names; returns the exit status."""
  arguments = parser()
  options = arguments.parse_args(argv)
  for name in ('workers', 'gpus'):
    if getattr(options, name) < 0:
      arguments.error(f'argument --{name}: expected at least 0')
  for name in ('shard', 'batch', 'channel'):
    value = getattr(options, name)
    if value is not None and value < 1:
      arguments.error(f'argument --{name}: {value} is not at least 1')
  # Here and not above: --help answers at once.
  from jaxspoof.bulk import plan, watch

  folder = pathlib.Path(options.out)
  settings = {name: getattr(options, name) for name in SETTINGS}
  begin = time.monotonic()
  try:
    # Before there is a plan, which would hold on to it.
    if options.checkpoint and not os.path.exists(options.checkpoint):
      raise ValueError(f'{options.checkpoint}: there is no such checkpoint')
    planned = plan.claim(folder, options.input, options.shard, settings)
    before = plan.done(folder)
    if len(before) == planned['shards']:
      pass
    elif options.workers:
      status = watch.score(
        folder, planned['shards'], options.workers, options.gpus
      )
      if status:
        return status
    else:
      from jaxspoof.bulk import worker

      worker.work(folder)
  except (ValueError, OSError) as error:
    print(f'bulk: error: {error}', file=sys.stderr)
    return 2
  seconds = time.monotonic() - begin
  done = plan.done(folder)
  whole = watch.totals(folder, done)
  print(
    f'{folder / "scores"}: {whole.get("clips", 0):,} recordings in '
    f'{len(done):,} of {planned["shards"]:,} shards, '
    f'{whole.get("failed", 0):,} of them cannot be scored'
  )
  if whole.get('left_out'):
    print(f'{whole["left_out"]:,} members of tar files are no recordings')
  if now := watch.totals(folder, done - before):
    print(said(now, seconds, options.workers))
  if len(done) < planned['shards']:
    print(
      f'{planned["shards"] - len(done):,} shards are missing; give the same '
      'command again to go on',
      file=sys.stderr,
    )
    return 1
  return 1 if whole['failed'] else 0


def said(now: dict[str, float], seconds: float, workers: int) -> str:
  """How fast it went, in a sentence."""
  count = len(cores.own())
  hours = now['scored'] / 3600
  rate = hours / (seconds / 3600)
  return (
    f'this time {now["clips"]:,} recordings in {seconds:,.1f} s, '
    f'{now["clips"] / seconds:,.1f} a second: {hours:,.2f} hours of sound were '
    f'scored (of {now["duration"] / 3600:,.2f}), {rate:,.0f} hours an hour, '
    f'{rate / count:,.0f} per core ({count} cores, {workers or 1} '
    f'process{"es" * (workers > 1)})'
  )


SETTINGS = (
  'checkpoint', 'seconds', 'batch', 'channel', 'bonafide_label', 'prior',
  'target_far',
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(
    prog='python -m jaxspoof.bulk',
    description='Scores large archives by several processes, so that every'
    ' recording has one\nrow in the end, whatever was killed meanwhile.',
    epilog=EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  made.add_argument(
    '--input',
    nargs='+',
    required=True,
    metavar='PATH',
    help='files, folders, patterns and @LIST as for detect.py; tables (.csv,'
    ' .tsv) with a column path, relative to the table; .tar files (also .gz,'
    ' .bz2, .xz) and .parquet files that hold recordings, below folders too',
  )
  made.add_argument(
    '--out', required=True, metavar='FOLDER', help='where all results go'
  )
  made.add_argument(
    '--workers',
    type=int,
    default=len(cores.own()),
    help='how many processes, which divide the cores; 0 scores in this one'
    ' (default: one for each core)',
  )
  made.add_argument(
    '--gpus',
    type=int,
    default=0,
    help='how many GPUs the processes divide among themselves; 0 leaves the'
    ' choice of devices to JAX',
  )
  made.add_argument(
    '--shard',
    type=int,
    default=1000,
    metavar='N',
    help='how many files make up a shard (default: 1000); a tar file and each'
    ' row group of a parquet file are one',
  )
  made.add_argument('--checkpoint', metavar='CKPT', help='see detect.py')
  made.add_argument('--seconds', type=float, help='see detect.py')
  made.add_argument('--batch', type=int, help='see detect.py')
  made.add_argument('--channel', type=int, metavar='N', help='see detect.py')
  made.add_argument('--bonafide_label', metavar='LABEL', help='see detect.py')
  made.add_argument('--prior', type=float, help='see detect.py')
  made.add_argument(
    '--target_far', type=float, metavar='RATE', help='see detect.py'
  )
  return made


def start(argv: list[str] | None = None) -> None:
  """Runs the command as a program: ends the process with its status.

  Args:
    argv: its arguments; those of the process by default.
  """
  huge_pages.ensure()
  sys.exit(interrupts.call(lambda: main(argv)))


if __name__ == '__main__':
  start()
