"""Compiled programs kept on disk, so that the second start is quick."""

import os
import pathlib
import sys

import jax


def keep() -> None:
  """Caches compiled programs in this user's own folder.

  The cache is code that is trusted: it must not be shared with others.
  `JAX_COMPILATION_CACHE_DIR` chooses another folder. A user without a folder
  to write to, as in many containers, does without a cache.
  """
  if jax.config.jax_compilation_cache_dir is not None:
    return
  try:
    cache = pathlib.Path.home() / '.cache' / 'jaxspoof' / 'programs'
    cache.mkdir(parents=True, exist_ok=True)
    if not os.access(cache, os.W_OK):
      raise PermissionError(f'{cache} cannot be written to')
  except (RuntimeError, OSError) as error:  # RuntimeError: there is no home
    print(
      f'note: compiled programs are not kept ({error}); set HOME or '
      'JAX_COMPILATION_CACHE_DIR for quicker starts',
      file=sys.stderr,
    )
    return
  jax.config.update('jax_compilation_cache_dir', str(cache))
