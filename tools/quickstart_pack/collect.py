"""Collects the quickstart corpus's pack of human speech from Debian packages.

  pip install av
  python tools/quickstart_pack/collect.py --cache=DIR [--out=DIR]

Needs a Debian or Ubuntu machine with a network (about 1.7 GB are downloaded,
nothing is installed, no root), and PyAV for G.722. Whoever builds the corpus
needs none of this: the pack is part of the repository.

The same packages give the same pack, byte for byte up to the FLAC encoder's
version. `manifest.tsv` says for each clip where it comes from.
"""

import argparse
import csv
import dataclasses
import hashlib
import io
import pathlib
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator

import debian_packages
import numpy as np
import soundfile
import soxr

from tfds_builders.quickstart import dsp

SHORTEST, LONGEST = 1.5, 3.5  # seconds of a clip in the pack
# RMS of the speech in the pack. Low, because quiet 16-bit clips make small
# files: the rounding noise is still 60 dB below the speech, and the corpus
# adds noise at 30 to 45 dB.
LEVEL_DB = -40.0
JOINED = 2.0  # short phrases of one speaker are joined up to this length
FIELDS = (
  'utterance', 'split', 'speaker', 'language', 'samples', 'sha256',
  'licence', 'package', 'version', 'file', 'transcript',
)  # fmt: skip

# Prompts that are not one person's plain speech.
_NOT_SPEECH = re.compile(r'silence|beep|tone|monkeys|glorious|phonetic|letters')
_POCKET = 'usr/share/pocketsphinx/test/data'
_VOICE = 'usr/share/festival/voices/russian/msu_ru_nsh_clunits'
_ZERO_AD = 'usr/share/games/0ad/mods/public/public.zip'
_HORIZONS = 'usr/share/unknown-horizons/content/audio/voice'


@dataclasses.dataclass(frozen=True)
class Phrase:
  """One recording: where it lies, what is said, how to decode it."""

  file: str
  decode: Callable[[], np.ndarray]  # float64 [samples] at 16 kHz
  transcript: str = ''


@dataclasses.dataclass(frozen=True)
class Speaker:
  """One person in one language, the package and how many clips to take."""

  name: str
  split: str
  language: str
  licence: str
  package: str
  clips: int
  phrases: Callable[['Speaker', pathlib.Path], list[Phrase]]
  source: str = ''  # what `phrases` looks for
  join: bool = False  # phrases too short for a clip of their own


# ----------------------------------------------------------------- decoding


def _resampled(wave: np.ndarray, rate: int) -> np.ndarray:
  mono = wave.mean(axis=1) if wave.ndim == 2 else wave
  if rate == dsp.RATE:
    return mono
  return soxr.resample(mono, rate, dsp.RATE, quality='VHQ')


def _sound(data: bytes) -> np.ndarray:
  return _resampled(*soundfile.read(io.BytesIO(data)))


def _g722(path: pathlib.Path) -> np.ndarray:
  import av  # a dependency of this script only

  with av.open(str(path), format='g722') as container:
    frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
  # One prompt of the Russian package is an empty file: no frames.
  pcm = np.concatenate([np.zeros((1, 0)), *frames], axis=1)
  return pcm[0] / 32768.0


def _raw(path: pathlib.Path) -> np.ndarray:
  return np.frombuffer(path.read_bytes(), '<i2') / 32768.0


# ------------------------------------------------------------------ sources


def _asterisk(speaker: Speaker, root: pathlib.Path) -> list[Phrase]:
  return [
    Phrase(str(path.relative_to(root)), lambda path=path: _g722(path))
    for path in sorted(root.rglob('*.g722'))
    if not _NOT_SPEECH.search(str(path.relative_to(root)))
  ]


def _festvox(speaker: Speaker, root: pathlib.Path) -> list[Phrase]:
  text = (root / _VOICE / 'etc/txt.done.data').read_text('utf-8')
  lines = dict(re.findall(r'\(\s*(ru_\d+)\s+"(.*?)"\s*\)', text))
  return [
    Phrase(
      str(path.relative_to(root)),
      lambda path=path: _sound(path.read_bytes()),
      lines.get(path.stem, '').replace('+', ''),  # '+' marks the stress
    )
    for path in sorted((root / _VOICE / 'wav').glob('*.wav'))
  ]


def _pocketsphinx(speaker: Speaker, root: pathlib.Path) -> list[Phrase]:
  folder = root / _POCKET
  lines = {}
  for file in sorted(folder.glob('*/*transcription')):
    found = re.findall(r'<s>(.*?)</s>\s*\((\S+)\)', file.read_text())
    lines.update({name: text.strip() for text, name in found})
  phrases = []
  for path in sorted(folder.glob(speaker.source)):
    raw = path.suffix == '.raw'
    phrases.append(
      Phrase(
        str(path.relative_to(root)),
        lambda path=path, raw=raw: (
          _raw(path) if raw else _sound(path.read_bytes())
        ),
        lines.get(path.stem, ''),
      )
    )
  return phrases


def _zero_ad(speaker: Speaker, root: pathlib.Path) -> list[Phrase]:
  archive = zipfile.ZipFile(root / _ZERO_AD)
  names = [n for n in archive.namelist() if n.startswith(speaker.source)]
  names = [name for name in names if name.endswith('.ogg')]
  return [
    Phrase(f'public.zip:{name}', lambda name=name: _sound(archive.read(name)))
    for name in sorted(names)
  ]


def _horizons(speaker: Speaker, root: pathlib.Path) -> list[Phrase]:
  return [
    Phrase(
      str(path.relative_to(root)), lambda path=path: _sound(path.read_bytes())
    )
    for path in sorted((root / _HORIZONS).glob(speaker.source))
  ]


def _asterisk_speaker(name, split, language, licence, clips) -> Speaker:
  package = f'asterisk-core-sounds-{language}-g722'
  return Speaker(name, split, language, licence, package, clips, _asterisk)


def _zero_ad_speaker(name, split, language, clips, source) -> Speaker:
  source = f'audio/voice/{source}_'
  licence = 'CC-BY-SA-3.0'
  return Speaker(
    name, split, language, licence, '0ad-data', clips, _zero_ad, source, True
  )


# Nobody is in two splits; voices recorded for the same project and language
# family, which might be one person under two names, stay together.
SPEAKERS = (
  _asterisk_speaker('allison', 'train', 'en', 'CC-BY-SA-3.0', 62),
  _asterisk_speaker('allison', 'train', 'es', 'CC-BY-SA-3.0', 48),
  Speaker('nickolay', 'train', 'ru', 'festvox-ru', 'festvox-ru', 60, _festvox),
  _zero_ad_speaker('persian_f', 'train', 'fa', 12, 'persian/civ/civ_female'),
  _zero_ad_speaker('persian_m', 'train', 'fa', 12, 'persian/civ/civ_male'),
  *(
    Speaker(
      f'horizons_{language}', 'train', language, 'CC-BY-SA-3.0',
      'unknown-horizons', 5, _horizons, f'{language}/*/*/*.ogg',
    )
    for language in ('de', 'en', 'fr')
  ),
  *(
    Speaker(
      f'sphinx_{name}', 'train', 'en', 'BSD-2-Clause',
      'pocketsphinx-testdata', 6, _pocketsphinx, source,
    )
    for name, source in (
      ('austen', 'librivox/*.wav'),
      ('cards', 'cards/*.wav'),
      ('desk', '*.raw'),
      ('digits', 'tidigits/*.raw'),
    )
  ),
  _asterisk_speaker('carlo', 'dev', 'it', 'CC-BY-3.0', 55),
  _zero_ad_speaker('greek_f', 'dev', 'grc', 12, 'greek/civ/civ_female'),
  _zero_ad_speaker('latin_f', 'dev', 'la', 8, 'latin/civ/civ_female'),
  _zero_ad_speaker('latin_m', 'dev', 'la', 8, 'latin/civ/civ_male'),
  _asterisk_speaker('june', 'eval', 'fr', 'CC-BY-SA-3.0', 52),
  _asterisk_speaker('ivrvoice', 'eval', 'ru', 'CC-BY-3.0', 52),
  _zero_ad_speaker('napatan_f', 'eval', 'nub', 24, 'napatan/civ/civ_female'),
  _zero_ad_speaker('napatan_m', 'eval', 'nub', 20, 'napatan/civ/civ_male'),
)  # fmt: skip


# ----------------------------------------------------------- clips and pack


def _faded(wave: np.ndarray, samples: int = 80) -> np.ndarray:
  ramp = np.minimum(1, np.arange(1, len(wave) + 1) / samples)
  return wave * ramp * ramp[::-1]


def _joined(
  trimmed: Iterator[tuple[str, str, np.ndarray]],
) -> Iterator[tuple[str, str, np.ndarray]]:
  """Puts short phrases one after the other, 0.1 s apart."""
  files, waves = [], []
  for file, _, wave in trimmed:
    files.append(file)
    waves += [_faded(wave), np.zeros(dsp.RATE // 10)]
    whole = np.concatenate(waves[:-1])
    if len(whole) >= JOINED * dsp.RATE:
      yield ' + '.join(files), '', whole
      files, waves = [], []


def _clips(speaker: Speaker, root: pathlib.Path):
  """Yields (file, transcript, wave) of clips of the wanted length."""
  digest = hashlib.sha256(f'{speaker.name} {speaker.language}'.encode())
  rng = np.random.default_rng(list(digest.digest()))
  phrases = speaker.phrases(speaker, root)
  order = rng.permutation(len(phrases))

  def trimmed():
    for phrase in (phrases[i] for i in order):
      yield phrase.file, phrase.transcript, dsp.trim(phrase.decode())

  for file, text, wave in _joined(trimmed()) if speaker.join else trimmed():
    longest = int(LONGEST * dsp.RATE)
    start = rng.integers(max(1, len(wave) - longest + 1))
    clip = wave[start : start + longest]
    if len(clip) >= SHORTEST * dsp.RATE and np.abs(clip).max() > 0.01:
      yield file, text, clip


def _flac(wave: np.ndarray) -> tuple[bytes, np.ndarray]:
  gain = 10 ** (LEVEL_DB / 20) / dsp.active_level(wave)
  pcm = np.round(np.clip(wave * gain, -1, 1) * 32767).astype(np.int16)
  file = io.BytesIO()
  soundfile.write(
    file, pcm, dsp.RATE, format='FLAC', subtype='PCM_16', compression_level=1.0
  )
  return file.getvalue(), pcm


def _rows(speaker: Speaker, root: pathlib.Path):
  """Yields (manifest row, FLAC bytes) of a speaker's clips."""
  for number, (file, text, wave) in enumerate(_clips(speaker, root)):
    if number == speaker.clips:
      return
    data, pcm = _flac(wave)
    row = (
      f'{speaker.name}_{speaker.language}_{number:03d}', speaker.split,
      speaker.name, speaker.language, len(pcm),
      hashlib.sha256(data).hexdigest(), speaker.licence, speaker.package,
      root.name.split('_', 1)[1], file, ' '.join(text.split()),
    )  # fmt: skip
    yield row, data


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
  # A fixed date: the same clips give the same archive.
  archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


def collect(cache: pathlib.Path, out: pathlib.Path) -> None:
  """Writes one archive per licence, the manifest and the licence texts."""
  licences = out / 'licences'
  licences.mkdir(parents=True, exist_ok=True)
  rows, archives = [], {}
  wanted = ('*.g722', '*.wav', '*.raw', '*.ogg', '*transcription', '*.data',
            '*public.zip', '*copyright')  # fmt: skip
  for speaker in SPEAKERS:
    root = debian_packages.fetch(speaker.package, cache, wanted)
    text = root / 'usr/share/doc' / speaker.package / 'copyright'
    shutil.copyfile(text, licences / f'{speaker.package}.txt')
    path = out / f'{speaker.licence}.zip'
    if path not in archives:
      archives[path] = zipfile.ZipFile(path, 'w')
    before = len(rows)
    for row, data in _rows(speaker, root):
      rows.append(row)
      _add(archives[path], f'{row[0]}.flac', data)
    print(f'{speaker.name} {speaker.language}: {len(rows) - before} clips')
  for archive in archives.values():
    archive.close()
  with (out / 'manifest.tsv').open('w', encoding='utf-8', newline='') as file:
    writer = csv.writer(file, delimiter='\t', lineterminator='\n')
    writer.writerows([FIELDS, *rows])


def main() -> None:
  """Parses the command line and collects."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--cache', type=pathlib.Path, required=True)
  here = pathlib.Path(dsp.__file__).parent
  parser.add_argument('--out', type=pathlib.Path, default=here / 'human')
  args = parser.parse_args()
  collect(args.cache.resolve(), args.out)


if __name__ == '__main__':
  main()
