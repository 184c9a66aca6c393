"""Huge pages for large arrays on Linux CPUs.

A training step touches gigabytes of freshly allocated memory, and the kernel
maps it 4 KiB at a time. With transparent huge pages it maps 2 MiB at a time:
plain passes over an activation then take a third to a quarter of the time.
glibc asks for them only when it is told so before the program starts, so the
program starts itself once more.
"""

import os
import pathlib
import platform
import sys

TUNABLE = 'glibc.malloc.hugetlb'
_SETTING = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


def ensure() -> None:
  """Starts this program again with huge pages where that helps.

  Does nothing where glibc was already told about them (`GLIBC_TUNABLES`), on
  other systems, and where the kernel's setting is not `madvise`. To be called
  first thing in a main program; does not return if it starts anew.
  """
  if asked() or not helps():
    return
  tunables = os.environ.get('GLIBC_TUNABLES', '')
  tunables = ':'.join(filter(None, [tunables, f'{TUNABLE}=1']))
  environment = os.environ | {'GLIBC_TUNABLES': tunables}
  sys.stdout.flush()
  os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def asked() -> bool:
  """True where glibc was told at the start of this process."""
  return TUNABLE in os.environ.get('GLIBC_TUNABLES', '')


def helps() -> bool:
  """True where the kernel gives huge pages to those who ask for them."""
  name, version = platform.libc_ver()
  if name != 'glibc' or tuple(map(int, version.split('.')[:2])) < (2, 35):
    return False
  try:
    return '[madvise]' in _SETTING.read_text()
  except OSError:
    return False
