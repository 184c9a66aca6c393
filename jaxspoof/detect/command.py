"""The command line of detection: `detect.py`, `jaxspoof detect`."""

import argparse
import gc
import itertools
import math
import os
import sys

from jaxspoof.machine import huge_pages, interrupts

EXAMPLES = """examples:
  python detect.py --checkpoint runs/aasist_quickstart --input clip.wav
  python detect.py --checkpoint AASIST.pth --input a.wav b.flac recordings/
  python detect.py --model aasist_l --checkpoint AASIST-L.pth --input x.mp3 \\
      --json | jq .score
  find archive -name '*.mp3' | python detect.py --input @- --out scores.csv
  python detect.py --input talk.m4a --picture talk.svg --segments talk.rttm
  python detect.py --input clip.wav --explain why.png
  python detect.py --checkpoint default AASIST.pth --input clip.wav
  arecord -q -t raw -f S16_LE -r 16000 | python detect.py --stream
  python detect.py --serve
  python detect.py --checkpoint CLASSIFIER --self_test real.wav fake.wav

A file that cannot be scored is reported on stderr, and with --json as an
object with "path" and "error"; the others are scored, and the exit status is
1. What makes a score doubtful (little sound, a very low level, channels that
cancel ...) is named behind it, and in "warnings"; why a verdict is uncertain
in "reasons". Verdicts do not change the exit status; nor does it when several
detectors disagree, but one that any of them cannot score counts. A wrong
command or checkpoint gives 2. With --self_test 3 means that not more than half
of the pairs are ranked rightly."""


def main(argv: list[str] | None = None) -> int:
  """Scores what the command line names; returns the exit status."""
  arguments = parser()
  options = arguments.parse_args(argv)
  if options.batch is not None and options.batch < 1:
    arguments.error(f'argument --batch: {options.batch} is not at least 1')
  if options.channel is not None and options.channel < 1:
    arguments.error(f'argument --channel: {options.channel} is not at least 1')
  asked = (options.input, options.stream, options.serve, options.self_test)
  if sum(map(bool, asked)) != 1:
    arguments.error(
      'expected --input, or --stream, --serve or --self_test instead of it'
    )
  over_time = bool(
    options.timeline or options.segments or options.picture or options.hop
  )
  if options.out and over_time:
    arguments.error('--out is a table of whole recordings; see --segments')
  alone = {
    'out': options.out,
    'explain': options.explain,
    'evidence': options.evidence,
    'stream': options.stream,
    'serve': options.serve,
    'self_test': options.self_test,
    'timeline and what implies it': over_time,
  }
  if len(options.checkpoint or ()) > 1 and any(alone.values()):
    asked = next(name for name, given in alone.items() if given)
    arguments.error(f'--{asked}: of one detector; ask each by itself')
  if options.self_test and (over_time or options.out or options.csv):
    arguments.error('--self_test prints a table, or with --json an object')
  for name in ('explain', 'evidence'):
    if getattr(options, name) and (over_time or not options.input):
      arguments.error(
        f'--{name} is of one recording (--input); it goes with none of '
        '--timeline, --segments, --picture, --hop, --stream and --serve'
      )
  if options.explain and options.evidence:
    arguments.error('--evidence holds what --explain draws')
  # Here and not above: --help answers at once.
  from jaxspoof.detect import inputs, outputs
  from jaxspoof.detector import Detector
  from jaxspoof.machine import programs

  programs.keep()
  checkpoints = options.checkpoint or [None]
  try:
    detectors = [
      Detector.load(
        checkpoint,
        options.model,
        seconds=options.seconds,
        batch=options.batch,
        bonafide_label=options.bonafide_label,
        prior=options.prior,
        target_far=options.target_far,
      )
      for checkpoint in checkpoints
    ]
    detector = detectors[0]
    paths, problems = inputs.expand(options.input)
    identity = detector.identity(channel=options.channel)
    table = options.out and outputs.Table(options.out, identity)
    if over_time or options.stream:
      from jaxspoof.detect import long  # draws, which takes a second to load

      long.check(options, paths, detector)
      form = options.stream and long.parsed(options.stream)
    if options.explain or options.evidence:
      from jaxspoof.detect import evidence, explained  # they draw, too

      if options.explain:
        explained.check(options, paths)
      else:
        evidence.check_options(options, paths)
  except (ValueError, OSError) as error:
    print(f'detect.py: error: {error}', file=sys.stderr)
    return 2
  for checkpoint, one in zip(checkpoints, detectors, strict=True):
    for note in () if options.quiet else one.notes:
      print(f'{checkpoint or "default detector"}: {note}', file=sys.stderr)
  if len(detectors) > 1:
    from jaxspoof.detect import compare

    failed = compare.show(detectors, checkpoints, paths, problems, options)
    return 1 if failed else 0
  if options.self_test:
    from jaxspoof.detect import self_test

    return self_test.show(detector, options)
  if options.serve:
    return _serve(detector, options)
  if options.stream:
    try:
      return long.follow(detector, form, options)
    except ValueError as error:
      print(f'detect.py: error: {error}', file=sys.stderr)
      return 1
  if options.explain:
    failed = explained.show(detector, paths, problems, options)
    return 1 if failed else 0
  if options.evidence:
    given = sys.argv[1:] if argv is None else argv
    failed = evidence.show(detector, paths, problems, options, given)
    return 1 if failed else 0
  if over_time:
    return 1 if long.show(detector, paths, problems, options) else 0
  if table:
    paths = [path for path in paths if path not in table.done]
    problems = [one for one in problems if one.path not in table.done]
  scored = detector.score_many(
    (inputs.from_stdin() if p == inputs.STDIN else p for p in paths),
    channel=options.channel,
    names=paths,
  )
  results = itertools.chain(problems, scored)
  if table:
    total = len(problems) + len(paths)
    failed = outputs.write_table(results, table, total)
  elif options.json:
    failed = outputs.show_json(results, detector)
  elif options.csv:
    failed = outputs.show_csv(results, detector, identity)
  else:
    failed = outputs.show_table(results, paths, detector, not options.quiet)
  return 1 if failed else 0


def _serve(detector, options) -> int:
  """Serves until it is ended; returns the exit status."""
  try:
    from jaxspoof.detect.serve import server, uploads
  except ImportError as error:
    print(
      f'detect.py: error: --serve needs the package {error.name} (pip install '
      '"jaxspoof[web]")',
      file=sys.stderr,
    )
    return 2
  given = {
    'megabytes': options.limit_megabytes,
    'seconds': options.limit_seconds,
    'at_once': options.limit_at_once,
  }
  given = {name: value for name, value in given.items() if value is not None}
  try:
    server.run(detector, options.serve, uploads.Limits(**given))
  except (ValueError, OSError) as error:
    print(f'detect.py: error: {error}', file=sys.stderr)
    return 2
  return 0


def expand(inputs: list[str]) -> tuple[list[str], list]:
  """Recordings to score, and what names none; see `inputs.expand`."""
  from jaxspoof.detect import inputs as inputs_lib

  return inputs_lib.expand(inputs)


def number(text: str) -> float:
  """A finite number of the command line; ValueError for what is none."""
  value = float(text)
  if not math.isfinite(value):
    raise ValueError(text)
  return value


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(
    prog='detect.py',
    description='Says of recordings of speech whether they are bona fide'
    ' (human) or a spoof (made\nby a machine), how sure that is, and when the'
    ' detector should not be trusted.',
    epilog=EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  made.add_argument(
    '--input',
    nargs='+',
    default=[],
    metavar='PATH',
    help='files to score (wav, flac, mp3, ogg, opus, aiff, au, caf, w64, sph;'
    ' with the package av also m4a, aac, amr, webm, wma, the sound of videos;'
    ' of any sampling rate and number of channels); directories, in which'
    ' all recordings at any depth are scored, behind links too, but none whose'
    " name begins with a dot; patterns such as 'calls/**/*.wav'; @LIST, a file"
    ' of such names, one a line (@-: from standard input); - is one recording'
    ' from standard input',
  )
  made.add_argument(
    '--checkpoint',
    nargs='+',
    metavar='CKPT',
    help='a detector bundle (a folder or one file), the workdir of a training'
    ' run, such as runs/aasist_quickstart, a .pth file released by the authors'
    ' of AASIST, or a directory of a sequence classifier (wav2vec 2.0, HuBERT'
    ' or WavLM) as Hugging Face has them; by default the detector that comes'
    ' with the package, if one does, which has the name default. Several are'
    ' asked about the same recordings, side by side',
  )
  made.add_argument(
    '--model',
    metavar='NAME',
    help='stop with an error if the checkpoint is of another model than NAME,'
    ' such as aasist or aasist_l; by default any model is accepted',
  )
  made.add_argument(
    '--seconds',
    type=number,
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
    ' bona fide speech; needed where its labels do not say so, or are wrong',
  )
  made.add_argument(
    '--self_test',
    '--self-test',
    nargs=2,
    action='append',
    metavar=('BONAFIDE', 'SPOOF'),
    help='say whether the detector ranks recordings rightly whose truth is'
    ' known: two files, folders, patterns or lists as for --input; may be given'
    ' more than once. The exit status is 3 if not more than half of the pairs'
    ' of a bona fide and a spoofed one are ranked rightly',
  )
  made.add_argument(
    '--prior',
    type=number,
    help='probability of a spoof before anything was heard (default: 0.5)',
  )
  made.add_argument(
    '--target_far',
    type=number,
    metavar='RATE',
    help='accept as bona fide only from the threshold on at which at most this'
    ' share of the spoofs passed that the detector was calibrated on, such as'
    ' 0.01',
  )
  made.add_argument(
    '--channel',
    type=int,
    metavar='N',
    help='score this channel, the first being 1, instead of the mean of all',
  )
  made.add_argument(
    '--timeline',
    action='store_true',
    help='score all of each recording, of any length, in windows that overlap,'
    ' and say which parts are bona fide and which are not',
  )
  made.add_argument(
    '--hop',
    type=number,
    metavar='SECONDS',
    help='from one window to the next (default: half a window); with --timeline'
    ' and --stream',
  )
  made.add_argument(
    '--segments',
    metavar='FILE',
    help='write the parts into this file: .json, .csv, .rttm, or .txt for'
    ' labels of Audacity; implies --timeline',
  )
  made.add_argument(
    '--picture',
    metavar='FILE.svg',
    help='draw spectrogram and waveform, coloured by verdict, of one recording;'
    ' implies --timeline',
  )
  made.add_argument(
    '--explain',
    metavar='FILE.png',
    help='draw which times and bands of one recording carried its score, by'
    ' integrated gradients, and print the strongest; .png or .svg',
  )
  made.add_argument(
    '--evidence',
    metavar='FILE.zip',
    help='write a file for a third person: the answer for one recording,'
    ' pictures, the card of the detector, hashes, versions and the command;'
    ' the time of day is that of SOURCE_DATE_EPOCH if it is set',
  )
  made.add_argument(
    '--stream',
    nargs='?',
    const='s16le:16000:1',
    metavar='FORMAT',
    help='score raw samples from standard input as they come, a line for each'
    ' window; FORMAT is TYPE:RATE:CHANNELS (default: s16le:16000:1), TYPE one'
    ' of s16le, s24le, s32le and f32le',
  )
  made.add_argument(
    '--serve',
    nargs='?',
    const='127.0.0.1:8000',
    metavar='HOST:PORT',
    help='answer over HTTP: a page to drop recordings on, and POST /v1/score'
    ' for programs; by default on 127.0.0.1:8000, which only this machine can'
    ' reach. Elsewhere a token is asked for, that of JAXSPOOF_TOKEN or one that'
    ' is drawn and printed',
  )
  made.add_argument(
    '--limit_megabytes',
    type=number,
    metavar='N',
    help='with --serve: refuse larger recordings (default: 50)',
  )
  made.add_argument(
    '--limit_seconds',
    type=number,
    metavar='N',
    help='with --serve: refuse longer recordings (default: 600)',
  )
  made.add_argument(
    '--limit_at_once',
    type=int,
    metavar='N',
    help='with --serve: hold no more recordings in memory at the same time'
    ' (default: 16); others wait, and are refused where too many do',
  )
  made.add_argument(
    '--quiet',
    action='store_true',
    help='leave out the notes on the detector, and what the columns of a table'
    ' mean; errors are still told',
  )
  form = made.add_mutually_exclusive_group()
  form.add_argument(
    '--json',
    action='store_true',
    help='print one JSON object per file and line instead of a table',
  )
  form.add_argument(
    '--csv', action='store_true', help='print CSV instead of a table'
  )
  form.add_argument(
    '--out',
    metavar='FILE',
    help='write CSV into this file, row by row; started again with the same'
    ' command, it goes on where it stopped',
  )
  return made


def start(argv: list[str] | None = None) -> None:
  """Runs the command as a program: ends the process with its status.

  Args:
    argv: its arguments; those of the process by default.
  """
  huge_pages.ensure()
  # Nearly all that a start makes stays: looking through it takes a tenth of it.
  gc.set_threshold(50_000)
  sys.stdout.reconfigure(errors='backslashreplace')  # any file name prints
  try:
    sys.exit(interrupts.call(lambda: main(argv)))
  except RuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):  # JAX's name for it
      raise
    print(
      f'detect.py: error: not enough memory ({error}); fewer recordings at once'
      ' (--batch), or less of each (--seconds), need less',
      file=sys.stderr,
    )
    sys.exit(2)
  except BrokenPipeError:  # `| head` has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
