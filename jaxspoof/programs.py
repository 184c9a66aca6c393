"""Compiled programs kept on disk, so that the second start is quick."""

import pathlib

import jax


def keep() -> None:
  """Caches compiled programs in this user's own folder.

  The cache is code that is trusted: it must not be shared with others.
  `JAX_COMPILATION_CACHE_DIR` chooses another folder.
  """
  if jax.config.jax_compilation_cache_dir is None:
    cache = pathlib.Path.home() / '.cache' / 'jaxspoof' / 'programs'
    jax.config.update('jax_compilation_cache_dir', str(cache))
