// Cards: one row after the other, its sound, one key to say what it is; a list, filters, undo. Functions only.
// Python puts this text between sound.js and NAME.js (base.esm). NAME.js gives `renderCards` a deck, which says what is its own:
//   name, trait, label    of the widget, of the id its unsent operations go by, and for screen readers
//   look                  (or none) of the style sheet that it shares with other decks
//   key, said             what Python calls a row's id and what was said about it: row.id and row.said here
//   words, help, notes    {thing, span, done, undone, open, all, rest, none, mute}; the first keys of the help; what stands below
//   gutter, height        pixels left of the pictures; default height of the spectrogram
//   filters, passes(row, filter), options(rows)      {name: label}; {name: [first, values, words]}; one is called status
//   keys(app), refusal(row, said), fields(said), saidIn(op), undone(row)
//   take(app, message), acknowledged(app, message), kept(app)
//   title(app), head(app), above(app), card(app), item(app, row), mark(row, item), paintHead(app), paintCard(app, row)
//   silent(app, row), view(row, duration_s), heard(row, duration_s), layout(app, row), draw(app, row, info)

const AXIS_H = 20;
const SHADES = { light: { text: "#5f6979", head: "#c22f47", edge: "#2f6fde" }, dark: { text: "#97a1b2", head: "#ff7085", edge: "#6ea1ff" } };

// ---------------------------------------------------------------- moving
/** Rows that pass the filter, in their order. */
const passing = (app, filter = app.filter) => app.rows.filter((row) => app.deck.passes(row, filter));

/** The row to go to after `row`: the next open one, from the start again; null if there is none. */
function nextOpen(rows, row) {
  const at = rows.indexOf(row);
  return [...rows.slice(at + 1), ...rows.slice(0, Math.max(at, 0))].find(({ said }) => !said) ?? null;
}

function show(app, row) {
  if (!row) return;
  if (app.row !== row) app.clock.stop();
  [app.row, app.time, app.levels] = [row, row.start_s, null];
  app.say("");
  paintPage(app);
  listen(app, row);
}

/** Open the sound of a row and, once somebody has touched the page, play it. */
async function listen(app, row) {
  const visit = (app.visit = {});
  const info = await soundOf(app, row);
  if (app.closed || app.row !== row) return;
  app.refresh();
  if (info.readable && app.settings.autoplay !== false && app.touched && app.visit === visit) play(app);
  const next = nextOpen(passing(app), row);
  if (next && next !== row) warmUp(app, next);
}

/** What is known of the sound of a row by now: {readable, problem, duration_s, ...}. */
function infoOf(app, row) {
  const silent = row && app.deck.silent(app, row);
  return silent ? { readable: false, problem: silent } : app.infos.get(row?.recording);
}

/** The same, asked for if need be. */
function soundOf(app, row) {
  const known = infoOf(app, row);
  if (known) return Promise.resolve(known);
  if (!app.sounds.has(row.recording)) {
    const asked = app.client.ask("open", { recording: row.recording }).then(
      (info) => { app.infos.set(row.recording, info); return info; },
      (error) => { app.sounds.delete(row.recording); return { readable: false, problem: error.message }; },
    );
    app.sounds.set(row.recording, asked);
  }
  return app.sounds.get(row.recording);
}

async function warmUp(app, row) {
  const info = await soundOf(app, row);
  if (!info.readable || app.closed) return;
  const { start, end } = app.deck.heard(row, info.duration_s);
  if (end > start) app.media.sound(row.recording, start, Math.min(end, start + 30), info.duration_s).catch(() => {});
  tilesOf(app, row, info);
}

function play(app) {
  const { row, deck } = app;
  const info = infoOf(app, row);
  if (!info?.readable) return app.say(row ? `There is nothing to hear: ${info?.problem || "still loading"}.` : "", "warn");
  const { start, end } = deck.heard(row, info.duration_s);
  if (end <= start) return app.say(`The ${deck.words.span} lies behind the end of its recording.`, "warn");
  const load = { chunk: (index) => app.media.chunk(row.recording, index, info.duration_s), sound: (a, b) => app.media.sound(row.recording, a, b, info.duration_s) };
  return app.clock.play({ start, end, load }); // says nothing where all is well: it may begin by itself, after something was said
}

function toggle(app) {
  app.say("");
  if (app.clock.playing()) app.clock.stop();
  else play(app);
}

function played(app, time) {
  app.time = time;
  const playing = app.clock.playing();
  app.root.dataset.playing = String(playing);
  app.root.dataset.time = time.toFixed(3);
  setText(app.dom.play, playing ? "■" : "▶");
  drawHead(app);
}

function move(app, by) {
  const rows = passing(app);
  if (!rows.length) return;
  const at = rows.indexOf(app.row);
  const to = at < 0 ? rows.find((row) => row.at > app.row.at) ?? rows[0] : rows[at + by];
  if (to) show(app, to);
  else app.say(`This is the ${by > 0 ? "last" : "first"} ${app.deck.words.thing}.`);
}

// ---------------------------------------------------------------- what is said
function decide(app, said) {
  const { row, deck } = app;
  if (!row) return undefined;
  const reason = deck.refusal(row, said);
  if (reason) return app.say(reason, "warn");
  const uuid = newUuid();
  app.done.push({ uuid, [deck.key]: row.id, before: row.said });
  row.said = said;
  app.outbox.add({ uuid, kind: "judgement", [deck.key]: row.id, ...deck.fields(said), at_client: new Date().toISOString() });
  markRow(app, row);
  const next = nextOpen(passing(app, { ...app.filter, status: "" }), row);
  if (next) return show(app, next);
  app.visit = null; // what is still loading does not start to play
  app.clock.stop();
  paintPage(app);
  return app.say(app.rows.every((each) => each.said) ? deck.words.all : deck.words.rest);
}

function takeBack(app) {
  const { key, undone } = app.deck;
  const last = app.done.pop();
  if (!last) return app.say("There is nothing to undo.");
  const row = app.byId.get(last[key]);
  app.outbox.add({ uuid: newUuid(), kind: "undo", [key]: last[key], target: last.uuid, at_client: new Date().toISOString() });
  if (!row) return undefined;
  row.said = last.before;
  markRow(app, row);
  show(app, row);
  return app.say(undone(row));
}

/** The kernel's word on an operation, of this view or another one. */
function acknowledged(app, message) {
  const { key, said } = app.deck;
  const row = app.byId.get(message[key]);
  const pending = app.outbox.pending();
  if (row && !pending.some((op) => op[key] === row.id)) {
    row.said = message[said];
    markRow(app, row);
  }
  if (!pending.length) app.done = message.undoable;
  app.deck.acknowledged(app, message);
  paintPage(app);
}

/** All rows as the kernel knows them, with what it does not know yet on top. */
function receive(app, message) {
  const { key, said, saidIn, take } = app.deck;
  const held = app.row?.id;
  app.rows = message.rows.map((row, at) => ({ ...row, at, id: row[key] ?? at, said: row[said] }));
  app.byId = new Map(app.rows.map((row) => [row.id, row]));
  take(app, message);
  [app.done, app.ready] = [message.undoable, true];
  for (const op of app.outbox.pending()) {
    const row = app.byId.get(op[key]);
    if (!row) continue;
    if (op.kind === "judgement") {
      app.done.push({ uuid: op.uuid, [key]: row.id, before: row.said });
      row.said = saidIn(op);
    } else {
      const at = app.done.findIndex(({ uuid }) => uuid === op.target);
      if (at >= 0) row.said = app.done.splice(at, 1)[0].before;
    }
  }
  fillFilters(app);
  fillList(app);
  const first = app.byId.get(held) ?? app.rows.find((row) => !row.said) ?? app.rows[0];
  if (first) show(app, first);
  else paintPage(app);
}

// ---------------------------------------------------------------- the page
function buildPage(app) {
  const { dom, deck } = app;
  const done = deck.words.done;
  dom.title = make("strong", { class: "atk-title" }, deck.title(app));
  dom.progress = make("span", { class: "atk-progress", role: "progressbar", "aria-label": `${done[0].toUpperCase()}${done.slice(1)}`, "aria-valuemin": "0" }, make("i"));
  dom.progressText = make("span", { class: "atk-muted atk-num" });
  dom.savedText = make("span");
  dom.saved = make("span", { class: "atk-saved", role: "status" }, make("i"), dom.savedText);
  dom.retry = button(app, { label: "Try again", class: "atk-link", hidden: true, act: () => app.outbox.retryRefused() });
  dom.discard = button(app, { label: "Dismiss", class: "atk-link", hidden: true, act: () => askToDiscard(app, () => greet(app)) });
  dom.status = make("div", { class: "atk-status", role: "status", "aria-live": "polite" });
  dom.help = buildHelp(app);
  app.root.append(
    make("div", { class: "atk-head" }, dom.title, ...deck.head(app), make("span", { class: "atk-gap" }), dom.progressText, dom.progress, dom.saved, dom.retry, dom.discard,
      button(app, { label: "Keys and help", key: "?", face: ["?"], act: () => toggleHelp(app) })),
    ...deck.above(app), make("div", { class: "atk-body" }, buildCard(app), buildSide(app)), dom.status, dom.help,
  );
}

function buildCard(app) {
  const { dom, deck: { words } } = app;
  dom.canvas = make("canvas", { class: "atk-picture" });
  dom.overlay = make("canvas", { class: "atk-overlay" });
  dom.silent = make("div", { class: "atk-silent", hidden: true });
  dom.stage = make("div", { class: "atk-stage" }, dom.canvas, dom.overlay, dom.silent);
  dom.overlay.addEventListener("click", () => { app.focus(); toggle(app); });
  dom.play = button(app, { label: "Play again, or stop", key: "Space", class: "atk-play", face: ["▶"], act: () => toggle(app) });
  dom.before = button(app, { label: `Previous ${words.thing}`, key: "K", face: ["‹"], act: () => move(app, -1) });
  dom.after = button(app, { label: `Next ${words.thing}`, key: "J", face: ["›"], act: () => move(app, 1) });
  dom.undo = button(app, { label: "Undo", key: "Ctrl+Z", face: ["↶"], act: () => takeBack(app) });
  dom.card = make("div", { class: "atk-card" }, ...app.deck.card(app));
  return dom.card;
}

function buildSide(app) {
  const { dom, deck } = app;
  dom.selects = {};
  const select = ([name, label]) => (dom.selects[name] = make("select", { "aria-label": label, onchange: () => { app.filter[name] = dom.selects[name].value; filtered(app); } }));
  dom.list = make("ol", { class: "atk-list", role: "listbox", "aria-label": deck.words.list });
  dom.count = make("span", { class: "atk-muted atk-num" });
  return make("div", { class: "atk-side" }, make("div", { class: "atk-filters" }, ...Object.entries(deck.filters).map(select), dom.count), dom.list);
}

function buildHelp(app) {
  const { words, help, notes } = app.deck;
  const keys = [...help, ["Space", "play again, or stop"], ["J, →, ↓", `next ${words.thing}`], ["K, ←, ↑", `previous ${words.thing}`], ["O", words.open], ["Ctrl+Z", words.undo], ["?", "this help"]];
  const lines = keys.map(([names, what]) => make("p", {}, make("span", {}, ...names.split(", ").map(keycap)), what));
  return make("div", { class: "atk-help", role: "dialog", "aria-label": "Keys and help", hidden: true }, ...lines, ...notes.map((text) => make("p", { class: "atk-muted" }, text)),
    button(app, { label: "Close", key: "Esc", act: () => toggleHelp(app, false) }));
}
function toggleHelp(app, open = app.dom.help.hidden) {
  app.dom.help.hidden = !open;
}

function fillFilters(app) {
  const { dom: { selects }, filter } = app;
  for (const [name, [first, values, words = {}]] of Object.entries(app.deck.options(app.rows))) {
    selects[name].replaceChildren(make("option", { value: "" }, first), ...values.map((value) => make("option", { value }, words[value] ?? value)));
    selects[name].value = values.includes(filter[name]) ? filter[name] : "";
    filter[name] = selects[name].value;
  }
}

function filtered(app) {
  fillList(app);
  const rows = passing(app);
  if (rows.length && !rows.includes(app.row)) show(app, rows.find((row) => !row.said) ?? rows[0]);
  else paintPage(app);
  app.focus();
}

function fillList(app) {
  const { deck, dom } = app;
  const shown = passing(app);
  app.items = new Map();
  const items = shown.map((row) => {
    const { title, parts } = deck.item(app, row);
    const item = make("li", { role: "option", [`data-${deck.key}`]: row.id, title }, make("b", { class: "atk-mark" }), ...parts);
    item.addEventListener("pointerdown", (event) => event.preventDefault());
    item.addEventListener("click", () => { app.focus(); show(app, row); });
    app.items.set(row.id, item);
    return item;
  });
  dom.list.replaceChildren(...items);
  shown.forEach((row) => markRow(app, row));
  setText(dom.count, shown.length === app.rows.length ? "" : `${shown.length} of ${app.rows.length}`);
}

function markRow(app, row) {
  const item = app.items.get(row.id);
  if (!item) return;
  item.dataset[app.deck.said] = row.said;
  setText(item.firstChild, app.deck.mark(row, item));
}

function paintPage(app) {
  const { dom, root, row, rows, deck } = app;
  const done = rows.filter(({ said }) => said).length;
  setText(dom.title, deck.title(app));
  setText(dom.progressText, `${done} of ${rows.length} ${deck.words.done}`);
  dom.progress.firstChild.style.width = `${(100 * done) / Math.max(rows.length, 1)}%`;
  dom.progress.setAttribute("aria-valuemax", rows.length);
  dom.progress.setAttribute("aria-valuenow", done);
  Object.assign(root.dataset, { [deck.words.done]: done, at: row?.at ?? "", [deck.key]: row?.id ?? "", [deck.said]: row?.said ?? "", playing: app.clock.playing() });
  dom.undo.disabled = !app.done.length;
  deck.paintHead(app);
  dom.card.hidden = !row;
  if (!row) return app.say(app.ready ? deck.words.none : "");
  paintCard(app, row);
  for (const [id, item] of app.items) item.setAttribute("aria-selected", String(id === row.id));
  const item = app.items.get(row.id);
  if (item) {
    const [box, list] = [item.getBoundingClientRect(), dom.list.getBoundingClientRect()];
    if (box.top < list.top) dom.list.scrollTop -= list.top - box.top; // scrollIntoView would move the notebook, too
    else if (box.bottom > list.bottom) dom.list.scrollTop += box.bottom - list.bottom;
  }
  return app.refresh();
}

function paintCard(app, row) {
  const { dom, deck } = app;
  const info = infoOf(app, row);
  dom.silent.hidden = !info?.problem;
  setText(dom.silent, info?.problem ? (info.readable ? info.problem : `No sound: ${info.problem}${deck.words.mute}`) : "");
  dom.play.disabled = Boolean(info && !info.readable);
  deck.paintCard(app, row, info);
}

// ---------------------------------------------------------------- picture
function tilesOf(app, row, info, width = app.width) {
  const view = app.deck.view(row, info.duration_s);
  const zoom = clamp(Math.floor(Math.log((view.end - view.start) / Math.max(width, 100) / TILE_HOP_S) / Math.log(4)), 0, 6);
  const [first, last] = [Math.floor(view.start / tileSpan(zoom)), Math.ceil(view.end / tileSpan(zoom)) - 1];
  return Array.from({ length: Math.max(last - first + 1, 1) }, (_, step) => app.media.tile(row.recording, zoom, first + step));
}

const heightOf = (app) => app.settings.height || app.deck.height;

/** Where things are: view {start, end}, at (what deck.layout says: {mel, melHeight, axis, height, ...}), x(time). */
function placesOf(app, row, info) {
  const { gutter, view: viewOf, layout } = app.deck;
  const view = viewOf(row, info?.duration_s);
  return { view, at: layout(app, row), x: (time) => gutter + ((time - view.start) / (view.end - view.start)) * (app.width - gutter) };
}

function drawPicture(app) {
  const { dom, row, deck } = app;
  if (row) paintCard(app, row);
  const width = Math.floor(dom.stage.getBoundingClientRect().width);
  if (width >= 80) app.width = width; // else it is not laid out now (JupyterLab changes its theme): as wide as before
  if (!row || !app.width) return;
  const info = infoOf(app, row);
  app.font = getComputedStyle(app.root).fontFamily;
  app.root.dataset.ready = String(deck.draw(app, row, info));
  drawHead(app);
}

/** Draw between the gutter and the right edge only, down to `height`. */
function clipped(g, app, { top, height }, draw) {
  g.save();
  g.beginPath();
  g.rect(app.deck.gutter, top, app.width - app.deck.gutter, height);
  g.clip();
  draw();
  g.restore();
}

/** Tiles that are here, in the colours of the theme and of app.levels. */
function drawTiles(g, app, tiles, { at, x }) {
  const look = [app.theme, ...(app.levels ?? [0, 255])].join();
  if (app.look !== look) [app.look, app.ink] = [look, colourTable(app.theme, app.levels ?? [0, 255])];
  for (const tile of tiles) g.drawImage(paintTile(tile, look, app.ink), x(tile.start_s), at.mel, x(tile.end_s) - x(tile.start_s), at.melHeight);
}

/** What lies outside of the row is paler; its edges run down to the axis. */
function drawEdges(g, app, row, { view, at, x }, outside) {
  for (const [from, to] of [[view.start, row.start_s], [row.end_s, view.end]]) {
    if (to - from < 1e-6) continue;
    const [left, right] = [Math.max(x(from), app.deck.gutter), Math.min(x(to), app.width)];
    g.fillStyle = outside;
    g.fillRect(left, 0, right - left, at.mel + at.melHeight);
    g.fillStyle = SHADES[app.theme].edge;
    g.fillRect(x(from === view.start ? to : from) - 0.75, 0, 1.5, at.axis);
  }
}

function drawAxes(g, app, info, { view, at, x }) {
  const { gutter } = app.deck;
  g.font = `11px ${app.font}`;
  g.fillStyle = SHADES[app.theme].text;
  [g.textAlign, g.textBaseline] = ["right", "middle"];
  for (const hz of info?.mel_hz ? [250, 1000, 4000, 16000] : []) {
    const band = info.mel_hz.findIndex((centre) => centre >= hz);
    if (band > 0) g.fillText(hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`, gutter - 6, at.mel + at.melHeight * (1 - band / info.mel_hz.length));
  }
  const wish = (view.end - view.start) / Math.max((app.width - gutter) / 80, 1);
  const step = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600].find((each) => each >= wish) ?? 1800;
  [g.textAlign, g.textBaseline] = ["left", "top"];
  for (let tick = Math.ceil(view.start / step - 1e-9); tick * step <= view.end; tick++) {
    const left = x(tick * step);
    g.fillRect(Math.round(left), at.axis, 1, 4);
    if (left < app.width - 30) g.fillText(formatTime(tick * step, step < 1 ? (step < 0.1 ? 2 : 1) : 0), left + 3, at.axis + 5);
  }
}

function drawHead(app) {
  const { row, dom, deck: { gutter } } = app;
  if (!row || !app.width) return;
  const info = infoOf(app, row);
  const { at, x } = placesOf(app, row, info);
  const g = sharpContext(dom.overlay, app.width, at.height);
  g.clearRect(0, 0, app.width, at.height);
  if (!info?.readable) return;
  g.fillStyle = SHADES[app.theme].head;
  g.fillRect(clamp(x(app.time), gutter, app.width - 1.5), 0, 1.5, at.axis);
}

// ---------------------------------------------------------------- keys and life
function bindKeys(app) {
  const keys = {
    ...app.deck.keys, Space: toggle, "Ctrl+z": takeBack, "?": (own) => toggleHelp(own), o: (own) => show(own, nextOpen(passing(own), own.row)),
    ...Object.fromEntries(["j", "ArrowDown", "ArrowRight"].map((name) => [name, (own) => move(own, 1)])),
    ...Object.fromEntries(["k", "ArrowUp", "ArrowLeft"].map((name) => [name, (own) => move(own, -1)])),
  };
  app.root.addEventListener("keydown", (event) => {
    app.touched = true;
    const name = keyName(event);
    if (event.isComposing || !app.ready) return;
    if (name === "Escape") {
      toggleHelp(app, false);
      app.focus();
      return;
    }
    if (event.target.tagName === "SELECT" || (event.target.tagName === "BUTTON" && (name === "Space" || name === "Enter"))) return;
    const act = keys[name];
    if (!act) return;
    event.preventDefault();
    if (!app.dom.help.hidden && name !== "?") return;
    if (!event.repeat || /Arrow|^[jk]$/.test(name)) act(app);
  });
  app.root.addEventListener("pointerdown", () => { app.touched = true; });
}

function showSaved(app, { state, count, reason, refused }) {
  const [word, title] = app.deck.kept(app);
  app.root.dataset.saved = state;
  setText(app.dom.savedText, { saved: word, saving: "saving", unsaved: `not saved: ${reason}` }[state]);
  app.dom.saved.title = state === "unsaved" ? `${count} kept in this browser. ${reason}` : title;
  app.dom.retry.hidden = app.dom.discard.hidden = !refused;
}

/** Ask for the rows until the kernel answers: it may be busy or still starting. */
async function greet(app) {
  app.ready = false;
  for (let tries = 0; !app.closed && !app.ready; tries++) {
    app.say(tries ? "Waiting for the kernel …" : "");
    try {
      const answer = await app.client.ask("hello", {}, tries ? 10000 : 6000);
      if (!app.closed) receive(app, answer);
    } catch (error) {
      if (!error.late) return app.say(error.message, "error");
    }
  }
  return app.closed ? undefined : app.outbox.pump();
}

function createCards(model, el, deck) {
  const filter = Object.fromEntries(Object.keys(deck.filters).map((name) => [name, ""]));
  const app = {
    model, deck, filter, dom: {}, settings: model.get("settings") ?? {}, rows: [], byId: new Map(), items: new Map(), infos: new Map(), sounds: new Map(), done: [],
    row: null, ready: false, touched: false, theme: "light", time: 0, width: 0, levels: null,
  };
  app.root = make("div", { class: ["atk-widget", "atk-cards", `atk-${deck.name}`, ...(deck.look ? [`atk-${deck.look}`] : [])].join(" "), "data-testid": deck.name, role: "application", tabindex: "0", "aria-label": `${deck.label} Press question mark for the keys.` });
  app.client = createClient(model);
  app.focus = () => app.root.focus({ preventScroll: true });
  app.say = (text, kind = "info") => { setText(app.dom.status, text); app.dom.status.dataset.kind = kind; };
  app.refresh = () => { app.frame ??= requestAnimationFrame(() => { app.frame = null; if (app.root.isConnected) drawPicture(app); }); };
  const fault = (error) => app.say(error.message || String(error), "error");
  app.media = createMedia(app.client, { onLoad: (recording) => recording === app.row?.recording && app.refresh(), onError: (error, recording) => recording === app.row?.recording && fault(error) });
  app.clock = createClock({ onTick: (time) => played(app, time), onHeard: () => {}, onEnd: (_, time) => played(app, time), onError: fault });
  buildPage(app);
  app.outbox = createOutbox({
    client: app.client, prefix: `audiotk:${deck.name}:${model.get(deck.trait) ?? ""}:${model.get("labeler") ?? ""}:`,
    onStatus: (status) => showSaved(app, status), onAck: (message) => acknowledged(app, message),
    onRefused: (_, text) => greet(app).then(() => app.say(`Not saved: ${text}`, "error")),
  });
  app.client.on("error", (message) => app.say(message.text, "error"));
  el.append(app.root);
  return app;
}

/** Show a deck; returns the end of it, as anywidget wants it. */
function renderCards({ model, el }, deck) {
  const app = createCards(model, el, deck);
  bindKeys(app);
  const end = beginView(app);
  const decoded = () => { app.media.forgetHalf(); app.refresh(); };
  model.on("change:ready", decoded); // a long recording was read to its end
  greet(app);
  return () => {
    model.off("change:ready", decoded);
    end();
  };
}
