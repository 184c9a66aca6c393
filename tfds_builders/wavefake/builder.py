"""The TFDS builder of WaveFake: `wavefake`.

There are no lists: the folder names the vocoder, the file the sentence that
went through it. Genuine speech is the corpora that it was made from.
"""

import re

from jaxspoof.classes import BONA_FIDE
from tfds_builders import corpus, records

SEED = 'wavefake 0'
_GENUINE = {
  'LJSpeech-1.1/wavs': 'ljspeech',
  'jsut_ver1.1/basic5000/wav': 'jsut',
}
_SENTENCE = re.compile(r'LJ\d+-\d+|BASIC5000_\d+')


class Wavefake(corpus.CorpusBuilder):
  """Two people's recordings and their copies by ten vocoders.

  Divided by sentence: all copies of one are in the same split.
  """

  name = 'wavefake'
  CORPUS = corpus.Corpus(
    title='WaveFake: speech of LJSpeech and JSUT, genuine and vocoded.',
    citation=(
      'Frank and Schönherr, "WaveFake: A Data Set to Facilitate Audio Deepfake '
      'Detection", NeurIPS 2021 Datasets and Benchmarks'
    ),
    licence='as on its page',
    homepage='https://zenodo.org/record/5642694',
    folder='WaveFake',
    splits={
      split: corpus.Split(('generated_audio/',)) for split in records.SHARES
    },
    get=(
      'generated_audio.zip and, for its genuine speech, LJSpeech-1.1 and '
      'jsut_ver1.1, all unpacked beside each other'
    ),
    fields=('group',),
    broken=True,
  )

  def _trials(self, files, lists_of):
    clips = [
      (path, BONA_FIDE, speaker)
      for folder, speaker in _GENUINE.items()
      for path in files.names(folder)
    ]
    for path in files.names('generated_audio'):
      _, attack, *_ = path.split('/')
      clips.append((path, attack, 'jsut' if 'jsut' in attack else 'ljspeech'))
    splits = {split: [] for split in records.SHARES}
    for path, attack, speaker in clips:
      if not path.endswith('.wav'):
        continue
      stem = path.rpartition('/')[2].removesuffix('.wav')
      found = _SENTENCE.search(stem)
      sentence = found[0] if found else re.sub(r'_gen(erated)?$', '', stem)
      splits[records.split_of(SEED, sentence)].append(
        records.Trial(
          records.word(path.removesuffix('.wav')),
          speaker,
          attack,
          path,
          extra={'group': sentence},
        )
      )
    return splits
