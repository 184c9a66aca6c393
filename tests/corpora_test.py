"""What the builders of all published corpora have in common."""

import json
import pathlib
import re

import pytest

from jaxspoof.data import pipeline
from tests.miniatures import (
  MINIATURES,
  clip,
  declared,
  let_counts_differ,
  write_tree,
  write_zip,
)
from tfds_builders import build, records

NAMES = sorted(MINIATURES)


@pytest.fixture(autouse=True)
def small(monkeypatch, request):
  """The published counts are not those of a miniature."""
  if name := getattr(request.node, 'callspec', None):
    let_counts_differ(monkeypatch, name.params['name'])


def assert_nothing_left(data_dir: pathlib.Path) -> None:
  assert not list(data_dir.rglob('*'))


def assert_holds(name: str, data_dir: pathlib.Path, made=None) -> None:
  """Compares the records of a built corpus with a miniature."""
  made = made or MINIATURES[name]()
  built = build.builder(name, data_dir)
  assert set(built.info.splits) == set(made.trials)
  for split, expected in made.trials.items():
    source = pipeline.open_source(name, split, data_dir)
    found = {}
    for record in source.records:
      text = {
        key: value.decode()
        for key, value in record.items()
        if key not in ('audio', 'label')
      }
      found[text.pop('utterance')] = (record['audio'], record['label'], text)
    assert found == {
      utterance: (
        made.files[path],
        int(attack == '-'),
        {'speaker': speaker, 'attack': attack, **fields},
      )
      for utterance, (speaker, attack, path, fields) in expected.items()
    }
    assert len(source) == len(expected)


def assert_described(name: str, data_dir: pathlib.Path) -> None:
  """Looks for what is declared in the Croissant metadata."""
  built, published = build.builder(name, data_dir), declared(name)
  folder = pathlib.Path(built.data_dir)
  described = json.loads((folder / 'croissant.json').read_text())
  assert described['name'] == name
  assert described['license'] == published.licence
  assert described['citeAs'] == published.citation
  assert described['url'] == published.homepage
  for files, records_of in zip(
    described['distribution'], described['recordSet'], strict=True
  ):
    split = built.info.splits[records_of['@id']]
    assert len(list(folder.glob(files['includes']))) == split.num_shards
    assert records_of['description'] == f'{split.num_examples} trials'
    fields = [field['name'] for field in records_of['field']]
    assert set(fields) == set(built.info.features)
    assert set(published.fields) < set(fields)


def test_every_published_corpus_has_a_miniature():
  own = {
    'demo_pages', 'quickstart', 'parquet_folder', 'spliced', 'wav_folder',
  }  # fmt: skip
  assert set(NAMES) == set(build.CORPORA) - own


# Of one corpus all layouts, of each other one.
LAYOUTS = ('.', '{}', '{0}/{0}', 'zip', 'flat zip')
TRIED = [('asvspoof2019_la', layout) for layout in LAYOUTS] + [
  (name, LAYOUTS[(1, 3)[number % 2]])
  for number, name in enumerate(NAMES)
  if name != 'asvspoof2019_la'
]


@pytest.mark.parametrize('name, layout', TRIED)
def test_every_layout_gives_the_same_corpus(tmp_path, name, layout, capsys):
  manual, folder = tmp_path / 'manual', declared(name).folder
  made = MINIATURES[name]()
  if 'zip' in layout:
    prefix = '' if 'flat' in layout else f'{folder}/'
    write_zip(manual / f'{folder}.zip', made.files, prefix)
  else:
    write_tree(manual / layout.format(folder), made.files)
  before = sorted(manual.rglob('*'))
  options = [f'--data_dir={tmp_path / "data"}', f'--manual_dir={manual}']
  assert build.main([name, *options]) == 0
  assert_holds(name, tmp_path / 'data')
  assert_described(name, tmp_path / 'data')
  source = pipeline.open_source(
    name, next(iter(made.trials)), tmp_path / 'data'
  )
  batches = iter(pipeline.train_batches(source, batch=2, samples=600, seed=0))
  assert next(batches)['wave'].shape == (2, 600)
  assert sorted(manual.rglob('*')) == before  # read in place
  said = capsys.readouterr().out
  for split, trials in made.trials.items():
    genuine = sum(attack == '-' for _, attack, *_ in trials.values())
    assert re.search(rf'^{split} +{len(trials)} +{genuine} ', said, re.M)
    counts = declared(name).splits[split].counts
    if counts:
      assert f'{split} lists {len(trials)} trials ({genuine} bona' in said
      assert f'expected {counts}' in said


@pytest.mark.parametrize('name', NAMES)
def test_missing_corpus_says_what_is_expected_and_from_where(
  tmp_path, name, capsys
):
  manual, made = tmp_path / 'manual', declared(name)
  write_tree(manual, {'x.tar.gz.00': b''})
  options = [f'--data_dir={tmp_path / "data"}', f'--manual_dir={manual}']
  assert build.main([name, *options]) == 1
  said = capsys.readouterr().err
  assert said.startswith(f'error: {name} is not in {manual}: there is no ')
  for path in (f'{made.folder}.zip', *made.roots):
    assert str(manual / path) in said
  pages = {split.page for split in made.splits.values()} - {''}
  for text in (made.licence, *(pages or {made.homepage})):
    assert text in said
  assert 'x.tar.gz.00 is still packed' in said
  assert f'--manual_dir={manual}' in said
  assert ('--download' in said) == bool(made.download)
  if not made.download:
    assert build.main([name, *options, '--download']) == 1
    assert 'leave out --download' in capsys.readouterr().err
  assert_nothing_left(tmp_path / 'data')


@pytest.mark.parametrize('name', NAMES)
def test_archive_of_something_else_names_what_it_lacks(tmp_path, name):
  made = declared(name)
  write_zip(tmp_path / f'{made.folder}.zip', {'README': b''})
  message = f'{made.folder}.zip: expected a zip archive that holds '
  with pytest.raises(build.BuildError, match=message) as caught:
    build.build(name, tmp_path / 'data', tmp_path)
  assert all(root in str(caught.value) for root in made.roots)
  assert_nothing_left(tmp_path / 'data')


def lists_of(name: str) -> dict[str, str]:
  """The list of each split; none where one list or a folder is for all."""
  files = MINIATURES[name]().files
  lists = {
    split: next((path for path in of.lists if path in files), '')
    for split, of in declared(name).splits.items()
  }
  return lists if len(set(lists.values()) - {''}) == len(lists) > 1 else {}


@pytest.mark.parametrize('name', [name for name in NAMES if lists_of(name)])
def test_splits_that_are_not_there(tmp_path, name, capsys):
  made, published, lists = MINIATURES[name](), declared(name), lists_of(name)
  last = list(lists)[-1]
  del made.files[lists[last]]
  write_tree(tmp_path / published.folder, made.files)
  if not published.apart:
    with pytest.raises(build.BuildError, match=re.escape(lists[last])):
      build.build(name, tmp_path / 'data', tmp_path)
    assert_nothing_left(tmp_path / 'data')
    return
  del made.trials[last]
  build.build(name, tmp_path / 'data', tmp_path)
  assert_holds(name, tmp_path / 'data', made)
  said = capsys.readouterr().out
  assert f'note: no split {last}: ' in said and lists[last] in said
  assert published.splits[last].page in said
  assert f'remove {tmp_path / "data" / name}' in said


@pytest.mark.parametrize('name', NAMES)
def test_audio_that_is_missing_or_damaged(tmp_path, name, capsys, monkeypatch):
  made, published = MINIATURES[name](), declared(name)
  split, trials = next(iter(made.trials.items()))
  *_, gone, cut = trials.items()
  (_, _, gone_path, _), (_, _, cut_path, _) = gone[1], cut[1]
  made.files[cut_path] = made.files[cut_path][:30]
  write_tree(tmp_path / 'manual', made.files)
  if published.broken:
    with pytest.raises(build.BuildError, match='1 problem\n'):
      build.build(name, tmp_path / 'data', tmp_path / 'manual')
    monkeypatch.setattr(records, 'BROKEN_SHARE', 0.2)
    build.build(name, tmp_path / 'data', tmp_path / 'manual')
    del trials[cut[0]]
    assert_holds(name, tmp_path / 'data', made)
    folder = pathlib.Path(build.builder(name, tmp_path / 'data').data_dir)
    assert cut_path in (folder / records.UNDECODABLE).read_text()
    assert 'warning: 1 clips cannot be decoded' in capsys.readouterr().out
    return
  with pytest.raises(build.BuildError, match='1 problem\n') as caught:
    build.build(name, tmp_path / 'data', tmp_path / 'manual')
  assert cut_path in str(caught.value)
  assert_nothing_left(tmp_path / 'data')
  if not made.listed:
    return
  (tmp_path / 'manual' / gone_path).unlink()
  expected = f'{split}: {gone[0]} has no audio, expected {gone_path}'
  with pytest.raises(build.BuildError, match=re.escape(expected)):
    build.build(name, tmp_path / 'data', tmp_path / 'manual')
  assert_nothing_left(tmp_path / 'data')


@pytest.mark.parametrize('name', NAMES)
def test_readme_says_what_is_declared(repository, name):
  published = declared(name)
  module = build.CORPORA[name].split('.')[1]
  text = (repository / 'tfds_builders' / module / 'README.md').read_text()
  flat = ' '.join(text.split())
  for said in (name, published.licence, published.homepage, published.citation):
    assert said in flat
  for field in published.fields:
    assert f'`{field}`' in flat
  for split in published.splits.values():
    if split.counts:
      assert f'{split.counts.total:,}' in flat
    if split.counts and split.counts.bona_fide is not None:
      assert f'{split.counts.bona_fide:,}' in flat


@pytest.mark.parametrize('name', [n for n in NAMES if declared(n).rate])
def test_other_rates(tmp_path, name):
  made = MINIATURES[name]()
  path = list(next(iter(made.trials.values())).values())[-1][2]
  made.files[path] = clip(5, 2_400, 24_000, path.rpartition('.')[2].upper())
  write_tree(tmp_path / 'manual', made.files)
  message = f'{path}: 24000 Hz, 1 channels; expected 16000 Hz'
  with pytest.raises(build.BuildError, match=message):
    build.build(name, tmp_path / 'data', tmp_path / 'manual')
