"""Recordings out of requests: within limits, and in memory alone."""

import asyncio
import contextlib
import dataclasses
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette import formparsers, requests

MEGABYTE = 1_000_000
_AROUND = 10_000  # bytes of a form beside the file in it
_FIELD = 'file'


@dataclasses.dataclass(frozen=True)
class Limits:
  """What the service takes.

  Attributes:
    megabytes: size of a recording.
    seconds: length of a recording.
    at_once: recordings in memory at the same time.
    waiting: requests that wait for their turn; what comes beyond is refused.
    wait: seconds that a request waits for its turn.
    upload: seconds that an upload may take.
    headers: seconds that the head of a request may take.
    answer: seconds until a request is given up, whatever it waits for.
  """

  megabytes: float = 50.0
  seconds: float = 600.0
  at_once: int = 16
  waiting: int = 64
  wait: float = 20.0
  upload: float = 60.0
  headers: float = 10.0
  answer: float = 180.0

  def __post_init__(self):
    for name, value in dataclasses.asdict(self).items():
      if not value > 0 and name != 'waiting':
        raise ValueError(f'{name}={value}: expected a limit above 0')

  @property
  def bytes(self) -> int:
    """Size of a recording."""
    return round(self.megabytes * MEGABYTE)


class Refused(Exception):
  """A request that is not served.

  Attributes:
    status: of HTTP.
    error: why, as a sentence.
  """

  def __init__(self, status: int, error: str):
    super().__init__(error)
    self.status, self.error = status, error


class Turns:
  """Lets so many in at once, and others wait for a while.

  Attributes:
    inside: how many are in.
    queued: how many wait.
  """

  def __init__(self, limits: Limits):
    self._limits = limits
    self._free = asyncio.Semaphore(limits.at_once)
    self.inside = self.queued = 0

  @contextlib.asynccontextmanager
  async def one(self) -> AsyncIterator[None]:
    """The time that a request is served.

    Raises:
      Refused: too many wait, or it has waited for too long.
    """
    limits = self._limits
    if self._free.locked() and self.queued >= limits.waiting:
      raise Refused(
        429, f'{self.queued} requests are waiting already; try again later'
      )
    self.queued += 1
    try:
      await asyncio.wait_for(self._free.acquire(), limits.wait)
    except TimeoutError as error:
      raise Refused(
        503, f'busy: no turn within {limits.wait:g} s; try again later'
      ) from error
    finally:
      self.queued -= 1
    self.inside += 1
    try:
      yield
    finally:
      self.inside -= 1
      self._free.release()


async def read(
  request: requests.Request, limits: Limits, name: str | None
) -> tuple[bytes, str]:
  """The recording of a request, and its name.

  Args:
    request: its body is a form with the field 'file', or the recording itself.
    limits: of size and time.
    name: of the recording; by default the form's, or 'recording'.

  Raises:
    Refused: it is too large or too slow, there is none, or its name has a path.
  """
  form = request.headers.get('content-type', '').startswith('multipart/')
  checked(name)  # before anything is sent
  try:
    async with asyncio.timeout(limits.upload):
      if form:
        data, given = await _of_form(request, limits)
      else:
        parts = [part async for part in _parts(request, limits.bytes)]
        data, given = b''.join(parts), None
  except TimeoutError as error:
    raise Refused(
      408, f'the upload took longer than {limits.upload:g} s'
    ) from error
  except requests.ClientDisconnect as error:
    raise Refused(400, 'the upload was broken off') from error
  name = checked(name or given or 'recording')
  if not data:
    raise Refused(400, f'{name}: the file is empty (0 bytes)')
  return data, name


def checked(name: str | None) -> str | None:
  """The name of a recording, if it is one; it is shown, and opens nothing."""
  if name is None:
    return None
  path = name in ('', '.', '..') or set(name) & {'/', '\\'}
  control = any(unicodedata.category(one) in ('Cc', 'Cs') for one in name)
  if path or control or len(name) > 255:
    raise Refused(
      400,
      f'{name[:80]!r}: expected the name of a file, without folders and'
      ' control characters, of at most 255 characters',
    )
  return name


async def _of_form(
  request: requests.Request, limits: Limits
) -> tuple[bytes, str | None]:
  """The one file of a form."""

  class Parser(formparsers.MultiPartParser):
    spool_max_size = limits.bytes + _AROUND  # beyond, it would go to disk

  stream = _parts(request, limits.bytes + _AROUND)
  parser = Parser(request.headers, stream, max_files=1, max_fields=10)
  try:
    found = await parser.parse()
  # Its parser has errors of several kinds for bodies that are none.
  except (formparsers.MultiPartException, ValueError, KeyError) as error:
    raise Refused(400, f'not a form with one file: {error}') from error
  try:
    file = found.get(_FIELD)
    if not isinstance(file, formparsers.UploadFile):
      raise Refused(400, f'a form without a file in its field {_FIELD!r}')
    if file.size > limits.bytes:
      raise _too_large(limits.bytes)
    return await file.read(), file.filename or None
  finally:
    # Starlette closes them after some of its errors only.
    for file in parser._files_to_close_on_error:
      file.close()


async def _parts(request: requests.Request, most: int) -> AsyncIterator[bytes]:
  """The body of a request as it comes; Refused where it is too large."""
  declared = request.headers.get('content-length', '0')
  if declared.isdigit() and int(declared) > most:
    raise _too_large(most)
  count = 0
  async for part in request.stream():
    count += len(part)
    if count > most:
      raise _too_large(most)
    yield part


def _too_large(most: int) -> Refused:
  return Refused(
    413, f'too large: expected at most {most / MEGABYTE:g} megabytes'
  )


class Body:
  """The body of a request, and whether all of it has come.

  Who is still sending when the answer comes sees a broken connection instead:
  what comes beforehand has to be read, and is thrown away.

  Attributes:
    more: whether some of it may still come.
  """

  def __init__(self, receive: Callable[[], Awaitable[dict]]):
    self._receive, self.more = receive, True

  async def receive(self) -> dict:
    """The next message, as of an ASGI server."""
    message = await self._receive()
    self.more = bool(message.get('more_body'))  # a disconnect has none
    return message

  async def discard(self, pause: float = 0.5, seconds: float = 5.0) -> None:
    """Reads on for a while, unless nothing comes."""
    with contextlib.suppress(TimeoutError):
      async with asyncio.timeout(seconds):
        while self.more:
          await asyncio.wait_for(self.receive(), pause)
