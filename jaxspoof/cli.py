"""The console command `jaxspoof`: one name for what the package does."""

import sys
from collections.abc import Callable
from typing import NamedTuple


class Command(NamedTuple):
  """A command.

  Attributes:
    words: what it does.
    run: gets the arguments behind the name; returns the exit status or None.
  """

  words: str
  run: Callable[[list[str]], int | None]


# Each imports what it needs when it is called: `jaxspoof detect` needs nothing
# of training, and `jaxspoof --help` nothing at all.
def _detect(arguments: list[str]) -> None:
  from jaxspoof.detect import command

  command.start(arguments)


def _serve(arguments: list[str]) -> None:
  from jaxspoof.detect import command

  command.start(['--serve', *arguments])


def _bulk(arguments: list[str]) -> None:
  from jaxspoof.bulk import __main__ as command

  command.start(arguments)


def _job(arguments: list[str]) -> None:
  from jaxspoof import run

  run.start(['jaxspoof', *arguments])


def _metrics(arguments: list[str]) -> int:
  from jaxspoof.metrics import __main__ as command

  return command.main(arguments)


def _report(arguments: list[str]) -> None:
  from jaxspoof.report import __main__ as command

  command.main(arguments)


def _verify(arguments: list[str]) -> None:
  from jaxspoof import verify

  verify.main(arguments)


def _build(arguments: list[str]) -> int:
  from tfds_builders import build

  return build.main(arguments)


def _bundle(arguments: list[str]) -> int:
  from jaxspoof import bundle

  return bundle.main(arguments)


def _export(arguments: list[str]) -> int:
  from jaxspoof import export

  return export.main(arguments)


COMMANDS = {
  'detect': Command('says of recordings what they are', _detect),
  'serve': Command('the same over HTTP, with a page', _serve),
  'bulk': Command('scores large archives by several processes', _bulk),
  'train': Command('runs the job of a config file, such as training', _job),
  'evaluate': Command('the same, with configs/evaluate.py', _job),
  'metrics': Command('measures score files', _metrics),
  'report': Command('makes the page of a run again', _report),
  'verify': Command('checks a finished run against its record', _verify),
  'build': Command('builds a corpus', _build),
  'bundle': Command('shows, checks, packs and calibrates detectors', _bundle),
  'export': Command('writes a detector for programs without jaxspoof', _export),
}


def main(argv: list[str] | None = None) -> int:
  """Runs a command; returns the exit status."""
  arguments = sys.argv[1:] if argv is None else argv
  if not arguments or arguments[0] in ('-h', '--help'):
    print(usage())
    return 0 if arguments else 2
  name, *rest = arguments
  if name not in COMMANDS:
    print(f'jaxspoof: error: no command {name!r}\n\n{usage()}', file=sys.stderr)
    return 2
  from jaxspoof.machine import interrupts

  return interrupts.call(lambda: COMMANDS[name].run(rest)) or 0


def usage() -> str:
  """All commands, in lines."""
  width = max(map(len, COMMANDS))
  return '\n'.join(
    [
      'usage: jaxspoof COMMAND ...; jaxspoof COMMAND --help says more',
      '',
      *(f'  {name:<{width}}  {one.words}' for name, one in COMMANDS.items()),
    ]
  )


if __name__ == '__main__':
  sys.exit(main())
