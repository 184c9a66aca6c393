"""What the service answers: scores, health, metrics, and the page."""

import asyncio
import contextlib
import dataclasses
import hashlib
import hmac
import json
import os
import pathlib
from collections.abc import Callable
from concurrent import futures
from typing import Annotated

import fastapi
import prometheus_client
from fastapi import exceptions, responses, staticfiles
from starlette import datastructures
from starlette import exceptions as http

from jaxspoof import timelines
from jaxspoof.audio import SAMPLE_RATE
from jaxspoof.audio.containers import AudioError
from jaxspoof.detect import outputs
from jaxspoof.detect.picture import Overview
from jaxspoof.detect.serve import decoding, uploads
from jaxspoof.detect.serve.uploads import Limits, Refused, Turns
from jaxspoof.detector import Detection, Detector
from jaxspoof.report.style import CSS

PAGE = pathlib.Path(__file__).parent / 'page'
# Nothing of another host, in any page; no script that is not a file of ours.
HEADERS = {
  'content-security-policy': "default-src 'none'; script-src 'self'; style-src "
  "'self'; img-src 'self' data: blob:; media-src blob:; connect-src 'self'; "
  "form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
}
SCORE = '/v1/score'
OPEN = (
  '/health', '/openapi.json', '/', '/page.css', '/page.js', '/recorder.js',
)  # fmt: skip
BODY = {
  'requestBody': {
    'required': True,
    'content': {
      'multipart/form-data': {
        'schema': {
          'type': 'object',
          'required': ['file'],
          'properties': {'file': {'type': 'string', 'format': 'binary'}},
        }
      },
      'application/octet-stream': {
        'schema': {'type': 'string', 'format': 'binary'}
      },
    },
  }
}


@dataclasses.dataclass(frozen=True)
class Answer(Detection):
  """What is said of a recording: that of `detect.py --json`, and more.

  Attributes:
    classes: what the numbers of `logits` stand for.
    detector: which detector and settings the result depends on.
    sha256: of the recording.
    timeline: if asked for, of all of it.
    picture: if asked for, an SVG file.
  """

  classes: tuple[str, ...] = ()
  detector: str = ''
  sha256: str = ''
  timeline: timelines.Timeline | None = None
  picture: str | None = None


@dataclasses.dataclass(frozen=True)
class Error:
  """Why there is no answer."""

  error: str


class Measures:
  """What Prometheus is told."""

  def __init__(self, turns: Turns):
    self.registry = prometheus_client.CollectorRegistry()
    own = {'registry': self.registry}
    self.requests = prometheus_client.Counter(
      'jaxspoof_requests', 'Requests for scores.', ['status'], **own
    )
    self.verdicts = prometheus_client.Counter(
      'jaxspoof_verdicts', 'Recordings that were scored.', ['verdict'], **own
    )
    self.seconds = prometheus_client.Counter(
      'jaxspoof_audio_seconds', 'Length of recordings that were scored.', **own
    )
    self.bytes = prometheus_client.Counter(
      'jaxspoof_upload_bytes', 'Size of recordings that were received.', **own
    )
    self.times = prometheus_client.Histogram(
      'jaxspoof_score_seconds', 'From the last byte to the answer.', **own
    )
    for name, words, value in (
      ('inside', 'Requests that are served.', lambda: turns.inside),
      ('waiting', 'Requests that wait for their turn.', lambda: turns.queued),
    ):
      gauge = prometheus_client.Gauge(f'jaxspoof_{name}', words, **own)
      gauge.set_function(value)
    prometheus_client.ProcessCollector(**own)

  def count(self, path: str, status: int) -> None:
    """Counts an answer."""
    if path == SCORE:
      self.requests.labels(status).inc()


def make(
  detector: Detector,
  limits: Limits = Limits(),  # noqa: B008 (frozen)
  token: str | None = None,
  hosts: tuple[str, ...] = (),
) -> fastapi.FastAPI:
  """The service of a detector.

  Args:
    detector: that scores.
    limits: what is taken.
    token: that requests for scores and metrics must bring; None for none.
    hosts: names by which it may be called; none: by any. On a loopback address
      only its own names are right: a page elsewhere could give it another one,
      and would then be let in by browsers.
  """
  turns = Turns(limits)
  measures = Measures(turns)
  decoder = decoding.Decoder(limits.seconds, detector.samples)
  working = asyncio.Semaphore(os.cpu_count() or 1)
  # Matplotlib is not made for several threads, and keeps fonts for each.
  drawing = futures.ThreadPoolExecutor(1)
  identity = detector.identity(channel=None)

  @contextlib.asynccontextmanager
  async def lifespan(app):
    yield
    drawing.shutdown()
    decoder.close()

  app = fastapi.FastAPI(
    title='jaxspoof',
    summary='Says of recordings of speech whether they are bona fide or a '
    'spoof.',
    version='1',
    docs_url=None,  # its pages would load scripts from elsewhere
    redoc_url=None,
    lifespan=lifespan,
  )

  @app.post(
    SCORE,
    response_model=Answer,
    responses={
      status: {'model': Error, 'description': words}
      for status, words in (
        (400, 'No recording, a broken form, or a name with folders.'),
        (401, 'No token, or a wrong one.'),
        (408, 'The upload was too slow.'),
        (413, 'Too large or too long.'),
        (422, 'It cannot be read, or holds nothing to score.'),
        (429, 'Too many requests are waiting.'),
        (503, 'No turn in time.'),
      )
    },
    openapi_extra=BODY,
  )
  async def score(
    request: fastapi.Request,
    name: Annotated[
      str | None, fastapi.Query(description='What the recording is called.')
    ] = None,
    channel: Annotated[
      int | None,
      fastapi.Query(ge=1, description='Which is scored; by default the mean.'),
    ] = None,
    timeline: Annotated[
      bool, fastapi.Query(description='Say also where in it.')
    ] = False,
    picture: Annotated[
      bool, fastapi.Query(description='Draw it; implies the timeline.')
    ] = False,
  ):
    """Scores one recording."""
    over_time = timeline or picture
    if over_time and not detector.calibrated:
      raise Refused(
        400, 'the detector is not calibrated: it has no timeline and no picture'
      )
    async with turns.one():
      data, called = await uploads.read(request, limits, name)
      measures.bytes.inc(len(data))
      with measures.times.time():
        async with working:
          values = await asyncio.to_thread(
            _score, data, called, channel, over_time, picture
          )
    measures.verdicts.labels(values['verdict']).inc()
    measures.seconds.inc(values['duration'])
    return responses.Response(
      json.dumps(values).encode(), media_type='application/json'
    )

  @app.get(SCORE, include_in_schema=False)
  async def show_how():
    """For whoever opens this path in a browser."""
    raise Refused(
      405,
      f'send a recording by POST, such as curl -F file=@clip.wav ...{SCORE}',
    )

  def _score(data, called, channel, over_time, picture) -> dict:
    found = decoder.read(data, called, whole=over_time, channel=channel)
    (result,) = detector.score_many([found.clip], names=[called])
    values = outputs.values_of(result, detector)
    if 'error' in values:
      raise AudioError(values['error'])
    values['detector'] = identity
    if channel is not None:
      values['detector'] = detector.identity(channel=channel)
    values['sha256'] = hashlib.sha256(data).hexdigest()
    values['timeline'] = values['picture'] = None
    if over_time:
      overview = Overview()
      whole = detector.timeline(
        found.whole, SAMPLE_RATE, name=called, watch=overview.add
      )
      whole = dataclasses.replace(whole, warnings=found.heard)
      values['timeline'] = dataclasses.asdict(whole)
      if picture:
        values['picture'] = drawing.submit(overview.svg, whole).result()
    return values

  @app.get('/health')
  async def health() -> dict[str, str]:
    """Says that the service is up, and what it scores with."""
    return {'status': 'ok', 'model': detector.model, 'detector': identity}

  @app.get('/v1/detector')
  async def about() -> dict:
    """What a person should know before anything is scored."""
    kind = 'logits' if detector.loss.head == 'linear' else 'cosines'
    return {
      'model': detector.model,
      'detector': identity,
      'calibrated': detector.calibrated,
      'meaning': outputs.meaning(kind, detector),
      'notes': list(detector.notes),
      'band': list(detector.rule.undecided()),
      'limits': dataclasses.asdict(limits),
    }

  @app.get('/metrics', response_class=responses.PlainTextResponse)
  def metrics() -> responses.Response:
    """Counts and times, as Prometheus reads them."""
    return responses.Response(
      prometheus_client.generate_latest(measures.registry),
      media_type=prometheus_client.CONTENT_TYPE_LATEST,
    )

  @app.get('/page.css', include_in_schema=False)
  async def style() -> responses.Response:
    own = (PAGE / 'page.css').read_text()
    return responses.Response(CSS + own, media_type='text/css')

  app.mount('/', staticfiles.StaticFiles(directory=PAGE, html=True))

  @app.exception_handler(Refused)
  @app.exception_handler(AudioError)
  @app.exception_handler(http.HTTPException)
  @app.exception_handler(exceptions.RequestValidationError)
  @app.exception_handler(Exception)
  async def refuse(request: fastapi.Request, error: Exception):
    return _refusal(error)

  app.add_middleware(
    Guard, limits=limits, token=token, hosts=hosts, count=measures.count
  )
  return app


def _refusal(error: Exception) -> responses.JSONResponse:
  """The answer to what is not served."""
  status, why = 500, 'a fault of the service; it is in its log'
  match error:
    case Refused():
      status, why = error.status, error.error
    case decoding.TooLong():
      status, why = 413, str(error)
    case AudioError():
      status, why = 422, str(error)
    case http.HTTPException():
      status, why = error.status_code, error.detail
    case exceptions.RequestValidationError():
      status, why = (
        400,
        '; '.join(
          f'{".".join(map(str, one["loc"]))}: {one["msg"]}'
          for one in error.errors()
        ),
      )
  again = {'retry-after': '2'} if status in (429, 503) else {}
  return responses.JSONResponse({'error': why}, status, again)


class Guard:
  """Lets requests in, ends those that take too long, and adds headers."""

  def __init__(
    self,
    app,
    *,
    limits: Limits,
    token: str | None,
    hosts: tuple[str, ...],
    count: Callable[[str, int], None],
  ):
    self._app, self._limits = app, limits
    self._token, self._hosts, self._count = token, hosts, count

  async def __call__(self, scope, receive, send):
    """An ASGI application around another one."""
    if scope['type'] != 'http':
      await self._app(scope, receive, send)
      return
    body, started = uploads.Body(receive), False

    async def pass_on(message):
      nonlocal started
      if message['type'] == 'http.response.start':
        started = True
        self._count(scope['path'], message['status'])
        await body.discard()
        headers = datastructures.MutableHeaders(scope=message)
        for name, value in HEADERS.items():
          headers.setdefault(name, value)
        if body.more:
          headers['connection'] = 'close'
      await send(message)

    try:
      async with asyncio.timeout(self._limits.answer):
        request = fastapi.Request(scope)
        if why := _denied(request, self._token, self._hosts):
          await _refusal(Refused(*why))(scope, receive, pass_on)
        else:
          await self._app(scope, body.receive, pass_on)
    except TimeoutError:
      if started:  # nobody reads the answer: the connection is closed
        return
      late = Refused(503, f'no answer within {self._limits.answer:g} s')
      await _refusal(late)(scope, receive, pass_on)


def _denied(
  request: fastapi.Request, token: str | None, hosts: tuple[str, ...]
) -> tuple[int, str] | None:
  """Status and reason, if a request is not let in."""
  if hosts and request.url.hostname not in hosts:
    return 403, f'asked for as another host; expected {" or ".join(hosts)}'
  if request.headers.get('sec-fetch-site') in ('cross-site', 'same-site'):
    if request.method != 'GET' or request.url.path.startswith('/v1/'):
      return 403, 'asked for by a page of another host'
  if token is None or request.url.path in OPEN:
    return None
  kind, _, given = request.headers.get('authorization', '').partition(' ')
  same = hmac.compare_digest(given.strip().encode(), token.encode())
  if kind.lower() == 'bearer' and same:
    return None
  return 401, 'expected the header "Authorization: Bearer TOKEN"'
