// A stand-in for the kernel's side of the segment labeler: the protocol with synthetic sound, for tests in a browser.
// `makeModel(options)` gives {get, set, on, off, send, save_changes}; what it received is in `model.received`.

const SR = 16000;
const FFT = 512;
const hash = (n) => { const x = Math.sin(n * 127.1) * 43758.5453; return 2 * (x - Math.floor(x)) - 1; };

/** Barks (0.18 s, harmonic), a chirping bird, rain from 60 % on; deterministic at any sample. */
function sampleAt(seed, duration, index) {
  const t = index / SR;
  const beat = (t + seed * 0.37) % 2.6;
  let value = 0.006 * hash(index + seed);
  for (const start of [0.4, 0.78, 1.9]) {
    const d = beat - start;
    if (d > 0 && d < 0.24) {
      const envelope = Math.min(d / 0.012, 1) * Math.exp(-d * 13);
      const f = 520 + 380 * Math.exp(-d * 9) + seed * 15;
      for (let k = 1; k < 9; k++) value += (0.3 / k) * envelope * Math.sin(2 * Math.PI * f * k * d + k);
      value += 0.12 * envelope * hash(index * 3.7);
    }
  }
  const c = (t + seed) % 3.7 - 2.1;
  if (c > 0 && c < 0.7) value += 0.09 * Math.sin(Math.PI * c / 0.7) ** 2 * Math.sin(2 * Math.PI * (3600 * c + 95 * Math.sin(2 * Math.PI * 14 * c)));
  if (t > 0.6 * duration) value += 0.05 * Math.min((t - 0.6 * duration) * 2, 1) * (hash(index * 1.3) + hash(index * 2.9 + 7)) * (0.8 + 0.2 * Math.sin(t * 3));
  return Math.max(-1, Math.min(1, value));
}

const mel = (hz) => 2595 * Math.log10(1 + hz / 700);
const hzOf = (m) => 700 * (10 ** (m / 2595) - 1);
const EDGES = Array.from({ length: 98 }, (_, i) => hzOf(mel(30) + (i / 97) * (mel(SR / 2) - mel(30))));

function fft(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let half = size / 2, k = 0; k < half; k++) {
      const [c, s] = [Math.cos((-2 * Math.PI * k) / size), Math.sin((-2 * Math.PI * k) / size)];
      for (let i = k; i < n; i += size) {
        const j = i + half;
        const [a, b] = [re[j] * c - im[j] * s, re[j] * s + im[j] * c];
        [re[j], im[j], re[i], im[i]] = [re[i] - a, im[i] - b, re[i] + a, im[i] + b];
      }
    }
  }
}

function tileOf(item, zoom, index) {
  const hop = 0.01 * 4 ** zoom;
  const frames = Math.max(Math.min(512, Math.ceil(item.duration_s / hop) - index * 512), 1);
  const values = new Uint8Array(96 * frames);
  for (let f = 0; f < frames; f++) {
    const centre = Math.round((index * 512 + f + 0.5) * hop * SR);
    const [re, im] = [new Float64Array(FFT), new Float64Array(FFT)];
    for (let i = 0; i < FFT; i++) re[i] = sampleAt(item.seed, item.duration_s, centre + i - FFT / 2) * (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / FFT));
    fft(re, im);
    for (let band = 0; band < 96; band++) {
      const [low, high] = [EDGES[band] * FFT / SR, EDGES[band + 2] * FFT / SR];
      let power = 0;
      for (let k = Math.floor(low); k <= Math.min(Math.ceil(high), FFT / 2); k++) power = Math.max(power, (re[k] ** 2 + im[k] ** 2) / (FFT / 4) ** 2);
      values[(95 - band) * frames + f] = Math.max(0, Math.min(255, ((10 * Math.log10(power + 1e-12) + 90) / 80) * 255));
    }
  }
  return { frames, mels: 96, start_s: index * 512 * hop, end_s: (index * 512 + frames) * hop, values };
}

function peaksOf(item, { start_s, end_s, n }) {
  const values = new Int16Array(2 * n);
  const step = ((end_s - start_s) * SR) / n;
  for (let i = 0; i < n; i++) {
    let [low, high] = [1, -1];
    const [from, to] = [start_s * SR + i * step, start_s * SR + (i + 1) * step];
    for (let at = Math.floor(from); at < Math.max(to, from + 1); at += Math.max(1, Math.floor(step / 60))) {
      const value = sampleAt(item.seed, item.duration_s, at);
      [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
    [values[2 * i], values[2 * i + 1]] = [low * 32767, high * 32767];
  }
  return values;
}

/** Segments, claims, heard, notes and undo lists of a list of operations of one recording. */
function replay(operations) {
  const off = new Set();
  for (const op of [...operations].reverse()) if (op.kind === "undo" && !off.has(op.uuid)) off.add(op.payload.target);
  const state = { segments: new Map(), claims: {}, heard: [], notes: [] };
  for (const { uuid, kind, payload, seen_teacher } of operations) {
    if (off.has(uuid)) continue;
    if (kind === "segment") state.segments.set(payload.id, { note: null, ...payload, labeler: "anna", seen_teacher });
    if (kind === "delete") state.segments.delete(payload.id);
    if (kind === "claim") { state.claims[payload.class_name] = payload.verdict; if (payload.verdict === "open") delete state.claims[payload.class_name]; }
    if (kind === "heard") state.heard.push(...payload.ranges);
    if (kind === "note") state.notes.push(payload.text);
  }
  const can = ["segment", "delete", "claim", "note"];
  return {
    ...state, segments: [...state.segments.values()],
    undoable: operations.filter(({ uuid, kind }) => can.includes(kind) && !off.has(uuid)).map(({ uuid }) => uuid),
    redoable: operations.filter(({ uuid, kind, payload }) => kind === "undo" && !off.has(uuid) && !operations.some((op) => op.uuid === payload.target && op.kind === "undo")).map(({ uuid }) => uuid),
  };
}

export const defaultItems = () => [
  { recording: "a", title: "1-100032-A-0.wav", duration_s: 10, claim: "bark", seed: 0 },
  { recording: "b", title: "5-9032-A-0.wav", duration_s: 5, claim: "rain", seed: 1 },
  { recording: "c", title: "broken.flac", duration_s: 0, claim: "bird", seed: 2, problem: "broken.flac: cannot be decoded (unknown format); repair the file or leave it out." },
  { recording: "d", title: "night-2024-06-01.wav", duration_s: 3600, claim: null, seed: 3 },
  { recording: "e", title: "<img src=x onerror=alert(1)>.wav", duration_s: 8, claim: "bark", seed: 4 },
];
export const defaultClasses = () => [
  { name: "bark", colour: "#3b7dd8" }, { name: "rain", colour: "#2a9d8f" }, { name: "bird song", colour: "#d9822b" },
  { name: "car passing", colour: "#8a63c9" }, { name: "voice", colour: "#c9485b" },
];

export function makeModel({ items = defaultItems(), classes = defaultClasses(), settings = {}, traits = {}, delay = 2, teacher = null, kept = null } = {}) {
  const hearers = {};
  const operations = kept ?? [];
  let position = 0;
  const model = {
    received: [], sent: [], operations, down: false, refuse: null, full: false, delay,
    state: { classes, labeler: "anna", store_id: "s1", settings: { theme: "auto", speeds: [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2], height: 200, ...settings }, queue: { total: items.length, done: 0, position: 0, claims: { done: 0, total: items.length } }, ready: 0, ...traits },
    get: (name) => model.state[name],
    set: (name, value) => { model.state[name] = value; },
    save_changes() {},
    on: (name, f) => (hearers[name] ??= []).push(f),
    off: (name, f) => { hearers[name] = (hearers[name] ?? []).filter((other) => other !== f); },
    emit: (name, ...rest) => (hearers[name] ?? []).forEach((f) => f(...rest)),
    change(name, value) { model.state[name] = value; model.emit(`change:${name}`); },
    say(message, buffers = []) {
      model.sent.push(message);
      model.emit("msg:custom", message, buffers.map((array) => new DataView(array.buffer)));
    },
    send(message) {
      model.received.push(structuredClone(message));
      if (model.down) return;
      setTimeout(() => { if (!model.down) answer(message); }, model.delay);
    },
  };
  const find = (recording) => items.find((item) => item.recording === recording);
  const stateOf = (recording) => replay(operations.filter((op) => op.recording === recording));

  function teacherOf(item) {
    if (!teacher || item.problem) return [null, []];
    const open = !model.state.settings.blind || operations.some((op) => op.recording === item.recording && ["segment", "claim"].includes(op.kind));
    if (!open) return [null, []];
    const rows = Math.floor(item.duration_s / 0.25);
    const names = classes.slice(0, 3).map(({ name }) => name);
    const scores = new Float32Array(rows * 3);
    const times = new Float32Array(rows * 2);
    for (let row = 0; row < rows; row++) {
      const t = row * 0.25;
      [times[2 * row], times[2 * row + 1]] = [t, t + 0.25];
      const b = (t + item.seed * 0.37) % 2.6;
      scores[3 * row] = (b > 0.2 && b < 1) || (b > 1.75 && b < 2.1) ? 0.85 : 0.04;
      scores[3 * row + 1] = t > 0.6 * item.duration_s ? 0.7 : 0.05;
      scores[3 * row + 2] = (t + item.seed) % 3.7 > 2.1 && (t + item.seed) % 3.7 < 2.8 ? 0.6 : NaN;
    }
    return [{ classes: names, hop_s: 0.25, rows, columns: 3 }, [scores, times]];
  }
  function tellItem(at, id, prefetch = false) {
    const { seed, ...item } = items[at];
    const [scores, buffers] = teacherOf(items[at]);
    const bands = Array.from({ length: 96 }, (_, i) => EDGES[i + 1]);
    const number = id === undefined ? {} : { id };
    model.say({ type: "item", ...number, ...(prefetch ? { prefetch } : {}), position: at, sr: SR, problem: null, readable: !item.problem, mel_hz: bands, ...item, ...stateOf(item.recording), teacher: scores }, buffers);
  }
  function show(id) {
    tellItem(position, id);
    if (position + 1 < items.length) setTimeout(() => tellItem(position + 1, undefined, true), 1);
  }
  function take(op) {
    if (!find(op.recording)) return model.say({ type: "nack", uuid: op.uuid, retry: true, elsewhere: true, text: "not in this queue" });
    if (model.full) return model.say({ type: "nack", uuid: op.uuid, retry: true, text: "the disk is full" });
    if (model.refuse?.(op)) return model.say({ type: "nack", uuid: op.uuid, retry: false, text: model.refuse(op) });
    const first = !operations.some(({ recording, kind }) => recording === op.recording && ["segment", "claim"].includes(kind));
    if (!operations.some(({ uuid }) => uuid === op.uuid)) operations.push(op);
    const { undoable, redoable, ...state } = stateOf(op.recording);
    const done = items.filter(({ recording, claim }) => claim && stateOf(recording).claims[claim]).length;
    model.say({ type: "ack", uuid: op.uuid, seq: operations.length, undoable, redoable, progress: { done, total: items.length } });
    if (op.kind === "undo") model.say({ type: "state", recording: op.recording, undoable, redoable, ...state });
    const item = find(op.recording);
    if (first && teacher && model.state.settings.blind && ["segment", "claim"].includes(op.kind)) {
      const [scores, buffers] = teacherOf(item);
      model.say({ type: "teacher", recording: op.recording, ...scores }, buffers);
    }
    return undefined;
  }
  function rowsFor({ text, status }) {
    return items.map((item, at) => {
      const { claims, segments } = stateOf(item.recording);
      const found = item.problem ? "problem" : claims[item.claim] ?? "open";
      return { position: at, recording: item.recording, title: item.title, status: found, claim: item.claim, n_segments: segments.length, problem: item.problem ?? null };
    }).filter((row) => row.title.includes(text) && (!status || row.status === status));
  }
  const answers = {
    hello: ({ id }) => show(id),
    ping: ({ id }) => model.say({ type: "pong", id }),
    open({ id, position: to }) { position = to; show(id); },
    step({ id, by }) {
      if (!items[position + by]) return model.say({ type: "error", id, text: "no such recording" });
      position += by;
      return show(id);
    },
    filter({ id, text, status }) {
      const rows = rowsFor({ text, status });
      if (!rows.length) return model.say({ type: "error", id, text: "no recording matches this filter" });
      position = rows[0].position;
      return show(id);
    },
    list({ id, text, status, page }) {
      const rows = rowsFor({ text, status });
      model.say({ type: "list", id, rows: rows.slice(page * 50, page * 50 + 50), total: rows.length });
    },
    op: ({ op }) => take(op),
    peaks({ id, recording, ...range }) {
      model.say({ type: "peaks", id, recording, ...range, until_s: range.end_s }, [peaksOf(find(recording), range)]);
    },
    tile({ id, recording, zoom, index }) {
      const { values, ...tile } = tileOf(find(recording), zoom, index);
      model.say({ type: "tile", id, recording, zoom, index, ...tile }, [values]);
    },
    audio({ id, recording, start_s, end_s }) {
      const { seed, duration_s } = find(recording);
      const [first, last] = [Math.round(start_s * SR), Math.round(Math.min(end_s, duration_s) * SR)];
      const samples = Int16Array.from({ length: last - first }, (_, i) => sampleAt(seed, duration_s, first + i) * 32767);
      model.say({ type: "audio", id, recording, start_s: first / SR, end_s: last / SR, sr: SR }, [samples]);
    },
    snap({ id, at_s, edge }) { model.say({ type: "snap", id, to_s: Math.max(at_s + (edge === "start" ? -0.03 : 0.04), 0), evidence: "energy" }); },
  };
  function answer(message) {
    (answers[message.type] ?? (({ id, type }) => model.say({ type: "error", id, text: `unknown message ${type}` })))(message);
  }
  return model;
}
