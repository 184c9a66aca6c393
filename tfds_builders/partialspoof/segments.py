"""Labels of segments, from a pickled dictionary, without running it.

The files of PartialSpoof are NumPy files of one object, {utterance: labels}. A
pickle can name any function to call: only those that make an array are let in.
"""

import io
import pickle

import numpy as np

from tfds_builders.errors import BuildError

_RECONSTRUCT = np.empty(0).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
_ALLOWED = {
  ('numpy', 'ndarray'): np.ndarray,
  ('numpy', 'dtype'): np.dtype,
} | {
  (f'numpy.{core}.multiarray', name): function
  for core in ('core', '_core')
  for name, function in (('_reconstruct', _RECONSTRUCT), ('scalar', _SCALAR))
}


class _Arrays(pickle.Unpickler):
  def find_class(self, module: str, name: str):
    if (module, name) not in _ALLOWED:
      raise pickle.UnpicklingError(f'it names {module}.{name}')
    return _ALLOWED[module, name]


def read(data: bytes, name: str) -> dict[str, str]:
  """Returns the labels of each utterance: '1' bona fide, '0' spoof.

  Args:
    data: a file such as train_seglab_0.02.npy.
    name: what messages call it.

  Raises:
    BuildError: something else, or more than arrays.
  """
  file = io.BytesIO(data)
  try:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
      raise ValueError(f'version {version}')
    header = getattr(
      np.lib.format, f'read_array_header_{version[0]}_{version[1]}'
    )
    header(file)
    found = _Arrays(file).load().item()
    labels = {
      str(utterance): ''.join(str(int(value)) for value in values)
      for utterance, values in found.items()
    }
    if set().union(*labels.values()) - {'0', '1'}:
      raise ValueError('labels other than 0 and 1')
  except (
    ValueError, TypeError, AttributeError, EOFError, pickle.UnpicklingError
  ) as error:  # fmt: skip
    raise BuildError(
      f'{name}: expected a NumPy file of a dictionary of labels ({error})'
    ) from error
  return labels
