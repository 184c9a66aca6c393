// The page of the service: uploads recordings, and shows what is said of them.
'use strict';

const AT_ONCE = 2;
const TRIES = 5;
const FEW = 12;  // parts that are shown at once
const token = new URLSearchParams(location.hash.slice(1)).get('token');
const headers = token ? {authorization: `Bearer ${token}`} : {};
const results = [];  // in the order in which they were chosen
const waiting = [];
let running = 0, about = null, shown = null, pictureUrl = null;

const by = (id) => document.getElementById(id);

function make(kind, text, options = {}) {
  const element = Object.assign(document.createElement(kind), options);
  if (text !== undefined) element.textContent = text;
  return element;
}

// --------------------------------------------------------------- start ---
async function start() {
  const answer = await fetch('v1/detector', {headers});
  if (answer.status === 401) {
    by('status').textContent = 'This service asks for a token: open the address'
      + ' that it printed when it was started, which ends in #token=...';
    by('files').disabled = by('record').disabled = true;
    return;
  }
  about = await answer.json();
  const {megabytes, seconds} = about.limits;
  by('limits').textContent = `WAV, FLAC, MP3, Ogg, M4A, video ...; up to`
    + ` ${megabytes} MB and ${time(seconds)} each`;
  by('meaning').textContent = about.meaning;
  by('notes').textContent = about.notes.join(' ');
  by('model').textContent = `Detector: ${about.model} ${about.detector}.`;
}

// ------------------------------------------------------------- uploads ---
function add(files) {
  for (const file of files) {
    const result = {name: file.name || 'recording', state: 'waiting'};
    results.push(result);
    waiting.push([file, result]);
  }
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    const [file, result] = waiting.shift();
    running += 1;
    score(file, result).catch((error) => {
      result.error = `no answer from the service (${error.message})`;
    }).finally(() => {
      result.state = 'done';
      running -= 1;
      draw();
      if (shown === null || results.length === 1) show(result);
      next();
    });
  }
  draw();
}

async function score(file, result) {
  result.state = 'scoring';
  draw();
  const {megabytes} = about.limits;
  if (file.size > megabytes * 1e6) {
    result.error = `too large: ${(file.size / 1e6).toFixed(1)} MB, expected at`
      + ` most ${megabytes} MB`;
    return;
  }
  const query = about.calibrated ? '?picture=true' : '';
  for (let attempt = 1; ; attempt += 1) {
    const form = new FormData();
    form.append('file', file, result.name);
    const answer = await fetch(`v1/score${query}`, {
      method: 'POST', body: form, headers,
    });
    const said = await answer.json();
    if (answer.ok) {
      result.said = said;
      return;
    }
    const busy = answer.status === 429 || answer.status === 503;
    if (!busy || attempt === TRIES) {
      result.error = said.error;
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 2000 * attempt));
  }
}

// ------------------------------------------------------------ the table ---
function draw() {
  const done = results.filter((one) => one.state === 'done').length;
  by('status').textContent = done === results.length
    ? '' : `${done} of ${results.length} scored ...`;
  by('all').hidden = results.length < 2;
  by('rows').replaceChildren(...results.map(row));
}

function row(result) {
  const line = make('tr');
  if (result === shown) line.setAttribute('aria-current', 'true');
  const name = make('td');
  if (result.state === 'done') {
    const open = make('button', result.name, {type: 'button'});
    open.addEventListener('click', () => show(result));
    name.append(open);
  } else {
    name.textContent = result.name;
  }
  const {said, error} = result;
  const cells = [name];
  if (said) {
    const whole = verdictOf(said);
    const verdict = make('td');
    verdict.append(chip(whole.verdict));
    if (whole.reasons.length) {
      verdict.append(make('div', whole.reasons[0], {className: 'why'}));
    }
    cells.push(verdict, make('td', percent(whole.p_spoof)),
      make('td', signed(whole.llr ?? said.score)),
      make('td', time(said.duration)));
  } else {
    const why = make('td', error ?? `${result.state} ...`, {colSpan: 4});
    why.className = 'why';
    cells.push(why);
  }
  line.append(...cells);
  return line;
}

// ------------------------------------------------------- one recording ---
// Of a recording that was scored over time, the verdict of all of it.
function verdictOf(said) {
  return said.timeline ?? said;
}

function chip(verdict) {
  return make('span', verdict, {
    className: `said ${verdict.replace(' ', '-')}`,
  });
}

function show(result) {
  shown = result;
  draw();
  const parts = [make('h2', result.name)];
  if (result.error) {
    parts.push(make('p', 'Not scored', {className: 'headline'}),
      make('p', result.error, {className: 'note'}));
  } else {
    parts.push(...details(result.said));
  }
  by('one').replaceChildren(...parts);
  by('one').hidden = false;
}

function details(said) {
  const whole = verdictOf(said);
  const parts = [];
  const headline = make('p', undefined, {className: 'headline'});
  headline.append(chip(whole.verdict));
  parts.push(headline);
  if (whole.p_spoof !== null) {
    parts.push(scale(whole));
    parts.push(make('p', `Probability of a spoof ${percent(whole.p_spoof)} at a`
      + ` prior of ${whole.prior}; log-likelihood ratio ${signed(whole.llr)}.`));
  } else {
    parts.push(make('p', `Score ${signed(said.score)}: higher is more like`
      + ' bona fide speech.'));
  }
  parts.push(...list('Why it is uncertain', whole.reasons));
  parts.push(...list('Warnings',
    [...new Set([...said.warnings, ...(said.timeline?.warnings ?? [])])]));
  if (said.picture) parts.push(picture(said));
  if (said.timeline) {
    parts.push(segments(said.timeline));
    parts.push(make('p', `The first ${said.scored.toFixed(2)} of`
      + ` ${said.duration.toFixed(2)} s alone: ${said.verdict}, probability of a`
      + ` spoof ${percent(said.p_spoof)}, log-likelihood ratio`
      + ` ${signed(said.llr)}.`));
  }
  parts.push(downloads(said));
  return parts;
}

function scale({p_spoof}) {
  const [low, high] = about.band;
  const box = make('div', undefined, {className: 'scale'});
  const bar = make('div');
  bar.setAttribute('role', 'img');
  bar.setAttribute('aria-label', `Probability of a spoof: ${percent(p_spoof)};`
    + ` undecided from ${percent(low)} to ${percent(high)}`);
  const part = (className, style) => {
    const element = make('span', undefined, {className});
    Object.assign(element.style, style);
    bar.append(element);
  };
  part('undecided', {left: `${100 * low}%`, width: `${100 * (high - low)}%`});
  part('above', {left: `${100 * high}%`});
  part('mark', {left: `${100 * p_spoof}%`});
  const words = make('p');
  words.append(make('span', 'bona fide'), make('span', 'undecided'),
    make('span', 'spoof'));
  box.append(bar, words);
  return box;
}

function list(title, sentences) {
  if (!sentences.length) return [];
  const items = make('ul');
  items.append(...sentences.map((text) => make('li', text)));
  return [make('h2', title), items];
}

function picture(said) {
  if (pictureUrl) URL.revokeObjectURL(pictureUrl);
  pictureUrl = URL.createObjectURL(svg(said));
  const around = make('div', undefined, {className: 'scroll'});
  around.append(make('img', undefined, {
    className: 'picture',
    src: pictureUrl,
    alt: 'Spectrogram, and the waveform coloured by verdict',
  }));
  return around;
}

function segments({segments}) {
  const table = make('table');
  const head = make('tr');
  head.append(...['From', 'To', 'Verdict', 'LLR'].map((text) =>
    make('th', text, {scope: 'col'})));
  const top = make('thead');
  top.append(head);
  const body = make('tbody');
  for (const one of segments) {
    const line = make('tr');
    const verdict = make('td');
    verdict.append(chip(one.verdict));
    line.append(make('td', `${one.start.toFixed(2)} s`),
      make('td', `${one.end.toFixed(2)} s`), verdict,
      make('td', signed(one.llr)));
    body.append(line);
  }
  table.append(top, body);
  const around = make('div', undefined, {className: 'scroll'});
  around.append(table);
  const folded = make('details', undefined, {open: segments.length <= FEW});
  folded.append(make('summary', `Parts of one verdict: ${segments.length}`),
    around);
  return folded;
}

function downloads(said) {
  const box = make('div', undefined, {className: 'buttons'});
  const {picture: drawn, ...values} = said;
  const one = make('button', 'Download as JSON', {type: 'button'});
  one.addEventListener('click', () => save(json(values), `${said.path}.json`));
  box.append(one);
  if (drawn) {
    const image = make('button', 'Download the picture', {type: 'button'});
    image.addEventListener('click', () => save(svg(said), `${said.path}.svg`));
    box.append(image);
  }
  return box;
}

// ------------------------------------------------------------ downloads ---
function json(values) {
  return new Blob([JSON.stringify(values, null, 2)],
    {type: 'application/json'});
}

function svg({picture: drawn}) {
  return new Blob([drawn], {type: 'image/svg+xml'});
}

function save(blob, name) {
  const link = make('a', undefined, {
    href: URL.createObjectURL(blob), download: name,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function everything() {
  save(json(results.map(({name, said, error}) => {
    if (!said) return {path: name, error: error ?? 'not scored yet'};
    const {picture: drawn, ...values} = said;
    return values;
  })), 'jaxspoof.json');
}

// ------------------------------------------------------------ microphone ---
let ending = null;

async function record() {
  if (ending) {
    ending();
    return;
  }
  if (!navigator.mediaDevices) {
    by('recording').textContent = 'Browsers give the microphone to pages of'
      + ' this machine or over https alone.';
    return;
  }
  let stream;
  try {
    // What makes calls pleasant changes what the detector listens for.
    stream = await navigator.mediaDevices.getUserMedia({audio: {
      echoCancellation: false, noiseSuppression: false, autoGainControl: false,
    }});
  } catch (error) {
    by('recording').textContent = `No microphone (${error.message}).`;
    return;
  }
  const context = new AudioContext();
  await context.audioWorklet.addModule('recorder.js');
  const node = new AudioWorkletNode(context, 'recorder');
  const blocks = [];
  let count = 0;
  const most = Math.min(about.limits.seconds, 300) * context.sampleRate;
  node.port.onmessage = ({data}) => {
    blocks.push(data);
    count += data.length;
    by('recording').textContent = time(count / context.sampleRate);
    if (count >= most && ending) ending();
  };
  // Some browsers run only what leads to the loudspeaker; it gives silence.
  context.createMediaStreamSource(stream).connect(node)
    .connect(context.destination);
  by('record').textContent = 'Stop';
  by('record').classList.add('on');
  ending = () => {
    ending = null;
    stream.getTracks().forEach((track) => track.stop());
    context.close();
    by('record').textContent = 'Record';
    by('record').classList.remove('on');
    by('recording').textContent = '';
    const name = `recording ${results.length + 1}.wav`;
    add([new File([wav(blocks, count, context.sampleRate)], name)]);
  };
}

function wav(blocks, count, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * count));
  const text = (at, letters) => [...letters].forEach((letter, i) =>
    view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, 'RIFF'); view.setUint32(4, 36 + 2 * count, true); text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true); view.setUint16(20, 1, true);
  view.setUint16(22, 1, true); view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true);
  view.setUint16(34, 16, true); text(36, 'data');
  view.setUint32(40, 2 * count, true);
  let at = 44;
  for (const block of blocks) {
    for (const value of block) {
      const clipped = Math.max(-1, Math.min(1, value));
      view.setInt16(at, Math.round(32767 * clipped), true);
      at += 2;
    }
  }
  return view.buffer;
}

// ----------------------------------------------------------------- words ---
function percent(share) {
  return share === null ? '' : `${(100 * share).toFixed(1)} %`;
}

function signed(number) {
  if (number === null) return '';
  return (number < 0 ? '\u2212' : '+') + Math.abs(number).toFixed(2);
}

function time(seconds) {
  if (seconds < 60) return `${Number(seconds.toFixed(1))} s`;
  const rest = Math.round(seconds % 60);
  return `${Math.floor(seconds / 60)} min${rest ? ` ${rest} s` : ''}`;
}

// ---------------------------------------------------------------- events ---
by('files').addEventListener('change', (event) => {
  add(event.target.files);
  event.target.value = '';
});
by('record').addEventListener('click', record);
by('everything').addEventListener('click', everything);
for (const kind of ['dragover', 'dragleave', 'drop']) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    by('drop').classList.toggle('over', kind === 'dragover');
    if (kind === 'drop' && about) add(event.dataTransfer.files);
  });
}
start().catch((error) => {
  by('status').textContent = `No answer from the service (${error.message}).`;
});
