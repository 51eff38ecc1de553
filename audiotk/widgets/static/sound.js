// What every audiotk widget shares: messages, sound, pictures of sound, unsent operations, keys, theme.
// Python puts it before NAME.js (base.esm), so nothing is imported or exported here.

// ---------------------------------------------------------------- small things
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Make an element. Text goes in as text nodes, so names from data are shown and never executed. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Random UUID (version 4); crypto.randomUUID is missing on plain-http servers. */
function newUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** Seconds as m:ss.fff (h:mm:ss.fff from an hour on), rounded, never "60". */
function formatTime(seconds, digits = 3) {
  const unit = 10 ** digits;
  const total = Math.round(Math.abs(seconds) * unit);
  const whole = Math.floor(total / unit);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const head = hours ? `${hours}:${String(minutes).padStart(2, "0")}` : String(minutes);
  const tail = digits ? "." + String(total % unit).padStart(digits, "0") : "";
  return `${seconds < 0 && total ? "−" : ""}${head}:${String(rest).padStart(2, "0")}${tail}`;
}

/** Union of [start, end] ranges, sorted, touching ones joined. */
function mergeRanges(ranges, gap = 1e-6) {
  const merged = [];
  for (const [start, end] of ranges.filter(([a, b]) => b > a).sort((a, b) => a[0] - b[0])) {
    const last = merged[merged.length - 1];
    if (last && start <= last[1] + gap) last[1] = Math.max(last[1], end);
    else merged.push([start, end]);
  }
  return merged;
}

const coveredSeconds = (ranges) => mergeRanges(ranges).reduce((sum, [start, end]) => sum + end - start, 0);

/** A button that leaves the keyboard with the widget when it is clicked. */
function button(app, { label, key, face = [label], act, ...rest }) {
  const node = make("button", { type: "button", title: key ? `${label}  (${key})` : label, "aria-label": label, ...rest }, ...face);
  node.addEventListener("pointerdown", (event) => event.preventDefault());
  node.addEventListener("click", () => {
    if (document.activeElement !== node) app.focus();
    act();
  });
  return node;
}
const keycap = (text) => make("kbd", {}, text);
const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

// ---------------------------------------------------------------- messages
/** Requests with ids and timeouts over the widget's channel; `on(type, f)` hears what comes unasked. */
function createClient(model) {
  const waiting = new Map();
  const hearers = new Map();
  let lastId = Math.floor(Math.random() * 1e9) * 1000; // two views of one model never share an id

  function receive(message, buffers) {
    if (typeof message.id === "number") {
      const asked = waiting.get(message.id);
      if (!asked) return; // another view's answer, or too late
      waiting.delete(message.id);
      clearTimeout(asked.timer);
      if (message.type === "error") asked.reject(new Error(message.text));
      else asked.resolve({ ...message, buffers: buffers || [] });
      return;
    }
    for (const hear of hearers.get(message.type) || []) hear({ ...message, buffers: buffers || [] });
  }
  model.on("msg:custom", receive);

  return {
    ask(type, fields = {}, limit = 20000) {
      const id = ++lastId;
      return new Promise((resolve, reject) => {
        const late = () => {
          waiting.delete(id);
          reject(Object.assign(new Error(`The kernel has not answered "${type}" for ${limit / 1000} s.`), { late: true }));
        };
        waiting.set(id, { resolve, reject, timer: setTimeout(late, limit) });
        try {
          model.send({ type, id, ...fields });
        } catch (error) {
          clearTimeout(waiting.get(id).timer);
          waiting.delete(id);
          reject(error);
        }
      });
    },
    tell: (message) => model.send(message),
    on(type, hear) {
      hearers.set(type, [...(hearers.get(type) || []), hear]);
    },
    close() {
      model.off("msg:custom", receive);
      for (const { timer } of waiting.values()) clearTimeout(timer);
      waiting.clear();
    },
  };
}

/** The bytes of a buffer that came with a message (DataView, typed array or ArrayBuffer), copied: aligned for any type. */
function bytesOf(buffer) {
  const bytes = ArrayBuffer.isView(buffer)
    ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
    : new Uint8Array(buffer);
  return bytes.slice();
}

// ---------------------------------------------------------------- unsent operations
/** localStorage if the browser lets it be written, and memory behind it for when it is full. */
function storages() {
  try {
    localStorage["audiotk:probe"] = "1";
    delete localStorage["audiotk:probe"];
    return [localStorage, {}];
  } catch {
    return [{}];
  }
}

/**
 * Operations on their way to the store. Each is kept under a key of its own until the store acknowledged it, so a
 * reload, a dead kernel or a second tab loses nothing; they are sent one after the other, in order. The status speaks
 * of those made here or found at the start, less those of recordings that only another notebook's kernel knows.
 * `onStatus({state: "saved" | "saving" | "unsaved", count, reason, refused: count})`, `onAck(message, op)`, `onRefused(op, text)`.
 */
function createOutbox({ client, prefix, onStatus, onAck, onRefused, patience = 4000, pauses = [1000, 2000, 4000, 8000] }) {
  const stores = storages();
  const [refused, elsewhere] = [new Map(), new Set()]; // of uuids: why, and what stays for another notebook
  let [flying, timer, tries, count, reason, closed] = [null, null, 0, 0, "", false];
  let shown = "";

  function entries() {
    const found = [];
    for (const store of stores) {
      for (const key of Object.keys(store)) if (key.startsWith(prefix)) found.push({ key, store, op: JSON.parse(store[key]).op });
    }
    return found.filter(({ op }) => !elsewhere.has(op.uuid)).sort((a, b) => (a.key < b.key ? -1 : 1));
  }
  const mine = new Set(entries().map(({ op }) => op.uuid));
  const own = (is) => entries().filter(({ op: { uuid } }) => mine.has(uuid) && refused.has(uuid) === is).map(({ op }) => op);
  function report() {
    const [open, bad] = [own(false), own(true)];
    const all = open.length + bad.length;
    const state = !all ? "saved" : reason || bad.length ? "unsaved" : "saving";
    const status = { state, count: all, reason: bad.length ? refused.get(bad[0].uuid) : reason, refused: bad.length };
    const text = JSON.stringify(status);
    if (text !== shown) onStatus(status);
    shown = text;
  }
  function wait(milliseconds, next) {
    clearTimeout(timer);
    timer = setTimeout(next, milliseconds);
  }
  function pump() {
    if (closed || flying) return;
    const open = entries().filter(({ op }) => !refused.has(op.uuid));
    const next = open.find(({ op }) => mine.has(op.uuid)) ?? open[0];
    if (!next) reason = "";
    else {
      flying = next.op.uuid;
      wait(patience, () => fail("the kernel does not answer; kept in this browser"));
      try {
        client.tell({ type: "op", op: next.op });
      } catch (error) {
        fail(`no connection to the kernel (${error.message}); kept in this browser`);
      }
    }
    report();
  }
  function fail(text) {
    [flying, reason] = [null, text];
    wait(pauses[Math.min(tries++, pauses.length - 1)], pump);
    report();
  }
  function settle(uuid) {
    if (flying !== uuid) return report();
    clearTimeout(timer);
    flying = null;
    pump();
    return undefined;
  }
  client.on("ack", (message) => {
    const entry = entries().find(({ op }) => op.uuid === message.uuid);
    if (entry) delete entry.store[entry.key];
    [reason, tries] = ["", 0];
    settle(message.uuid);
    onAck(message, entry?.op);
  });
  client.on("nack", ({ uuid, text, ...message }) => {
    const entry = entries().find(({ op }) => op.uuid === uuid);
    if (!entry) return undefined;
    if (message.elsewhere) elsewhere.add(uuid);
    else if (message.retry) return fail(text);
    else refused.set(uuid, text);
    settle(uuid);
    return message.elsewhere || onRefused(entry.op, text);
  });
  addEventListener("storage", report); // another tab sent something

  return {
    add(op) {
      mine.add(op.uuid);
      const key = `${prefix}${String(Date.now()).padStart(15, "0")}-${String(count++).padStart(6, "0")}-${op.uuid}`;
      try {
        stores[0][key] = JSON.stringify({ op });
      } catch { // full
        stores[stores.length - 1][key] = JSON.stringify({ op });
      }
      pump();
    },
    pump,
    pending: () => own(false),
    refused: () => own(true),
    discard(ops) {
      for (const { key, store, op } of entries()) if (ops.some(({ uuid }) => uuid === op.uuid)) delete store[key];
      report();
    },
    retryRefused() {
      refused.clear();
      pump();
    },
    close() {
      closed = true;
      removeEventListener("storage", report);
      clearTimeout(timer);
    },
  };
}

/** Ask, in the widget, before refused operations are thrown away: by name. */
function askToDiscard(app, done = () => {}) {
  const ops = app.outbox.refused();
  const names = ops.map(({ kind, recording, payload: { class_name, verdict, text, start_s, end_s } = {}, ...op }) => [
    kind, class_name, verdict, text, end_s && `${start_s.toFixed(2)} – ${end_s.toFixed(2)} s`, "of", recording ?? op[app.deck?.key],
  ].filter(Boolean).join(" "));
  const leave = (act) => () => { bar.remove(); app.focus(); act(); };
  const drop = leave(() => { app.outbox.discard(ops); done(); });
  const bar = make("div", { class: "atk-head atk-ask", role: "alertdialog", "aria-label": "Dismiss" },
    make("span", {}, `Throw away for good: ${names.slice(0, 5).join("; ")}${names[5] ? `; ${names.length - 5} more` : ""}?`),
    button(app, { label: "Throw away", class: "atk-link", act: drop }), button(app, { label: "Keep", class: "atk-link", act: leave(() => {}) }));
  app.root.querySelector(".atk-ask")?.remove();
  app.dom.discard.parentElement.after(bar);
  bar.lastChild.focus();
}

// ---------------------------------------------------------------- media
const CHUNK_S = 10; // sound travels in chunks [10 k, 10 (k + 1)) s
const TILE_FRAMES = 512;
const TILE_HOP_S = 0.01; // of zoom 0; each zoom step is four times coarser
const tileSpan = (zoom) => TILE_FRAMES * TILE_HOP_S * 4 ** zoom;

/** A map that forgets what was used longest ago once the sizes of its values pass `limit`. */
function createCache(limit, size) {
  const held = new Map();
  let total = 0;
  return {
    get(key) {
      const value = held.get(key);
      if (value !== undefined) {
        held.delete(key);
        held.set(key, value);
      }
      return value;
    },
    set(key, value) {
      if (held.has(key)) total -= size(held.get(key));
      held.delete(key);
      held.set(key, value);
      total += size(value);
      for (const [old, gone] of held) {
        if (total <= limit || old === key) break;
        held.delete(old);
        total -= size(gone);
      }
    },
    drop(unwanted) {
      for (const [key, gone] of held) {
        if (!unwanted(gone)) continue;
        held.delete(key);
        total -= size(gone);
      }
    },
    values: () => held.values(),
    bytes: () => total,
  };
}

/** Peaks, mel tiles and sound of recordings, asked once and cached; `onLoad(recording)` when a picture came. */
function createMedia(client, { onLoad, onError }) {
  const tiles = createCache(12e6, (tile) => tile.values.length);
  const peaks = createCache(2e6, (part) => part.values.length * 2);
  const chunks = createCache(40e6, (chunk) => chunk.samples.length * 4);
  const asked = new Map(); // key -> promise of an answer under way
  const failed = new Map(); // key -> when; not asked again at once

  function once(cache, key, type, fields, unpack) {
    const held = cache.get(key);
    if (held) return Promise.resolve(held);
    if (!asked.has(key)) {
      const answer = client.ask(type, fields, 120000).then((message) => {
        const value = unpack(message, bytesOf(message.buffers[0]));
        cache.set(key, value);
        return value;
      });
      asked.set(key, answer.finally(() => asked.delete(key)));
    }
    return asked.get(key);
  }
  function picture(cache, key, type, fields, unpack) {
    const held = cache.get(key);
    if (!held && !asked.has(key) && !(performance.now() - failed.get(key) < 5000)) {
      once(cache, key, type, fields, unpack).then(() => onLoad(fields.recording), (error) => {
        failed.set(key, performance.now());
        onError(error, fields.recording);
      });
    }
    return held;
  }

  return {
    /** The tile if it is here; otherwise it is asked for. */
    tile(recording, zoom, index) {
      const unpack = (message, values) => ({ ...message, values, painted: null });
      return picture(tiles, `${recording}\n${zoom}\n${index}`, "tile", { recording, zoom, index }, unpack);
    },
    /** Tiles of the recording that are here, coarsest first. */
    tilesAt: (recording) => [...tiles.values()].filter((tile) => tile.recording === recording).sort((a, b) => b.zoom - a.zoom),
    /** Minimum and maximum of n columns, int16 pairs, if they are here; otherwise they are asked for. */
    peaks(recording, start_s, end_s, n) {
      const unpack = (message, bytes) => ({ ...message, values: new Int16Array(bytes.buffer) });
      const fields = { recording, start_s, end_s, n };
      return picture(peaks, `${recording}\n${start_s}\n${end_s}\n${n}`, "peaks", fields, unpack);
    },
    peaksAt: (recording) => [...peaks.values()].filter((part) => part.recording === recording),
    /** Promise of {sr, start_s, samples} of chunk k; `duration_s` ends the last one. */
    chunk(recording, index, duration_s) {
      const start_s = index * CHUNK_S;
      const fields = { recording, start_s, end_s: Math.min(start_s + CHUNK_S, duration_s) };
      return once(chunks, `${recording}\n${index}`, "audio", fields, (message, bytes) => {
        const samples = Float32Array.from(new Int16Array(bytes.buffer), (value) => value / 32768);
        return { sr: message.sr, start_s: message.start_s, samples };
      });
    },
    /** Promise of {sr, start_s, samples} of a range of at most a few chunks, cut to the sample. */
    async sound(recording, start_s, end_s, duration_s) {
      const [first, last] = [Math.floor(start_s / CHUNK_S), Math.max(Math.ceil(end_s / CHUNK_S) - 1, 0)];
      const parts = await Promise.all(
        Array.from({ length: last - first + 1 }, (_, step) => this.chunk(recording, first + step, duration_s)),
      );
      const sr = parts[0].sr;
      const [from, to] = [Math.round(start_s * sr), Math.round(end_s * sr)];
      const samples = new Float32Array(Math.max(to - from, 1));
      for (const part of parts) {
        const at = Math.round(part.start_s * sr) - from;
        const cut = part.samples.subarray(Math.max(-at, 0), Math.max(samples.length - at, 0));
        samples.set(cut, Math.max(at, 0));
      }
      return { sr, start_s: from / sr, samples };
    },
    /** Forget peaks that were sent before their part of the recording was read. */
    forgetHalf() {
      peaks.drop((part) => part.until_s < part.end_s - 1e-6);
    },
  };
}

// ---------------------------------------------------------------- sound
const WHOLE_S = 30; // a range up to this long plays from one buffer and loops to the sample
const AHEAD_S = 4; // longer ones are scheduled so far ahead, chunk after chunk

/**
 * One clock for eye and ear. Times are seconds of the recording; `load(kind, ...)` gives samples; `onTick(time)` about 25
 * times a second, `onHeard([[start, end], ...])` with what came out of the speaker, `onEnd(reason)` when it stops.
 */
function createClock({ onTick, onHeard, onEnd, onError }) {
  let [context, output, run, timer, turn, awaited] = [null, null, null, null, 0, null];
  let [rate, gain] = [1, 1];

  function open() {
    if (!context) {
      context = new AudioContext({ latencyHint: "interactive" });
      output = context.createGain();
      output.gain.value = gain;
      output.connect(context.destination);
    }
    const late = (resolve, reject) => setTimeout(reject, 3000, new Error("The browser blocks sound: click into the widget and play again."));
    return Promise.race([context.resume(), new Promise(late)]);
  }
  const latency = () => clamp(context.outputLatency || context.baseLatency || 0, 0, 0.3);

  function emit(sound, when, from, length, loop) {
    const source = context.createBufferSource();
    source.buffer = context.createBuffer(1, sound.samples.length, sound.sr);
    source.buffer.copyToChannel(sound.samples, 0);
    source.playbackRate.value = rate;
    source.connect(run.fader);
    const first = from - sound.start_s;
    if (loop) {
      [source.loop, source.loopStart, source.loopEnd] = [true, 0, sound.samples.length / sound.sr];
      source.start(when, first);
    } else {
      source.start(when, first, length);
    }
    run.pieces.push({ source, when, at: from, length, rate });
  }
  /** Time of the recording that is leaving the speaker now. */
  function position() {
    if (!run || !run.pieces.length) return (run ?? awaited)?.from ?? 0;
    const now = context.currentTime - latency();
    const piece = run.pieces.findLast(({ when }) => when <= now);
    if (!piece) return run.from;
    const gone = (now - piece.when) * rate;
    if (!run.native) return piece.at + Math.min(gone, piece.length);
    return run.start + ((piece.at - run.start + gone) % (run.end - run.start));
  }
  /** Note what was played since the last look. */
  function listen() {
    if (!run || !run.pieces.length || context.state !== "running") return;
    const [time, now] = [position(), context.currentTime - latency()];
    const moved = (now - Math.max(run.looked ?? run.pieces[0].when, run.pieces[0].when)) * rate;
    run.looked = now;
    if (moved <= 0) return;
    if (run.loop && moved >= run.end - run.start) onHeard([[run.start, run.end]]);
    else if (time >= run.last) onHeard([[run.last, time]]);
    else if (run.loop) onHeard([[run.last, run.end], [run.start, time]]);
    run.last = time;
  }
  async function feed(load) {
    const mine = run;
    const room = () => mine.when - context.currentTime < AHEAD_S;
    while (run === mine && room() && (mine.next < mine.end - 1e-9 || mine.loop)) {
      if (mine.next >= mine.end - 1e-9) mine.next = mine.start;
      const index = Math.floor(mine.next / CHUNK_S + 1e-9);
      const sound = await load.chunk(index);
      if (run !== mine) return;
      const length = Math.min((index + 1) * CHUNK_S, mine.end) - mine.next;
      mine.when = Math.max(mine.when, context.currentTime + 0.02);
      emit(sound, mine.when, mine.next, length, false);
      mine.when += length / rate;
      mine.next += length;
      mine.pieces = mine.pieces.filter((piece) => piece.when + piece.length / rate > context.currentTime - 1);
    }
  }
  function tick(load) {
    listen();
    onTick(position());
    const last = run.pieces[run.pieces.length - 1];
    const over = last && context.currentTime - latency() >= last.when + last.length / rate;
    if (!run.loop && over && (run.native !== null || run.next >= run.end - 1e-9)) return stop("end");
    if (run.native === null && !run.feeding) {
      run.feeding = true;
      const mine = run;
      feed(load).catch((error) => run === mine && (stop("error"), onError(error))).finally(() => { mine.feeding = false; });
    }
    return undefined;
  }

  function stop(reason = "stopped") {
    turn++;
    clearInterval(timer);
    const waited = awaited;
    awaited = null;
    if (!run && waited) onEnd(reason, waited.from);
    if (!run) return;
    listen();
    const time = reason === "end" ? run.end : position();
    const { pieces, fader } = run;
    run = null;
    fader.gain.setTargetAtTime(0, context.currentTime, 0.002); // no click
    for (const { source } of pieces) source.stop(context.currentTime + 0.012);
    onEnd(reason, time);
  }

  return {
    /**
     * Play [start, end] from `from`, again and again if `loop`. `load` = {chunk(k), sound(start, end)}, both promises.
     * A second call replaces the first, even while that one waits for its samples.
     */
    async play({ start, end, from = start, loop = false, load }) {
      stop("replaced");
      const mine = turn;
      awaited = { from };
      try {
        await open();
        const whole = end - start <= WHOLE_S && (loop || end - from <= WHOLE_S);
        const sound = whole ? await load.sound(loop ? start : from, end) : null;
        if (turn !== mine) return;
        awaited = null;
        const fader = context.createGain();
        fader.connect(output);
        const when = context.currentTime + 0.01;
        run = { start, end, from, loop, fader, native: whole ? loop : null, pieces: [], next: from, when, last: from };
        if (whole && loop) [run.start, run.end] = [sound.start_s, sound.start_s + sound.samples.length / sound.sr];
        if (whole) emit(sound, when, Math.max(from, sound.start_s), end - from, loop);
        if (whole && loop) run.pieces[0].length = Infinity;
        timer = setInterval(() => tick(load), 40);
        tick(load);
      } catch (error) {
        if (turn === mine) stop("error");
        onError(error);
      }
    },
    stop,
    position,
    playing: () => run !== null || awaited !== null,
    looping: () => (run !== null && run.loop ? [run.start, run.end] : null),
    rate: () => rate,
    setRate: (value) => { rate = value; },
    setGain(value) {
      gain = value;
      if (output) output.gain.setTargetAtTime(value, context.currentTime, 0.01);
    },
    close() {
      stop("closed");
      if (context) context.close();
    },
  };
}

// ---------------------------------------------------------------- keys and theme
/** Name of a key press: "Space", "Shift+ArrowLeft", "Ctrl+z" (Ctrl stands for Command too), "?", "5". */
function keyName(event) {
  const foreign = event.key > "\x7f" && /^Key[A-Z]$/.test(event.code); // Greek, Cyrillic, ...: by the place of the key
  const key = foreign ? event.code[3] : event.key;
  const plain = key === " " ? "Space" : key.length === 1 ? key.toLowerCase() : key;
  const printed = plain.length === 1 && plain.toLowerCase() === plain.toUpperCase(); // ? < + carry their Shift
  const parts = [];
  const third = event.getModifierState("AltGraph"); // some keyboards write [ with Ctrl and Alt down
  if ((event.ctrlKey && !third) || event.metaKey) parts.push("Ctrl");
  if (event.altKey && !third) parts.push("Alt");
  if (event.shiftKey && !printed) parts.push("Shift");
  return [...parts, plain].join("+");
}

/** Keep keys, the clipboard and the wheel's meaning inside the widget: the notebook around it must not act on them. */
function shieldKeys(root) {
  root.dataset.lmSuppressShortcuts = "true"; // Lumino listens while the event goes down and looks for this
  const keep = (event) => event.stopPropagation();
  const kinds = ["keydown", "keyup", "keypress", "beforeinput", "input", "paste", "copy", "cut", "dblclick", "contextmenu"];
  kinds.forEach((kind) => root.addEventListener(kind, keep));
  return () => kinds.forEach((kind) => root.removeEventListener(kind, keep));
}

/** "light" or "dark": the caller's wish, else JupyterLab's theme, else the ground the page has, else the system's. */
function themeOf(root, wish) {
  if (wish === "light" || wish === "dark") return wish;
  const told = document.body.dataset.jpThemeLight;
  if (told) return told === "true" ? "light" : "dark";
  for (let node = root.parentElement; node; node = node.parentElement) {
    const parts = getComputedStyle(node).backgroundColor.match(/[\d.]+/g)?.map(Number) || [0, 0, 0, 0];
    if (parts.length === 3 || parts[3] > 0.5) return luminance(parts) > 0.4 ? "light" : "dark";
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** Keep root's data-theme true; `onChange(theme)` now and after every change. Returns the end of it. */
function watchTheme(root, wish, onChange) {
  let theme = null;
  const look = () => {
    const found = themeOf(root, wish());
    if (found === theme) return;
    theme = found;
    root.dataset.theme = theme;
    onChange(theme);
  };
  const observer = new MutationObserver(look);
  const names = ["data-jp-theme-light", "data-jp-theme-name", "class", "style", "theme"];
  for (const node of [document.body, document.documentElement]) observer.observe(node, { attributes: true, attributeFilter: names });
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", look);
  look();
  return { look, close: () => { observer.disconnect(); system.removeEventListener("change", look); } };
}

/** Shield keys, follow theme and size; returns the end of the view. */
function beginView(app, onTheme = () => {}) {
  const unshield = shieldKeys(app.root);
  app.themes = watchTheme(app.root, () => app.settings.theme, (theme) => { app.theme = theme; onTheme(theme); app.refresh(); });
  const resized = new ResizeObserver(() => { app.themes.look(); app.refresh(); });
  resized.observe(app.root);
  return () => {
    app.closed = true;
    resized.disconnect();
    app.themes.close();
    unshield();
    app.outbox.close();
    app.clock.close();
    app.client.close();
    cancelAnimationFrame(app.frame);
    app.root.remove();
  };
}

// ---------------------------------------------------------------- colour
/** Relative luminance of [r, g, b] in 0..255 (WCAG 2). */
function luminance([r, g, b]) {
  const [x, y, z] = [r, g, b].map((value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}

/** [r, g, b] of "#abc" or "#aabbcc". */
function hexColour(text) {
  const full = /^#[0-9a-f]{3}$/i.test(text) ? text.replace(/[0-9a-f]/gi, "$&$&") : text;
  return /^#[0-9a-f]{6}$/i.test(full) ? [1, 3, 5].map((at) => parseInt(full.slice(at, at + 2), 16)) : [128, 128, 128];
}
const inkOn = (colour) => (luminance(hexColour(colour)) > 0.3 ? "#16181d" : "#ffffff");

// Sound is ink: pale paper to deep violet by day, night blue to warm white by night. Even steps of lightness.
const INKS = {
  light: ["#fbfcfe", "#e3ebf6", "#b9cde9", "#86a6db", "#5d79c9", "#4a4dac", "#3f2a82", "#2a1150", "#14062a"],
  dark: ["#0c0f16", "#141a33", "#2a2058", "#552073", "#8a2a78", "#c13f6a", "#ea6a50", "#fba75a", "#fdf3c4"],
};

/** 256 colours as little-endian RGBA words: values from `low` to `high` take the whole scale, after `lift` is added. */
function colourTable(theme, [low, high] = [0, 255], lift = 0) {
  const inks = INKS[theme].map(hexColour);
  return Uint32Array.from({ length: 256 }, (_, value) => {
    const place = clamp((value + lift - low) / (high - low), 0, 1) * (inks.length - 1);
    const first = Math.min(Math.floor(place), inks.length - 2);
    const [r, g, b] = inks[first].map((start, channel) => Math.round(start + (place - first) * (inks[first + 1][channel] - start)));
    return (255 << 24) | (b << 16) | (g << 8) | r;
  });
}

/** Values to be the palest and the strongest ink: quiet and loud parts of these tiles, at least half the scale apart. */
function levelsOf(tiles) {
  const counts = new Uint32Array(256);
  for (const { values } of tiles) for (const value of values) counts[value]++;
  const total = tiles.reduce((sum, { values }) => sum + values.length, 0);
  const at = (part) => {
    let [value, seen] = [0, counts[0]];
    while (seen < part * total && value < 255) seen += counts[++value];
    return value;
  };
  const high = Math.max(at(0.999), 64);
  return [Math.min(at(0.2), high - 110), high];
}

/** A tile as a canvas of frames x mels pixels, painted once for each `look` (what the colours hang on). */
function paintTile(tile, look, table) {
  if (tile.painted?.look === look) return tile.painted.canvas;
  const canvas = tile.painted?.canvas || document.createElement("canvas");
  [canvas.width, canvas.height] = [tile.frames, tile.mels];
  const image = new ImageData(tile.frames, tile.mels);
  const words = new Uint32Array(image.data.buffer);
  for (let index = 0; index < words.length; index++) words[index] = table[tile.values[index]];
  canvas.getContext("2d").putImageData(image, 0, 0);
  tile.painted = { look, canvas };
  return canvas;
}

/** Make a canvas as sharp as the screen; returns its context in CSS pixels. */
function sharpContext(canvas, width, height) {
  const ratio = devicePixelRatio;
  const [w, h] = [Math.max(Math.round(width * ratio), 1), Math.max(Math.round(height * ratio), 1)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}
