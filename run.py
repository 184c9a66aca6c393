"""Runs the job that a config file describes.

  python run.py --config=configs/aasist.py:quickstart
  python run.py --config=configs/aasist.py:l --config.optim.learning_rate=3e-4
  python run.py --config=configs/aasist.py --workdir=runs/mine

Several hosts: start the same command on each with --distributed (Slurm, Open
MPI and Kubernetes are detected), or say who is who with --coordinator,
--num_processes and --process_id.
"""

from absl import flags

from jaxspoof import run
from jaxspoof.run import default_workdir, main, parse

__all__ = ['default_workdir', 'main', 'parse']

flags.adopt_module_key_flags(run)  # --help shows them

if __name__ == '__main__':
  run.start()
