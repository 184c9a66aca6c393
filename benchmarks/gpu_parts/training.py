"""The whole job by `run.py`: AASIST from records, and the quickstart's EER.

AASIST is trained with the paper's clips and batch, fed by as many workers as
there are cores: clips a second and the share of the time that it waited for
data are the medians of its own log. With `--quickstart`, the quickstart is
trained instead in float32 (TF32) and in bfloat16, all runs at once; its EERs
are to be those of the CPU within the spread of seeds.
"""

import json
import os
import subprocess
import sys

import common


def main() -> None:
  """Trains and writes OUT/training.json."""
  options = common.arguments(__doc__, flags=('quickstart',))
  part = 'quickstart' if options.quickstart else 'training'
  work = quickstart(options) if options.quickstart else aasist(options)
  running = {name: start(name, words, options) for name, words in work.items()}
  found = {}
  for name, process in running.items():
    process.wait()
    found[name] = result(name, options)
    common.write(options.out, part, found)


def aasist(options) -> dict[str, list[str]]:
  """A run of AASIST in bfloat16: its name, and the words for `run.py`."""
  workers = min(16, os.cpu_count())
  words = [
    '--config=configs/aasist.py' + ':smoke' * options.small,
    '--config.data.name=' + ('quickstart/tiny' * options.small or 'quickstart'),
    '--config.model.dtype=bfloat16',
    '--config.average=none',
    '--config.resamples=100',
    f'--config.data.workers={0 if options.small else workers}',
  ]
  if not options.small:
    words += ['--config.epochs=8', '--config.log_every=20']
  return {f'AASIST bfloat16, {workers} workers': words}


def quickstart(options) -> dict[str, list[str]]:
  """Runs of the quickstart by dtype and seed, as for AASIST."""
  kinds = [('bfloat16', 1234), ('float32', 1234), ('bfloat16', 1)]
  if options.small:
    kinds = kinds[:1]
  return {
    f'quickstart {dtype} seed {seed}': [
      '--config=configs/aasist.py:' + ('smoke' * options.small or 'quickstart'),
      f'--config.model.dtype={dtype}',
      f'--config.seed={seed}',
    ]
    for dtype, seed in kinds
  }


def start(name: str, words: list[str], options) -> subprocess.Popen:
  """One run of `run.py` on the corpus in OUT/corpora."""
  folder = options.out / 'runs' / name.replace(' ', '_').replace(',', '')
  with open(options.out / f'{folder.name}.txt', 'w') as log:
    return subprocess.Popen(
      [
        sys.executable,
        'run.py',
        *words,
        f'--config.data.data_dir={options.out / "corpora"}',
        f'--workdir={folder}',
      ],
      stdout=log,
      stderr=subprocess.STDOUT,
    )


def result(name: str, options) -> dict:
  """EERs, speed and waiting of a run; what it said last if it failed."""
  folder = options.out / 'runs' / name.replace(' ', '_').replace(',', '')
  if not (folder / 'metrics.json').exists():
    text = (options.out / f'{folder.name}.txt').read_text()
    common.say(f'{name} failed:', text[-800:])
    return {'failed': text[-800:]}
  metrics = json.loads((folder / 'metrics.json').read_text())
  cost = json.loads((folder / 'cost.json').read_text())
  eers = {metrics['split']: metrics['eer']}
  eers |= {split: one['eer'] for split, one in metrics['further'].items()}
  kept = ('clips_per_s', 'data_wait', 'minutes', 'batch', 'samples', 'device')
  row = {'eer': eers, **{key: cost[key] for key in kept}}
  common.say(
    f'{name}: '
    + ', '.join(f'{split} {100 * eer:.1f} %' for split, eer in eers.items())
    + f'; {row["clips_per_s"]:.0f} clips/s, waiting '
    f'{100 * row["data_wait"]:.1f} %, {row["minutes"]:.2f} min'
  )
  return row


if __name__ == '__main__':
  main()
