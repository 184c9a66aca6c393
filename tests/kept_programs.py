"""Compiled programs, kept for other test files, processes and runs.

XLA's cache names a program by all that it is made from, so that a program of
other code is never taken for it. It writes files in place, though: where two
processes meet, one reads half a file. So each process of pytest has a folder of
its own, which it shares with the processes that it starts and waits for. Before
each module it is given links to what is kept, and what was compiled there is
kept afterwards, renamed into place. Who is killed has a folder of its own, for
he may leave half a program. Tests of how something is compiled do without
(fixture `compiled_anew`).
"""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import sys

CACHE = pathlib.Path(__file__).resolve().parents[1] / '.cache' / 'programs'
SUFFIX = '-cache'  # of an entry of XLA's cache
LARGEST = 2**30  # bytes
VERSIONS = [importlib.metadata.version(name) for name in ('jax', 'jaxlib')]
# XLA for CPUs writes loops with older code in a third of the time of its new
# one, and in one thread in less still. The programs are a little slower.
XLA_FLAGS = ['--xla_cpu_parallel_codegen_split_count=1']
if VERSIONS[1].startswith('0.10.'):  # 0.11 has the new code alone
  XLA_FLAGS.append('--xla_cpu_use_fusion_emitters=false')


def kept() -> pathlib.Path:
  """The folder of programs that fit these versions and this processor."""
  about = [sys.version, *VERSIONS, platform.machine()]
  processor = pathlib.Path('/proc/cpuinfo')
  if processor.is_file():
    lines = processor.read_text().splitlines()
    about += sorted({x for x in lines if x.startswith(('model name', 'flags'))})
  digest = hashlib.sha256('\n'.join(about).encode()).hexdigest()
  return CACHE / digest[:16]


def link(source: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Links to all programs of another folder, which are not in this one yet."""
  folder.mkdir(parents=True, exist_ok=True)
  there = set(os.listdir(folder))
  for path in source.glob(f'*{SUFFIX}'):
    if path.name not in there:
      (folder / path.name).symlink_to(path.resolve())
  return folder


def keep(folder: pathlib.Path) -> None:
  """Keeps what was compiled into a folder; its processes must have ended."""
  target = kept()
  target.mkdir(parents=True, exist_ok=True)
  for path in folder.glob(f'*{SUFFIX}'):
    if path.is_symlink() or (target / path.name).exists():
      continue
    part = target / f'{path.name}.{os.getpid()}'
    shutil.copyfile(path, part)
    part.replace(target / path.name)


def prune(largest: int = LARGEST) -> None:
  """Removes the oldest half where more is kept than `largest` bytes."""
  files = [(p.stat(), p) for p in CACHE.glob('*/*') if p.is_file()]
  if sum(about.st_size for about, _ in files) <= largest:
    return
  files.sort(key=lambda pair: pair[0].st_mtime)
  for _, path in files[: len(files) // 2]:
    path.unlink()
