"""Jobs by name, and what every job needs before JAX is used.

A job is a module beside this one whose docstring begins with JOB. It is read
from top to bottom; the parts that it calls are in the packages.
"""

import dataclasses
import os
import pathlib

import jax
import ml_collections

from jaxspoof.config import modern, near
from jaxspoof.jobs import (
  attack,
  benchmark,
  embed,
  enhance,
  evaluate,
  leave_one_out,
  localise,
  search,
  source_tracing,
  study,
  train,
  train_genotype,
)
from jaxspoof.machine import programs
from jaxspoof.runs import workdir as workdir_lib

JOBS = {
  'attack': attack.attack,
  'benchmark': benchmark.benchmark,
  'embed': embed.embed,
  'enhance': enhance.enhance,
  'evaluate': evaluate.evaluate,
  'leave_one_out': leave_one_out.leave_one_out,
  'localise': localise.localise,
  'search': search.search,
  'source_tracing': source_tracing.source_tracing,
  'study': study.study,
  'train': train.train,
  'train_genotype': train_genotype.train_genotype,
}


@dataclasses.dataclass(frozen=True)
class Cluster:
  """Who is who among several hosts; all None where the cluster tells."""

  coordinator: str | None = None
  num_processes: int | None = None
  process_id: int | None = None


def run(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  cluster: Cluster | None = None,
) -> dict:
  """Runs the job named by `config.job`.

  Args:
    config: from a file in `configs/`, with overrides.
    workdir: folder of the run.
    cluster: set for a job of several hosts.

  Returns:
    What the job returns: its metrics.
  """
  values = modern(config.to_dict())
  job = values.get('job', '')
  if job not in JOBS:
    raise ValueError(f'unknown job {job!r}: {near(job, JOBS)}')
  if cluster is not None:
    jax.distributed.initialize(
      cluster.coordinator, cluster.num_processes, cluster.process_id
    )
  programs.keep()
  try:
    return JOBS[job](values, pathlib.Path(workdir))
  finally:
    workdir_lib.release()
