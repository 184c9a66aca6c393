"""Where the service listens, who may ask, and how it ends."""

import asyncio
import ipaddress
import os
import secrets
import socket
import sys
from collections.abc import Callable

import numpy as np
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from jaxspoof.detect.serve import app as app_lib
from jaxspoof.detect.serve.uploads import Limits
from jaxspoof.detector import Detector

ADDRESS = '127.0.0.1:8000'
TOKEN = 'JAXSPOOF_TOKEN'
_CONNECTIONS = 512  # at once; each costs a little


def parsed(address: str) -> tuple[str, int]:
  """Host and port of `HOST:PORT`, `HOST` or `PORT`.

  Raises:
    ValueError: it is none of them.
  """
  own_host, own_port = ADDRESS.split(':')
  host, colon, port = address.rpartition(':')
  if not colon:
    host, port = (own_host, port) if port.isdigit() else (port, own_port)
  host = host.strip('[]')
  if not (host and port.isdigit() and int(port) < 1 << 16):
    raise ValueError(
      f'--serve {address}: expected HOST:PORT, such as {ADDRESS}'
    )
  return host, int(port)


def is_loopback(host: str) -> bool:
  """Whether only this machine can reach an address."""
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host == 'localhost'


def run(
  detector: Detector,
  address: str = ADDRESS,
  limits: Limits = Limits(),  # noqa: B008 (frozen)
  say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> None:
  """Serves until it is ended.

  Beyond loopback a token is needed: that of the environment, `JAXSPOOF_TOKEN`,
  or one that is drawn and told to whoever started the service.

  Args:
    detector: that scores.
    address: see `parsed`.
    limits: what is taken.
    say: is given lines for whoever started it.

  Raises:
    ValueError: the address is none, or the token is too short.
    OSError: somebody else listens there.
  """
  host, port = parsed(address)
  token = os.environ.get(TOKEN) or None
  if token is not None and len(token) < 16:
    raise ValueError(f'{TOKEN}: expected at least 16 characters')
  hosts: tuple[str, ...] = ()
  if is_loopback(host):
    hosts = tuple(dict.fromkeys(('localhost', '127.0.0.1', '::1', host)))
  elif token is None:
    token = secrets.token_urlsafe(24)
  # The first request shall not wait for a program to be compiled.
  noise = np.random.default_rng(0).normal(0, 0.1, detector.samples)
  detector.logits([noise.astype(np.float32)])
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  with socket.create_server((host, port), family=family) as listening:
    where = f'[{host}]' if ':' in host else host
    url = f'http://{where}:{listening.getsockname()[1]}/'
    say(f'serving on {url}{f"#token={token}" if token else ""}; Ctrl-C ends it')
    made(detector, limits, token, hosts).run([listening])


def made(
  detector: Detector,
  limits: Limits,
  token: str | None,
  hosts: tuple[str, ...],
) -> uvicorn.Server:
  """The server; see `app.make`."""

  class Protocol(Prompt):
    seconds = limits.headers

  return uvicorn.Server(
    uvicorn.Config(
      app_lib.make(detector, limits, token, hosts),
      loop='asyncio',
      http=Protocol,
      ws='none',
      access_log=False,
      log_level='warning',
      server_header=False,
      limit_concurrency=_CONNECTIONS,
      timeout_keep_alive=5,
      timeout_graceful_shutdown=5,
    )
  )


class Prompt(H11Protocol):
  """HTTP whose requests have to come promptly.

  uvicorn lets a client begin a request and never end its head.
  """

  seconds = 10.0
  _timer: asyncio.TimerHandle | None = None

  def connection_made(self, transport) -> None:
    """Starts to wait for a request."""
    super().connection_made(transport)
    self._wait()

  def data_received(self, data: bytes) -> None:
    """Waits on until a head is whole."""
    super().data_received(data)
    if self.cycle is not None and not self.cycle.response_complete:
      self._stop()
    elif self._timer is None:
      self._wait()

  def connection_lost(self, exc) -> None:
    """Waits no more."""
    self._stop()
    super().connection_lost(exc)

  def _wait(self) -> None:
    self._timer = self.loop.call_later(self.seconds, self.transport.close)

  def _stop(self) -> None:
    if self._timer is not None:
      self._timer.cancel()
      self._timer = None
