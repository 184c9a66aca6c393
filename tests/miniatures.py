"""Miniature archives, laid out like the published ones, of a few short clips.

Each gives what its corpus holds, by the paths below the folder of the corpus,
and the trials that should come of it.
"""

import dataclasses
import functools
import io
import pathlib
import zipfile
from collections.abc import Callable, Mapping

import numpy as np
import soundfile

from tfds_builders import build, records


@functools.cache
def clip(
  seed: int = 0, samples: int = 800, rate: int = 16_000, kind: str = 'FLAC'
) -> bytes:
  """A file of noise, FLAC, WAV or MP3."""
  rng = np.random.default_rng(seed)
  pcm = rng.integers(-3000, 3000, samples).astype(np.int16)
  file = io.BytesIO()
  soundfile.write(file, pcm, rate, format=kind)
  return file.getvalue()


wav = functools.partial(clip, kind='WAV')


@dataclasses.dataclass
class Miniature:
  """A small corpus.

  Attributes:
    files: content by path.
    trials: by split and utterance: speaker, attack, path of the audio, further
      fields.
    listed: a list names the trials; else the files themselves do.
  """

  files: dict[str, bytes] = dataclasses.field(default_factory=dict)
  trials: dict[str, dict[str, tuple]] = dataclasses.field(default_factory=dict)
  listed: bool = True

  def add(
    self,
    split: str,
    utterance: str,
    attack: str,
    path: str,
    speaker: str = '-',
    audio: bytes | None = None,
    **fields: str,
  ) -> None:
    """Adds a trial and its audio."""
    kind = {'flac': 'FLAC', 'mp3': 'MP3'}.get(path.rpartition('.')[2], 'WAV')
    number = len(self.files)
    audio = audio or clip(number, 800 + 16 * number, kind=kind)
    self.files[path] = audio
    named = self.trials.setdefault(split, {})
    named[utterance] = (speaker, attack, path, fields)

  def write_lines(self, path: str, *lines: str) -> None:
    """Adds a list."""
    self.files[path] = ''.join(f'{line}\n' for line in lines).encode()


def write_zip(path: pathlib.Path, content: Mapping, prefix: str = '') -> None:
  """Packs files into a zip."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as packed:
    for name, data in content.items():
      packed.writestr(prefix + name, data)


def write_tree(folder: pathlib.Path, content: Mapping) -> None:
  """Writes files below a folder."""
  for name, data in content.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def declared(name: str):
  """The declaration of a corpus."""
  return build.builder(name, '/nowhere').CORPUS


def let_counts_differ(monkeypatch, name: str) -> None:
  """Counts that are certain are those of the real archive."""
  builder = type(build.builder(name, '/nowhere'))
  splits = {
    key: dataclasses.replace(split, counts=None)
    if split.counts and split.counts.certain
    else split
    for key, split in builder.CORPUS.splits.items()
  }
  corpus = dataclasses.replace(builder.CORPUS, splits=splits)
  monkeypatch.setattr(builder, 'CORPUS', corpus)


def asvspoof2019(access: str) -> Miniature:
  """A third of each split bona fide, the rest by two attacks; two speakers."""
  made = Miniature()
  environment = '-' if access == 'LA' else 'abc'
  fields = {} if access == 'LA' else {'environment': environment}
  systems = {'LA': ('-', 'A01', 'A02'), 'PA': ('-', 'AA', 'CB')}[access]
  for split, trials, kind in (
    ('train', 6, 'trn'), ('dev', 4, 'trl'), ('eval', 5, 'trl'),
  ):  # fmt: skip
    lines = []
    folder = f'ASVspoof2019_{access}_{split}/flac'
    for i in range(trials):
      attack = systems[i % 3]
      utterance = f'{access}_{split[0].upper()}_{i:07d}'
      speaker = f'{access}_000{i % 2}'
      path = f'{folder}/{utterance}.flac'
      made.add(split, utterance, attack, path, speaker, **fields)
      key = 'bonafide' if attack == '-' else 'spoof'
      lines.append(f'{speaker} {utterance} {environment} {attack} {key}')
    # An enrolment utterance, which is no trial.
    made.files[f'{folder}/{access}_{split[0].upper()}_9999999.flac'] = clip()
    made.write_lines(
      f'ASVspoof2019_{access}_cm_protocols/'
      f'ASVspoof2019.{access}.cm.{split}.{kind}.txt',
      *lines,
    )
    if split != 'train':
      made.files[
        f'ASVspoof2019_{access}_asv_scores/'
        f'ASVspoof2019.{access}.asv.{split}.gi.trl.scores.txt'
      ] = asv_lines(split)
  return made


def asv_lines(split: str) -> bytes:
  """Verification scores in which one of four trials is an error."""
  kinds = ('bonafide target', 'bonafide nontarget', 'A01 spoof')
  shift = 1 + len(split)
  return ''.join(
    f'{kind} {shift * (1 - number) + 3 * (i == 0)}\n'
    for number, kind in enumerate(kinds)
    for i in range(4)
  ).encode()


ADD2023 = {
  'Track1.2': {
    'train': ('train', 'ADD2023_T1.2_T'),
    'dev': ('dev', 'ADD2023_T1.2_D'),
    'eval_r1': ('testR1', 'ADD2023_T1.2R1_E'),
    'eval_r2': ('testR2', 'ADD2023_T1.2R2_E'),
  },
  'Track3': {
    'train': ('train', 'ADD2023_T3_T'),
    'dev': ('dev', 'ADD2023_T3_D'),
    'eval': ('eval', 'ADD2023_T3_E'),
  },
}
_ATTACKS = {'genuine': '-', '0': '-', 'fake': 'unknown', '7': 'unknown'}


def add2023(track: str) -> Miniature:
  """Nine clips a split."""
  made = Miniature()
  for split, (folder, prefix) in ADD2023[track].items():
    labels = ['genuine', 'fake', 'fake']
    if track == 'Track3':
      labels = [str(n) for n in range(8 if split == 'eval' else 7)]
    lines = []
    for i in range(9):
      label, utterance = labels[i % len(labels)], f'{prefix}_{3 * i:08d}'
      path = f'{folder}/wav/{utterance}.wav'
      made.add(split, utterance, _ATTACKS.get(label, label), path)
      lines.append(f'{utterance}.wav {label}')
    made.files[f'{folder}/wav/not_listed.wav'] = wav()
    made.write_lines(f'{folder}/label.txt', *lines)
  return made


ASVSPOOF2021 = {  # lines of the organisers' files, where there are any
  'LA': (
    'LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval',
    'LA_0021 LA_E_5789339 gsm loc_tx bonafide bonafide only_speech hidden',
    'LA_0021 LA_E_7310647 none - bonafide bonafide only_speech hidden',
    'LA_0007 LA_E_1000001 none - A11 spoof notrim progress',
    'LA_0007 LA_E_1000002 opus sin_tx bonafide bonafide notrim progress',
    'LA_0007 LA_E_1000003 opus sin_tx bonafide bonafide notrim eval',
  ),
  'DF': (
    'LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress '
    'traditional_vocoder - - - -',
    'TEF2 DF_E_2000013 low_m4a vcc2020 Task1-team20 spoof notrim eval '
    'neural_vocoder_nonautoregressive Task1 team20 FF E',
    'VCC2TM2 DF_E_4999945 oggm4a vcc2018 SPO-N16 spoof notrim eval '
    'unknown SPO N16 - E',
    'LA_0044 DF_E_4999962 oggm4a asvspoof A19 spoof trim hidden '
    'traditional_vocoder - - - -',
    'LA_0044 DF_E_4999963 high_ogg asvspoof - bonafide trim hidden '
    'bonafide - - - -',
    'LA_0044 DF_E_4999964 mp3m4a asvspoof bonafide bonafide notrim progress '
    'bonafide - - - -',
  ),
  'PA': (
    'PA_0010 PA_E_1000001 R3 M3 d4 r1 m1 s4 c4 spoof notrim eval',
    'PA_0010 PA_E_1000002 R3 M3 D4 - - - - bonafide notrim eval',
    'PA_0011 PA_E_1000003 R3 M3 d4 r1 m1 s2 c4 spoof trim hidden',
    'PA_0011 PA_E_1000004 R1 M1 d1 r1 m1 s4 c3 spoof notrim progress',
    'PA_0011 PA_E_1000005 R1 M1 D1 - - - - bonafide notrim progress',
  ),
}


def asvspoof2021(track: str) -> Miniature:
  """A few trials of each subset; the audio folder has no labels."""
  names = {
    'LA': 'speaker utterance codec trans attack label trim subset',
    'DF': 'speaker utterance codec source attack label trim subset vocoder '
    'task team gender_pair language',
    'PA': 'speaker utterance asv_room asv_mic dis_to_asv att_room att_mic '
    'att_d att_to_spk label trim subset',
  }[track].split()
  made, lines = Miniature(), ASVSPOOF2021[track]
  for line in lines:
    cells = dict(zip(names, line.split(), strict=True))
    replay = cells.get('att_to_spk', '') + cells.get('att_d', '')
    attack, label = cells.pop('attack', replay), cells.pop('label')
    if label == 'bonafide':
      attack = '-'
    folder = f'ASVspoof2021_{track}_eval'
    utterance = cells.pop('utterance')
    path = f'{folder}/flac/{utterance}.flac'
    made.add(cells.pop('subset'), utterance, attack, path, **cells)
  made.write_lines(f'keys/{track}/CM/trial_metadata.txt', *lines)
  made.write_lines(
    f'{folder}/ASVspoof2021.{track}.cm.eval.trl.txt',
    *(line.split()[1] for line in lines),
  )
  return made


ASVSPOOF5 = {
  'train': (
    'T_4850 T_0000000000 F - - - AC3 A05 spoof -',
    'T_4850 T_0000000007 F - - - - bonafide bonafide -',
    'T_4851 T_0000000021 M - - - AC1 A01 spoof -',
  ),
  'dev': (
    'D_4461 D_0000000169 F - - - AC1 A14 spoof -',
    'D_0461 D_0000000190 M - - - - bonafide bonafide -',
  ),
  'eval': (
    'E_4608 E_0000000024 M C11 4 E_0004890277 AC1 A24 spoof -',
    'E_4608 E_0004890277 M - 0 - AC1 A24 spoof -',
    'E_4609 E_0000000031 F C04 4 E_0004890279 - bonafide bonafide -',
  ),
}


def asvspoof5() -> Miniature:
  """Both tracks; one clip of eval twice, with and without a codec."""
  made, fields = Miniature(), ('gender', 'codec', 'codec_q', 'group')
  folders = {'train': 'flac_T', 'dev': 'flac_D', 'eval': 'flac_E_eval'}
  for split, lines in ASVSPOOF5.items():
    for line in lines:
      speaker, name, *cells, tag, attack, key, _ = line.split()
      named = dict(zip(fields, cells, strict=True)) | {'attack_tag': tag}
      if named['group'] == '-':
        named['group'] = name
      attack = '-' if key == 'bonafide' else attack
      path = f'{folders[split]}/{name}.flac'
      made.add(split, name, attack, path, speaker, **named)
    track = '' if split == 'train' else '.track_1'
    made.write_lines(
      f'ASVspoof5_protocols/ASVspoof5.{split}{track}.tsv', *lines
    )
    if split == 'train':
      continue
    letter, start = split[0].upper(), f'ASVspoof5_protocols/ASVspoof5.{split}'
    enrolled = [f'{letter}_A000000056{i}' for i in range(2)]
    for name in enrolled:
      made.add(
        f'{split}_enroll', name, '-', f'{folders[split]}/{name}.flac',
        f'{letter}_0001', gender='-', codec='-', codec_q='-', group=name,
        attack_tag='-',
      )  # fmt: skip
    made.write_lines(
      f'{start}.track_2.enroll.tsv', f'{letter}_0001 {",".join(enrolled)}'
    )
    speaker, name, gender = lines[0].split()[:3]
    made.write_lines(
      f'{start}.track_2.trial.tsv',
      f'{speaker} {name} {gender} A14 spoof',
      f'{letter}_0001 {name} {gender} A14 spoof',
    )
  made.write_lines(
    'ASVspoof5_protocols/ASVspoof5.codec.config.csv',
    'ID,CODEC,CODEC_Q,Bitrate(kbps)',
    'C1,opus_wb,1,6',
  )
  return made


def deepfaketimit() -> Miniature:
  """Five people, their common sentence and one of their own each.

  The splits are those of the seed: mdab0, mbdg0 and alpha are dealt to train,
  faks0 and beta to dev, fadg0, fcft0 and gamma to eval.
  """
  made, spoken = Miniature(listed=False), {}
  people = {'mdab0': 'train', 'mbdg0': 'train', 'faks0': 'dev',
            'fadg0': 'eval', 'fcft0': 'eval'}  # fmt: skip
  for number, (person, split) in enumerate(people.items(), 1):
    for sentence in ('sa1', f'si{number}'):
      path = f'VidTIMIT/{person}/audio/{sentence}.wav'
      videos = [f'VidTIMIT/{person}/video/{sentence}']
      spoken[path] = wav(number + 10 * (sentence == 'sa1'), 900)
      made.files[path] = spoken[path]
      made.files[f'{videos[0]}/001'] = b'a picture'
      if person not in ('mbdg0', 'fcft0'):  # only some of them in DeepfakeTIMIT
        for quality in ('higher_quality', 'lower_quality'):
          start = f'DeepfakeTIMIT/{quality}/{person}/{sentence}'
          videos.append(f'{start}-video-fram1.avi')
          made.files[videos[-1]] = b'a video'
          # One README shows the longer name.
          long = '-video-fram1' * (quality == 'lower_quality')
          made.files[f'{start}{long}.wav'] = spoken[path]
      # The common sentence goes where most of its people are.
      if sentence != 'sa1' or split == 'train':
        made.add(
          split, path[:-4], '-', path, person, spoken[path],
          audio_label='bonafide', sentence=sentence, group=sentence,
          video_label='both' if len(videos) > 1 else 'bonafide',
          videos=' '.join(videos), processing='-',
        )  # fmt: skip
    for generator, of in (
      ('single/alpha', 'train'), ('single/beta', 'dev'), ('multi/gamma', 'eval')
    ):  # fmt: skip
      path = f'TIMIT-TTS/CLEAN/{generator}/{person}/si{number}.wav'
      made.files[path] = wav(number)
      if of == split:
        made.add(
          split, path[:-4], generator, path, person, audio_label='spoof',
          sentence=f'si{number}', group=f'si{number}', video_label='-',
          videos='-', processing='CLEAN',
        )  # fmt: skip
  return made


def in_the_wild() -> Miniature:
  """Speakers with blanks in their names."""
  made, lines = Miniature(), ['file,speaker,label']
  for i, (speaker, label) in enumerate(
    (('Alec Guinness', 'spoof'), ('Alec Guinness', 'bona-fide'),
     ('Bill Clinton', 'bona-fide'), ('Donald J. Trump', 'spoof'))
  ):  # fmt: skip
    attack = '-' if label == 'bona-fide' else 'unknown'
    made.add('eval', f'{i}.wav', attack, f'{i}.wav', speaker.replace(' ', '_'))
    lines.append(f'{i}.wav,{speaker},{label}')
  made.write_lines('meta.csv', *lines)
  return made


def wavefake() -> Miniature:
  """Three sentences, each genuine and by two vocoders, one in Japanese."""
  made = Miniature(listed=False)
  sentences = [f'LJ001-{n:04d}' for n in range(1, 9)] + ['BASIC5000_0001']
  for sentence in sentences:
    split = records.split_of('wavefake 0', sentence)
    lj = sentence.startswith('LJ')
    speaker = 'ljspeech' if lj else 'jsut'
    genuine = 'LJSpeech-1.1/wavs' if lj else 'jsut_ver1.1/basic5000/wav'
    paths = [('-', f'{genuine}/{sentence}.wav')]
    if lj:
      paths += [
        ('ljspeech_melgan', f'ljspeech_melgan/{sentence}_gen.wav'),
        ('ljspeech_hifiGAN', f'ljspeech_hifiGAN/{sentence}_generated.wav'),
        ('ljspeech_waveglow', f'ljspeech_waveglow/wavs/{sentence}.wav'),
      ]
    else:
      vocoder = 'jsut_parallel_wavegan'
      paths += [(vocoder, f'{vocoder}/{sentence}_gen.wav')]
    for attack, path in paths:
      path = path if attack == '-' else f'generated_audio/{path}'
      made.add(split, path[:-4], attack, path, speaker, group=sentence)
  made.files['LJSpeech-1.1/wavs/README'] = b'no clip'
  return made


def fake_or_real(folder: str) -> Miniature:
  """The same name in real/ and fake/; MP3 in the original."""
  made = Miniature(listed=False)
  parts = {'train': 'training', 'dev': 'validation', 'eval': 'testing'}
  suffix = 'mp3' if folder == 'for-original' else 'wav'
  for split, part in parts.items():
    for label in ('real', 'fake'):
      for name in ('file1.wav', f'file2.wav_16k.{suffix}'):
        path = f'{part}/{label}/{name}'
        made.add(split, path, '-' if label == 'real' else 'unknown', path)
    made.files[f'{part}/real/notes.txt'] = b'no clip'
  return made


def mlaad() -> Miniature:
  """Two models and languages; genuine speech for one of them."""
  made = Miniature()
  header = (
    'path|original_file|language|is_original_language|duration|training_data|'
    'model_name|architecture|transcript'
  )
  genuine = set()
  for language, model, architecture in (
    ('de', 'tts_models_de_thorsten_vits', 'VITS'),
    ('en', 'suno_bark', 'bark'),
    ('en', 'tts_models_en_vits', 'VITS'),
  ):
    lines, folder = [header], f'fake/{language}/{model}'
    for number in range(5):
      original = f'{language}/by_book/female/eva_k/book/wavs/x{number}.wav'
      if language == 'en':
        original = f'en_US/by_book/male/elliot/book/wavs/y{number}.wav'
      split = records.split_of('mlaad 0', original)
      fields = {'language': language, 'group': original}
      path = f'{folder}/{number}.wav'
      made.add(
        split, path[:-4], model, path, architecture=architecture, **fields
      )
      lines.append(
        f'./{path}|{original}|{language}|True|1.2|thorsten|{model}|'
        f'{architecture}|He said: "No'
      )
      if language == 'en' and original not in genuine:
        genuine.add(original)
        path = f'M-AILABS/{original}'
        made.add(
          split, path[:-4], '-', path, 'elliot', architecture='-', **fields
        )
    made.write_lines(f'{folder}/meta.csv', *lines)
  return made


def add2022() -> Miniature:
  """Three clips a split."""
  made = Miniature()
  for split in ('train', 'dev'):
    lines = []
    for number, label in enumerate(('genuine', 'fake', 'fake')):
      name = f'ADD_{split[0].upper()}_{number:08d}'
      attack = '-' if label == 'genuine' else 'unknown'
      made.add(split, name, attack, f'{split}/{name}.wav')
      lines.append(f'{name}.wav {label}')
    made.write_lines(f'label/{split}_label.txt', *lines)
  return made


def codecfake() -> Miniature:
  """Train, dev and two test sets, one of them below test/."""
  made, number = Miniature(), 0
  for split, folder in (
    ('train', 'train'), ('dev', 'dev'), ('C1', 'test/C1'), ('C7', 'C7')
  ):  # fmt: skip
    lines = []
    codec = split[1] if split[0] == 'C' else '2'
    for name in (f'SSB1365{number:04d}', f'p225_{number:03d}'):
      made.add(split, name, '-', f'{folder}/{name}.wav', group=name)
      fake = f'F0{codec}_{name}'
      path = f'{folder}/{fake}.wav'
      made.add(split, fake, f'F0{codec}', path, group=name)
      lines += [f'{name}.wav real 0', f'{fake}.wav fake {codec}']
      number += 1
    made.write_lines(f'label/{split}.txt', *lines)
  return made


def spoofceleb() -> Miniature:
  """Two clips of two speakers a split."""
  made = Miniature()
  folders = {'train': 'train', 'dev': 'development', 'eval': 'evaluation'}
  for split, folder in folders.items():
    lines = ['file,speaker,attack']
    for number, attack in enumerate(('a00', 'a00', 'a06')):
      speaker = f'id1031{number % 2}'
      name = f'{attack}/{speaker}/YYsxcZ5saac-0000{number}-006'
      made.add(
        split, name, '-' if attack == 'a00' else attack,
        f'flac/{folder}/{name}.flac', speaker,
      )  # fmt: skip
      lines.append(f'{name}.flac,{speaker},{attack}')
    made.write_lines(f'metadata/{folder}.csv', *lines)
  return made


def partialspoof() -> Miniature:
  """Clips with and without spoofed segments, of 20 ms."""
  made = Miniature()
  for split in ('train', 'dev', 'eval'):
    lines, labels = [], {}
    for number, segments in enumerate(('11', '1001', '110')):
      kind = 'CON' if '0' in segments else 'LA'
      name = f'{kind}_{split[0].upper()}_{number:07d}'
      system = 'CON' if '0' in segments else '-'
      made.add(
        split, name, system, f'{split}/con_wav/{name}.wav', 'LA_0079',
        segments=segments,
      )  # fmt: skip
      key = 'spoof' if '0' in segments else 'bonafide'
      lines.append(f'LA_0079 {name} - {system} {key}')
      labels[name] = np.array(list(segments))
    made.write_lines(
      'protocols/PartialSpoof_LA_cm_protocols/'
      f'PartialSpoof.LA.cm.{split}.trl.txt',
      *lines,
    )
    file = io.BytesIO()
    np.save(file, np.array(labels, object), allow_pickle=True)
    made.files[f'segment_labels/{split}_seglab_0.02.npy'] = file.getvalue()
  return made


# Corpus -> its miniature.
MINIATURES: dict[str, Callable[[], Miniature]] = {
  'add2022': add2022,
  'add2023_track1_2': functools.partial(add2023, 'Track1.2'),
  'add2023_track3': functools.partial(add2023, 'Track3'),
  'asvspoof2019_la': functools.partial(asvspoof2019, 'LA'),
  'asvspoof2019_pa': functools.partial(asvspoof2019, 'PA'),
  'asvspoof2021_df': functools.partial(asvspoof2021, 'DF'),
  'asvspoof2021_la': functools.partial(asvspoof2021, 'LA'),
  'asvspoof2021_pa': functools.partial(asvspoof2021, 'PA'),
  'asvspoof5': asvspoof5,
  'codecfake': codecfake,
  'deepfaketimit': deepfaketimit,
  'fake_or_real_2sec': functools.partial(fake_or_real, 'for-2seconds'),
  'fake_or_real_norm': functools.partial(fake_or_real, 'for-norm'),
  'fake_or_real_original': functools.partial(fake_or_real, 'for-original'),
  'fake_or_real_rerec': functools.partial(fake_or_real, 'for-rerecorded'),
  'in_the_wild': in_the_wild,
  'mlaad': mlaad,
  'partialspoof': partialspoof,
  'spoofceleb': spoofceleb,
  'wavefake': wavefake,
}
