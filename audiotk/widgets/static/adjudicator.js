// Adjudication: the marks of several labelers below each other, one case after the other, one key a decision.

const SHADES = {
  light: { outside: "rgba(251, 252, 254, .66)", text: "#5f6979", line: "#dfe3ea", head: "#c22f47", edge: "#2f6fde", wave: "#8a97a8", lane: "#f5f6f9", ground: "#ffffff", merged: "#20242c" },
  dark: { outside: "rgba(12, 15, 22, .66)", text: "#97a1b2", line: "#2b313c", head: "#ff7085", edge: "#6ea1ff", wave: "#7d8aa0", lane: "#1d222b", ground: "#14171d", merged: "#f2f4f8" },
};
const [WAVE_H, LANE_H, AXIS_H, GAP, GUTTER_W] = [54, 34, 20, 6, 78];
const KINDS = { missed: "missed by somebody", boundary: "other edges", class: "other class" };
const FACES = { both: "Both", neither: "Neither", unsure: "Unsure" };

// ---------------------------------------------------------------- pure
/** Rows that pass the filter, in their order. */
function passing(rows, { class_name = "", kind = "", status = "" }) {
  const fits = ({ choice }) => status === "" || (status === "open" ? !choice : status === "unsure" ? choice === "unsure" : Boolean(choice));
  return rows.filter((row) => (!class_name || row.classes.includes(class_name)) && (!kind || row.kind === kind) && fits(row));
}

/** The row to go to after a decision on `row`: the next open one, from the start again; null if all are decided. */
function nextOpen(rows, row) {
  const at = rows.indexOf(row);
  return [...rows.slice(at + 1), ...rows.slice(0, Math.max(at, 0))].find(({ choice }) => !choice) ?? null;
}

/** The part of the recording that is shown: the case with some of what is around it, at least 2 s. */
function viewOf({ start_s, end_s }, duration_s) {
  const around = Math.max(0.3 * (end_s - start_s), (2 - end_s + start_s) / 2, 0.4);
  return { start: Math.max(start_s - around, 0), end: Math.min(end_s + around, duration_s ?? end_s + around) };
}

/** What is heard: the case with a little around it. */
function heardOf({ start_s, end_s }, duration_s) {
  return { start: Math.max(start_s - 0.25, 0), end: Math.min(end_s + 0.25, duration_s) };
}

/** What a lane says, in a few words; null: its labeler has not heard it. */
function wordsOf(lane) {
  if (lane === null) return "not heard";
  if (!lane.length) return "nothing";
  const names = [...new Set(lane.map(([, , name]) => name))];
  return lane.length > names.length ? `${lane.length} × ${names.join(", ")}` : names.join(", ");
}

/** Why a choice cannot be made for a row, or "". */
function refusal(row, choice) {
  if (choice === "both") return row.merged ? "" : "There is nothing to merge: only one labeler marked something here.";
  if (FACES[choice]) return "";
  const lane = row.lanes[Number(choice) - 1];
  return lane === undefined ? `There are only ${row.lanes.length} lanes.` : lane === null ? "This labeler has not heard it." : "";
}

// ---------------------------------------------------------------- moving
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
  const info = await soundOf(app, row);
  if (app.closed || app.row !== row) return;
  app.refresh();
  if (info.readable && app.settings.autoplay !== false && app.touched) play(app);
  const next = nextOpen(passing(app.rows, app.filter), row);
  if (next && next !== row) warmUp(app, next);
}

/** What is known of a row's recording: {readable, problem, duration_s, ...}. */
function soundOf(app, row) {
  const { silent } = app.recordings[row.recording];
  if (silent) return Promise.resolve({ readable: false, problem: silent });
  if (!app.sounds.has(row.recording)) {
    const asked = app.client.ask("open", { recording: row.recording }).then(
      (info) => { app.infos.set(row.recording, info); return info; },
      (error) => { app.sounds.delete(row.recording); return { readable: false, problem: error.message }; },
    );
    app.sounds.set(row.recording, asked);
  }
  return app.sounds.get(row.recording);
}
const infoOf = (app, row) => {
  const silent = row && app.recordings[row.recording].silent;
  return silent ? { readable: false, problem: silent } : app.infos.get(row?.recording);
};

async function warmUp(app, row) {
  const info = await soundOf(app, row);
  if (!info.readable || app.closed) return;
  const { start, end } = heardOf(row, info.duration_s);
  if (end > start) app.media.sound(row.recording, start, Math.min(end, start + 30), info.duration_s).catch(() => {});
  tilesOf(app, row, info);
}

function play(app) {
  const { row } = app;
  const info = infoOf(app, row);
  if (!info?.readable) return app.say(row ? `There is nothing to hear: ${info?.problem || "still loading"}.` : "", "warn");
  const { start, end } = heardOf(row, info.duration_s);
  if (end <= start) return app.say("The case lies behind the end of its recording.", "warn");
  const load = { chunk: (index) => app.media.chunk(row.recording, index, info.duration_s), sound: (a, b) => app.media.sound(row.recording, a, b, info.duration_s) };
  app.say("");
  return app.clock.play({ start, end, load });
}

function toggle(app) {
  if (app.clock.playing()) app.clock.stop();
  else play(app);
}

function move(app, by) {
  const rows = passing(app.rows, app.filter);
  if (!rows.length) return;
  const at = rows.indexOf(app.row);
  const to = at < 0 ? rows.find((row) => row.at > app.row.at) ?? rows[0] : rows[at + by];
  if (to) show(app, to);
  else app.say(by > 0 ? "This is the last case." : "This is the first case.");
}

// ---------------------------------------------------------------- decisions
function decide(app, choice) {
  const { row } = app;
  if (!row) return;
  const reason = refusal(row, choice);
  if (reason) return app.say(reason, "warn");
  const uuid = newUuid();
  app.done.push({ uuid, case: row.case, before: row.choice });
  row.choice = choice;
  app.outbox.add({ uuid, kind: "judgement", case: row.case, choice, at_client: new Date().toISOString() });
  markRow(app, row);
  const next = nextOpen(passing(app.rows, { ...app.filter, status: "" }), row);
  if (next) return show(app, next);
  app.clock.stop();
  paintPage(app);
  return app.say(app.rows.every((each) => each.choice) ? "Every case is decided." : "Every case that passes the filter is decided.");
}

function takeBack(app) {
  const last = app.done.pop();
  if (!last) return app.say("There is nothing to undo.");
  const row = app.byCase.get(last.case);
  app.outbox.add({ uuid: newUuid(), kind: "undo", case: last.case, target: last.uuid, at_client: new Date().toISOString() });
  if (!row) return undefined;
  row.choice = last.before;
  markRow(app, row);
  show(app, row);
  return app.say(row.choice ? "Undone: the earlier decision is back." : "Undone: the case is open again.");
}

/** The kernel's word on an operation, of this view or another one. */
function acknowledged(app, message) {
  const row = app.byCase.get(message.case);
  const pending = app.outbox.pending();
  if (row && !pending.some((op) => op.case === row.case)) {
    row.choice = message.choice;
    markRow(app, row);
  }
  if (!pending.length) app.done = message.undoable;
  paintPage(app);
}

/** All cases as the kernel knows them, with what it does not know yet on top. */
function receiveCases(app, message) {
  const held = app.row?.case;
  app.rows = message.rows.map((row, at) => ({ ...row, at }));
  app.byCase = new Map(app.rows.map((row) => [row.case, row]));
  Object.assign(app, { recordings: message.recordings, colours: message.colours, blind: message.blind, done: message.undoable, ready: true });
  for (const op of app.outbox.pending()) {
    const row = app.byCase.get(op.case);
    if (!row) continue;
    if (op.kind === "judgement") {
      app.done.push({ uuid: op.uuid, case: op.case, before: row.choice });
      row.choice = op.choice;
    } else {
      const at = app.done.findIndex(({ uuid }) => uuid === op.target);
      if (at >= 0) row.choice = app.done.splice(at, 1)[0].before;
    }
  }
  fillFilters(app);
  fillList(app);
  const first = app.byCase.get(held) ?? app.rows.find((row) => !row.choice) ?? app.rows[0];
  if (first) show(app, first);
  else paintPage(app);
}

// ---------------------------------------------------------------- the page
function button(app, { label, key, face, act, ...rest }) {
  const node = make("button", { type: "button", title: key ? `${label}  (${key})` : label, ...rest }, ...(face ?? [label]));
  node.addEventListener("pointerdown", (event) => event.preventDefault());
  node.addEventListener("click", () => {
    if (document.activeElement !== node) app.root.focus({ preventScroll: true });
    act();
  });
  return node;
}
const keycap = (text) => make("kbd", {}, text);
const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

function buildPage(app) {
  const { dom, root } = app;
  dom.progress = make("span", { class: "atk-progress", role: "progressbar", "aria-label": "Decided", "aria-valuemin": "0" }, make("i"));
  dom.progressText = make("span", { class: "atk-muted atk-num" });
  dom.blind = make("span", { class: "atk-badge", title: "Names are hidden; the order of the lanes is drawn for each recording." }, "blind");
  dom.savedText = make("span");
  dom.saved = make("span", { class: "atk-saved", role: "status" }, make("i"), dom.savedText);
  dom.retry = button(app, { label: "Try again", class: "atk-link", hidden: true, act: () => app.outbox.retryRefused() });
  dom.discard = button(app, { label: "Dismiss", class: "atk-link", hidden: true, act: () => { app.outbox.discardRefused(); greet(app); } });
  dom.status = make("div", { class: "atk-status", role: "status", "aria-live": "polite" });
  dom.help = buildHelp(app);
  root.append(
    make("div", { class: "atk-head" }, make("strong", { class: "atk-title" }, "Adjudication"), dom.blind, make("span", { class: "atk-gap" }), dom.progressText, dom.progress, dom.saved, dom.retry, dom.discard,
      button(app, { label: "Keys and help", key: "?", face: ["?"], act: () => toggleHelp(app) })),
    make("div", { class: "atk-body" }, buildCard(app), buildSide(app)), dom.status, dom.help,
  );
}

function buildCard(app) {
  const { dom } = app;
  dom.className = make("h3");
  dom.kind = make("span", { class: "atk-kind" });
  dom.where = make("span", { class: "atk-muted atk-num atk-where" });
  dom.canvas = make("canvas", { class: "atk-picture" });
  dom.overlay = make("canvas", { class: "atk-overlay" });
  dom.silent = make("div", { class: "atk-silent", hidden: true });
  dom.stage = make("div", { class: "atk-stage" }, dom.canvas, dom.overlay, dom.silent);
  dom.overlay.addEventListener("click", () => { app.root.focus({ preventScroll: true }); toggle(app); });
  dom.lanes = make("ol", { class: "atk-hidden", "aria-label": "What each labeler says" });
  dom.play = button(app, { label: "Play again, or stop", key: "Space", class: "atk-play", face: ["▶"], act: () => toggle(app) });
  dom.choices = make("div", { class: "atk-choices" });
  dom.bar = make("div", { class: "atk-bar" }, dom.play, dom.choices, make("div", { class: "atk-nav" },
    button(app, { label: "Previous case", key: "K", face: ["‹"], act: () => move(app, -1) }), button(app, { label: "Next case", key: "J", face: ["›"], act: () => move(app, 1) }),
    dom.undo = button(app, { label: "Undo", key: "Ctrl+Z", face: ["↶"], act: () => takeBack(app) })));
  dom.card = make("div", { class: "atk-card" }, make("div", { class: "atk-facts" }, dom.className, dom.kind, make("span", { class: "atk-gap" }), dom.where),
    dom.stage, dom.lanes, make("div", { class: "atk-question" }, "Who is right?"), dom.bar);
  return dom.card;
}

function buildSide(app) {
  const { dom } = app;
  dom.selects = {};
  const select = (name, label) => (dom.selects[name] = make("select", { "aria-label": label, onchange: () => { app.filter[name] = dom.selects[name].value; filtered(app); } }));
  dom.list = make("ol", { class: "atk-list", role: "listbox", "aria-label": "Cases" });
  dom.count = make("span", { class: "atk-muted atk-num" });
  return make("div", { class: "atk-side" }, make("div", { class: "atk-filters" }, select("class_name", "Class"), select("kind", "Kind"), select("status", "Decision"), dom.count), dom.list);
}

const HELP = [
  ["1, 2, …", "the labeler of this lane is right"], ["B", "both: merge them (medians of their edges; of two classes, both stay)"], ["N", "neither: there is nothing"], ["U", "unsure: one cannot tell"],
  ["Space", "play again, or stop"], ["J, →, ↓", "next case"], ["K, ←, ↑", "previous case"], ["O", "next open case"], ["Ctrl+Z", "undo the last decision"], ["?", "this help"],
];
function buildHelp(app) {
  const lines = HELP.map(([keys, what]) => make("p", {}, make("span", {}, ...keys.split(", ").map(keycap)), what));
  const notes = [
    "What counts is the sound. A labeler who marked nothing is right if there is nothing. Going back and pressing another key replaces a decision.",
    "Marks of full colour belong to the case, pale ones are marks nearby. The dashed range is what B would make.",
  ];
  return make("div", { class: "atk-help", role: "dialog", "aria-label": "Keys and help", hidden: true }, ...lines, ...notes.map((text) => make("p", { class: "atk-muted" }, text)),
    button(app, { label: "Close", key: "Esc", act: () => toggleHelp(app, false) }));
}
function toggleHelp(app, open = app.dom.help.hidden) {
  app.dom.help.hidden = !open;
}

function fillFilters(app) {
  const { dom: { selects }, rows, filter } = app;
  const options = (name, first, values, words = {}) => {
    selects[name].replaceChildren(make("option", { value: "" }, first), ...values.map((value) => make("option", { value }, words[value] ?? value)));
    selects[name].value = values.includes(filter[name]) ? filter[name] : "";
    filter[name] = selects[name].value;
  };
  options("class_name", "all classes", [...new Set(rows.flatMap((row) => row.classes))].sort());
  options("kind", "all kinds", Object.keys(KINDS).filter((kind) => rows.some((row) => row.kind === kind)), KINDS);
  options("status", "all cases", ["open", "decided", "unsure"]);
}

function filtered(app) {
  fillList(app);
  const rows = passing(app.rows, app.filter);
  if (rows.length && !rows.includes(app.row)) show(app, rows.find((row) => !row.choice) ?? rows[0]);
  else paintPage(app);
  app.root.focus({ preventScroll: true });
}

const MARKS = { both: "B", neither: "N", unsure: "?" };

function fillList(app) {
  const shown = passing(app.rows, app.filter);
  app.items = new Map();
  const items = shown.map((row) => {
    const dot = make("i", { class: "atk-dot" });
    dot.style.background = app.colours[row.classes[0]];
    const item = make("li", { role: "option", "data-case": row.case, title: `${row.classes.join(" / ")}, ${KINDS[row.kind]}\n${row.recording}, ${formatTime(row.start_s)}` }, make("b", { class: "atk-mark" }), dot,
      make("span", { class: "atk-name" }, row.classes.join(" / ")), make("span", { class: "atk-muted atk-to" }, KINDS[row.kind]), make("span", { class: "atk-muted atk-num" }, `${row.disputed_s.toFixed(2)} s`));
    item.addEventListener("pointerdown", (event) => event.preventDefault());
    item.addEventListener("click", () => { app.root.focus({ preventScroll: true }); show(app, row); });
    app.items.set(row.case, item);
    return item;
  });
  app.dom.list.replaceChildren(...items);
  shown.forEach((row) => markRow(app, row));
  setText(app.dom.count, shown.length === app.rows.length ? "" : `${shown.length} of ${app.rows.length}`);
}

function markRow(app, row) {
  const item = app.items.get(row.case);
  if (!item) return;
  item.dataset.choice = row.choice;
  setText(item.firstChild, MARKS[row.choice] ?? row.choice);
}

function paintPage(app) {
  const { dom, root, row, rows } = app;
  const decided = rows.filter(({ choice }) => choice).length;
  setText(dom.progressText, `${decided} of ${rows.length} decided`);
  dom.progress.firstChild.style.width = `${(100 * decided) / Math.max(rows.length, 1)}%`;
  dom.progress.setAttribute("aria-valuemax", rows.length);
  dom.progress.setAttribute("aria-valuenow", decided);
  dom.blind.hidden = !app.blind;
  Object.assign(root.dataset, { decided, at: row?.at ?? "", case: row?.case ?? "", choice: row?.choice ?? "", playing: app.clock.playing() });
  dom.undo.disabled = !app.done.length;
  dom.card.hidden = !row;
  if (!row) return app.say(app.ready ? "The labelers agree wherever they have heard the same: there is nothing to decide." : "");
  paintCard(app, row);
  for (const [name, item] of app.items) item.setAttribute("aria-selected", String(name === row.case));
  const item = app.items.get(row.case);
  if (item) {
    const [box, list] = [item.getBoundingClientRect(), dom.list.getBoundingClientRect()];
    if (box.top < list.top) dom.list.scrollTop -= list.top - box.top; // scrollIntoView would move the notebook, too
    else if (box.bottom > list.bottom) dom.list.scrollTop += box.bottom - list.bottom;
  }
  return app.refresh();
}

function paintCard(app, row) {
  const { dom } = app;
  const { title, names } = app.recordings[row.recording];
  setText(dom.className, row.classes.join(" / "));
  setText(dom.kind, KINDS[row.kind]);
  dom.kind.dataset.kind = row.kind;
  setText(dom.where, `${title} · ${formatTime(row.start_s)} to ${formatTime(row.end_s)}`);
  dom.where.title = row.recording;
  const said = row.lanes.map((lane) => (lane?.length ? lane.map(([a, b, name]) => `${name} ${a.toFixed(3)}-${b.toFixed(3)}`).join(", ") : wordsOf(lane)));
  const mirror = said.map((text, at) => make("li", { "data-lane": at + 1 }, `${names[at]}: ${text}`));
  dom.lanes.replaceChildren(...mirror);
  const key = [row.case, row.choice].join();
  if (dom.choices.dataset.key !== key) {
    dom.choices.dataset.key = key;
    const choice = (name, face, letter) => button(app, { label: refusal(row, name) || face, key: letter, class: "atk-choice", "data-choice": name, disabled: Boolean(refusal(row, name)), "aria-pressed": String(row.choice === name), face: [keycap(letter), make("span", {}, face)], act: () => decide(app, name) });
    dom.choices.replaceChildren(...row.lanes.map((lane, at) => choice(String(at + 1), `${names[at]}: ${wordsOf(lane)}`, String(at + 1))), ...Object.keys(FACES).map((name) => choice(name, FACES[name], FACES[name][0])));
  }
  const info = infoOf(app, row);
  dom.silent.hidden = !info?.problem;
  setText(dom.silent, info?.problem ? (info.readable ? info.problem : `No sound: ${info.problem}`) : "");
  dom.play.disabled = Boolean(info && !info.readable);
}

// ---------------------------------------------------------------- picture
function tilesOf(app, row, info, width = app.width) {
  const view = viewOf(row, info.duration_s);
  const zoom = clamp(Math.floor(Math.log((view.end - view.start) / Math.max(width, 100) / TILE_HOP_S) / Math.log(4)), 0, 6);
  const [first, last] = [Math.floor(view.start / tileSpan(zoom)), Math.ceil(view.end / tileSpan(zoom)) - 1];
  return Array.from({ length: Math.max(last - first + 1, 1) }, (_, step) => app.media.tile(row.recording, zoom, first + step));
}

/** Where things stand, from the top: waveform, spectrogram, lanes, axis. */
function layoutOf(app, row) {
  const mel = app.settings.height || 150;
  const lanes = WAVE_H + mel + 2 * GAP;
  return { wave: 0, mel: WAVE_H + GAP, melHeight: mel, lanes, axis: lanes + LANE_H * row.lanes.length, height: lanes + LANE_H * row.lanes.length + AXIS_H };
}

function drawPicture(app) {
  const { dom, row } = app;
  if (!row) return;
  paintCard(app, row);
  const info = infoOf(app, row);
  app.width = Math.floor(dom.stage.getBoundingClientRect().width);
  if (app.width < 80) return;
  const at = layoutOf(app, row);
  dom.stage.style.minHeight = `${at.height}px`;
  const g = sharpContext(dom.canvas, app.width, at.height);
  const view = viewOf(row, info?.duration_s);
  const x = (time) => GUTTER_W + ((time - view.start) / (view.end - view.start)) * (app.width - GUTTER_W);
  g.clearRect(0, 0, app.width, at.height);
  g.fillStyle = INKS[app.theme][0];
  g.fillRect(GUTTER_W, at.mel, app.width, at.melHeight);
  const ready = info?.readable ? drawSound(g, app, row, info, { view, at, x }) : Boolean(info);
  drawLanes(g, app, row, { view, at, x });
  drawEdges(g, app, row, { view, at, x });
  drawAxes(g, app, info, { view, at, x });
  app.root.dataset.ready = String(ready);
  drawHead(app);
}

function drawSound(g, app, row, info, { view, at, x }) {
  const tiles = tilesOf(app, row, info);
  const here = tiles.filter(Boolean);
  const whole = app.media.tile(row.recording, clamp(Math.ceil(Math.log(info.duration_s / tileSpan(0)) / Math.log(4)), 0, 6), 0);
  if (whole) app.levels = levelsOf([whole]); // of all of the recording: what is quiet looks quiet
  else if (here.length === tiles.length && !app.levels) app.levels = levelsOf(here);
  const look = [app.theme, ...(app.levels ?? [0, 255])].join();
  if (app.look !== look) [app.look, app.ink] = [look, colourTable(app.theme, app.levels ?? [0, 255])];
  g.save();
  g.beginPath();
  g.rect(GUTTER_W, 0, app.width - GUTTER_W, at.mel + at.melHeight);
  g.clip();
  for (const tile of here) g.drawImage(paintTile(tile, look, app.ink), x(tile.start_s), at.mel, x(tile.end_s) - x(tile.start_s), at.melHeight);
  const peaks = app.media.peaks(row.recording, view.start, view.end, clamp(app.width - GUTTER_W, 100, 2000));
  if (peaks) drawWave(g, app, peaks, x);
  g.restore();
  return here.length === tiles.length && Boolean(whole && peaks) && peaks.until_s >= peaks.end_s - 1e-6;
}

function drawWave(g, app, { values, start_s, end_s }, x) {
  const count = values.length / 2;
  const most = values.reduce((top, value) => Math.max(top, Math.abs(value)), 1);
  const step = (end_s - start_s) / count;
  g.fillStyle = SHADES[app.theme].wave;
  for (let column = 0; column < count; column++) {
    const [low, high] = [values[2 * column] / most, values[2 * column + 1] / most];
    const left = x(start_s + column * step);
    g.fillRect(left, (WAVE_H / 2) * (1 - high), Math.max(x(start_s + (column + 1) * step) - left, 0.7), Math.max((WAVE_H / 2) * (high - low), 1));
  }
}

function drawLanes(g, app, row, { at, x }) {
  const shade = SHADES[app.theme];
  const { names, marks } = app.recordings[row.recording];
  row.lanes.forEach((lane, place) => {
    const top = at.lanes + place * LANE_H;
    g.fillStyle = shade.lane;
    g.fillRect(GUTTER_W, top + 2, app.width - GUTTER_W, LANE_H - 4);
    drawName(g, app, { place, name: names[place], top });
    if (lane === null) {
      g.fillStyle = shade.text;
      g.fillText("not heard", GUTTER_W + 8, top + LANE_H / 2);
    }
  });
  g.save();
  g.beginPath();
  g.rect(GUTTER_W, at.lanes, app.width - GUTTER_W, at.axis - at.lanes);
  g.clip();
  const own = new Set(row.lanes.flatMap((lane, place) => (lane ?? []).map((span) => [place, ...span].join())));
  for (const [place, start, end, name] of marks) {
    const [left, right, top] = [x(start), x(end), at.lanes + place * LANE_H];
    if (right < GUTTER_W || left > app.width) continue;
    const mine = own.has([place, start, end, name].join());
    g.globalAlpha = mine ? 1 : 0.3;
    g.fillStyle = app.colours[name] ?? shade.text;
    g.beginPath();
    g.roundRect(left, top + 6, Math.max(right - left, 2), LANE_H - 12, 4);
    g.fill();
    const room = Math.min(right, app.width) - Math.max(left, GUTTER_W) - 12;
    if (mine && room > 16) {
      g.fillStyle = inkOn(app.colours[name] ?? "#888888");
      g.fillText(fitText(g, name, room), Math.max(left, GUTTER_W) + 6, top + LANE_H / 2 + 0.5);
    }
  }
  g.globalAlpha = 1;
  if (row.merged) drawMerged(g, app, row.merged, { at, x });
  g.restore();
}

function drawName(g, app, { place, name, top }) {
  const shade = SHADES[app.theme];
  [g.textAlign, g.textBaseline] = ["left", "middle"];
  g.font = `600 12px ${app.font}`;
  g.fillStyle = app.row.choice === String(place + 1) ? shade.edge : shade.text;
  g.fillText(fitText(g, `${place + 1}  ${name}`, GUTTER_W - 10), 2, top + LANE_H / 2);
  g.font = `12px ${app.font}`;
}

/** What "both" would make: a dashed frame over all lanes. */
function drawMerged(g, app, merged, { at, x }) {
  g.save();
  g.strokeStyle = SHADES[app.theme].merged;
  g.lineWidth = app.row.choice === "both" ? 2 : 1;
  g.setLineDash(app.row.choice === "both" ? [] : [4, 3]);
  for (const [start, end] of merged) g.strokeRect(x(start), at.lanes + 1.5, Math.max(x(end) - x(start), 1), at.axis - at.lanes - 3);
  g.restore();
}

function fitText(g, text, room) {
  if (g.measureText(text).width <= room) return text;
  let length = text.length;
  while (length > 1 && g.measureText(`${text.slice(0, length)}…`).width > room) length--;
  return `${text.slice(0, length)}…`;
}

/** What lies outside of the case is paler; its edges run through sound and lanes. */
function drawEdges(g, app, row, { view, at, x }) {
  const shade = SHADES[app.theme];
  for (const [from, to] of [[view.start, row.start_s], [row.end_s, view.end]]) {
    if (to - from < 1e-6) continue;
    const [left, right] = [Math.max(x(from), GUTTER_W), Math.min(x(to), app.width)];
    g.fillStyle = shade.outside;
    g.fillRect(left, 0, right - left, at.mel + at.melHeight);
    g.fillStyle = shade.edge;
    g.fillRect(x(from === view.start ? to : from) - 0.75, 0, 1.5, at.axis);
  }
}

function drawAxes(g, app, info, { view, at, x }) {
  g.font = `11px ${app.font}`;
  g.fillStyle = SHADES[app.theme].text;
  [g.textAlign, g.textBaseline] = ["right", "middle"];
  for (const hz of info?.mel_hz ? [250, 1000, 4000, 16000] : []) {
    const band = info.mel_hz.findIndex((centre) => centre >= hz);
    if (band > 0) g.fillText(hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`, GUTTER_W - 6, at.mel + at.melHeight * (1 - band / info.mel_hz.length));
  }
  const wish = (view.end - view.start) / Math.max((app.width - GUTTER_W) / 80, 1);
  const step = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600].find((each) => each >= wish) ?? 1800;
  [g.textAlign, g.textBaseline] = ["left", "top"];
  for (let tick = Math.ceil(view.start / step - 1e-9); tick * step <= view.end; tick++) {
    const left = x(tick * step);
    g.fillRect(Math.round(left), at.axis, 1, 4);
    if (left < app.width - 30) g.fillText(formatTime(tick * step, step < 1 ? (step < 0.1 ? 2 : 1) : 0), left + 3, at.axis + 5);
  }
}

function drawHead(app) {
  const { row, dom } = app;
  const info = infoOf(app, row);
  if (!row || !app.width) return;
  const at = layoutOf(app, row);
  const g = sharpContext(dom.overlay, app.width, at.height);
  g.clearRect(0, 0, app.width, at.height);
  if (!info?.readable) return;
  const view = viewOf(row, info.duration_s);
  const x = GUTTER_W + ((app.time - view.start) / (view.end - view.start)) * (app.width - GUTTER_W);
  g.fillStyle = SHADES[app.theme].head;
  g.fillRect(clamp(x, GUTTER_W, app.width - 1.5), 0, 1.5, at.axis);
}

function played(app, time) {
  app.time = time;
  const playing = app.clock.playing();
  app.root.dataset.playing = String(playing);
  app.root.dataset.time = time.toFixed(3);
  setText(app.dom.play, playing ? "■" : "▶");
  drawHead(app);
}

// ---------------------------------------------------------------- keys and life
function bindKeys(app) {
  const keys = {
    b: () => decide(app, "both"), n: () => decide(app, "neither"), u: () => decide(app, "unsure"), Space: toggle,
    j: () => move(app, 1), ArrowDown: () => move(app, 1), ArrowRight: () => move(app, 1), k: () => move(app, -1), ArrowUp: () => move(app, -1), ArrowLeft: () => move(app, -1),
    o: () => show(app, nextOpen(passing(app.rows, app.filter), app.row)), "Ctrl+z": takeBack, "?": () => toggleHelp(app),
  };
  for (let lane = 1; lane <= 9; lane++) keys[lane] = () => decide(app, String(lane));
  app.root.addEventListener("keydown", (event) => {
    app.touched = true;
    const name = keyName(event);
    if (event.isComposing || !app.ready) return;
    if (name === "Escape") {
      toggleHelp(app, false);
      app.root.focus({ preventScroll: true });
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
  app.root.dataset.saved = state;
  setText(app.dom.savedText, { saved: "saved", saving: "saving", unsaved: `not saved: ${reason}` }[state]);
  app.dom.saved.title = state === "unsaved" ? `${count} kept in this browser. ${reason}` : "";
  app.dom.retry.hidden = app.dom.discard.hidden = !refused;
}

/** Ask for the cases until the kernel answers: it may be busy or still starting. */
async function greet(app) {
  app.ready = false;
  for (let tries = 0; !app.closed && !app.ready; tries++) {
    app.say(tries ? "Waiting for the kernel …" : "");
    try {
      const answer = await app.client.ask("hello", {}, tries ? 10000 : 6000);
      if (!app.closed) receiveCases(app, answer);
    } catch (error) {
      if (!error.late) return app.say(error.message, "error");
    }
  }
  if (app.closed) return undefined;
  showSaved(app, { state: "saved", count: 0 });
  return app.outbox.pump();
}

function createApp(model, el) {
  const app = {
    model, dom: {}, settings: model.get("settings") ?? {}, rows: [], recordings: {}, colours: {}, byCase: new Map(), items: new Map(), infos: new Map(), sounds: new Map(), done: [],
    filter: { class_name: "", kind: "", status: "" }, row: null, blind: false, ready: false, touched: false, theme: "light", time: 0, width: 0, levels: null,
  };
  app.root = make("div", { class: "atk-adjudicator", "data-testid": "adjudicator", role: "application", tabindex: "0", "aria-label": "Adjudication of labelers. Press question mark for the keys." });
  app.client = createClient(model);
  app.say = (text, kind = "info") => { setText(app.dom.status, text); app.dom.status.dataset.kind = kind; };
  app.refresh = () => { app.frame ??= requestAnimationFrame(() => { app.frame = null; if (app.root.isConnected) drawPicture(app); }); };
  const fault = (error) => app.say(error.message || String(error), "error");
  app.media = createMedia(app.client, { onLoad: (recording) => recording === app.row?.recording && app.refresh(), onError: (error, recording) => recording === app.row?.recording && fault(error) });
  app.clock = createClock({ onTick: (time) => played(app, time), onHeard: () => {}, onEnd: (_, time) => played(app, time), onError: fault });
  buildPage(app);
  app.outbox = createOutbox({
    client: app.client, prefix: `audiotk:adjudicator:${model.get("adjudication_id") ?? ""}:${model.get("labeler") ?? ""}:`,
    onStatus: (status) => showSaved(app, status), onAck: (message) => acknowledged(app, message),
    onRefused: (_, text) => greet(app).then(() => app.say(`Not saved: ${text}`, "error")),
  });
  app.client.on("error", (message) => app.say(message.text, "error"));
  el.append(app.root);
  app.font = getComputedStyle(app.root).fontFamily;
  return app;
}

function renderAdjudicator({ model, el }) {
  const app = createApp(model, el);
  const unshield = shieldKeys(app.root);
  bindKeys(app);
  const themes = watchTheme(app.root, () => app.settings.theme, (theme) => { app.theme = theme; app.refresh(); });
  const resized = new ResizeObserver(() => app.refresh());
  resized.observe(app.root);
  const decoded = () => { app.media.forgetHalf(); app.refresh(); };
  model.on("change:ready", decoded); // a long recording was read to its end
  greet(app);
  return () => {
    app.closed = true;
    model.off("change:ready", decoded);
    resized.disconnect();
    themes.close();
    unshield();
    app.outbox.close();
    app.clock.close();
    app.client.close();
    cancelAnimationFrame(app.frame);
    app.root.remove();
  };
}

export default { render: renderAdjudicator };
