"""The TFDS builder of DeepfakeTIMIT with VidTIMIT and TIMIT-TTS.

DeepfakeTIMIT swaps faces, not voices: its audio is the speech of VidTIMIT,
once for each quality of the video. So both are the bona fide class, each
recording once, and synthetic speech of the same sentences, TIMIT-TTS, is the
spoofed one. Without it there is no such class, and none is made.
"""

import collections
import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

import tensorflow_datasets as tfds

from jaxspoof import audio
from jaxspoof.classes import BONA_FIDE
from tfds_builders import archive, corpus, records
from tfds_builders.errors import BuildError, Problems
from tfds_builders.records import SHARES

SEED = 'deepfaketimit 0'
_DEEPFAKE, _VID, _TTS = 'DeepfakeTIMIT', 'VidTIMIT', 'TIMIT-TTS'
_QUALITIES = ('higher_quality', 'lower_quality')
_PERSON = re.compile(r'[fm][a-z]{3}\d')
_SENTENCE = re.compile(r'(?:^|[_-])(s[aix]\d+)(?=$|[_-])')


@dataclasses.dataclass
class SpoofConfig(tfds.core.BuilderConfig):
  """What the corpus is made of.

  Attributes:
    spoofs: with the clips of TIMIT-TTS.
  """

  spoofs: bool = True


@dataclasses.dataclass(frozen=True)
class _Clip:
  """A clip that was found.

  Attributes:
    path: of the audio.
    person: of VidTIMIT, who says it, or whose sentence is synthesised; ''
      where a synthetic clip names none.
    sentence: of TIMIT, such as 'sa1'.
    generator: who made it, BONA_FIDE for people.
    video: label of the video it comes with: 'bonafide', 'fake' or '-'.
    videos: those videos.
    processing: folder of TIMIT-TTS, such as CLEAN.
  """

  path: str
  person: str
  sentence: str
  generator: str = BONA_FIDE
  video: str = '-'
  videos: tuple[str, ...] = ()
  processing: str = '-'


class Deepfaketimit(corpus.CorpusBuilder):
  """Genuine speech under swapped faces, and synthetic speech.

  No speaker, sentence or generator is in two splits.
  """

  name = 'deepfaketimit'
  BUILDER_CONFIGS = [
    SpoofConfig(name='tts', description='With TIMIT-TTS as spoofs.'),
    SpoofConfig(name='genuine', description='Bona fide only.', spoofs=False),
  ]
  CORPUS = corpus.Corpus(
    title=(
      'DeepfakeTIMIT and VidTIMIT, genuine speech with and without a swapped '
      'face, and TIMIT-TTS, synthetic speech of the same sentences.'
    ),
    citation=(
      'Korshunov and Marcel, "DeepFakes: a New Threat to Face Recognition? '
      'Assessment and Detection", arXiv 1812.08685; Sanderson and Lovell, '
      '"Multi-Region Probabilistic Histograms for Robust and Scalable Identity '
      'Inference", ICB 2009; Salvi et al., "TIMIT-TTS: A Text-to-Speech '
      'Dataset for Multimodal Synthetic Media Detection", IEEE Access 11, 2023'
    ),
    licence='as on the page of each',
    homepage='https://zenodo.org/record/4068245',
    folder=_DEEPFAKE,
    splits={
      split: corpus.Split(tuple(f'{_DEEPFAKE}/{q}/' for q in _QUALITIES))
      for split in SHARES
    },
    get=(
      'DeepfakeTIMIT, the audio of VidTIMIT '
      '(http://conradsanderson.id.au/vidtimit/) and TIMIT-TTS.zip '
      '(https://zenodo.org/record/6560159), all unpacked beside each other'
    ),
    fields=(
      'audio_label', 'video_label', 'videos', 'sentence', 'processing', 'group',
    ),
  )  # fmt: skip

  def _trials(self, files, lists_of):
    people = _deepfake(files) + _vid(files)
    if not any(clip.path.startswith(_VID) for clip in people):
      print(f'note: {files.path} has no {_VID}/: no genuine videos')
    clips = _once(files, people)
    if len(clips) < len(people):
      print(
        f'{len(people)} recordings of people hold {len(clips)} different ones: '
        'each is taken once'
      )
    if self.builder_config.spoofs:
      clips += self._synthetic(files)
    splits, left_out = divide(clips)
    if left_out:
      self.list_left_out(
        'left_out.txt',
        [clip.path for clip in left_out],
        'clips are left out, so that no speaker, sentence or generator is in '
        'two splits',
      )
    return {split: list(map(_trial, splits[split])) for split in SHARES}

  def _synthetic(self, files: archive.Archive) -> list[_Clip]:
    clips = _tts(files)
    if not clips:
      raise BuildError(
        f'{files.path} has no {_TTS}/, and the audio of {_DEEPFAKE} and {_VID} '
        'is genuine: faces are swapped in its videos, not voices. There is '
        'nothing spoofed to detect in it. Put TIMIT-TTS (https://zenodo.org/'
        f'record/6560159) beside it, or build {self.name}/genuine: bona fide '
        'speech alone, to count false alarms on'
      )
    return clips


def _deepfake(files: archive.Archive) -> list[_Clip]:
  """DeepfakeTIMIT/QUALITY/PERSON/sa1.wav or sa1-video-DONOR.wav."""
  found = []
  for quality in _QUALITIES:
    names = files.names(f'{_DEEPFAKE}/{quality}')
    videos = collections.defaultdict(list)
    for name in names:
      if name.endswith('.avi'):
        videos[name.partition('-video-')[0]].append(name)
    for name in names:
      *_, person, file = name.split('/')
      if file.endswith('.wav'):
        sentence = file.removesuffix('.wav').partition('-video-')[0]
        made = videos[f'{name.rpartition("/")[0]}/{sentence}']
        found.append(
          _Clip(name, person, sentence, video='fake', videos=tuple(made))
        )
  return found


def _vid(files: archive.Archive) -> list[_Clip]:
  """VidTIMIT/PERSON/audio/sa1.wav; its video is a folder of pictures."""
  found = []
  for name in files.names(_VID):
    *_, person, kind, file = ('', '', *name.split('/'))
    if kind == 'audio' and file.endswith('.wav'):
      sentence = file.removesuffix('.wav')
      video = f'{name.rpartition("/audio/")[0]}/video/{sentence}'
      found.append(
        _Clip(name, person, sentence, video='bonafide', videos=(video,))
      )
  return found


def _tts(files: archive.Archive) -> list[_Clip]:
  """TIMIT-TTS/CLEAN/.../sa1.wav; the levels between are told by their names.

  Raises:
    BuildError: clips whose path names no sentence or no generator.
  """
  found, problems = [], Problems(files.path)
  for name in files.names(_TTS):
    if not name.endswith('.wav'):
      continue
    _, *parts = name.removesuffix('.wav').split('/')
    sentences = [m[1] for part in parts for m in _SENTENCE.finditer(part)]
    people = [p for part in parts for p in _PERSON.findall(part)]
    generator = '/'.join(
      part
      for part in parts[1:-1]
      if not _PERSON.fullmatch(part) and not _SENTENCE.fullmatch(part)
    )
    if not sentences or not generator:
      problems.add(
        f'{name}: expected {_TTS}/CLEAN/GENERATOR/.../SENTENCE.wav, a sentence '
        'such as sa1, si1000 or sx10'
      )
      continue
    person = people[-1] if people else ''
    found.append(
      _Clip(name, person, sentences[-1], generator, processing=parts[0])
    )
  problems.raise_if_any()
  return found


def _once(files: archive.Archive, clips: Sequence[_Clip]) -> list[_Clip]:
  """Merges clips of the same samples; VidTIMIT's own name comes first."""
  same = collections.defaultdict(list)
  for clip in sorted(clips, key=lambda clip: not clip.path.startswith(_VID)):
    same[_fingerprint(files, clip.path)].append(clip)
  merged = []
  for copies in same.values():
    labels = {clip.video for clip in copies}
    videos = tuple(video for clip in copies for video in clip.videos)
    label = 'both' if len(labels) > 1 else copies[0].video
    merged.append(dataclasses.replace(copies[0], video=label, videos=videos))
  return merged


def _fingerprint(files: archive.Archive, path: str) -> bytes:
  try:
    wave = audio.load(files.read(path), path)
  except ValueError:  # told of when it is stored
    return path.encode()
  return hashlib.sha256(wave).digest()


def divide(
  clips: Sequence[_Clip],
) -> tuple[dict[str, list[_Clip]], list[_Clip]]:
  """Divides so that no person, sentence or generator is in two splits.

  People and generators are dealt to the splits by a fixed seed. A sentence goes
  where most of the people who say it are. A clip is in a split if all of it is.

  Returns:
    Clips by split, and those that are in none.

  Raises:
    BuildError: fewer people or generators than splits.
  """
  people = _deal({clip.person for clip in clips} - {''}, 'people')
  generators = {clip.generator for clip in clips} - {BONA_FIDE}
  generators = _deal(generators, 'generators') if generators else {}
  splits, left_out = {split: [] for split in SHARES}, []
  wanted = [
    generators[clip.generator] if clip.person == '' else people[clip.person]
    for clip in clips
  ]
  said = collections.defaultdict(collections.Counter)
  for clip, split in zip(clips, wanted, strict=True):
    said[clip.sentence][split] += 1
  for clip, split in zip(clips, wanted, strict=True):
    by = said[clip.sentence]
    fits = max(SHARES, key=by.__getitem__) == split  # the first of equals
    if clip.generator != BONA_FIDE:
      fits &= generators[clip.generator] == split
    (splits[split] if fits else left_out).append(clip)
  return splits, left_out


def _deal(names: Iterable[str], what: str) -> Mapping[str, str]:
  """Deals names to the splits by their shares, at least one to each."""
  names = sorted(names)
  if len(names) < len(SHARES):
    raise BuildError(
      f'{len(names)} {what} ({", ".join(names)}) cannot be divided into '
      f'{", ".join(SHARES)}; expected at least {len(SHARES)}'
    )
  records.generator(SEED, what).shuffle(names)
  rest = len(names) - len(SHARES)
  dealt, start = {}, 0
  for number, (split, share) in enumerate(SHARES.items(), 1):
    last = number == len(SHARES)
    end = len(names) if last else start + 1 + round(rest * share)
    dealt |= dict.fromkeys(names[start:end], split)
    start = end
  return dealt


def _trial(clip: _Clip) -> records.Trial:
  return records.Trial(
    records.word(clip.path.removesuffix('.wav')),
    clip.person or records.word(clip.generator),
    records.word(clip.generator),
    clip.path,
    extra={
      'audio_label': 'bonafide' if clip.generator == BONA_FIDE else 'spoof',
      'video_label': clip.video,
      'videos': ' '.join(clip.videos) or '-',
      'sentence': clip.sentence,
      'processing': clip.processing,
      'group': clip.sentence,
    },
  )
