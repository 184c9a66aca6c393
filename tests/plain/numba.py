"""In place of numba, for librosa: its functions stay those of Python.

Where librosa is first imported, it has 40 of them compiled, which takes longer
than any test; MFCCs, mel energies and deltas call none.
"""


def jit(*given, **options):
  """Returns the function itself, as a decorator with or without options."""
  return given[0] if given and callable(given[0]) else lambda function: function


stencil = vectorize = guvectorize = jit
uint32 = 'uint32'
