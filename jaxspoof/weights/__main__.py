"""Says what is in a file or directory of weights: `python -m jaxspoof.weights`.

What it holds, which model it fits, what it lacks or has too much, and the
command that uses it. Nothing in it is run.
"""

import argparse
import collections
import pathlib
import sys
from collections.abc import Iterator

import numpy as np
from flax import nnx

from jaxspoof import frontends
from jaxspoof.enhance import weights as conv_tasnet
from jaxspoof.frontends import distillmos
from jaxspoof.frontends.ssl import names
from jaxspoof.frontends.ssl import weights as ssl
from jaxspoof.frontends.ssl.architecture import ARCHITECTURES
from jaxspoof.frontends.ssl.encoder import Encoder
from jaxspoof.frontends.whisper import architecture as whisper_sizes
from jaxspoof.frontends.whisper import encoder as whisper_encoder
from jaxspoof.frontends.whisper import weights as whisper
from jaxspoof.runs.names import RunError
from jaxspoof.tensors import files, fit, packages
from jaxspoof.tensors.unpickler import CheckpointError
from jaxspoof.weights import aasist, classifiers, ecapa, peft, ssl_detectors

SHOWN = 5  # names of tensors in a line


def main(argv: list[str] | None = None) -> int:
  """Prints what is in weights.

  Returns:
    0 where they fit a model or were written, 1 where they fit none, 2 where
    they cannot be read.
  """
  parser = argparse.ArgumentParser(
    prog='python -m jaxspoof.weights',
    description='Says what weights hold, what they fit and what they lack.',
  )
  parser.add_argument(
    'path',
    help='a file of torch.save, safetensors or CTranslate2, a directory as '
    'Hugging Face has them, or package:NAME',
  )
  parser.add_argument(
    '--peft',
    metavar='DIRECTORY',
    help='of a run that adapted an encoder by LoRA (its workdir): write what '
    'it adapted there, as PEFT has it',
  )
  arguments = parser.parse_args(argv)
  path = arguments.path
  try:
    if arguments.peft is not None:
      print(peft.save(pathlib.Path(path), pathlib.Path(arguments.peft)))
      return 0
    if peft.is_directory(pathlib.Path(path)):
      lines = list(of_classifier(path))
      print('\n'.join(lines))
      return 0 if len(lines) > 1 else 1
    found = files.open_weights(packages.find(path))
    print(f'{path}: {holdings(found.tensors)}')
    if found.around:
      print(f'beside them: {_some(found.around)}')
    lines = list(fitting(path, found))
  except (CheckpointError, RunError, OSError) as error:
    print(f'python -m jaxspoof.weights: error: {error}', file=sys.stderr)
    return 2
  for line in lines:
    print(line)
  return 0 if lines and lines[-1].startswith('use: ') else 1


def holdings(tensors: dict[str, np.ndarray]) -> str:
  """How many values of which kinds."""
  kinds = collections.Counter()
  for array in tensors.values():
    kinds[str(array.dtype)] += array.size
  values = ', '.join(f'{n:,} values of {kind}' for kind, n in kinds.items())
  return f'{len(tensors)} tensors, {values}'


def fitting(path: str, found: files.Checkpoint) -> Iterator[str]:
  """Lines that say what weights fit; the last one how they are used, if so."""
  if variant := aasist.variant_of(found.tensors):
    aasist.load(path, variant)
    yield f'fits: {variant}, with its head'
    yield f'use: python detect.py --checkpoint {path} --input FILE'
  elif 'asp.conv.kernel' in (given := ecapa.translate(found.tensors)):
    arguments = ecapa.arguments_of(given, {}, path)
    yield f'fits: an ECAPA-TDNN of SpeechBrain, {arguments["channels"]}'
    yield (
      'use: python run.py --config=configs/ecapa_mfcc.py:voxceleb '
      f'--config.init={path}'
    )
  elif kind := ssl_detectors.kind_of(found.tensors):
    yield f'detector: {kind}, with its encoder'
    yield f'use: python detect.py --checkpoint {path} --input FILE'
  elif why := ssl_detectors.unknown(found.tensors):
    yield f'detector: recognised as {why}: not supported'
  elif conv_tasnet.kind_of(found.tensors):
    yield from of_enhancer(path)
  elif whisper.is_whisper(found.tensors):
    yield from of_whisper(path, found)
  elif distillmos.is_distillmos(found.tensors):
    yield from of_distillmos(path)
  else:
    yield from of_encoder(path, found)
    if 'classifier.weight' in found.tensors and pathlib.Path(path).is_dir():
      yield from of_classifier(path)


def of_enhancer(path: str) -> Iterator[str]:
  """The same of networks for speech enhancement."""
  c = conv_tasnet.load(path).config
  yield (
    f'fits: a Conv-TasNet, {c.sources} source(s), {c.filters} filters of '
    f'{c.kernel} samples, {c.stacks} x {c.blocks} blocks, {c.norm} norms, mask '
    f'by {c.mask}, {c.sample_rate} Hz'
  )
  if c.sources == 1:
    yield (
      'use: python run.py --config=configs/evaluate.py --config.conditions='
      f"\"('clean','enhance:{path}')\" --config.checkpoint=WORKDIR"
    )


def of_encoder(path: str, found: files.Checkpoint) -> Iterator[str]:
  """The same of self-supervised encoders."""
  tensors, others = names.encoder_part(found.tensors)
  if not tensors:
    yield f'fits: no model; it has {_some(found.tensors)}'
    return
  source = ssl.describe(path)
  c = source.architecture
  known = [name for name, one in ARCHITECTURES.items() if one == c]
  yield (
    f'encoder: {"WavLM" if c.buckets else "wav2vec 2.0 or HuBERT"}'
    f'{f" (as {known[0]})" if known else ""}, {c.layers} layers of {c.width}, '
    f'{c.heads} heads, {"pre" if c.pre_norm else "post"}-norm'
  )
  if source.guessed:
    yield f'not said in it, assumed: {source.guessed}'
  expected = {True: 'normalised waves', False: 'waves as they are'}
  said = expected.get(source.normalise, 'not said; set frontend.normalise_wave')
  yield f'expects: {said}'
  if unused := [name for name in others if names.unused(name)]:
    yield f'of pretraining, not used: {_some(unused)}'
  if rest := [name for name in others if name not in unused]:
    yield f'of something else, not used by the encoder: {_some(rest)}'
  yield from _fits(
    lambda: Encoder(c, nnx.Rngs(0)), names.translate(tensors), path
  )


def of_whisper(path: str, found: files.Checkpoint) -> Iterator[str]:
  """The same of Whisper's encoders."""
  given, others = whisper.encoder_part(found.tensors, path)
  c = whisper.describe(path)
  sizes = whisper_sizes.ARCHITECTURES
  known = [name for name, one in sizes.items() if one == c]
  yield (
    f'encoder: Whisper{f" (as {known[0]})" if known else ""}, {c.layers} '
    f'layers of {c.width}, {c.heads} heads, {c.mels} mel bands'
  )
  if name := whisper.KNOWN.get(whisper.digest(given)):
    yield f'known: {name}'
  if others:
    yield f'of something else, not used by the encoder: {_some(others)}'
  make = lambda: whisper_encoder.Encoder(c, nnx.Rngs(0))
  yield from _fits(make, given, path, '--config.frontend.name=whisper ')


def of_distillmos(path: str) -> Iterator[str]:
  """The same of DistillMOS, whose convolutions alone are taken."""
  c = frontends.make('distillmos', weights=path, rngs=nnx.Rngs(0)).config
  channels = ', '.join(map(str, c.channels))
  yield f'fits: the convolutions of DistillMOS, of {channels} channels'
  yield (
    'use: python run.py --config=configs/ecapa_mfcc.py '
    f'--config.frontend.name=distillmos --config.frontend.weights={path}'
  )


def _fits(make, given: fit.Given, path: str, name: str = '') -> Iterator[str]:
  """Whether arrays fill a module, and what they are used by, if so."""
  abstract = nnx.eval_shape(make)
  wanted = {
    '.'.join(map(str, k)): v.shape
    for k, v in nnx.to_flat_state(nnx.state(abstract))
  }
  problems = fit.differences(wanted, given, 'layers.')
  for problem in problems[: fit.LISTED]:
    yield f'does not fit: {problem}'
  if (more := len(problems) - fit.LISTED) > 0:
    yield f'and {more} more'
  if not problems:
    yield 'lacks: nothing'
    yield (
      f'use: python run.py --config=configs/ssl_ecapa.py {name}'
      f'--config.frontend.weights={path}'
    )


def of_classifier(path: str) -> Iterator[str]:
  """Whether an encoder with a head is a detector that can be used."""
  try:
    classifier = classifiers.load(path)
  except CheckpointError as error:
    yield f'detector: no; {error}'
    return
  yield f'detector: {"; ".join(classifier.notes)}'
  yield f'use: python detect.py --checkpoint {path} --input FILE'


def _some(names) -> str:
  """The first of many names."""
  names = list(names)
  more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
  return ', '.join(names[:SHOWN]) + more


if __name__ == '__main__':
  sys.exit(main())
