"""ASVspoof 2019 from miniature archives laid out like the published ones."""

import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import pathlib
import shutil
import threading

import numpy as np
import pytest

from jaxspoof.data import pipeline
from tests.corpora_test import assert_holds, assert_nothing_left
from tests.miniatures import (
  asv_lines,
  asvspoof2019,
  clip,
  declared,
  write_tree,
  write_zip,
)
from tfds_builders import archive, build, corpus, download, records
from tfds_builders.asvspoof2019.builder import Asvspoof2019La, rows
from tfds_builders.corpus import Counts

TRIALS = {'train': 6, 'dev': 4, 'eval': 5}


def files(access: str = 'LA') -> dict[str, bytes]:
  return asvspoof2019(access).files


def protocol(split: str, access: str = 'LA') -> str:
  return declared(f'asvspoof2019_{access.lower()}').splits[split].lists[0]


def lines(split: str) -> list[str]:
  return files()[protocol(split)].decode().splitlines()


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """The published counts, but for the miniature archive."""
  attacks = {'train': {'A01': 2, 'A02': 2}, 'dev': None, 'eval': None}
  counts = {
    split: Counts(trials, 2, attacks[split], certain=True)
    for split, trials in TRIALS.items()
  }
  change(
    monkeypatch,
    splits={
      split: dataclasses.replace(of, counts=counts[split])
      for split, of in declared('asvspoof2019_la').splits.items()
    },
  )


def change(monkeypatch, **changes):
  made = dataclasses.replace(declared('asvspoof2019_la'), **changes)
  monkeypatch.setattr(Asvspoof2019La, 'CORPUS', made)


@pytest.mark.parametrize('access', ['LA', 'PA'])
def test_verification_scores_are_kept(tmp_path, access, capsys):
  name, content = f'asvspoof2019_{access.lower()}', files(access)
  (absent,) = [
    path for path in content if path.endswith('eval.gi.trl.scores.txt')
  ]
  write_tree(tmp_path / access, content)
  build.build(name, tmp_path / 'data', tmp_path)
  for split in ('dev', 'eval'):
    kept = pipeline.asv_scores(name, split, tmp_path / 'data')
    assert kept.read_bytes() == asv_lines(split)
  assert pipeline.asv_scores(name, 'train', tmp_path / 'data') is None
  (tmp_path / access / absent).unlink()
  build.build(name, tmp_path / 'other', tmp_path)
  assert pipeline.asv_scores(name, 'eval', tmp_path / 'other') is None
  assert f'has no {absent}: no t-DCF of eval' in capsys.readouterr().out


def test_flac_is_stored_as_published_and_int16_decoded(tmp_path):
  write_zip(tmp_path / 'LA.zip', files(), 'LA/')
  build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  arguments = ['asvspoof2019_la', '--config=int16', f'--manual_dir={tmp_path}']
  assert build.main([*arguments, f'--data_dir={tmp_path / "data"}']) == 0
  stored = set(files().values())
  options = {'batch': 3, 'samples': 600, 'seed': 3}
  batches = []
  for name, start in (('flac', b'fLaC'), ('int16', b'RIFF')):
    source = pipeline.open_source(
      f'asvspoof2019_la/{name}', 'train', tmp_path / 'data'
    )
    assert all(record['audio'].startswith(start) for record in source.records)
    if name == 'flac':
      assert all(record['audio'] in stored for record in source.records)
    batches.append(next(iter(pipeline.train_batches(source, **options))))
  np.testing.assert_array_equal(batches[0]['wave'], batches[1]['wave'])
  np.testing.assert_array_equal(batches[0]['label'], batches[1]['label'])


def test_rows_are_permuted_and_shards_hold_all(tmp_path, monkeypatch):
  monkeypatch.setattr(records, 'SHARD_BYTES', 2_000)
  write_zip(tmp_path / 'LA.zip', files(), 'LA/')
  orders = []
  for name in 'ab':
    made = build.build('asvspoof2019_la', tmp_path / name, tmp_path)
    assert made.info.splits['train'].num_shards > 1
    assert_holds('asvspoof2019_la', tmp_path / name)
    source = made.as_data_source('train')
    orders.append([record['utterance'] for record in source])
  assert orders[0] == orders[1] != sorted(orders[0])


def test_corpus_that_is_not_built_names_its_command(tmp_path):
  with pytest.raises(pipeline.CorpusNotBuilt) as caught:
    pipeline.open_source('asvspoof2019_pa', 'train', tmp_path)
  command = 'tfds_builders.build asvspoof2019_pa --manual_dir=DIR --data_dir='
  assert command in str(caught.value)


@pytest.mark.parametrize('kept', [0.0, 0.5, 0.999])
def test_truncated_archive(tmp_path, kept):
  path = tmp_path / 'LA.zip'
  write_zip(path, files(), 'LA/')
  data = path.read_bytes()
  path.write_bytes(data[: int(kept * len(data))])
  with pytest.raises(build.BuildError, match=r'LA\.zip: truncated or damaged'):
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  assert_nothing_left(tmp_path / 'data')


def test_malformed_lines_are_all_listed(tmp_path):
  path = protocol('dev')
  bad = (
    'flac LA_D_1047731 - bonafide',  # the four columns of another toolkit
    'LA_0069 LA_D_1047731 - - genuine',
    'LA_0069 LA_D_0000000 - - spoof',
    '',
  )
  content = files()
  content[path] = '\n'.join([lines('dev')[0], *bad]).encode() + b'\n'
  content[path] += content[path].splitlines()[0]
  write_tree(tmp_path / 'LA', content)
  with pytest.raises(build.BuildError) as caught:
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  text = str(caught.value).splitlines()
  assert text[0].endswith(f'{path}: 5 problems')
  assert "line 2: 'flac LA_D_1047731 - bonafide': 4 columns" in text[1]
  assert 'expected 5: SPEAKER UTTERANCE ENVIRONMENT SYSTEM KEY' in text[1]
  assert "KEY 'genuine', expected bonafide|spoof" in text[2]
  assert 'line 4: ' in text[3] and "expected SYSTEM '-' for" in text[3]
  assert 'line 5: ' in text[4] and '0 columns' in text[4]
  assert 'line 6: LA_D_0000000 is on line 1 already' in text[5]
  assert_nothing_left(tmp_path / 'data')


@pytest.mark.parametrize(
  'text, message, shown',
  [(b'x\n' * 25, '25 problems', 12), (b'', '1 problem\n  no lines', 2)],
)
def test_ten_problems_are_shown_and_all_counted(tmp_path, text, message, shown):
  write_tree(tmp_path, files() | {protocol('dev'): text})
  with pytest.raises(build.BuildError, match=message) as caught:
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  found = str(caught.value).splitlines()
  assert len(found) == shown
  if shown == 12:
    assert found[-1] == '  ... and 15 more'
    assert found[10].startswith('  line 10:')


def test_counts_that_differ_from_the_published(tmp_path):
  content = files()
  path = protocol('train')
  content[path] = b''.join(content[path].splitlines(keepends=True)[:-1])
  write_zip(tmp_path / 'LA.zip', content, 'LA/')
  expected = r'train lists 5 trials \(2 bona fide\), expected 6 trials \(2 bona'
  with pytest.raises(build.BuildError, match=expected):
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  content[path] = '\n'.join(lines('train')).replace('A02', 'A05').encode()
  write_zip(tmp_path / 'LA.zip', content, 'LA/')
  with pytest.raises(build.BuildError, match="attacks {.*'A05': 2"):
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  assert_nothing_left(tmp_path / 'data')


def damaged(data: bytes) -> bytes:
  """Another MD5 in the header: only comparing the samples finds that."""
  return data[:30] + bytes([data[30] ^ 1]) + data[31:]


@pytest.mark.parametrize('every', [False, True])
def test_damaged_audio_is_listed_and_nothing_built(tmp_path, every):
  content = files()
  for name in content:
    if 'train/flac/LA_T_0' in name and (every or name[-6] in '24'):
      content[name] = damaged(content[name])
  for number in (0, 3):
    name = f'ASVspoof2019_LA_dev/flac/LA_D_000000{number}.flac'
    content[name] = (content[name][:-200], clip(5, rate=8_000))[number // 3]
  write_zip(tmp_path / 'LA.zip', content, 'LA/')
  count = 2 + (6 if every else 2)
  with pytest.raises(build.BuildError, match=f'{count} problems') as caught:
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  text = str(caught.value)
  assert 'LA_D_0000000.flac: truncated or damaged FLAC' in text
  assert '_D_0000003.flac: 8000 Hz, 1 channels; expected 16000 Hz' in text
  assert 'LA_T_0000002.flac: damaged FLAC (its samples fail their MD5' in text
  assert_nothing_left(tmp_path / 'data')


def test_member_of_the_zip_that_fails_its_checksum(tmp_path):
  path = tmp_path / 'LA.zip'
  write_zip(path, files(), 'LA/')
  data = bytearray(path.read_bytes())
  name = b'LA_E_0000001.flac'
  data[data.index(name) + len(name) + 300] ^= 0xFF
  path.write_bytes(data)
  with pytest.raises(build.BuildError, match='LA_E_0000001.flac cannot be re'):
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  assert_nothing_left(tmp_path / 'data')


def test_too_small_disk_is_found_before_the_work(tmp_path, monkeypatch):
  write_zip(tmp_path / 'LA.zip', files(), 'LA/')
  usage = shutil._ntuple_diskusage(10**9, 10**9, 100)
  monkeypatch.setattr(records.shutil, 'disk_usage', lambda _: usage)
  with pytest.raises(build.BuildError, match='0.0 GB are free, .* needed'):
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  assert_nothing_left(tmp_path / 'data')


def test_the_records_forget_their_audio_once_written(tmp_path):
  # TFDS keeps all examples of a shard until it is written.
  builder = build.builder('asvspoof2019_la', tmp_path)
  builder._data_dir = tmp_path
  trials = [records.Trial(f'u{i}', 's', '-', '', 1, i) for i in range(9)]
  made = builder.shards({'train': trials}, lambda _: (bytes(9), 1.0), 'x')
  kept = [example for _, example in made['train'][0]()]
  assert kept == [{}] * 9
  assert builder.tally['train'].seconds == 9


def test_published_counts_are_those_of_the_real_protocols(
  reference, monkeypatch, tmp_path
):
  monkeypatch.undo()
  for path in declared('asvspoof2019_la').roots:
    name = f'{pathlib.PurePath(path).name}.gz'
    with gzip.open(reference / 'scores' / name) as file:
      write_tree(tmp_path, {path: file.read()})
  with archive.opened(tmp_path, [protocol('dev')]) as packed:
    for split, of in declared('asvspoof2019_la').splits.items():
      trials = rows(packed, of.lists[0])
      assert of.counts.certain and of.counts.differs(trials) == ''
      speakers = {'train': 20, 'dev': 20, 'eval': 67}[split]
      assert len({trial.speaker for trial in trials}) == speakers
      found = of.counts.differs(trials[1:])
      assert f'{of.counts.total - 1:,} trials' in found


# ---------------------------------------------------------------- downloads


class _Handler(http.server.BaseHTTPRequestHandler):
  """Serves `server.data`, whole or from where it is asked to."""

  def do_GET(self):  # noqa: N802
    data, start = self.server.data, 0
    self.server.asked.append(self.headers.get('Range'))
    if self.server.ranges:
      start = int(self.headers['Range'][6:-1])
    if start and start >= len(data):
      self.send_error(416)
      return
    self.send_response(206 if start else 200)
    self.send_header('Content-Length', str(len(data) - start))
    self.end_headers()
    self.wfile.write(data[start : self.server.cut])

  def log_message(self, *args):
    pass


@contextlib.contextmanager
def serving(data: bytes, cut: int | None = None, ranges: bool = True):
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
  server.data, server.cut, server.ranges, server.asked = data, cut, ranges, []
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  try:
    yield server, f'http://127.0.0.1:{server.server_port}/LA.zip'
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


def test_download_on_demand_and_build(tmp_path, monkeypatch):
  write_zip(tmp_path / 'LA.zip', files(), 'LA/')
  data = (tmp_path / 'LA.zip').read_bytes()
  (tmp_path / 'LA.zip').unlink()
  with serving(data) as (_, url):
    published = corpus.Download(
      ('http://127.0.0.1:9/nobody-listens', url),
      len(data),
      hashlib.sha256(data).hexdigest(),
    )
    change(monkeypatch, download=published)
    options = [f'--data_dir={tmp_path}', '--download']
    assert build.main(['asvspoof2019_la', *options]) == 0
  assert (tmp_path / 'downloads/manual/LA.zip').read_bytes() == data
  assert_holds('asvspoof2019_la', tmp_path)


@pytest.mark.parametrize('ranges', [True, False])
def test_download_goes_on_where_it_was_cut(tmp_path, ranges):
  data = np.random.default_rng(0).bytes(3 << 20)
  path = tmp_path / 'x' / 'LA.zip'
  sha256 = hashlib.sha256(data).hexdigest()
  with serving(data, cut=1_500_000) as (_, url):
    with pytest.raises(build.BuildError, match='connection ended|try again'):
      download.fetch([url], path, len(data), sha256)
  assert not path.exists()
  with serving(data, ranges=ranges) as (server, url):
    download.fetch([url], path, len(data), sha256)
    assert path.read_bytes() == data
    assert server.asked == ['bytes=1500000-']
    download.fetch([url], path)  # is there
    assert len(server.asked) == 1
  assert list(path.parent.iterdir()) == [path]


def test_download_that_is_complete_but_unnamed(tmp_path):
  (tmp_path / 'PA.zip.partial').write_bytes(b'whole')
  with serving(b'whole') as (_, url):
    download.fetch([url], tmp_path / 'PA.zip')  # size unknown: asks
  assert (tmp_path / 'PA.zip').read_bytes() == b'whole'


@pytest.mark.parametrize(
  'size, sha256, message',
  [(5, None, '3 bytes came, expected 5'), (3, '0' * 64, 'SHA-256 is')],
)
def test_download_of_other_bytes_is_removed(tmp_path, size, sha256, message):
  with serving(b'abc') as (_, url):
    with pytest.raises(build.BuildError, match=message):
      download.fetch([url], tmp_path / 'LA.zip', size, sha256)
  assert not list(tmp_path.iterdir())


def test_archive_found_in_a_folder_prefers_the_zip(tmp_path):
  root = protocol('train')
  assert archive.find(tmp_path, 'LA', [root]) is None
  write_tree(tmp_path / 'LA' / 'LA', files())
  assert archive.find(tmp_path, 'LA', [root]) == tmp_path / 'LA' / 'LA'
  write_zip(tmp_path / 'LA.zip', files(), '')
  assert archive.find(tmp_path, 'LA', [root]) == tmp_path / 'LA.zip'
  # Another one of that name, where no such zip is published.
  found = archive.find(tmp_path, 'LA', [root], zipped=False)
  assert found == tmp_path / 'LA' / 'LA'
