"""Several detectors in one bundle: the weighted sum of what each says alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import nnx

from jaxspoof import bundle, models
from jaxspoof.bundles import fuse, store
from jaxspoof.detector import Detector
from jaxspoof.score_files import scores as scores_lib
from jaxspoof.training import state
from tests import small_detectors
from tests.small_detectors import RATE, SAMPLES, wave

pytestmark = pytest.mark.usefixtures('programs')

# Hears clips of one length, and no more of them than this.
FIXED = {'name': 'lcnn', 'width': 0.1}
HEARD = 6_000


@pytest.fixture(scope='module')
def parts(tmp_path_factory):
  """A detector of any length, and one of clips of one length, less of them."""
  folder = tmp_path_factory.mktemp('parts')
  padded = small_detectors.write(
    folder / 'padded', model=small_detectors.PADDED, padded=True, bucket=4_000
  )
  fixed = small_detectors.write(folder / 'fixed', model=FIXED)
  card, tensors = store.read(fixed / 'detector')
  less = dataclasses.replace(card.input, samples=HEARD)
  store.write(
    folder / 'less.zip', dataclasses.replace(card, input=less), tensors
  )
  return padded, folder / 'less.zip'


@pytest.fixture(scope='module')
def fused(parts):
  out = parts[0].parent / 'fused.zip'
  words = ['fuse', *map(str, parts), '--out', str(out), '--name', 'both']
  assert bundle.main([*words, '--weights', '0.5', '2']) == 0
  return out


def test_the_score_is_the_weighted_sum_of_scores(parts, fused):
  """Of clips that are shorter than one hears, than the other, and longer."""
  waves = [wave(i)[:n] for i, n in enumerate((900, 5_000, HEARD, 7_000))]
  waves.append(np.concatenate([wave(8), wave(9)]))
  first, second = (Detector.load(part, batch=2).logits(waves) for part in parts)
  both = Detector.load(fused, batch=2)
  found = both.logits(waves)
  np.testing.assert_allclose(found, 0.5 * first + 2 * second, atol=1e-5)
  assert np.abs(first).max() > 0.01 and np.abs(second).max() > 0.01
  for i in (0, 4):  # alone as in a batch
    np.testing.assert_allclose(both.logits([waves[i]])[0], found[i], atol=1e-5)
  sizes = [len(Detector.load(p).embed(waves[:1])[0][0]) for p in parts]
  assert both.embed(waves)[0].shape == (5, sum(sizes))


def test_its_card_says_what_is_in_it(parts, fused, capsys):
  assert bundle.main(['show', str(fused)]) == 0
  said = capsys.readouterr().out
  assert said.startswith('both: fused, ')
  assert 'training: of ecapa, factor 0.5, corpus own, splits' in said
  assert 'training: of lcnn, factor 2.0, corpus own, splits' in said
  assert 'note: not calibrated: fused of others' in said
  card = store.read_card(fused)
  each = [store.read_card(p / 'detector' if p.is_dir() else p) for p in parts]
  total = sum(one.system.parameters for one in each)
  assert card.system.parameters == total - 2  # one head's biases
  assert (card.input.samples, card.input.bucket) == (SAMPLES, 4_000)
  assert bundle.main(['check', str(fused)]) == 0


def test_what_is_calibrated_adds_up_to_log_likelihood_ratios(parts, tmp_path):
  out = tmp_path / 'fused'
  assert bundle.main(['fuse', *map(str, parts), '--out', str(out)]) == 0
  waves = [wave(seed)[:HEARD] for seed in range(3)]
  expected = 0
  for part in parts:
    one = Detector.load(part)
    expected += one.known.card.calibration.slope * one.score(waves)
  both = Detector.load(out)
  np.testing.assert_allclose(both.score(waves), expected, atol=1e-4)
  assert not both.calibrated


def test_it_is_calibrated_and_fused_like_any_other(parts, fused, tmp_path):
  detector = Detector.load(fused)
  waves = [wave(seed) for seed in range(12)]
  order = np.argsort(np.argsort(detector.score(waves)))
  rows = ['path,label']
  for i, samples in enumerate(waves):
    soundfile.write(tmp_path / f'{i}.wav', samples, RATE, subtype='FLOAT')
    rows.append(f'{i}.wav,{"real" if order[i] >= 6 else "fake"}')
  (tmp_path / 'mine.csv').write_text('\n'.join(rows) + '\n')
  mine = tmp_path / 'mine.zip'
  words = ['calibrate', str(fused), '--manifest', str(tmp_path / 'mine.csv')]
  assert bundle.main([*words, '--out', str(mine)]) == 0
  found = Detector.load(mine)
  assert found.calibrated
  assert found.score(tmp_path / '3.wav').verdict in (
    'bona fide',
    'spoof',
    'uncertain',
  )
  half, again = tmp_path / 'half.zip', tmp_path / 'again.zip'
  assert bundle.main(['pack', str(mine), str(half), '--half']) == 0
  words = ['fuse', str(half), str(parts[0]), '--weights', '1', '0']
  assert bundle.main([*words, '--out', str(again)]) == 0
  scores = [Detector.load(path).score(waves[:3]) for path in (half, again)]
  np.testing.assert_allclose(*scores, atol=1e-5)


def test_what_parts_said_of_recordings_held_out_is_added(parts, fused):
  rng, folder = np.random.default_rng(0), parts[0].parent
  names, labels = np.array([f'clip{i}' for i in range(10)]), np.arange(10) % 2
  first, second = rng.normal(size=(2, 10))

  def write(name, which, scores, labels=labels):
    path, none = folder / f'{name}.txt', np.array(['-'] * len(which))
    scores_lib.write(path, names[which], none, labels[which], scores[which])
    return str(path)

  ones = write('a', np.arange(6), first), write('b', np.arange(6, 10), first)
  others = write('c', np.arange(10)[::-1], second)
  card = store.read_card(fused)
  found = bundle.read_held_out([ones, [others]], card)
  np.testing.assert_allclose(found.scores, 0.5 * first + 2 * second, atol=1e-6)
  assert found.labels.tolist() == labels.tolist()
  assert found.of.endswith('not trained on it (2 in all), 2 parts each')
  alone = bundle.read_held_out([ones], card)  # what all parts together said
  np.testing.assert_allclose(alone.scores, first, atol=1e-6)
  words = 'calibrate x --manifest m --out o --held_out a b --held_out c'
  given = bundle.parser().parse_args(words.split()).held_out
  assert given == [['a', 'b'], ['c']]
  for groups, words in (
    ([ones, [others], [others]], 'is there 3 times, .* fused of 2: expected'),
    ([ones, ones[:1]], r'a.txt: 4 recordings are in these .* such as clip6'),
    ([ones, [write('d', np.arange(10), second, 1 - labels)]], 'labels are not'),
  ):
    with pytest.raises(ValueError, match=words):
      bundle.read_held_out(groups, card)


@pytest.mark.parametrize(
  ('change', 'weights', 'words'),
  [
    ({}, [1.0], r'weights=\[1.0\]: expected 2 numbers, one for each'),
    ({}, [1.0, float('nan')], 'expected 2 numbers'),
    ({'calibration': None}, None, 'second: not calibrated, so .* --weights'),
    ({'loss': {'name': 'aam_softmax'}}, None, "'aam_softmax' has a head of co"),
    (
      {'classes': ('a', 'bonafide')},
      None,
      'its classes are a, bonafide, those',
    ),
    ({'classes': ('a', 'b', 'bonafide')}, None, '3 classes apart, expected 2'),
    ({'sample_rate': 8_000}, None, 'it takes 8000 Hz, the first one does not'),
    ({'encoder': ('big.pt', 'ff')}, None, 'encoder big.pt is not in the bun'),
  ],
)
def test_what_cannot_be_fused_is_named(parts, change, weights, words):
  first = store.read(parts[0] / 'detector')
  card, tensors = store.read(parts[1])
  system = {k: v for k, v in change.items() if k in ('loss', 'classes')}
  card = dataclasses.replace(
    card, system=dataclasses.replace(card.system, **system)
  )
  if 'sample_rate' in change:
    card = dataclasses.replace(
      card, input=dataclasses.replace(card.input, **change)
    )
  if 'calibration' in change:
    card = dataclasses.replace(card, **change)
  if 'encoder' in change:
    encoder = bundle.card_lib.Encoder(*change['encoder'])
    card = dataclasses.replace(card, encoder=encoder)
  with pytest.raises(ValueError, match=words):
    fuse.fuse({'first': first, 'second': (card, tensors)}, weights)


def test_a_part_may_hear_long_clips_but_not_hours(parts, fused, tmp_path):
  card, tensors = store.read(fused)
  for samples, refused in ((500_000, False), (1 << 40, True), (0, True)):
    given = [
      {**part, 'samples': samples} for part in card.system.model['parts']
    ]
    system = dataclasses.replace(
      card.system, model={'name': 'fused', 'parts': given}
    )
    made = dataclasses.replace(card, system=system)
    if refused:
      with pytest.raises(store.BundleError, match='parts.samples=.*a number'):
        store.write(tmp_path / 'out.zip', made, tensors)
    else:
      store.write(tmp_path / 'out.zip', made, tensors)
      Detector.load(tmp_path / 'out.zip')


def test_one_detector_is_none_to_fuse(parts, tmp_path, capsys):
  words = ['fuse', str(parts[0]), '--out', str(tmp_path / 'out.zip')]
  assert bundle.main(words) == 2
  assert 'expected two detectors or more' in capsys.readouterr().err


# ------------------------------------------------------------- the model ---
PARTS = (
  {'model': small_detectors.PADDED, 'samples': SAMPLES, 'padded': True},
  {'model': FIXED, 'samples': HEARD},
)


def test_it_can_be_trained():
  """In training mode, with a gradient for every part; dropout has its noise."""
  system = models.system({'name': 'fused', 'parts': PARTS})
  graphdef, params, stats = state.split(system.make(nnx.Rngs(1)))
  waves = jnp.asarray(np.stack([wave(1), wave(2)]))

  def loss(params):
    model = state.merge(graphdef, params, stats)
    answer = model.answer(
      waves, jnp.array([5_000, 8_000]), nnx.Rngs(dropout=0, mask=1)
    )
    return jax.nn.logsumexp(answer.outputs, axis=-1).sum()

  gradient = jax.jit(jax.grad(loss))(params)
  for part in ('part0', 'part1', 'head'):
    found = jax.tree.leaves(gradient[part])
    assert all(np.isfinite(x).all() for x in found)
    assert any(np.abs(x).max() > 0 for x in found), part


@pytest.mark.parametrize(
  ('given', 'words'),
  [
    ((), r"model 'fused' needs config.model.parts"),
    (PARTS[:1], 'needs at least two systems, got 1'),
    (({'model': FIXED}, PARTS[0]), r'parts\[0\]: expected the field samples'),
    (({'samples': 1}, PARTS[0]), r'parts\[0\]: expected the field model'),
    ((PARTS[0], {**PARTS[1], 'pad': 1}), r'parts\[1\]: unknown field pad'),
    (
      (PARTS[0], {**PARTS[1], 'padded': True}),
      'takes clips of one length',
    ),
    (
      (PARTS[0], {**PARTS[1], 'samples': 60}),
      'samples=60: Lcnn needs at',
    ),
    (
      (PARTS[0], {**PARTS[1], 'frontend': 'wave'}),
      r'\[1\]: .*Lcnn takes a',
    ),
  ],
)
def test_parts_that_cannot_work_are_named(given, words):
  with pytest.raises(ValueError, match=words):
    models.system({'name': 'fused', 'parts': given}).abstract()
