"""How the error of a small detector falls with more systems, pages or hours.

python benchmarks/learning_curve.py --train=demo_pages/open --dev=demo_pages/all
python benchmarks/learning_curve.py --folds=6
python benchmarks/learning_curve.py --seen=whisper --states 1 2 --parts whole
python benchmarks/learning_curve.py --seen=measures --parts whole

What the frozen front end of `configs/robust.py` makes of each clip, its mean
and deviation over time, goes into one hidden layer, as there, without
augmentation. It is trained on a part of split train: of the systems that made
spoofs (with all bona fide clips), of the pages (with all their clips), or of
the clips of every page and system; several times each, on other draws. The
table has the EER on dev: of all clips, and as the mean over pages (the field
`speaker` of these corpora) that have both classes.

`--folds=N` asks more clips: those of train and dev are divided into N parts by
pages, and each part is scored by what was trained on the others, as far as
`--train` has them. Twenty pages of dev can flatter or belittle; this table is
over all.

`--seen=whisper` sees only Whisper's states, of which `--states` takes others
and `--weights` those of another Whisper; `--seen=distillmos` only the
convolutions of DistillMOS, and `--seen=measures` what `jaxspoof.audio.measures`
measures of a clip, such as its level and bandwidth: what it finds are
shortcuts.

`--csv=FILE` keeps the scores of the last training, of which
`benchmarks/demo_pages.py` makes intervals.

The line below a table says what its curve promises if it goes on as it has: a
power law, EER = a * amount ** -b, fitted to the means. That is a guess.
"""

import argparse
import collections
import csv
import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

# Where this is started as a file: `configs` is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from configs import robust
from jaxspoof import audio, frontends
from jaxspoof.audio import measures
from jaxspoof.data import pipeline
from jaxspoof.machine import programs
from jaxspoof.metrics.eer import eer

PARTS = {
  'systems': (4, 8, 16, 32, None),
  'pages': (5, 10, 20, None),
  'share': (0.125, 0.25, 0.5, None),  # of all clips
  'whole': (None,),
}
FIELDS = {'name': 'utterance', 'system': 'attack', 'page': 'speaker'}
SEEN = 'all', 'whisper', 'distillmos', 'measures'
BATCH, DROPOUT, RATE = 128, 0.5, 3e-4
SAMPLES = robust.get_config().data.samples


def main(argv: list[str] | None = None) -> None:
  """Measures, and prints the tables."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--train', default='demo_pages/open')
  parser.add_argument('--dev', default='demo_pages/all')
  parser.add_argument('--data_dir')
  parser.add_argument('--split', default='dev', help='what is scored')
  parser.add_argument('--folds', type=int, help='of train and dev, by pages')
  parser.add_argument('--seen', default='all', choices=SEEN)
  parser.add_argument('--states', type=int, nargs='*', help='of Whisper')
  parser.add_argument('--weights', help='of another Whisper, see docs/ssl.md')
  parser.add_argument('--parts', nargs='*', default=list(PARTS), choices=PARTS)
  parser.add_argument('--draws', type=int, default=5)
  parser.add_argument('--steps', type=int, default=1000)
  parser.add_argument('--csv', type=pathlib.Path, help='scores, by clip')
  options = parser.parse_args(argv)
  programs.keep()
  try:
    rows, divisions = divided(options)
  except ValueError as error:  # weights or splits that are not there
    parser.exit(2, f'{parser.prog}: error: {error}\n')
  trained = np.any([trained for trained, _ in divisions], 0)
  print(
    f'trained on {options.train}: {said(rows, trained)}; EER on {options.dev}, '
    f'{f"{options.folds} folds by pages" if options.folds else options.split}: '
    f'{said(rows, np.any([tested for _, tested in divisions], 0))}; '
    f'{options.draws} draws'
  )
  for part in options.parts:
    print(f'\n| {part} | clips | EER, % | mean over pages, % |')
    print('|---|---|---|---|')
    means = {}
    for amount in PARTS[part]:
      found, clips = [], []
      # Of all there is one set; what is drawn then is where training starts.
      for seed in range(options.draws):
        rng = np.random.default_rng(seed)
        scores = np.full(len(rows['label']), np.nan)
        for trained_on, tested in divisions:
          chosen = draw(rows, trained_on, part, amount, rng)
          scores[tested] = fit(rows, chosen, options.steps, seed)[tested]
          clips.append(chosen.sum())
        found.append(errors(scores, rows))
      count = amount or whole(rows, trained, part)
      means[count] = np.mean(found, 0)
      low, high = np.min(found, 0), np.max(found, 0)
      print(
        f'| {count} | {np.mean(clips):.0f} | '
        + ' | '.join(
          f'{m:.1f} ({a:.1f} to {b:.1f})'
          for m, a, b in zip(means[count], low, high, strict=True)
        )
        + ' |',
        flush=True,
      )
    if len(means) > 1:
      promise(part, means)
  if options.csv:
    keep(options.csv, rows['name'], scores)


def keep(path: pathlib.Path, names, scores) -> None:
  """Writes scores as `detect.py --csv` does, as far as they are asked for."""
  with path.open('w', newline='') as file:
    table = csv.writer(file)
    table.writerow(['path', 'verdict', 'llr', 'score'])
    for name, score in zip(names, scores, strict=True):
      if not np.isnan(score):  # of what is trained on
        table.writerow([f'{name}.flac', 'uncertain', '', score])


def looker(options):
  """The function that makes of a wave what the hidden layer is given."""
  if options.seen == 'measures':
    return lambda wave: np.array(list(measures.measure(wave).values()), 'f4')
  section = robust.get_config().to_dict()['frontend']
  if options.states:
    section['parts']['whisper']['only'] = options.states
  if options.weights:
    # With the sizes that the weights say.
    section['parts']['whisper'] |= {
      'weights': options.weights,
      'architecture': None,
    }
  if options.seen != 'all':
    section = {'name': options.seen, **section['parts'][options.seen]}
  frontend = frontends.make(
    frontends.resolve(section, frontends.WaveConfig()), rngs=nnx.Rngs(0)
  )
  graphdef, arrays = nnx.split(frontend)

  @jax.jit
  def pooled(arrays, wave, valid):
    x, frames = nnx.merge(graphdef, arrays)(wave, valid)
    index = jnp.arange(x.shape[1], dtype=frames.dtype)[None]
    where = (index < frames[:, None])[..., None]
    return jnp.concatenate([x.mean(1, where=where), x.std(1, where=where)], -1)

  def look(wave):
    valid = jnp.asarray([len(wave)], jnp.int32)
    wave = np.pad(wave, (0, SAMPLES - len(wave)))[None]
    return np.asarray(pooled(arrays, wave, valid))[0]

  return look


def divided(options):
  """All clips, and for each training which are trained on and which scored.

  Returns:
    The table of clips, see `statistics`, and a list of pairs of masks.
  """
  if not options.folds:
    rows = statistics(
      [(options.train, 'train'), (options.dev, options.split)], options
    )
    tested = rows['source'] == 1
    return rows, [(~tested, tested)]
  rows = statistics([(options.dev, s) for s in ('train', 'dev')], options)
  usable = np.isin(
    rows['name'],
    [
      pipeline.text(row['utterance'])
      for split in ('train', 'dev')
      for row in clips_of(options.train, split, options.data_dir)
    ],
  )
  fold = folds(rows, options.folds)
  return rows, [(usable & (fold != k), fold == k) for k in range(options.folds)]


def folds(rows: dict[str, np.ndarray], count: int) -> np.ndarray:
  """The fold of each clip: pages are dealt out to them, the largest first.

  Those with both classes and those with one are dealt apart, there and back,
  so that folds are alike in size.
  """
  of, found = rows['page'], np.zeros(len(rows['page']), int)
  both, one = [], []
  for page in np.unique(of):
    label = rows['label'][of == page]
    (both if 0 < label.sum() < len(label) else one).append(page)
  for pages in both, one:
    pages.sort(key=lambda page: -(of == page).sum())
    for index, page in enumerate(pages):
      turn, at = divmod(index, count)
      found[of == page] = count - 1 - at if turn % 2 else at
  return found


def clips_of(corpus: str, split: str, data_dir: str | None) -> list:
  """The clips of a split."""
  source = pipeline.open_source(corpus, split, data_dir)
  return [source[number] for number in range(len(source))]


def statistics(splits, options) -> dict[str, np.ndarray]:
  """A table of clips: what is seen of each, and what is known of it.

  Args:
    splits: pairs of a corpus and a split; `source` says of which a clip is.
    options: of the command line.
  """
  look = looker(options)
  found = collections.defaultdict(list)
  for number, (corpus, split) in enumerate(splits):
    for row in clips_of(corpus, split, options.data_dir):
      wave = audio.load(row['audio'], 'clip')[:SAMPLES]
      found['seen'].append(look(wave))
      found['seconds'].append(len(wave) / audio.SAMPLE_RATE)
      found['source'].append(number)
      found['label'].append(int(row['label']))
      for ours, theirs in FIELDS.items():
        found[ours].append(pipeline.text(row[theirs]))
      print('.', end='', file=sys.stderr, flush=True)
  print(file=sys.stderr)
  return {name: np.array(values) for name, values in found.items()}


def said(rows: dict[str, np.ndarray], which: np.ndarray) -> str:
  """What some of the clips are."""
  return (
    f'{which.sum()} clips ({rows["seconds"][which].sum() / 3600:.2f} h), '
    f'{rows["label"][which].sum()} of them bona fide, '
    f'{whole(rows, which, "systems")} systems, '
    f'{whole(rows, which, "pages")} pages'
  )


def whole(rows, which: np.ndarray, part: str) -> int | float:
  """How much of a part there is in some of the clips."""
  if part == 'systems':
    return len(set(rows['system'][which & (rows['label'] == 0)]))
  return len(set(rows['page'][which])) if part == 'pages' else 1.0


def draw(rows, usable: np.ndarray, part: str, amount, rng) -> np.ndarray:
  """Which clips are trained on; drawn again until both classes are there."""
  spoof = rows['label'] == 0
  if amount is None:
    return usable
  while True:
    if part == 'systems':
      names = rng.permutation(np.unique(rows['system'][usable & spoof]))
      chosen = ~spoof | np.isin(rows['system'], names[:amount])
    elif part == 'pages':
      names = rng.permutation(np.unique(rows['page'][usable]))
      chosen = np.isin(rows['page'], names[:amount])
    else:
      chosen = rng.random(len(spoof)) < amount
    chosen &= usable
    if 0 < spoof[chosen].sum() < chosen.sum():
      return chosen


def fit(rows, chosen: np.ndarray, steps: int, seed: int) -> np.ndarray:
  """Trains the hidden layer on some of the clips, and scores all.

  Scores are in deviations of those of the clips trained on, around their mean:
  so those of several folds can stand together.
  """
  x, label = rows['seen'], rows['label']
  x = (x - x[chosen].mean(0)) / (x[chosen].std(0) + 1e-6)
  share = np.where(chosen, 0.5 / np.bincount(label[chosen])[label], 0)
  scores = np.asarray(
    _trained(
      jnp.asarray(x),
      jnp.asarray(label),
      jnp.asarray(share),
      jax.random.key(seed),
      steps,
    )
  )
  return (scores - scores[chosen].mean()) / scores[chosen].std()


# One program for all parts: what is not trained on has a share of 0.
@functools.partial(jax.jit, static_argnames='steps')
def _trained(x, label, share, key, steps: int):
  hidden = robust.get_config().model.embedding
  key, one, two = jax.random.split(key, 3)
  draw_kernel = jax.nn.initializers.he_normal()
  params = {
    'hidden': draw_kernel(one, (x.shape[1], hidden)),
    'hidden_bias': jnp.zeros(hidden),
    'out': draw_kernel(two, (hidden, 2)),
  }
  optimiser = optax.adam(optax.cosine_decay_schedule(RATE, steps))

  def logits(params, x, key=None):
    keep = 1 - DROPOUT
    masks = [1.0, 1.0]
    if key is not None:
      shapes = x.shape, (len(x), hidden)
      masks = [
        jax.random.bernoulli(k, keep, shape) / keep
        for k, shape in zip(jax.random.split(key), shapes, strict=True)
      ]
    h = jax.nn.relu(
      (x * masks[0]) @ params['hidden'] + params['hidden_bias'][None]
    )
    return (h * masks[1]) @ params['out']

  def step(state, key):
    params, opt = state
    which, noise = jax.random.split(key)
    rows = jax.random.choice(which, len(x), (BATCH,), p=share)

    def loss(params):
      found = logits(params, x[rows], noise)
      return optax.softmax_cross_entropy_with_integer_labels(
        found, label[rows]
      ).mean()

    updates, opt = optimiser.update(jax.grad(loss)(params), opt, params)
    return (optax.apply_updates(params, updates), opt), None

  start = params, optimiser.init(params)
  (params, _), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
  found = logits(params, x)
  return found[:, 1] - found[:, 0]


def errors(scores, rows) -> tuple[float, float]:
  """EER of all clips with a score, and mean over pages with both classes, %."""
  scored = ~np.isnan(scores)
  scores, label, pages = (
    x[scored] for x in (scores, rows['label'], rows['page'])
  )
  over = []
  for page in np.unique(pages):
    at = pages == page
    if 0 < label[at].sum() < at.sum():
      over.append(eer_of(scores[at], label[at]))
  return eer_of(scores, label), float(np.mean(over)) if over else float('nan')


def eer_of(scores, label) -> float:
  """EER in %."""
  return 100 * float(eer(scores, label)[0])


def promise(part: str, means: dict[float, np.ndarray]) -> None:
  """What a power law says of two, four and eight times as much."""
  amount, most = np.log(list(means)), max(means)
  for name, column in (('all clips', 0), ('the mean over pages', 1)):
    values = np.array([mean[column] for mean in means.values()])
    slope, start = np.polyfit(amount, np.log(values), 1)
    more = ', '.join(
      f'{times * most:g}: {np.exp(start + slope * np.log(times * most)):.1f} %'
      for times in (2, 4, 8)
    )
    print(f'{name}: EER falls as {part} ** {slope:.2f}; {part} {more}')


if __name__ == '__main__':
  main()
