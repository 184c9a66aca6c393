"""ASVspoof 2019 from miniature archives laid out like the published ones."""

import collections
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import pathlib
import re
import shutil
import threading
import zipfile

import numpy as np
import pytest
import soundfile

from jaxspoof import audio
from jaxspoof.data import pipeline
from tfds_builders import archive, build, download, records
from tfds_builders.asvspoof2019 import official, protocol

LETTERS = {'train': 'T', 'dev': 'D', 'eval': 'E'}
TRIALS = {'train': 6, 'dev': 4, 'eval': 5}
SYSTEMS = {'LA': ('A01', 'A02'), 'PA': ('AA', 'CB')}


@functools.cache
def flac(seed: int, samples: int = 800, rate: int = 16_000) -> bytes:
  rng = np.random.default_rng(seed)
  pcm = rng.integers(-3000, 3000, samples).astype(np.int16)
  file = io.BytesIO()
  soundfile.write(file, pcm, rate, format='FLAC', subtype='PCM_16')
  return file.getvalue()


def lines(access: str, split: str) -> list[str]:
  """A third bona fide, the rest by two attacks; two speakers."""
  environment = '-' if access == 'LA' else 'abc'
  made = []
  for i in range(TRIALS[split]):
    system = ('-', *SYSTEMS[access])[i % 3]
    key = 'bonafide' if system == '-' else 'spoof'
    utterance = f'{access}_{LETTERS[split]}_{i:07d}'
    made.append(f'{access}_000{i % 2} {utterance} {environment} {system} {key}')
  return made


def asv_lines(split: str) -> bytes:
  """Verification scores in which one of four trials is an error."""
  kinds = ('bonafide target', 'bonafide nontarget', 'A01 spoof')
  shift = 1 + len(split)
  return ''.join(
    f'{kind} {shift * (1 - number) + 3 * (i == 0)}\n'
    for number, kind in enumerate(kinds)
    for i in range(4)
  ).encode()


def files(access: str = 'LA') -> dict[str, bytes]:
  """All files of a small archive, with an enrolment utterance per split."""
  made = {f'README.{access}.txt': b'...'}
  for number, (split, path) in enumerate(protocol.paths(access).items()):
    text = lines(access, split)
    made[path] = '\n'.join(text).encode() + b'\n'
    if split in protocol.asv_paths(access):
      made[protocol.asv_paths(access)[split]] = asv_lines(split)
    folder = f'ASVspoof2019_{access}_{split}/flac'
    for i, line in enumerate(text):
      name = line.split()[1]
      made[f'{folder}/{name}.flac'] = flac(100 * number + i, 800 + 16 * i)
    made[f'{folder}/{access}_{LETTERS[split]}_9999999.flac'] = flac(999)
  return made


def write_zip(path: pathlib.Path, content: dict, prefix: str) -> None:
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as packed:
    for name, data in content.items():
      packed.writestr(prefix + name, data)


def write_tree(folder: pathlib.Path, content: dict) -> None:
  for name, data in content.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """The published counts, but for the miniature archive."""
  for access, published in official.ARCHIVES.items():
    counts = {}
    for split, old in published.counts.items():
      attacks = collections.Counter(
        line.split()[3] for line in lines(access, split)
      )
      bona_fide = attacks.pop('-')
      counts[split] = official.Counts(
        bona_fide, attacks.total(), dict(attacks), certain=old.certain
      )
    monkeypatch.setitem(
      official.ARCHIVES, access, dataclasses.replace(published, counts=counts)
    )


def assert_nothing_left(data_dir: pathlib.Path) -> None:
  assert not list(data_dir.rglob('*'))


def assert_holds_the_trials(data_dir: pathlib.Path, name='asvspoof2019_la'):
  content = files()
  for split in TRIALS:
    source = pipeline.open_source(name, split, data_dir)
    trials = pipeline.trials(source)
    found = {
      f'{speaker} {utterance} - {attack} {("spoof", "bonafide")[label]}'
      for speaker, utterance, attack, label in zip(
        trials.speaker, trials.utterance, trials.attack, trials.label,
        strict=True,
      )
    }  # fmt: skip
    assert found == set(lines('LA', split))
    assert len(source) == TRIALS[split]
    for record in source.records:
      utterance = record['utterance'].decode()
      stored = content[f'ASVspoof2019_LA_{split}/flac/{utterance}.flac']
      np.testing.assert_array_equal(
        audio.load(record['audio']), audio.load(stored)
      )


@pytest.mark.parametrize('layout', ['zip', 'flat zip', 'LA', 'LA/LA', '.'])
def test_every_layout_gives_the_same_corpus(tmp_path, layout, capsys):
  manual = tmp_path / 'manual'
  manual.mkdir()
  if 'zip' in layout:
    prefix = '' if 'flat' in layout else 'LA/'
    write_zip(manual / 'LA.zip', files(), prefix)
  else:
    write_tree(manual / layout, files())
  before = sorted(manual.rglob('*'))
  data = tmp_path / 'data'
  options = [f'--data_dir={data}', f'--manual_dir={manual}']
  assert build.main(['asvspoof2019_la', *options]) == 0
  assert_holds_the_trials(data)
  assert sorted(manual.rglob('*')) == before  # read in place
  for split in ('dev', 'eval'):
    kept = pipeline.asv_scores('asvspoof2019_la', split, data)
    assert kept.read_bytes() == asv_lines(split)
  assert pipeline.asv_scores('asvspoof2019_la', 'train', data) is None
  table = capsys.readouterr().out
  assert re.search(r'^train +6 +2 +0\.0 +2  A01:2 A02:2$', table, re.M)
  assert re.search(r'^eval +5 +2 +0\.0 +2  A01:2 A02:1$', table, re.M)


def test_flac_is_stored_as_published_and_int16_decoded(tmp_path):
  write_zip(tmp_path / 'LA.zip', files(), 'LA/')
  build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  arguments = ['asvspoof2019_la', '--config=int16', f'--manual_dir={tmp_path}']
  assert build.main([*arguments, f'--data_dir={tmp_path / "data"}']) == 0
  assert_holds_the_trials(tmp_path / 'data', 'asvspoof2019_la/int16')
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
    assert_holds_the_trials(tmp_path / name)
    source = made.as_data_source('train')
    orders.append([record['utterance'] for record in source])
  assert orders[0] == orders[1] != sorted(orders[0])


def test_physical_access_has_environments(tmp_path):
  write_tree(tmp_path / 'PA', files('PA'))
  build.build('asvspoof2019_pa', tmp_path / 'data', tmp_path)
  source = pipeline.open_source('asvspoof2019_pa', 'dev', tmp_path / 'data')
  assert {record['environment'] for record in source.records} == {b'abc'}
  assert set(pipeline.trials(source).attack) == {'-', 'AA', 'CB'}


def test_uncertain_counts_are_reported_only(tmp_path, capsys):
  content = files('PA')
  path = protocol.paths('PA')['dev']
  content[path] = content[path].split(b'\n', 1)[1]  # without the first trial
  write_tree(tmp_path / 'PA', content)
  build.build('asvspoof2019_pa', tmp_path / 'data', tmp_path)
  said = 'note: dev lists 3 trials (1 bona fide), expected 4 trials (2 bona'
  assert said in capsys.readouterr().out


def test_missing_archive_says_where_from_and_where_to(tmp_path, capsys):
  arguments = ['asvspoof2019_la', f'--data_dir={tmp_path}']
  assert build.main(arguments) == 1
  error = capsys.readouterr().err
  folder = tmp_path / 'downloads' / 'manual'
  assert error.startswith('error: asvspoof2019_la needs LA.zip')
  assert official.PAGE in error and f'--manual_dir={folder}' in error
  assert str(folder / 'LA.zip') in error and '--download' in error
  assert_nothing_left(tmp_path)


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


def test_archive_of_something_else(tmp_path):
  write_zip(tmp_path / 'LA.zip', {'README': b''}, '')
  with pytest.raises(build.BuildError, match='expected a zip archive that hol'):
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  content = files()
  del content[protocol.paths('LA')['eval']]
  write_zip(tmp_path / 'LA.zip', content, 'LA/')
  with pytest.raises(build.BuildError, match=r'expected a file .*eval\.trl'):
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)


def test_malformed_lines_are_all_listed(tmp_path):
  path = protocol.paths('LA')['dev']
  bad = (
    'flac LA_D_1047731 - bonafide',  # the four columns of another toolkit
    'LA_0069 LA_D_1047731 - - genuine',
    'LA_0069 LA_D_0000000 - - spoof',
    '',
  )
  content = files()
  content[path] = '\n'.join([lines('LA', 'dev')[0], *bad]).encode() + b'\n'
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


def test_ten_problems_are_shown_and_all_counted():
  with pytest.raises(build.BuildError) as caught:
    protocol.parse(b'x\n' * 25, 'LA', 'p.txt')
  text = str(caught.value).splitlines()
  assert text[0] == 'p.txt: 25 problems'
  assert len(text) == 12 and text[-1] == '  ... and 15 more'
  assert text[10].startswith('  line 10:')


def test_empty_protocol():
  with pytest.raises(build.BuildError, match='no lines; expected one for each'):
    protocol.parse(b'', 'LA', 'p.txt')


def test_utterances_without_audio_are_all_listed(tmp_path):
  content = files()
  del content['ASVspoof2019_LA_train/flac/LA_T_0000002.flac']
  del content['ASVspoof2019_LA_eval/flac/LA_E_0000000.flac']
  write_zip(tmp_path / 'LA.zip', content, 'LA/')
  with pytest.raises(build.BuildError, match='2 problems') as caught:
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  assert 'train: LA_T_0000002 has no audio, expected AS' in str(caught.value)
  assert 'eval: LA_E_0000000 has no audio' in str(caught.value)
  assert_nothing_left(tmp_path / 'data')


def test_counts_that_differ_from_the_published(tmp_path):
  content = files()
  path = protocol.paths('LA')['train']
  content[path] = b''.join(content[path].splitlines(keepends=True)[:-1])
  write_zip(tmp_path / 'LA.zip', content, 'LA/')
  expected = r'train lists 5 trials \(2 bona fide\), expected 6 trials \(2 bona'
  with pytest.raises(build.BuildError, match=expected):
    build.build('asvspoof2019_la', tmp_path / 'data', tmp_path)
  content[path] = '\n'.join(lines('LA', 'train')).replace('A02', 'A05').encode()
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
    content[name] = (content[name][:-200], flac(5, rate=8_000))[number // 3]
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
  reference, monkeypatch
):
  monkeypatch.undo()
  found = {}
  for split, path in protocol.paths('LA').items():
    name = pathlib.PurePath(path).name
    with gzip.open(reference / 'scores' / f'{name}.gz') as file:
      found[split] = protocol.parse(file.read(), 'LA', name)
  assert protocol.check_counts(found, 'LA', 'x') == []
  assert [len({x.speaker for x in lines}) for lines in found.values()] == [
    20, 20, 67
  ]  # fmt: skip
  found['dev'].pop()
  with pytest.raises(build.BuildError, match='dev lists 24,843 trials'):
    protocol.check_counts(found, 'LA', 'x')


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
    published = dataclasses.replace(
      official.ARCHIVES['LA'],
      urls=('http://127.0.0.1:9/nobody-listens', url),
      size=len(data),
      sha256=hashlib.sha256(data).hexdigest(),
    )
    monkeypatch.setitem(official.ARCHIVES, 'LA', published)
    options = [f'--data_dir={tmp_path}', '--download']
    assert build.main(['asvspoof2019_la', *options]) == 0
  assert (tmp_path / 'downloads/manual/LA.zip').read_bytes() == data
  assert_holds_the_trials(tmp_path)


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
  root = protocol.paths('LA')['train']
  assert archive.find(tmp_path, 'LA', root) is None
  write_tree(tmp_path / 'LA' / 'LA', files())
  assert archive.find(tmp_path, 'LA', root) == tmp_path / 'LA' / 'LA'
  write_zip(tmp_path / 'LA.zip', files(), '')
  assert archive.find(tmp_path, 'LA', root) == tmp_path / 'LA.zip'
