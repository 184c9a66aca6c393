"""The search job: kill and resume, cost, interface, report, bad input."""

import contextlib
import dataclasses
import json
import pathlib
import re
import shlex
import sys
import types

import jax
import numpy as np
import pytest

from jaxspoof import overrides, report
from jaxspoof.darts import spaces
from jaxspoof.darts.controller import SearchController, _opened, load
from jaxspoof.darts.pages import evolution
from jaxspoof.darts.search import architecture, collapse, console
from jaxspoof.darts.search.config import search_config, supernet_config
from jaxspoof.darts.spaces.genotype import KINDS, Genotype
from jaxspoof.data import pipeline
from jaxspoof.jobs import search
from jaxspoof.training import sharding
from tests import kept_programs, pages
from tests.processes import (
  finish,
  kill_after_step,
  lines_of,
  start,
  without_page,
)

SETTINGS = dict(
  epochs=3,
  log_every=1,
  checkpoint_every=1,
  model=dict(nodes=1, channels=2),
  data=dict(batch=8, eval_batch=16, samples=4_000, eval_samples=4_000),
  weights=dict(optimizer='adam', learning_rate=3e-3),
  arch=dict(warmup_epochs=1, learning_rate=0.1),
  loss=dict(name='weighted_cross_entropy', weights=()),
  mesh=dict(devices=1),
)
RECORD = dict(audio=b'', utterance='u', attack='-')
RECORD_OF_TWO = dict(audio=b'', utterance='u', label=1)


@pytest.fixture(scope='module', autouse=True)
def compiled_once(programs):
  # Optax multiplies by Python and integer scalars.
  with jax.numpy_dtype_promotion('standard'):
    yield


def controller(workdir, **changes):
  return SearchController(
    num_cells=3, workdir=workdir, **{**SETTINGS, **changes}
  )


@pytest.fixture(scope='module')
def corpus(quickstart_tiny):
  """Data sources by split, decoded once."""
  sources = [
    pipeline.open_source('quickstart/tiny', split, quickstart_tiny)
    for split in ('train', 'dev')
  ]
  return {s.split: [s[n] for n in range(len(s))] for s in sources}


@pytest.fixture(scope='module')
def finished(tmp_path_factory, quickstart_tiny, compiled_once):
  """A search that ran through."""
  workdir = tmp_path_factory.mktemp('search')
  with pages.none():
    return controller(workdir).train_search(
      'quickstart/tiny', data_dir=quickstart_tiny
    )


def test_a_search_leaves_what_its_interface_says(finished, tmp_path):
  finished.save(tmp_path / 'genotype.json')
  assert Genotype.load(tmp_path / 'genotype.json') == finished.genotype
  finished.plot(tmp_path / 'cells.svg')
  with pytest.raises(ValueError, match=r"cells.png': expected .* with .svg"):
    finished.plot(tmp_path / 'cells.png')
  drawn = (tmp_path / 'cells.svg').read_text()
  assert drawn.startswith('<svg') and 'var(' not in drawn
  for operation, _ in (*finished.genotype.normal, *finished.genotype.reduce):
    assert operation in drawn
  steps = [line['step'] for line in finished.history]
  assert steps == list(range(1, len(steps) + 1))
  assert load(finished.workdir).genotype == finished.genotype
  size = finished.metrics['derived']
  assert size['parameters'] > 0 and size['macs']['total'] > 0


def test_the_architecture_waits_for_the_warm_up(finished):
  first, second, _ = (x for x in finished.history if 'arch' in x)
  assert first['entropy'] > 0.9999 > second['entropy']
  moved = [line['epoch'] > 1 for line in finished.history]
  assert moved == ['arch/loss' in line for line in finished.history]


def test_each_epoch_tells_losses_and_dev(finished):
  ends = [line for line in finished.history if 'arch' in line]
  assert len(ends) == 3
  for line in ends:
    for name in ('valid/loss', 'dev/loss', 'dev/eer', 'entropy', 'cost'):
      assert np.isfinite(line[name])
    for cell in ('normal', 'reduce'):
      rows = np.array(line['arch'][cell]['alpha'])
      np.testing.assert_allclose(rows.sum(1), 1, atol=1e-3)


def test_a_killed_process_ends_in_the_same_state(
  finished, tmp_path, quickstart_tiny, programs, environment
):
  """SIGKILL in the warm-up and when the architecture moves, by command."""
  workdir = tmp_path / 'killed'
  # What the smoke config has and `SETTINGS` has not.
  rest = {
    'cost_weight': 0.0,
    'data': {'data_dir': quickstart_tiny, 'balanced': False},
    'weights': {'learning_rate_min': 1e-3},
  }
  arguments = [
    sys.executable,
    'run.py',
    '--config=configs/light_darts_search.py:smoke',
    f'--workdir={workdir}',
    *flags_of(SETTINGS),
    *flags_of(rest),
  ]
  arguments = without_page(arguments)
  # Who is killed may leave half a program.
  programs = kept_programs.link(pathlib.Path(programs), tmp_path / 'programs')
  environment = environment | {'JAX_COMPILATION_CACHE_DIR': str(programs)}
  for step in (2, 4):
    process = start(arguments, environment)
    kill_after_step(process, workdir, step)
    assert not (workdir / 'metrics.json').exists(), 'it had ended before'
  resumed = re.search(
    r'going on from step (\d+)', finish(start(arguments, environment))
  )
  assert 2 <= int(resumed[1]) < len(finished.history)
  found = json.loads((workdir / 'metrics.json').read_text())
  assert found == finished.metrics
  kept = [
    {k: v for k, v in line.items() if k.startswith(('train/', 'arch'))}
    for line in (*lines_of(workdir), *finished.history)
  ]
  assert kept[: len(kept) // 2] == kept[len(kept) // 2 :]
  genotype = (workdir / 'genotype.json').read_text()
  assert Genotype.from_json(genotype) == finished.genotype


def flags_of(values, prefix='--config'):
  """A nested dictionary of settings as arguments of `run.py`."""
  found = []
  for name, value in values.items():
    if isinstance(value, dict):
      found += flags_of(value, f'{prefix}.{name}')
    else:
      found.append(f'{prefix}.{name}={value}')
  return found


def test_a_large_cost_weight_ends_in_a_smaller_network(
  finished, tmp_path, corpus, capsys
):
  """From data sources, without a dev split; the log tells who leads.

  Operations are sampled, ever more sharply, and four devices share the work.
  """
  sampled = dict(gumbel=True, temperature=2.0, temperature_min=0.5)
  search = controller(
    tmp_path,
    cost_weight=50.0,
    arch={**SETTINGS['arch'], **sampled, 'entropy_weight': 0.1},
    mesh=dict(devices=4),
  )
  with pages.none():
    cheap = search.train_search(corpus['train'])
  sizes = [x.metrics['derived'] for x in (cheap, finished)]
  assert sizes[0]['macs']['total'] < sizes[1]['macs']['total']
  assert (
    cheap.metrics['last_epoch']['cost'] < cheap.metrics['first_epoch']['cost']
  )
  assert not any('dev/eer' in line for line in cheap.history)
  said = capsys.readouterr().out
  operations = '|'.join(spaces.space('light').operations)
  lines = re.findall(
    rf'(normal|reduce) node 2 from 0 \(\d+%\): ({operations}) \d+%, 1 ', said
  )
  assert len(lines) == 2 * 3


def test_the_report_shows_the_search(finished):
  with pages.unpainted():
    page = report.write(finished.workdir).read_text()
  assert 'The normal cell: ' in page and 'The reduce cell: ' in page
  for words in (
    'entropy of the edges',
    'dev EER of the supernet',
    'Weights of',
  ):
    assert words in page
  assert f'{finished.metrics["derived"]["parameters"]:,} parameters' in page
  assert 'NaN' not in page


def test_the_report_of_a_search_under_way(finished, tmp_path):
  for name in ('config.json', 'metrics.jsonl', 'genotype.json'):
    (tmp_path / name).write_bytes((finished.workdir / name).read_bytes())
  with pages.unpainted():
    page = report.write(tmp_path).read_text()
  assert 'has not ended' in page and 'The normal cell: ' in page


@pytest.mark.parametrize('gumbel', [False, True])
def test_settings_of_the_architecture_reach_the_supernet(gumbel):
  settings = dict(temperature=4.0, temperature_min=1.0, gumbel=gumbel)
  config = search_config(
    {
      'model': {**SETTINGS['model'], 'num_cells': 3},
      'data': {'name': 'none', **SETTINGS['data']},
      'epochs': 3,
      'arch': {'warmup_epochs': 1, 'entropy_weight': 0.5, **settings},
    }
  )
  levels, state = search.make_levels(
    config, supernet_config(config), 2, 6, sharding.make(1)
  )
  found = [float(levels.temperature(step)) for step in (0, 2, 4, 6)]
  np.testing.assert_allclose(found, [4, 4, 2, 1], rtol=1e-6)
  batch = {'wave': np.zeros((2, 4_000), np.float32), 'label': np.arange(2)}
  program = str(
    jax.make_jaxpr(levels.val_loss(state))(state.weights, state.arch, batch)
  )
  assert ('gumbel' in program) == gumbel
  assert levels.entropy_weight == 0.5


def test_a_controller_and_the_command_search_alike():
  file = overrides.load('configs/light_darts_search.py').to_dict()
  ours, theirs = SearchController()._config, search_config(file)
  free = {'name': '', 'build': False, 'workers': 0}
  ours, theirs = (
    dataclasses.replace(
      c, model={}, frontend='', data=dataclasses.replace(c.data, **free)
    )
    for c in (ours, theirs)
  )
  assert ours == theirs
  assert supernet_config(SearchController()._config) == supernet_config(
    search_config(file)
  )


@pytest.mark.parametrize('loss', ['p2sgrad', 'oc_softmax', 'aam_softmax'])
def test_the_head_of_a_supernet_follows_from_its_loss(loss):
  config = search_config(
    {
      'model': {**SETTINGS['model'], 'num_cells': 3},
      'data': {'name': 'none', **SETTINGS['data']},
      'loss': {'name': loss},
    }
  )
  levels, state = search.make_levels(
    config, supernet_config(config), 2, 6, sharding.make(1)
  )
  batch = {'wave': np.ones((2, 4_000), np.float32), 'label': np.arange(2)}
  gradient = jax.grad(levels.val_loss(state), has_aux=True)
  grads, aux = jax.eval_shape(gradient, state.weights, state.arch, batch)
  assert aux['loss'].shape == () and 'output' in grads


# ------------------------------------------------------------ what is said ---
def test_the_log_tells_the_weights_of_edges_where_they_have_some():
  alpha = np.log([[0.25, 0.75], [0.5, 0.5]])
  rows = {'alpha': alpha, 'beta': np.log([0.9, 0.1])}
  said = console.leading({'normal': rows}, ('none', 'conv'))
  assert said == '  normal node 2 from 0 (90%): conv 75%, 1 (10%): none 50%'
  said = console.leading({'normal': {'alpha': alpha}}, ('none', 'conv'))
  assert said == '  normal node 2 from 0: conv 75%, 1: none 50%'
  assert set(architecture.as_lists({'normal': rows})['normal']) == {*rows}


def test_the_page_draws_the_weights_of_edges_where_they_have_some():
  alpha, beta = np.full((3, 2, 2), 0.5), np.full((3, 2), 0.5)
  with_beta = evolution.of_cell('normal', [1, 2, 3], alpha, 'ab', beta)
  assert 'the edge itself' in with_beta
  without = evolution.of_cell('normal', [1, 2, 3], alpha, 'ab')
  assert 'the edge itself' not in without


@pytest.mark.parametrize('variant', ['quickstart', ''])
def test_what_to_try_next_is_a_command_that_loads(variant, tmp_path):
  """And trains a network of the sizes that were searched with."""
  values = overrides.load(f'configs/light_darts_search.py:{variant}')
  values.model.channels = 4
  values.data.name = 'wav_folder/mine' if not variant else 'quickstart'
  config = search_config(values.to_dict())
  words = shlex.split(console.training(config, tmp_path / 'genotype.json'))
  assert words[:2] == ['python', 'run.py']
  file, *changes = (word.partition('--config')[2] for word in words[2:])
  training = overrides.load(file.removeprefix('='))
  for change in changes:
    name, _, value = change.removeprefix('.').partition('=')
    overrides.check_path(training, name)
    with contextlib.suppress(ValueError):
      value = int(value)
    training.update_from_flattened_dict({name: value})
  assert training.genotype == str(tmp_path / 'genotype.json')
  assert training.data.name == config.data.name
  for name in ('num_cells', 'channels'):
    assert training.model[name] == config.model[name]


# --------------------------------------------------------------- bad input ---
@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(cost_weight=-0.5), 'cost_weight=-0.5: expected a number of at least'),
    (dict(epochs=0), 'epochs=0: expected a number above 0'),
    (dict(search_space='ligt'), "space 'ligt' is not known"),
    (dict(arch=dict(order='second')), "arch.order='second': expected one of"),
    (
      dict(arch=dict(warmup_epochs=50)),
      'arch.warmup_epochs=50: expected fewer',
    ),
    (
      dict(arch=dict(temperature=0)),
      'arch.temperature=0: expected a number ab',
    ),
    (
      dict(weights=dict(momentum=1.0)),
      'weights.momentum=1.0: expected 0 or mo',
    ),
    (dict(weights=dict(optimizer='sdg')), "weights.optimizer='sdg': expected"),
    (dict(arch=dict(ordr='first')), "config.arch.ordr: did you mean 'order'"),
    (dict(epoch=3), "unknown config field config.epoch: did you mean 'epochs'"),
    (dict(data=dict(padded=True)), 'data.padded=True: a supernet takes clips'),
    (dict(model=dict(head='cosine')), 'config.model sets head: these follow'),
    (dict(model=dict(num_cells=4)), 'model sets num_cells: expected search_sp'),
    (dict(num_cells='8'), "config.model.num_cells='8': expected a whole numb"),
    (dict(num_cells=3.5), 'config.model.num_cells=3.5: expected a whole num'),
    (dict(cost_weight=None), 'config.cost_weight=None: expected a finite num'),
    (dict(cost_weight=np.inf), 'config.cost_weight=inf: expected a finite nu'),
    (dict(model=dict(node=2)), "config.model.node: did you mean 'nodes'"),
    (dict(cost='flops'), "cost='flops': expected one of macs, parameters"),
    (dict(log_every=0), 'log_every=0: expected a number above 0'),
    (dict(data=dict(eval=('train',))), "data.train='train' and data.eval="),
  ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    SearchController(**changes)


def test_the_genotype_is_that_of_the_weights_the_supernet_uses(monkeypatch):
  """Which edge is worth more can depend on the temperature."""
  alpha = np.zeros((5, 4))
  alpha[2:4] = [1, 0.8, -9, -9], [2, 1, 1, 1]
  alpha[4] = [9, 0, 0, 0]
  arch = {kind: {'alpha': alpha} for kind in KINDS}
  config = search_config({'model': {'nodes': 2}, 'data': {'name': 'none'}})
  found = {}
  for temperature in (1.0, 0.1):
    levels = types.SimpleNamespace(temperature=lambda _, t=temperature: t)
    genotype = search.chosen(config, search.arch_at(levels, arch, 7))
    found[temperature] = {source for _, source in genotype.normal[2:]}
  assert found == {1.0: {0, 2}, 0.1: {1, 2}}


def test_clips_too_short_for_the_supernet_are_refused(tmp_path, corpus):
  for name in ('samples', 'eval_samples'):
    raw = dict(search_space='raw', data={**SETTINGS['data'], name: 130})
    with pytest.raises(ValueError, match=f'data.{name}=130: this supernet ne'):
      controller(tmp_path, **raw).train_search(corpus)
  assert not list(tmp_path.iterdir())


def test_a_workdir_is_of_one_data_set(tmp_path):
  records = [dict(RECORD, speaker=f's{n}', label=n % 2) for n in range(4)]
  names = [
    _opened(one, 'train', 'dev')[0]
    for one in (records, records[:3], {'train': records}, records)
  ]
  assert names[0] == names[2] == names[3] != names[1]


def test_a_start_that_was_refused_leaves_the_workdir_free(tmp_path, finished):
  """A run that has begun keeps it."""
  records = [dict(RECORD, speaker=f's{n}', label=n % 2) for n in range(4)]
  for batch in (64, 32):
    data = {**SETTINGS['data'], 'batch': batch}
    with pytest.raises(ValueError, match=f'data.batch={batch} is larger than'):
      controller(tmp_path, data=data).train_search(records)
  with pytest.raises(ValueError, match='another config: data.batch was 8, now'):
    controller(finished.workdir, data=data).train_search('quickstart/tiny')


def test_data_sets_that_cannot_be_searched_on_are_refused(tmp_path, corpus):
  train = corpus['train']
  spoof = [record for record in train if record['label'] == 0]
  with pytest.raises(ValueError, match='none of them bona fide: expected both'):
    controller(tmp_path / 'a').train_search(spoof)
  speaker = train[0]['speaker']
  alone = [record for record in train if record['speaker'] == speaker]
  with pytest.raises(ValueError, match='too small to halve: its bona fide rec'):
    controller(tmp_path / 'b').train_search(alone)
  with pytest.raises(ValueError, match=r"no split 'train'; it has dev"):
    controller(tmp_path / 'c').train_search({'dev': train})
  with pytest.raises(ValueError, match='dataset is int: expected the name of'):
    controller(tmp_path / 'd').train_search(3)
  with pytest.raises(ValueError, match="of split 'train' lack attack, speaker"):
    controller(tmp_path / 'd').train_search([RECORD_OF_TWO] * 3)
  message = 'dev holds .* trials, none of them bona fide: an EER needs both'
  with pytest.raises(ValueError, match=message):
    controller(tmp_path / 'd').train_search({'train': train, 'dev': spoof})
  with pytest.raises(ValueError, match='data.batch=64 is larger than the 1'):
    controller(
      tmp_path / 'e', data={**SETTINGS['data'], 'batch': 64}
    ).train_search(train)


# ---------------------------------------------------------- failure modes ---
def logits(leader, space='light'):
  operations = spaces.space(space).operations
  alpha = np.zeros((14, len(operations)))
  alpha[:, operations.index(leader)] = 9.0
  return {kind: {'alpha': alpha} for kind in ('normal', 'reduce')}


def genotype(operations, space='light'):
  edges = tuple(zip(operations, [0, 1] * 4, strict=True))
  return Genotype(space, edges, edges)


def test_skip_connection_collapse_is_found():
  skips = ['skip_connect'] * 3 + ['mfm_conv_3x3'] * 5
  found = collapse.failures(genotype(skips), logits('mfm_conv_3x3'))
  assert (
    'skip-connection collapse: 3 of the 8 operations of the normal'
    in (found[0])
  )
  assert not collapse.failures(
    genotype(skips[1:] + ['mfm_conv_3x3']), logits('mfm_conv_3x3')
  )


def test_cells_without_weights_and_without_decision_are_found():
  free = genotype(['max_pool_3x3'] * 8)
  undecided = {
    kind: {'alpha': np.zeros((14, 4))} for kind in ('normal', 'reduce')
  }
  found = ' '.join(collapse.failures(free, undecided))
  assert 'no operation of the normal cell has weights' in found
  assert 'no operation of the reduce cell has weights' in found
  assert 'undecided: the entropy of the edges is 100.0%' in found


def test_a_strided_skip_connection_has_weights():
  skips = genotype(['skip_connect'] * 8)
  found = ' '.join(collapse.failures(skips, logits('mfm_conv_3x3')))
  assert 'no operation of the normal cell has weights' in found
  assert 'no operation of the reduce cell has weights' not in found


def test_none_that_leads_is_found():
  found = collapse.failures(
    genotype(['sep_conv_3x3'] * 8, 'darts'), logits('none', 'darts')
  )
  assert '“none” leads on 100% of the edges' in found[0]


def test_a_supernet_that_overfits_is_found():
  lines = [{'epoch': n, 'dev/eer': e} for n, e in ((1, 0.1), (2, 0.3))]
  found = collapse.failures(
    genotype(['mfm_conv_3x3'] * 8), logits('mfm_conv_3x3'), lines
  )
  assert 'got worse on dev, EER 10.00% after epoch 1 and 30.00%' in found[0]
