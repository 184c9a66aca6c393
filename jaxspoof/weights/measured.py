"""What others than their authors have measured of public detectors.

Only what somebody has published, with its source: a detector that is not named
here has not been found good, nobody has looked.
"""

import pathlib

# What every importer says at its end.
SELF_TEST = (
  'is its index right? detect.py --self_test BONAFIDE SPOOF tells, with '
  'recordings whose truth you know'
)
_PODONOS = (
  '{} of 4,524 clips rightly, where guessing gives 50 % (half of them are of '
  'about 25 synthesisers of today; github.com/podonos/audio-dfd-benchmark, '
  'read in November 2026)'
)
# Near chance in somebody's test: the name on Hugging Face, and what was found.
WEAK = {
  'MelodyMachine/Deepfake-audio-detection-V2': (
    _PODONOS.format('53.0 %')
    + ', and 43.2 % of In-the-Wild (github.com/em1ru/deepfake-audio-eval)'
  ),
  'garystafford/wav2vec2-deepfake-voice-detector': _PODONOS.format('55.6 %'),
  'Gustking/wav2vec2-large-xlsr-deepfake-audio-classification': (
    _PODONOS.format('62.9 %')
  ),
}


def warnings(
  place: pathlib.Path, declared: str | None = None
) -> tuple[str, ...]:
  """What was found of a detector, if it was near chance; mostly nothing.

  Nothing but names tells which weights these are: that which a config
  declares, and that of the folder, as a clone or the cache of Hugging Face has
  it.

  Args:
    place: where the weights lie.
    declared: `_name_or_path` of the config; of what was trained further it is
      often the name of what it was trained from.
  """
  for name, found in WEAK.items():
    if str(declared).lower() == name.lower():
      how = 'its config names'
    elif _is_called(place, name):
      how = 'its folder is called as'
    else:
      continue
    return (
      f'warning: {how} {name}, of which an independent test found that it '
      f'judges {found}; do not trust it before you have tried it',
    )
  return ()


def _is_called(place: pathlib.Path, name: str) -> bool:
  """Whether a folder has the name of a model, with or without its owner."""
  _, short = name.lower().split('/')
  parts = [part.lower() for part in place.absolute().parts]
  cached = 'models--' + name.lower().replace('/', '--')
  return parts[-1:] == [short] or cached in parts
