"""Scores audio files with a trained countermeasure; see --help."""

import argparse
import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterable

from jaxspoof.machine import huge_pages, interrupts

EXAMPLES = """examples:
  python detect.py --checkpoint runs/aasist_quickstart --input clip.wav
  python detect.py --checkpoint AASIST.pth --input a.wav b.flac recordings/
  python detect.py --model aasist_l --checkpoint AASIST-L.pth --input x.mp3 \\
      --json | jq .score

A file that cannot be scored is reported on stderr, and with --json as an
object with "path" and "error"; the others are scored, and the exit status is
1. What makes a score doubtful (little sound, a very low level, channels that
cancel ...) is named behind it, and in "warnings". A wrong command or
checkpoint gives 2."""


def main(argv: list[str] | None = None) -> int:
  """Scores what the command line names; returns the exit status."""
  arguments = parser()
  options = arguments.parse_args(argv)
  if options.batch is not None and options.batch < 1:
    arguments.error(f'argument --batch: {options.batch} is not at least 1')
  # Here and not above: --help answers at once.
  from jaxspoof.detector import Detector
  from jaxspoof.machine import programs

  programs.keep()
  try:
    detector = Detector.load(
      options.checkpoint,
      options.model,
      seconds=options.seconds,
      batch=options.batch,
      bonafide_label=options.bonafide_label,
    )
  except (ValueError, OSError) as error:
    print(f'detect.py: error: {error}', file=sys.stderr)
    return 2
  for note in detector.notes:
    print(f'{options.checkpoint}: {note}', file=sys.stderr)
  paths, problems = expand(options.input)
  results = itertools.chain(problems, detector.score_files(paths))
  failed = (
    show_json(results, detector)
    if options.json
    else show_table(results, paths, detector)
  )
  return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(
    prog='detect.py',
    description='Scores recordings of speech: a higher score means more like'
    ' bona fide (human)\nspeech, a lower one more like a spoof (made by a'
    ' machine). Scores are not\ncalibrated, so there is no verdict.',
    epilog=EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  made.add_argument(
    '--input',
    nargs='+',
    required=True,
    metavar='PATH',
    help='files to score (wav, flac, mp3, ogg, opus, aiff, au, caf, w64 or sph,'
    ' of any sampling rate and number of channels), and directories, in which'
    ' all recordings at any depth are scored, behind links too, but none whose'
    ' name begins with a dot',
  )
  made.add_argument(
    '--checkpoint',
    required=True,
    metavar='CKPT',
    help='trained weights: the workdir of a training run, such as'
    ' runs/aasist_quickstart, a .pth file released by the authors of AASIST, or'
    ' a directory of a sequence classifier (wav2vec 2.0, HuBERT or WavLM) as'
    ' Hugging Face has them',
  )
  made.add_argument(
    '--model',
    metavar='NAME',
    help='stop with an error if the checkpoint is of another model than NAME,'
    ' such as aasist or aasist_l; by default any model is accepted',
  )
  made.add_argument(
    '--seconds',
    type=float,
    help='how many seconds of each file are scored, from its start; by default'
    ' as many as in the evaluation of the run (4.04 for released weights).'
    ' Shorter files are repeated',
  )
  made.add_argument(
    '--batch',
    type=int,
    help='how many files are scored at once (default: 1 on a CPU, else 16)',
  )
  made.add_argument(
    '--bonafide_label',
    metavar='LABEL',
    help='which label of a classifier, or the number of which output, means'
    ' bona fide speech; needed where its labels do not say so',
  )
  made.add_argument(
    '--json',
    action='store_true',
    help='print one JSON object per file and line instead of a table',
  )
  return made


def expand(inputs: list[str]) -> tuple[list[str], list]:
  """Files to score, and a `Failure` for each directory without any.

  Files are taken as they are named. Below a directory, recordings are taken,
  sorted; files that are none are counted on stderr.
  """
  from jaxspoof import audio
  from jaxspoof.detector import Failure

  paths, problems = [], []
  for name in inputs:
    if not os.path.isdir(name):
      paths.append(name)
      continue
    found = audio.find(name)
    paths += found.files
    problems += [Failure(path, why) for path, why in found.problems]
    if not found.files and not found.problems:
      known = ', '.join(audio.EXTENSIONS)
      message = f'{name}: no audio files below this directory ({known})'
      problems.append(Failure(name, message))
    if found.others:
      shown = ', '.join(os.path.relpath(x, name) for x in found.others[:3])
      more = ', ...' if len(found.others) > 3 else ''
      print(
        f'{name}: {len(found.others)} files that are no audio are left out '
        f'({shown}{more})',
        file=sys.stderr,
      )
  return paths, problems


def show_json(results: Iterable, detector) -> int:
  """Prints one object a line, as results come; returns how many failed.

  `classes` says what the numbers of `logits` stand for.
  """
  failed, classes = 0, outputs_of(detector)
  for result in results:
    values = dataclasses.asdict(result)
    if 'error' in values:
      failed += 1
      print(values['error'], file=sys.stderr, flush=True)
    else:
      values['logits'] = [round(value, 6) for value in values['logits']]
      values['score'] = round(values['score'], 6)
      values['classes'] = classes
    print(json.dumps(values), flush=True)
  return failed


def show_table(results: Iterable, paths: list[str], detector) -> int:
  """Prints an aligned table, as results come; returns how many failed."""
  width = max([len('file'), *map(len, paths)])
  failed = 0
  kind = 'logits' if detector.loss.head == 'linear' else 'cosines'
  print(f'{"file":<{width}}  {"score":>9}  {"scored":>8}  {"of":>9}  {kind}')
  for result in results:
    if not hasattr(result, 'score'):
      failed += 1
      print(result.error, file=sys.stderr, flush=True)
      continue
    outputs = ' '.join(f'{value:>8.3f}' for value in result.logits)
    warnings = ''.join(f'  warning: {text}' for text in result.warnings)
    print(
      f'{result.path:<{width}}  {result.score:>9.3f}  {result.scored:>6.2f} s'
      f'  {result.duration:>7.2f} s  {outputs}{warnings}',
      flush=True,
    )
  print(meaning(kind, detector))
  return failed


def meaning(kind: str, detector) -> str:
  """What the columns of the table say."""
  return (
    'score: higher = bona fide, lower = spoof; it is the '
    f'{detector.loss.meaning}. {kind}: {", ".join(outputs_of(detector))}. No '
    'threshold is calibrated yet, so there is no verdict.'
  )


def outputs_of(detector) -> list[str]:
  """The class that each output of the model stands for."""
  first = -1 if detector.loss.head == 'one_class' else 0
  return list(detector.classes[first:])


if __name__ == '__main__':
  huge_pages.ensure()
  sys.stdout.reconfigure(errors='backslashreplace')  # any file name prints
  try:
    sys.exit(interrupts.call(main))
  except BrokenPipeError:  # `| head` has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
