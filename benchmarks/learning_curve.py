"""How the error of a small detector falls with more systems, pages or hours.

python benchmarks/learning_curve.py --train=demo_pages/open --dev=demo_pages/all
python benchmarks/learning_curve.py --states 0 1 2 3 4 --parts whole
python benchmarks/learning_curve.py --seen=measures --parts whole

What a frozen Whisper tiny.en makes of each clip, mean and deviation over time
of the states that `configs/robust.py` takes, goes into one hidden layer, as
there, without augmentation. It is trained on a part of split train: of the
systems that made spoofs (with all bona fide clips), of the pages (with all
their clips), or of the clips of every page and system; several times each, on
other draws. The table has the EER on dev: of all clips, and as the mean over
pages (the field `speaker` of these corpora) that have both classes.

`--seen=measures` sees in place of the encoder's states only what
`jaxspoof.audio.measures` measures of a clip, such as its level and bandwidth:
what it finds are shortcuts. `--states` takes other states of the encoder.

The line below a table says what its curve promises if it goes on as it has: a
power law, EER = a * amount ** -b, fitted to the means. That is a guess.
"""

import argparse
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

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
  parser.add_argument('--weights', default='package:whisper-tiny.en')
  parser.add_argument('--split', default='dev', help='what is scored')
  parser.add_argument(
    '--seen', default='states', choices=('states', 'measures')
  )
  parser.add_argument(
    '--states', type=int, nargs='*', default=robust.get_config().model.states
  )
  parser.add_argument('--parts', nargs='*', default=list(PARTS), choices=PARTS)
  parser.add_argument('--draws', type=int, default=5)
  parser.add_argument('--steps', type=int, default=1000)
  options = parser.parse_args(argv)
  programs.keep()
  train = statistics(options.train, 'train', options)
  dev = statistics(options.dev, options.split, options)
  print(
    f'trained on {options.train}, split train: {said(train)}; '
    f'EER on {options.dev}, split {options.split}: {said(dev)}; '
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
        chosen = draw(train, part, amount, rng)
        clips.append(chosen.sum())
        score = fit(train, chosen, options.steps, seed)
        found.append(errors(score(dev['seen']), dev))
      count = amount or whole(train, part)
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


def looker(options):
  """The function that makes of a wave what the hidden layer is given."""
  if options.seen == 'measures':
    return lambda wave: np.array(list(measures.measure(wave).values()), 'f4')
  config = robust.get_config().to_dict()
  section = {
    **config['frontend'],
    'weights': options.weights,
    'architecture': {'layers': max(1, *options.states)},
  }
  frontend = frontends.make(
    frontends.resolve(section, frontends.FRONTENDS['whisper']),
    rngs=nnx.Rngs(0),
  )
  graphdef, arrays = nnx.split(frontend)

  @jax.jit
  def pooled(arrays, wave, valid):
    features, frames = nnx.merge(graphdef, arrays)(wave, valid)
    batch, count, _ = features.shape
    x = features.reshape(batch, count, frontend.config.states, -1)
    x = x[:, :, jnp.array(options.states)].reshape(batch, count, -1)
    index = jnp.arange(count, dtype=frames.dtype)[None]
    where = (index < frames[:, None])[..., None]
    return jnp.concatenate([x.mean(1, where=where), x.std(1, where=where)], -1)

  def look(wave):
    valid = jnp.asarray([len(wave)], jnp.int32)
    wave = np.pad(wave, (0, SAMPLES - len(wave)))[None]
    return np.asarray(pooled(arrays, wave, valid))[0]

  return look


def statistics(corpus: str, split: str, options) -> dict[str, np.ndarray]:
  """What is seen of each clip of a split, its label, system and page."""
  look = looker(options)
  source = pipeline.open_source(corpus, split, options.data_dir)
  rows = [source[n] for n in range(len(source))]
  seen, seconds = [], []
  for row in rows:
    wave = audio.load(row['audio'], 'clip')[:SAMPLES]
    seconds.append(len(wave) / audio.SAMPLE_RATE)
    seen.append(look(wave))
    print('.', end='', file=sys.stderr, flush=True)
  print(file=sys.stderr)
  return {
    'seen': np.stack(seen),
    'seconds': np.array(seconds),
    'label': np.array([int(row['label']) for row in rows]),
    'system': np.array([pipeline.text(row['attack']) for row in rows]),
    'page': np.array([pipeline.text(row['speaker']) for row in rows]),
  }


def said(rows: dict[str, np.ndarray]) -> str:
  """What a split has."""
  spoof = rows['label'] == 0
  return (
    f'{len(spoof)} clips ({rows["seconds"].sum() / 3600:.2f} h), '
    f'{(~spoof).sum()} of them bona fide, '
    f'{whole(rows, "systems")} systems, {whole(rows, "pages")} pages'
  )


def whole(rows: dict[str, np.ndarray], part: str) -> int | float:
  """How much of a part there is."""
  if part == 'systems':
    return len(set(rows['system'][rows['label'] == 0]))
  return len(set(rows['page'])) if part == 'pages' else 1.0


def draw(rows, part: str, amount, rng) -> np.ndarray:
  """Which clips are trained on; drawn again until both classes are there."""
  spoof = rows['label'] == 0
  if amount is None:
    return np.ones(len(spoof), bool)
  while True:
    if part == 'systems':
      names = rng.permutation(np.unique(rows['system'][spoof]))
      chosen = ~spoof | np.isin(rows['system'], names[:amount])
    elif part == 'pages':
      names = rng.permutation(np.unique(rows['page']))
      chosen = np.isin(rows['page'], names[:amount])
    else:
      chosen = rng.random(len(spoof)) < amount
    if 0 < spoof[chosen].sum() < chosen.sum():
      return chosen


def fit(rows, chosen, steps: int, seed: int):
  """Trains the hidden layer; returns the function that scores statistics."""
  hidden = robust.get_config().model.embedding
  x, y = rows['seen'][chosen], rows['label'][chosen]
  mean, deviation = x.mean(0), x.std(0) + 1e-6
  x = jnp.asarray((x - mean) / deviation)
  share = jnp.asarray(0.5 / np.bincount(y)[y])  # of the classes, balanced
  key, one, two = jax.random.split(jax.random.key(seed), 3)
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
        found, jnp.asarray(y)[rows]
      ).mean()

    updates, opt = optimiser.update(jax.grad(loss)(params), opt, params)
    return (optax.apply_updates(params, updates), opt), None

  train = jax.jit(lambda *state: jax.lax.scan(step, *state)[0][0])
  params = train((params, optimiser.init(params)), jax.random.split(key, steps))

  def score(seen):
    found = np.asarray(logits(params, (seen - mean) / deviation))
    return found[:, 1] - found[:, 0]

  return score


def errors(scores, rows) -> tuple[float, float]:
  """EER of all clips and mean over pages with both classes, in %."""
  label, pages = rows['label'], rows['page']
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
