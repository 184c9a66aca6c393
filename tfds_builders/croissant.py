"""Croissant metadata of a built corpus, for search engines and other tools.

The vocabulary is that of MLCommons, http://mlcommons.org/croissant/1.0.
"""

import json
import pathlib
from typing import Any

import tensorflow_datasets as tfds

NAME = 'croissant.json'
_TERMS = (
  'citeAs column equivalentProperty extract field fileProperty fileObject '
  'fileSet format includes isLiveDataset jsonPath key md5 parentField path '
  'recordSet references regex repeated replace samplingRate separator source '
  'subField transform'
)
# As the specification has it, used or not: tools compare.
_CONTEXT = {
  '@language': 'en',
  '@vocab': 'https://schema.org/',
  'cr': 'http://mlcommons.org/croissant/',
  'rai': 'http://mlcommons.org/croissant/RAI/',
  'dct': 'http://purl.org/dc/terms/',
  'sc': 'https://schema.org/',
  'conformsTo': 'dct:conformsTo',
  'data': {'@id': 'cr:data', '@type': '@json'},
  'examples': {'@id': 'cr:examples', '@type': '@json'},
  'dataType': {'@id': 'cr:dataType', '@type': '@vocab'},
  **{term: f'cr:{term}' for term in _TERMS.split()},
}
_ABOUT = {
  'audio': 'the encoded audio file',
  'label': '0 spoof, 1 bona fide',
  'utterance': 'name of the trial, unique in its split',
  'speaker': 'who speaks, or is meant to',
  'attack': "how it was made, '-' for bona fide",
}


def write(
  info: tfds.core.DatasetInfo,
  description: str,
  licence: str,
  folder: pathlib.Path,
) -> None:
  """Describes records in the folder where they are, in `croissant.json`.

  Args:
    info: of the corpus that was built.
    description: of it, in a sentence.
    licence: of the audio.
    folder: that of the records.
  """
  described = {
    '@context': _CONTEXT,
    '@type': 'sc:Dataset',
    'conformsTo': 'http://mlcommons.org/croissant/1.0',
    'name': info.name,
    'description': description,
    'version': str(info.version),
    'url': info.homepage,
    'license': licence,
    'citeAs': info.citation,
    'distribution': [_shards(info, split) for split in sorted(info.splits)],
    'recordSet': [_records(info, split) for split in sorted(info.splits)],
  }
  text = json.dumps(described, indent=1, ensure_ascii=False)
  (folder / NAME).write_text(f'{text}\n', encoding='utf-8')


def _shards(info: tfds.core.DatasetInfo, split: str) -> dict[str, Any]:
  return {
    '@type': 'cr:FileSet',
    '@id': f'{split}-files',
    'name': f'{split}-files',
    'description': f'ArrayRecord files of {split}, tf.train.Example in each.',
    'encodingFormat': 'application/x-arrayrecord',
    'includes': f'{info.name}-{split}.array_record-*',
  }


def _records(info: tfds.core.DatasetInfo, split: str) -> dict[str, Any]:
  number = info.splits[split].num_examples
  fields = [
    {
      '@type': 'cr:Field',
      '@id': f'{split}/{name}',
      'name': name,
      'description': _ABOUT.get(name, 'see the README of the corpus'),
      'dataType': {'audio': 'sc:AudioObject', 'label': 'sc:Integer'}.get(
        name, 'sc:Text'
      ),
      'source': {
        'fileSet': {'@id': f'{split}-files'},
        'extract': {'column': name},
      },
    }
    for name in info.features
  ]
  return {
    '@type': 'cr:RecordSet',
    '@id': split,
    'name': split,
    'description': f'{number} trials',
    'key': {'@id': f'{split}/utterance'},
    'field': fields,
  }
