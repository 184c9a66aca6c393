"""Files that are written whole or not at all."""

import contextlib
import csv
import gzip
import io
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
  """Opens a file for bytes that takes the place of `path` once it is whole.

  Where an exception leaves the context, `path` stays as it was.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
  try:
    with partial.open('wb') as file:
      yield file
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def write_atomically(path, text: str) -> None:
  """Write a text file so that readers see the old one or the new one whole.

  Args:
    path: file to write, gzipped if its name ends in .gz; its folder is made.
    text: content, stored as UTF-8.
  """
  path = pathlib.Path(path)
  data = text.encode()
  if path.suffix == '.gz':
    data = gzip.compress(data, mtime=0)
  with replacing(path) as file:
    file.write(data)


def write_json(path, values: dict[str, Any]) -> None:
  """Write a dictionary to a JSON file, whole or not at all."""
  write_atomically(path, json.dumps(values, indent=2) + '\n')


def write_table(path: pathlib.Path, head, rows) -> None:
  """Writes a table with a header, separated by tabs; odd names are quoted."""
  buffer = io.StringIO()
  writer = csv.writer(buffer, delimiter='\t', lineterminator='\n')
  writer.writerows([head, *rows])
  write_atomically(path, buffer.getvalue())
