"""A file for a third person: what was said of a recording, by what, and why.

python -m jaxspoof.detect.evidence out.zip [RECORDING]   checks one

It holds the answer, pictures of it, the card of the detector, and what the
answer depends on: hashes, versions, the machine and the command. The recording
is not in it, only its hash. The same recording, detector, command and date give
the same bytes. It is not signed: who gets it needs the hash of the file, which
is printed, from elsewhere.
"""

import argparse
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import platform
import shlex
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence

import jax
import soundfile

from jaxspoof import audio, checkpoints
from jaxspoof.detect import explained, inputs, outputs
from jaxspoof.detect.picture import Overview
from jaxspoof.detector import Detector, Failure
from jaxspoof.machine import files
from jaxspoof.training import cost

FORMAT = 1
ABOUT = 'evidence.json'
_DATE = 'SOURCE_DATE_EPOCH'  # of reproducible builds: seconds since 1970
README = """What is in here
  evidence.json    the recording's name, size and SHA-256; the detector; date,
                   command, versions, machine; SHA-256 of the files below
  answer.json      verdict, probabilities, reasons and warnings; which times and
                   bands carried the score; the parts of a long recording
  explanation.png  spectrogram with what carried the score
  timeline.svg     spectrogram and waveform coloured by verdict (of calibrated
                   detectors)
  card.json        what the detector is, was trained on and is worth (of
                   bundles)

The recording itself is not in here. To check that these files are whole and of
a recording: python -m jaxspoof.detect.evidence FILE.zip RECORDING
A verdict is the output of a statistical model that errs; its card says how
often. Nothing here is signed.
"""


def check_options(options, paths: Sequence[str]) -> None:
  """Raises ValueError for what cannot be asked for together."""
  asked = f'--evidence {options.evidence}'
  if not options.evidence.endswith('.zip'):
    raise ValueError(f'{asked}: expected a name that ends in .zip')
  if len(paths) > 1:
    raise ValueError(f'{asked}: is of one recording; {len(paths)} are named')
  if options.csv or options.out:
    raise ValueError(f'{asked}: CSV is of tables; see --json')


def show(
  detector: Detector,
  paths: Sequence[str],
  problems: Sequence[Failure],
  options,
  argv: Sequence[str],
) -> int:
  """Writes the file of a recording, and prints what is said of it.

  Args:
    detector: loaded.
    paths: the recording, or nothing if `problems` says why.
    problems: what named none.
    options: of the command line.
    argv: the command line.

  Returns:
    How many failed; then nothing is written.

  Raises:
    OSError: a file that cannot be written.
  """
  results = list(problems)
  for path in paths:
    try:
      result, members = gather(detector, path, options, argv)
      data = packed(members)
      with files.replacing(pathlib.Path(options.evidence)) as file:
        file.write(data)
      digest = hashlib.sha256(data).hexdigest()
      print(f'{options.evidence}: SHA-256 {digest}', file=sys.stderr)
    except audio.AudioError as error:
      result = Failure(path, str(error))
    results.append(result)
  if options.json:
    return outputs.show_json(results, detector)
  return outputs.show_table(results, list(paths), detector)


def gather(detector: Detector, path: str, options, argv: Sequence[str]):
  """The detection of a recording, and the files that tell of it by name.

  Raises:
    AudioError: it cannot be scored.
  """
  source = _content(path)  # once, so that all is of the same bytes
  how = {'channel': options.channel, 'name': path}
  found = detector.explain(source, **how)
  answer = outputs.values_of(found.detection, detector)
  answer['explanation'] = explained.values_of(found)
  members = {'explanation.png': explained.picture(found, 'explanation.png')}
  if detector.calibrated:
    overview = Overview()
    timeline = detector.timeline(source, watch=overview.add, **how)
    answer['timeline'] = dataclasses.asdict(timeline)
    members['timeline.svg'] = overview.svg(timeline).encode()
  if detector.known is not None:
    members['card.json'] = detector.known.card.text().encode()
  members['answer.json'] = _json(answer)
  checkpoint = (options.checkpoint or [str(checkpoints.shipped())])[0]
  about = {
    'format': FORMAT,
    'recording': {
      'name': path,
      'bytes': len(source),
      'sha256': hashlib.sha256(source).hexdigest(),
    },
    'detector': {
      **checkpoints.described(checkpoint, detector.model),
      'identity': detector.identity(channel=options.channel),
    },
    'date': _date(),
    'command': shlex.join(['detect.py', *argv]),
    'versions': {
      **cost.versions(),
      'libsndfile': soundfile.__libsndfile_version__,
    },
    'machine': {
      'system': platform.platform(),
      'processor': platform.machine(),
      'device': jax.devices()[0].device_kind,
    },
    'files': {
      name: hashlib.sha256(data).hexdigest()
      for name, data in sorted(members.items())
    },
  }
  members[ABOUT] = _json(about)
  members['README.txt'] = README.encode()
  return found.detection, members


def packed(members: Mapping[str, bytes]) -> bytes:
  """A zip file of files by name, without times of day."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as made:
    for name, data in sorted(members.items()):
      made.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
  return buffer.getvalue()


def problems_of(path: str, recording: str | None = None) -> list[str]:
  """What is wrong with a file of evidence, in sentences.

  Args:
    path: the zip file.
    recording: whose hash is compared; None leaves it out.

  Raises:
    OSError: a file that cannot be read.
    AudioError: likewise of the recording.
  """
  try:
    with zipfile.ZipFile(path) as made:
      about = json.loads(made.read(ABOUT))
      expected = about['files']
      there = {*made.namelist()} - {ABOUT, 'README.txt'}
      found = [f'{name}: not listed in {ABOUT}' for name in there - {*expected}]
      found += [f'{name}: missing' for name in {*expected} - there]
      for name in sorted({*expected} & there):
        if hashlib.sha256(made.read(name)).hexdigest() != expected[name]:
          found.append(f'{name}: is not what {ABOUT} says')
      of = about['recording']['sha256']
  except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
    return [f'{path}: no evidence, or damaged: {error}']
  if recording is None:
    return sorted(found)
  if hashlib.sha256(_content(recording)).hexdigest() != of:
    found.append(f'{recording}: not the recording that this is of')
  return sorted(found)


def _content(path: str) -> bytes:
  """A recording as it is in its file."""
  if path == inputs.STDIN:
    return inputs.from_stdin()
  return bytes(audio.open_bytes(pathlib.Path(path), path))


def _date() -> str:
  given = os.environ.get(_DATE)
  seconds = time.time() if given is None else int(given)
  return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds))


def _json(values) -> bytes:
  return (json.dumps(values, indent=2) + '\n').encode()


def main(argv: Sequence[str] | None = None) -> int:
  """Checks a file of evidence; returns 1 if something is wrong with it."""
  made = argparse.ArgumentParser(description='Checks a file of evidence.')
  made.add_argument('evidence', metavar='FILE.zip', help='to be checked')
  made.add_argument('recording', nargs='?', help='that it should be of')
  options = made.parse_args(argv)
  try:
    problems = problems_of(options.evidence, options.recording)
  except (audio.AudioError, OSError) as error:
    problems = [str(error)]
  for problem in problems:
    print(problem)
  if not problems:
    print(f'{options.evidence}: whole')
  return 1 if problems else 0


if __name__ == '__main__':
  sys.exit(main())
