"""The service over real sockets: scores, limits, refusals, nothing left."""

import collections
import concurrent.futures
import contextlib
import http.client
import importlib.util
import io
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse

import numpy as np
import pytest
import soundfile

from jaxspoof.detect import command
from jaxspoof.detect.serve import app, decoding, server, uploads
from jaxspoof.detector import Detector
from tests import small_detectors, warm
from tests.small_detectors import RATE, wave

pytestmark = pytest.mark.usefixtures('programs')
LIMITS = uploads.Limits(
  megabytes=1.0, seconds=20.0, at_once=2, waiting=1, wait=0.5, upload=1.0,
  headers=0.5, answer=20.0,
)  # fmt: skip
TOKEN = 'a token of the test'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return small_detectors.write(tmp_path_factory.mktemp('runs') / 'small')


@pytest.fixture(scope='module')
def detector(run):
  return Detector.load(run, batch=1)


@pytest.fixture(scope='module')
def port(detector):
  with serving(detector) as found:
    yield found


@contextlib.contextmanager
def serving(detector, limits=LIMITS, token=None, hosts=('127.0.0.1',)):
  """The port of a server in a thread."""
  with socket.create_server(('127.0.0.1', 0)) as listening:
    made = server.made(detector, limits, token, hosts)
    thread = threading.Thread(target=made.run, args=([listening],))
    thread.start()
    try:
      yield listening.getsockname()[1]
    finally:
      made.should_exit = True
      thread.join(20)
      assert not thread.is_alive()


def ask(port, method, path, body=None, **headers):
  """Status, headers, and the body: of JSON what it says."""
  headers = {name.replace('_', '-'): text for name, text in headers.items()}
  with contextlib.closing(
    http.client.HTTPConnection('127.0.0.1', port, timeout=30)
  ) as connection:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
  if 'json' in answer.headers['content-type']:
    data = json.loads(data)
  return answer.status, answer.headers, data


def score(port, data, path='/v1/score', **headers):
  status, _, found = ask(port, 'POST', path, data, **headers)
  return status, found


def form(data, name='a.wav', field='file'):
  """The body of a form, and its type."""
  boundary = b'==between=='
  head = f'form-data; name="{field}"; filename="{name}"'.encode()
  body = (
    b'--' + boundary + b'\r\nContent-Disposition: ' + head + b'\r\n\r\n' + data
    + b'\r\n--' + boundary + b'--\r\n'
  )  # fmt: skip
  return body, f'multipart/form-data; boundary={boundary.decode()}'


def clip(seed=0, seconds=1.2):
  return np.resize(np.concatenate([wave(seed), wave(seed + 1)]),
                   int(seconds * RATE))  # fmt: skip


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  made = tmp_path_factory.mktemp('clips')
  soundfile.write(made / 'a.wav', clip(), RATE)
  soundfile.write(made / 'b.flac', clip(3, 9.0), RATE)
  soundfile.write(made / 'c.ogg', clip(5), 44_100)
  stereo = np.stack([clip(7), 0.3 * clip(8)], axis=1)
  soundfile.write(made / 'd.mp3', stereo, 22_050, format='MP3')
  return made


# ------------------------------------------------------------------ scores ---
def test_scores_are_those_of_the_command(port, run, folder, capsys):
  paths = sorted(map(str, folder.iterdir()))
  asked = ['--checkpoint', str(run), '--json', '--input', *paths]
  assert command.main(asked) == 0
  lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [line['path'] for line in lines] == paths
  identity = Detector.load(run).identity(channel=None)
  for path, expected in zip(paths, lines, strict=True):
    with open(path, 'rb') as file:
      data = file.read()
    name = os.path.basename(path)
    body, kind = form(data, name)
    for status, found in (
      score(port, data, f'/v1/score?name={name}'),
      score(port, body, content_type=kind),
    ):
      assert status == 200
      assert found.pop('timeline') is None and found.pop('picture') is None
      assert len(found.pop('sha256')) == 64
      assert found.pop('detector') == identity
      for field in ('score', 'p_spoof', 'llr', 'logits'):
        np.testing.assert_allclose(
          found.pop(field), expected[field], rtol=0, atol=1e-5
        )
      assert found.pop('path') == name
      assert found == {name: expected[name] for name in found}


def test_a_timeline_and_a_picture(port, detector, folder):
  data = (folder / 'b.flac').read_bytes()
  status, found = score(port, data, '/v1/score?name=b.flac&picture=true')
  assert status == 200
  expected = detector.timeline(folder / 'b.flac', name='b.flac')
  windows = found['timeline']['windows']
  assert len(windows) == len(expected.windows)
  np.testing.assert_allclose(
    [one['llr'] for one in windows],
    [one.llr for one in expected.windows],
    atol=1e-5,
  )
  ends = [(one['start'], one['end']) for one in found['timeline']['segments']]
  assert ends == [(one.start, one.end) for one in expected.segments]
  assert found['picture'].startswith('<?xml') and '<svg' in found['picture']


def test_one_thread_draws(detector, folder, monkeypatch):
  """Fonts, and the files that they are in, are kept for each that does."""
  data, threads = (folder / 'a.wav').read_bytes(), set()

  def svg(overview, timeline):
    threads.add(threading.get_ident())
    time.sleep(0.2)
    return '<svg/>'

  monkeypatch.setattr(app.Overview, 'svg', svg)
  patient = uploads.Limits(at_once=4, waiting=40, wait=60)
  with serving(detector, patient) as port:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      asked = [
        pool.submit(score, port, data, '/v1/score?picture=true')
        for _ in range(4)
      ]
    found = [one.result() for one in asked]
  assert {(status, body['picture']) for status, body in found} == {
    (200, '<svg/>')
  }
  assert len(threads) == 1


def test_a_channel_can_be_chosen(port, detector, folder):
  data = (folder / 'd.mp3').read_bytes()
  for channel in (1, 2):
    status, found = score(port, data, f'/v1/score?channel={channel}')
    expected = detector.score(folder / 'd.mp3', channel=channel)
    assert status == 200
    assert found['score'] == pytest.approx(expected.score, abs=1e-5)
    assert found['detector'] == detector.identity(channel=channel)
  status, found = score(port, data, '/v1/score?channel=3')
  assert status == 422 and 'no channel 3' in found['error']


def test_what_is_not_calibrated_has_no_timeline(run, tmp_path, folder):
  plain = small_detectors.write(tmp_path / 'plain', calibrated=False)
  data = (folder / 'a.wav').read_bytes()
  with serving(Detector.load(plain, batch=1)) as port:
    status, found = score(port, data)
    assert status == 200 and found['llr'] is None
    status, found = score(port, data, '/v1/score?timeline=true')
    assert status == 400 and 'not calibrated' in found['error']


# ---------------------------------------------------------------- refusals ---
def many_channels():
  """A small WAV whose samples are of an hour, by its header."""
  seconds = 3600 * RATE * 2
  return struct.pack(
    '<4sI4s4sIHHIIHH4sI', b'RIFF', 36 + seconds, b'WAVE', b'fmt ', 16, 1, 1,
    RATE, RATE * 2, 2, 16, b'data', seconds,
  ) + bytes(1000)  # fmt: skip


def encoded(samples, rate=RATE, **options):
  file = io.BytesIO()
  soundfile.write(file, samples, rate, **options)
  return file.getvalue()


def refusals():
  good = encoded(clip(), format='WAV')
  body, kind = form(good)
  return {
    'empty': (b'', {}, 400, 'the file is empty'),
    'text': (b'these are words' * 9, {}, 422, 'not audio'),
    'cut': (good[: len(good) // 2], {}, 422, 'truncated or damaged'),
    'no samples of many': (many_channels(), {}, 422, 'are there'),
    'silence': (encoded(np.zeros(RATE), format='WAV'), {}, 422, 'no sound'),
    'too large': (bytes(1_000_001), {}, 413, 'at most 1 megabytes'),
    'too large a form': (*form_headers(bytes(1_020_000)), 413, 'at most 1'),
    'too long': (
      encoded(np.tile(clip(), 20), format='FLAC'), {}, 413,
      'recording: lasts 24 s or more, expected at most 20 s',
    ),
    'a bomb': (
      encoded(np.zeros(RATE * 3600, np.int16), format='FLAC'), {}, 422,
      'holds no sound',
    ),
    'a broken form': (body[:-30], {'content_type': kind}, 400, 'a form'),
    'a form of nothing': (
      b'--x--', {'content_type': 'multipart/form-data; boundary=x'}, 400,
      'a form without a file',
    ),
    'a form without bounds': (
      body, {'content_type': 'multipart/form-data'}, 400, 'boundary',
    ),
    'another field': (
      *form_headers(good, field='other'), 400, "in its field 'file'",
    ),
    'a path': (
      *form_headers(good, '../../evil.wav'), 400, 'without folders',
    ),
    'a path of Windows': (
      *form_headers(good, 'a\\\\\\\\evil.wav'), 400, 'without folders',
    ),
    'a long name': (*form_headers(good, 'x' * 300), 400, 'at most 255'),
  }  # fmt: skip


def form_headers(*arguments, **options):
  body, kind = form(*arguments, **options)
  return body, {'content_type': kind}


REFUSALS = refusals()


@pytest.mark.parametrize('case', REFUSALS)
def test_refusals_say_why(port, case):
  data, headers, expected, words = REFUSALS[case]
  status, found = score(port, data, **headers)
  assert (status, list(found)) == (expected, ['error'])
  assert words in found['error'] and '/tmp' not in found['error']


@pytest.mark.parametrize(
  ('query', 'words'),
  [
    ('name=a/b.wav', 'without folders'),
    ('name=..', 'without folders'),
    ('name=a%00b.wav', 'control characters'),
    ('name=a%0Ab.wav', 'control characters'),
    ('channel=0', 'channel'),
    ('channel=x', 'channel'),
    ('timeline=perhaps', 'timeline'),
  ],
)
def test_questions_that_cannot_be(port, folder, query, words):
  data = (folder / 'a.wav').read_bytes()
  status, found = score(port, data, f'/v1/score?{query}')
  assert status == 400 and words in found['error']


@pytest.mark.parametrize(
  'name',
  [
    'Aufnahme 26.11.2026 um 3.00\u202fPM.wav',
    '\u97f3\u58f0 <b>"1"<b>.wav',
    '\U0001f5e3 $x$ & %s {}.wav',
  ],
)
def test_names_of_all_kinds(port, folder, name):
  data = (folder / 'a.wav').read_bytes()
  quoted = urllib.parse.quote(name)
  status, found = score(port, data, f'/v1/score?name={quoted}')
  assert (status, found['path']) == (200, name)


def test_other_paths_and_methods(port):
  status, _, found = ask(port, 'GET', '/v1/score')
  assert status == 405 and 'by POST' in found['error']
  for path in ('/etc/passwd', '/../app.py', '/%2e%2e/app.py', '/v1/nothing'):
    status, _, found = ask(port, 'GET', path)
    assert status == 404 and list(found) == ['error'], path
  assert ask(port, 'DELETE', '/health')[0] == 405


def test_a_decoder_that_crashes_or_hangs_is_another_one_then(
  monkeypatch, folder
):
  data = (folder / 'a.wav').read_bytes()
  decoder = decoding.Decoder(20.0, 8_000)
  with contextlib.closing(decoder):
    first = decoder.read(data, 'a.wav', whole=True)
    assert len(first.clip.wave) == 8_000 and len(first.whole) == 1.2 * RATE
    process = decoder._idle.queue[-1]._process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(decoder.read(data, 'a.wav').clip.wave) == 8_000
    monkeypatch.setattr(decoding, 'SLOWEST', 0.3)
    os.kill(decoder._idle.queue[-1]._process.pid, signal.SIGSTOP)
    with pytest.raises(decoding.AudioError, match='took longer than 0 s'):
      decoder.read(data, 'a.wav')
    monkeypatch.undo()
  # A minute of silence on 8 channels in a file of some kilobytes.
  bomb = encoded(np.zeros((60 * 96_000, 8), np.int16), 96_000, format='FLAC')
  assert len(bomb) < 300_000
  monkeypatch.setattr(decoding, 'MEMORY', 450_000_000)
  small = decoding.Decoder(1e9, 8_000)
  with contextlib.closing(small):
    with pytest.raises(decoding.AudioError, match='takes too much memory'):
      small.read(bomb, 'bomb', whole=True)
    assert len(small.read(data, 'a.wav').clip.wave) == 8_000


# ---------------------------------------------------- many, slow, and gone ---
def begun(port, head, body=b''):
  """A connection on which something was sent."""
  made = socket.create_connection(('127.0.0.1', port), timeout=20)
  made.sendall(head + body)
  return made


HEAD = (
  b'POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900000\r\n'
)


def test_slow_clients_are_ended(port):
  started = time.monotonic()
  with begun(port, HEAD) as slow_head, begun(port, b'') as silent:
    assert slow_head.recv(100) == b'' and silent.recv(100) == b''
  assert 0.3 < time.monotonic() - started < 10
  with begun(port, HEAD + b'\r\n', b'RIFF') as slow_body:
    with slow_body.makefile('rb') as file:
      found = file.read()
    assert found.startswith(b'HTTP/1.1 408') and b'longer than 1 s' in found


def test_too_many_at_once(detector, folder):
  data = (folder / 'a.wav').read_bytes()
  slow = uploads.Limits(at_once=2, waiting=2, wait=0.6, upload=20)
  with (
    serving(detector, slow) as port,
    begun(port, HEAD + b'\r\n', b'RIFF') as one,
    begun(port, HEAD + b'\r\n', b'RIFF') as two,
  ):
    time.sleep(0.3)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
      found = list(pool.map(lambda _: ask(port, 'POST', '/v1/score', data),
                            range(6)))  # fmt: skip
    counts = [status for status, _, _ in found]
    # Two wait for a turn that does not come; the others are told at once.
    assert sorted(counts) == [429] * 4 + [503] * 2
    assert all(headers['retry-after'] == '2' for _, headers, _ in found)
    assert ask(port, 'GET', '/health')[0] == 200
    one.close()
    two.close()  # who goes away gives way
    deadline = time.monotonic() + 10
    while score(port, data)[0] != 200:
      assert time.monotonic() < deadline
      time.sleep(0.1)


def test_all_of_many_are_scored_where_they_may_wait(detector, folder):
  data = (folder / 'a.wav').read_bytes()
  patient = uploads.Limits(at_once=2, waiting=40, wait=60)
  with serving(detector, patient) as port:
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
      found = list(pool.map(lambda _: score(port, data), range(20)))
  assert {status for status, _ in found} == {200}
  assert len({one['score'] for _, one in found}) == 1


# ------------------------------------------------------------- who may ask ---
def test_a_token(detector, folder):
  data = (folder / 'a.wav').read_bytes()
  with serving(detector, token=TOKEN, hosts=()) as port:
    for headers in (
      {}, {'authorization': 'Bearer wrong'},
      {'authorization': f'Basic {TOKEN}'}, {'authorization': TOKEN},
    ):  # fmt: skip
      status, found = score(port, data, **headers)
      assert status == 401 and 'Bearer TOKEN' in found['error']
      assert ask(port, 'GET', '/metrics', **headers)[0] == 401
      assert ask(port, 'GET', '/v1/detector', **headers)[0] == 401
    assert ask(port, 'GET', '/health')[0] == 200
    good = {'authorization': f'Bearer {TOKEN}'}
    assert score(port, data, **good)[0] == 200
    assert ask(port, 'GET', '/metrics', **good)[0] == 200


def test_pages_of_others_may_not_ask(port, folder):
  data = (folder / 'a.wav').read_bytes()
  status, found = score(port, data, host='evil.example')  # that points here
  assert status == 403 and 'another host' in found['error']
  assert score(port, data, host='127.0.0.1:1234')[0] == 200
  status, _ = score(port, data, sec_fetch_site='cross-site')
  assert status == 403
  assert score(port, data, sec_fetch_site='same-origin')[0] == 200


@pytest.mark.parametrize(
  ('address', 'expected'),
  [
    ('127.0.0.1:8000', ('127.0.0.1', 8000)),
    ('0.0.0.0:80', ('0.0.0.0', 80)),
    ('9000', ('127.0.0.1', 9000)),
    ('localhost', ('localhost', 8000)),
    ('[::1]:8000', ('::1', 8000)),
  ],
)
def test_addresses(address, expected):
  assert server.parsed(address) == expected
  assert server.is_loopback(expected[0]) == (expected[0] != '0.0.0.0')


@pytest.mark.parametrize('address', ['host:', ':80', 'a:b', 'a:70000'])
def test_addresses_that_are_none(address, run, capsys):
  asked = ['--checkpoint', str(run), '--serve', address]
  assert command.main(asked) == 2
  assert f'--serve {address}: expected HOST:PORT' in capsys.readouterr().err


def test_beyond_this_machine_a_token_is_drawn(detector, monkeypatch):
  made = []
  monkeypatch.setattr(
    server, 'made', lambda *given: made.append(given) or Nothing()
  )
  monkeypatch.delenv(server.TOKEN, raising=False)
  lines = []
  server.run(detector, '127.0.0.1:0', say=lines.append)
  server.run(detector, '0.0.0.0:0', say=lines.append)
  monkeypatch.setenv(server.TOKEN, TOKEN)
  server.run(detector, '0.0.0.0:0', say=lines.append)
  (_, _, none, own), (_, _, drawn, any_host), (_, _, given, _) = made
  assert none is None and '127.0.0.1' in own
  assert len(drawn) >= 32 and any_host == () and f'#token={drawn};' in lines[1]
  assert given == TOKEN and '#' not in lines[0]
  monkeypatch.setenv(server.TOKEN, 'short')
  with pytest.raises(ValueError, match='at least 16 characters'):
    server.run(detector, '0.0.0.0:0', say=lines.append)


class Nothing:
  def run(self, sockets):
    assert sockets[0].getsockname()[1]


# ------------------------------------------------- what others can be told ---
def test_health_metrics_and_description(detector, folder):
  data = (folder / 'a.wav').read_bytes()
  with serving(detector) as port:
    score(port, data)
    score(port, b'words')
    status, _, health = ask(port, 'GET', '/health')
    assert status == 200 and health['status'] == 'ok'
    assert health['detector'] == detector.identity(channel=None)
    _, headers, text = ask(port, 'GET', '/metrics')
    assert headers['content-type'].startswith('text/plain; version=')
    values = dict(
      line.rsplit(' ', 1)
      for line in text.decode().splitlines()
      if line[0] != '#'
    )
    assert values['jaxspoof_requests_total{status="200"}'] == '1.0'
    assert values['jaxspoof_requests_total{status="422"}'] == '1.0'
    assert values['jaxspoof_score_seconds_count'] == '2.0'
    assert values['jaxspoof_audio_seconds_total'] == '1.2'
    assert float(values['process_resident_memory_bytes']) > 1e7
    about = ask(port, 'GET', '/v1/detector')[2]
    assert about['calibrated'] and 'LLR' in about['meaning']
    assert about['limits']['megabytes'] == LIMITS.megabytes
    assert about['band'] == pytest.approx([0.2, 0.8])
    described = ask(port, 'GET', '/openapi.json')[2]
  asked = described['paths']['/v1/score']['post']
  assert set(asked['requestBody']['content']) == {
    'multipart/form-data', 'application/octet-stream',
  }  # fmt: skip
  assert {'200', '400', '401', '408', '413', '422', '429', '503'} <= set(
    asked['responses']
  )
  answer = described['components']['schemas']['Answer']['properties']
  assert {'verdict', 'p_spoof', 'llr', 'reasons', 'timeline'} <= set(answer)


def test_the_page_asks_nobody_else(port):
  seen, waiting = {}, ['/']
  while waiting:
    path = waiting.pop()
    status, headers, data = ask(port, 'GET', path)
    assert status == 200, path
    policy = headers['content-security-policy']
    assert "default-src 'none'" in policy and 'http' not in policy
    assert headers['x-content-type-options'] == 'nosniff'
    seen[path] = text = data.decode()
    # No address of anybody, nor a script or style that the policy refuses.
    assert not re.search(r'https?://|[\'"]//|@import|url\(', text), path
    assert not re.search(r'<script>|<style|style=|\son\w+=|eval\(', text), path
    named = re.findall(r'(?:src|href)="([\w.]+)"|Module\(\'(.+?)\'\)', text)
    waiting += ['/' + (a or b) for a, b in named if '/' + (a or b) not in seen]
  assert set(seen) == {'/', '/page.css', '/page.js', '/recorder.js'}
  assert set(seen) < set(app.OPEN)
  asked = set(re.findall(r"fetch\([`'](\w+/\w+)", seen['/page.js']))
  assert asked == {'v1/detector', 'v1/score'}
  # What the script looks for in the page is there.
  for name in set(re.findall(r"by\('(\w+)'\)", seen['/page.js'])):
    assert f'id="{name}"' in seen['/'], name


# ---------------------------------------------------------------- processes ---
@pytest.mark.parametrize('way', [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left(way, run, folder, tmp_path, environment, repository):
  """However it ends, in the middle of an upload."""
  for name in ('temporary', 'here'):
    (tmp_path / name).mkdir()
  process = warm.Popen(
    [
      sys.executable, repository / 'detect.py', '--checkpoint', run, '--serve',
      '127.0.0.1:0', '--batch', '1',
    ],
    cwd=tmp_path / 'here',
    env=environment | {
      'PYTHONPATH': str(repository), 'TMPDIR': str(tmp_path / 'temporary'),
    },
    stderr=subprocess.PIPE,
    text=True,
  )  # fmt: skip
  try:
    lines = iter(process.stderr.readline, '')
    line = next(line for line in lines if 'serving on' in line)
    port = int(re.search(r':(\d+)/', line)[1])
    data = (folder / 'b.flac').read_bytes()
    assert score(port, data, '/v1/score?timeline=true')[0] == 200
    with begun(port, HEAD + b'\r\n', bytes(500_000)):
      children = children_of(process.pid)
      assert children  # that decode
      process.send_signal(way)
      process.wait(30)
  finally:
    process.kill()
    process.wait()
    process.stderr.close()
  assert process.returncode == (130 if way == signal.SIGINT else -way)
  assert not [path for path in tmp_path.rglob('*') if path.is_file()]
  deadline = time.monotonic() + 10
  while any(os.path.exists(f'/proc/{child}') for child in children):
    assert time.monotonic() < deadline
    time.sleep(0.05)


def test_a_day_of_traffic(run, repository, environment, monkeypatch, capsys):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  path = repository / 'benchmarks' / 'traffic.py'
  spec = importlib.util.spec_from_file_location('traffic', path)
  traffic = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(traffic)
  monkeypatch.setattr(traffic.subprocess, 'Popen', warm.Popen)
  few = ['--minutes=0.03', '--clients=2', '--burst=2', '--allowed=1000']
  assert traffic.main(['--checkpoint', str(run), *few]) == 0
  said = capsys.readouterr().out
  assert 'wrong answers: 0; grown: nothing' in said
  assert re.search(r'files left: 0 \nlines on stderr: 0', said)
  assert re.search(r'service, MiB( +[+\d.]+){6}', said)
  # A wrong answer, and what grows, are seen.
  answers = collections.Counter({('body', 500, False): 2})
  assert traffic.show_answers(answers) == 2
  samples = np.repeat(np.linspace(0, 1, 20)[:, None], 6, axis=1)
  grown = traffic.show_growth(samples, [100] * 5, [100, 109, 111, 99, 200], 10)
  assert grown == ['files', 'processes']


def children_of(process):
  found = []
  for path in pathlib.Path(f'/proc/{process}/task').glob('*/children'):
    found += path.read_text().split()
  return found
