"""JOB: trains a model to name the attack, and says how well it does.

Read from top to bottom. Training is that of `train`, with the attacks as
classes; then the selected weights embed every split, and

  source_tracing.json   closed-set and open-set figures of each split
  embeddings.npz        what they follow from, with embeddings.tsv
  report.html           the confusion of each split, maps of the embeddings

are written beside the files of the training.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from jaxspoof import classes as classes_lib
from jaxspoof import embeddings, report, tracing
from jaxspoof.config import run_config, section
from jaxspoof.data import pipeline
from jaxspoof.detector import Detector
from jaxspoof.jobs import train
from jaxspoof.machine import files
from jaxspoof.runs import names, record
from jaxspoof.training import sharding as sharding_lib


def source_tracing(values: Mapping[str, Any], workdir: pathlib.Path) -> dict:
  """Trains, selects and evaluates a model that names attacks.

  Args:
    values: the config as a dictionary: that of `train`, and a section
      `source_tracing`, see `tracing.SourceTracingConfig`, which may change when
      a finished run is started again: it trains nothing, and is kept in
      `source_tracing.json`.
    workdir: folder of the run; made if missing.

  Returns:
    The content of `source_tracing.json`.

  Raises:
    ValueError: a config that cannot work, or a corpus without attack labels.
  """
  # ------------------------------------------------------------- checks ---
  values = dict(values)
  how = section(
    tracing.SourceTracingConfig,
    values.pop('source_tracing', {}),
    'config.source_tracing',
  )
  config = run_config(values)
  if config.task != 'source_tracing':
    raise ValueError(
      f"task={config.task!r}: the job expects task='source_tracing'"
    )

  # ----------------------------------------------------------- training ---
  train.train(values, workdir, page=False)

  # --------------------------- embeddings of all splits, weights selected ---
  result = {}
  if jax.process_index() == 0:
    batch = None
    if jax.default_backend() != 'cpu':  # one device, of those that trained
      devices = config.mesh.devices or jax.device_count()
      batch = max(1, config.data.eval_batch // devices)
    detector = Detector.load(workdir, batch=batch)
    data = config.data
    found = embed_splits(detector, data, (data.train, data.dev, *data.eval))
    embeddings.save(workdir, found, detector.classes)

    # ------------------------------------------------------------ results ---
    result = tracing.trace(
      classes_lib.Classes.called(detector.classes),
      found,
      train_split=data.train,
      dev_split=data.dev,
      how=how,
    )
    files.write_json(workdir / names.SOURCE_TRACING, result)
    added = (names.CLASSES, names.EMBEDDINGS, names.SOURCE_TRACING)
    record.add(workdir, added)
    page = report.write(workdir)
    print(tracing.table(result))
    print(f'report: {page}')
  sharding_lib.barrier('source_tracing')
  return result


def embed_splits(detector: Detector, data, splits) -> embeddings.Embeddings:
  """Embeddings of whole splits.

  Raises:
    ValueError: a clip that cannot be embedded; names the first ones.
  """
  loads = []
  for split in splits:
    source = pipeline.open_source(data.name, split, data.data_dir)
    loads += embeddings.loads_of_split(source)
  print(f'embedding {len(loads):,} clips of {", ".join(splits)}', flush=True)
  found, failures, _ = embeddings.embed(detector, loads)
  if failures:
    shown = '; '.join(failure.error for failure in failures[:5])
    raise ValueError(
      f'{len(failures):,} of {len(loads):,} clips cannot be embedded: {shown}'
    )
  return found
