"""Bundles in repositories of Hugging Face: against a server of our own."""

import base64
import hashlib
import http.server
import json
import sys
import threading

import pytest

from jaxspoof import bundle
from jaxspoof.bundles import hub, store
from jaxspoof.detector import Detector
from tests import small_detectors

COMMIT = 'a' * 40


class Repository(http.server.BaseHTTPRequestHandler):
  """What the client asks of a hub, for one repository without large files."""

  protocol_version = 'HTTP/1.1'
  files, created, asked = {}, [], []

  def log_message(self, *_):
    pass

  def give(self, code, data=b'', **headers):
    self.send_response(code)
    for name, value in headers.items():
      self.send_header(name.replace('_', '-'), value)
    self.send_header('Content-Length', str(len(data)))
    self.end_headers()
    if self.command != 'HEAD':
      self.wfile.write(data)

  def answer(self):
    body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
    path = self.path.split('?')[0]
    self.asked.append(f'{self.command} {path}')
    if '/resolve/' in path:
      data = self.files.get(path.rpartition('/')[2])
      if data is None or '/own/small/' not in path:
        return self.give(404, X_Error_Code='EntryNotFound')
      tag = f'"{hashlib.sha1(data).hexdigest()}"'
      return self.give(200, data, ETag=tag, X_Repo_Commit=COMMIT)
    found = {}
    if path == '/api/repos/create':
      self.created.append(json.loads(body))
      found = {'url': f'http://{self.headers["Host"]}/own/small'}
    elif '/preupload/' in path:
      found['files'] = [
        {'path': f['path'], 'uploadMode': 'regular', 'shouldIgnore': False}
        for f in json.loads(body)['files']
      ]
    elif '/commit/' in path:
      for line in map(json.loads, body.splitlines()):
        if line['key'] == 'file':
          value = line['value']
          self.files[value['path']] = base64.b64decode(value['content'])
      at = f'http://{self.headers["Host"]}/own/small/commit/{COMMIT}'
      found = {'commitUrl': at, 'commitOid': COMMIT, 'success': True}
    elif path == '/api/validate-yaml':
      found = {'errors': [], 'warnings': []}
    return self.give(200, json.dumps(found).encode())

  do_GET = do_HEAD = do_POST = answer


@pytest.fixture
def server(tmp_path, monkeypatch):
  for kept in (Repository.files, Repository.created, Repository.asked):
    kept.clear()
  made = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Repository)
  thread = threading.Thread(target=made.serve_forever, daemon=True)
  thread.start()
  monkeypatch.setenv('HF_ENDPOINT', f'http://127.0.0.1:{made.server_port}')
  monkeypatch.setenv('HF_HUB_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setenv('HF_TOKEN', 'secret')
  yield Repository
  made.shutdown()
  made.server_close()
  thread.join()


def test_what_was_pushed_is_loaded(server, tmp_path, capsys):
  run = small_detectors.write(
    tmp_path / 'run', calibrated=False, model=small_detectors.PADDED
  )
  assert bundle.main(['push', str(run), 'hf://own/small']) == 0
  assert capsys.readouterr().out.endswith(f'/own/small/commit/{COMMIT}\n')
  assert server.created[0]['visibility'] == 'private'
  assert b'not calibrated' in server.files['README.md']
  assert b'--checkpoint hf://own/small' in server.files['README.md']
  detector = Detector.load('hf://own/small')
  card, tensors = store.read(hub.fetch('hf://own/small@main'))
  wanted, arrays = bundle.base_of(run)
  assert card.system == wanted.system and detector.model == 'ecapa'
  assert all((tensors[name] == arrays[name]).all() for name in arrays)
  # Both files are of the commit that the branch was at.
  asked = [x for x in server.asked if x.endswith('weights.safetensors')]
  assert asked and all(COMMIT in x for x in asked)


@pytest.mark.parametrize('spelt', ['hf://small', 'hf://a/b/c', 'hf://a/..x y'])
def test_a_name_that_is_none(spelt):
  with pytest.raises(ValueError, match=f'{spelt}: expected hf://OWNER/NAME'):
    Detector.load(spelt)


def test_what_is_not_there(server):
  words = r'hf://own/none: cannot fetch card.json: 404'
  with pytest.raises(ValueError, match=words):
    Detector.load('hf://own/none')
  # A card alone is no bundle.
  server.files['card.json'] = b'{}'
  with pytest.raises(ValueError, match='cannot fetch weights.safetensors'):
    Detector.load('hf://own/small')


def test_without_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(
    ValueError, match=r'hf://a/b: needs huggingface_hub, .*hub'
  ):
    Detector.load('hf://a/b')
