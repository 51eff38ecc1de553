// Review of a rule: one changed cell after the other, its sound, one key a verdict.

const SHADES = { light: { outside: "rgba(251, 252, 254, .62)", text: "#5f6979", line: "#dfe3ea", head: "#c22f47", edge: "#2f6fde" }, dark: { outside: "rgba(12, 15, 22, .62)", text: "#97a1b2", line: "#2b313c", head: "#ff7085", edge: "#6ea1ff" } };
const AXIS_H = 20;
const GUTTER_W = 46;

// ---------------------------------------------------------------- pure
const opposite = (word) => (word === "present" ? "absent" : "present");

/** Rows that pass the filter, in their order. */
function passing(rows, { class_name = "", change = "", status = "" }) {
  const fits = (row) => (status === "" ? true : status === "open" ? !row.verdict : status === "judged" ? row.verdict : outcome(row) === status);
  return rows.filter((row) => (!class_name || row.class_name === class_name) && (!change || row.change === change) && fits(row));
}

/** What a verdict means for the rule: "right", "wrong", "needless" (a mask on a right label), "unsure" or "open". */
function outcome(row) {
  if (!row.verdict || row.verdict === "unsure") return row.verdict || "open";
  if (row.masked) return row.verdict === row.change.split(" → ")[0] ? "needless" : "right";
  return row.verdict === row.accept ? "right" : "wrong";
}

/** The row to go to after a verdict on `cell`: the next open one, from the start again; null if all are judged. */
function nextOpen(rows, cell) {
  const at = rows.findIndex((row) => row.cell === cell);
  return [...rows.slice(at + 1), ...rows.slice(0, Math.max(at, 0))].find((row) => !row.verdict) ?? null;
}

/** The part of the recording that is shown: the segment with some of what is around it. */
function viewOf({ start_s, end_s }, duration_s) {
  const around = Math.min(1, 0.12 * (end_s - start_s));
  return { start: Math.max(start_s - around, 0), end: Math.min(end_s + around, duration_s) };
}

const percent = (share) => `${Math.round(100 * share)} %`;

/** An estimate in words: {value, rest}. */
function wordsOf({ value, low, high, n, unsure, open, provisional, cells }) {
  const judged = `${n} judged${unsure ? `, ${unsure} unsure` : ""}${open ? `, ${open} to go` : ""}`;
  const of = `a sample of ${cells.toLocaleString("en")} changed cell${cells === 1 ? "" : "s"}`;
  if (!n) return { value: "–", range: "", rest: `${judged} · ${of}` };
  return { value: percent(value), range: `${Math.round(100 * low)}–${percent(high)}`, rest: `${judged} · ${of}`, provisional };
}

// ---------------------------------------------------------------- moving
const rowOf = (app, cell) => app.rows[cell] ?? null;

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
  const next = nextOpen(passing(app.rows, app.filter), row.cell);
  if (next && next !== row) warmUp(app, next);
}

/** What is known of a row's recording: {readable, problem, duration_s, ...}. */
function soundOf(app, row) {
  if (row.silent) return Promise.resolve({ readable: false, problem: row.silent });
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
  const end = Math.min(row.end_s, row.start_s + 30, info.duration_s);
  if (end > row.start_s) app.media.sound(row.recording, row.start_s, end, info.duration_s).catch(() => {});
  tilesOf(app, row, info);
}

function play(app) {
  const { row } = app;
  const info = app.infos.get(row?.recording);
  if (!info?.readable || row.silent) return app.say(row ? `There is nothing to hear: ${row.silent || info?.problem || "still loading"}.` : "", "warn");
  const end = Math.min(row.end_s, info.duration_s);
  if (end <= row.start_s) return app.say("The segment lies behind the end of its recording.", "warn");
  const load = { chunk: (index) => app.media.chunk(row.recording, index, info.duration_s), sound: (a, b) => app.media.sound(row.recording, a, b, info.duration_s) };
  app.say("");
  return app.clock.play({ start: row.start_s, end, load });
}

function toggle(app) {
  if (app.clock.playing()) app.clock.stop();
  else play(app);
}

function move(app, by) {
  const rows = passing(app.rows, app.filter);
  if (!rows.length) return;
  const at = rows.indexOf(app.row);
  const to = at < 0 ? rows.find((row) => row.cell > app.row.cell) ?? rows[0] : rows[at + by];
  if (to) show(app, to);
  else app.say(by > 0 ? "This is the last cell." : "This is the first cell.");
}

// ---------------------------------------------------------------- verdicts
const VALUE_OF = { present: 1, absent: 0, unsure: null };
const WORD_OF = (value) => (value === null ? "unsure" : value ? "present" : "absent");

function judge(app, verdict) {
  const { row } = app;
  if (!row) return;
  const uuid = newUuid();
  app.done.push({ uuid, cell: row.cell, before: row.verdict });
  row.verdict = verdict;
  app.outbox.add({ uuid, kind: "judgement", cell: row.cell, value: VALUE_OF[verdict], at_client: new Date().toISOString() });
  markRow(app, row);
  const next = nextOpen(passing(app.rows, { ...app.filter, status: "" }), row.cell);
  if (next) show(app, next);
  else {
    app.clock.stop();
    paintPage(app);
    app.say(app.rows.every((each) => each.verdict) ? "Every drawn cell is judged." : "Every cell that passes the filter is judged.");
  }
}
const accept = (app) => app.row && judge(app, app.row.accept);
const reject = (app) => app.row && judge(app, opposite(app.row.accept));

function takeBack(app) {
  const last = app.done.pop();
  if (!last) return app.say("There is nothing to undo.");
  const row = rowOf(app, last.cell);
  row.verdict = last.before;
  app.outbox.add({ uuid: newUuid(), kind: "undo", cell: last.cell, target: last.uuid, at_client: new Date().toISOString() });
  markRow(app, row);
  show(app, row);
  return app.say(`Undone: ${row.class_name} is ${row.verdict || "open"} again.`);
}

/** The kernel's word on an operation, of this view or another one. */
function acknowledged(app, message) {
  const row = rowOf(app, message.cell);
  const pending = app.outbox.pending();
  if (row && !pending.some(({ cell }) => cell === row.cell)) {
    row.verdict = message.verdict;
    markRow(app, row);
  }
  if (!pending.length) app.done = message.undoable;
  app.estimates = message.estimates;
  paintPage(app);
}

/** All cells as the kernel knows them, with what it does not know yet on top. */
function receiveReview(app, message) {
  const held = app.row?.cell;
  app.rows = message.rows.map((row, cell) => ({ ...row, cell }));
  Object.assign(app, { rule: message.rule, order: message.order, stored: message.stored, estimates: message.estimates, done: message.undoable, ready: true });
  for (const op of app.outbox.pending()) {
    const row = rowOf(app, op.cell);
    if (!row) continue;
    if (op.kind === "judgement") {
      app.done.push({ uuid: op.uuid, cell: op.cell, before: row.verdict });
      row.verdict = WORD_OF(op.value);
    } else {
      const at = app.done.findIndex(({ uuid }) => uuid === op.target);
      if (at >= 0) row.verdict = app.done.splice(at, 1)[0].before;
    }
  }
  fillFilters(app);
  fillList(app);
  const first = held !== undefined ? rowOf(app, held) : app.rows.find((row) => !row.verdict) ?? app.rows[0];
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
  dom.rule = make("strong", { class: "atk-title" });
  dom.progress = make("span", { class: "atk-progress", role: "progressbar", "aria-label": "Judged", "aria-valuemin": "0" }, make("i"));
  dom.progressText = make("span", { class: "atk-muted atk-num" });
  dom.savedText = make("span");
  dom.saved = make("span", { class: "atk-saved", role: "status" }, make("i"), dom.savedText);
  dom.retry = button(app, { label: "Try again", class: "atk-link", hidden: true, act: () => app.outbox.retryRefused() });
  dom.discard = button(app, { label: "Dismiss", class: "atk-link", hidden: true, act: () => { app.outbox.discardRefused(); greet(app); } });
  dom.estimates = make("div", { class: "atk-estimates", "aria-label": "How often the rule was right" });
  dom.status = make("div", { class: "atk-status", role: "status", "aria-live": "polite" });
  dom.help = buildHelp(app);
  root.append(
    make("div", { class: "atk-head" }, dom.rule, make("span", { class: "atk-gap" }), dom.progressText, dom.progress, dom.saved, dom.retry, dom.discard,
      button(app, { label: "Keys and help", key: "?", face: ["?"], act: () => toggleHelp(app) })),
    dom.estimates, make("div", { class: "atk-body" }, buildCard(app), buildSide(app)), dom.status, dom.help,
  );
}

function buildCard(app) {
  const { dom } = app;
  dom.above = make("div", { class: "atk-above atk-muted" });
  dom.className = make("h3");
  dom.change = make("span", { class: "atk-change" });
  dom.score = make("span", { class: "atk-score", title: "Score of the class" }, make("i"));
  dom.scoreText = make("span", { class: "atk-muted atk-num" });
  dom.scores = make("span", { class: "atk-pair" }, make("span", { class: "atk-muted" }, "score"), dom.score, dom.scoreText);
  dom.canvas = make("canvas", { class: "atk-picture" });
  dom.overlay = make("canvas", { class: "atk-overlay" });
  dom.silent = make("div", { class: "atk-silent", hidden: true });
  dom.stage = make("div", { class: "atk-stage" }, dom.canvas, dom.overlay, dom.silent);
  dom.overlay.addEventListener("click", () => { app.root.focus({ preventScroll: true }); toggle(app); });
  dom.where = make("div", { class: "atk-where atk-muted" });
  dom.question = make("div", { class: "atk-question" });
  dom.play = button(app, { label: "Play again, or stop", key: "Space", class: "atk-play", face: ["▶"], act: () => toggle(app) });
  const verdict = (name, key, act) => (dom[name] = button(app, { label: name, key, class: "atk-verdict", "data-verdict": name, face: [make("span"), keycap(key)], act }));
  dom.bar = make("div", { class: "atk-bar" }, dom.play,
    verdict("accept", "A", () => accept(app)), verdict("reject", "R", () => reject(app)), verdict("unsure", "U", () => app.row && judge(app, "unsure")),
    make("span", { class: "atk-gap" }),
    button(app, { label: "Previous cell", key: "K", face: ["‹"], act: () => move(app, -1) }), button(app, { label: "Next cell", key: "J", face: ["›"], act: () => move(app, 1) }),
    dom.undo = button(app, { label: "Undo", key: "Ctrl+Z", face: ["↶"], act: () => takeBack(app) }));
  dom.card = make("div", { class: "atk-card" }, dom.above, dom.className, make("div", { class: "atk-facts" }, dom.change, dom.scores), dom.stage, dom.where, dom.question, dom.bar);
  return dom.card;
}

function buildSide(app) {
  const { dom } = app;
  dom.selects = {};
  const select = (name, label) => (dom.selects[name] = make("select", { "aria-label": label, onchange: () => { app.filter[name] = dom.selects[name].value; filtered(app); } }));
  dom.list = make("ol", { class: "atk-list", role: "listbox", "aria-label": "Cells" });
  dom.count = make("span", { class: "atk-muted atk-num" });
  return make("div", { class: "atk-side" }, make("div", { class: "atk-filters" }, select("class_name", "Class"), select("change", "Change"), select("status", "Verdict"), dom.count), dom.list);
}

const HELP = [
  ["A, Y", "accept: the rule is right (of a masked label: the class is there)"], ["R, N", "reject: it is not"], ["U", "unsure: one cannot tell"],
  ["Space", "play again, or stop"], ["J, →, ↓", "next cell"], ["K, ←, ↑", "previous cell"], ["O", "next cell without a verdict"], ["Ctrl+Z", "undo the last verdict"], ["?", "this help"],
];
function buildHelp(app) {
  const lines = HELP.map(([keys, what]) => make("p", {}, make("span", {}, ...keys.split(", ").map(keycap)), what));
  const notes = [
    "What counts is the sound: is the class anywhere in the segment? Going back and pressing another key replaces a verdict.",
    "The cells are a random sample of all that the rule changed. Until every one of them is judged, those that are judged come from one end of the order, so the share is provisional.",
    "A mask says that a label is doubtful, not that it is wrong. For masks the share tells how often the hidden label was wrong; a mask on a right label (○) is no error, only needless.",
  ];
  return make("div", { class: "atk-help", role: "dialog", "aria-label": "Keys and help", hidden: true }, ...lines, ...notes.map((text) => make("p", { class: "atk-muted" }, text)),
    button(app, { label: "Close", key: "Esc", act: () => toggleHelp(app, false) }));
}
function toggleHelp(app, open = app.dom.help.hidden) {
  app.dom.help.hidden = !open;
}

function fillFilters(app) {
  const { dom: { selects }, rows, filter } = app;
  const options = (name, first, values) => {
    selects[name].replaceChildren(make("option", { value: "" }, first), ...values.map((value) => make("option", { value }, value)));
    selects[name].value = values.includes(filter[name]) ? filter[name] : "";
    filter[name] = selects[name].value;
  };
  options("class_name", "any class", [...new Set(rows.map((row) => row.class_name))].sort());
  options("change", "any change", [...new Set(rows.map((row) => row.change))].sort());
  options("status", "any verdict", ["open", "judged", "right", "wrong", ...(rows.some((row) => row.masked) ? ["needless"] : []), "unsure"]);
}

function filtered(app) {
  fillList(app);
  const rows = passing(app.rows, app.filter);
  if (rows.length && !rows.includes(app.row)) show(app, rows.find((row) => !row.verdict) ?? rows[0]);
  else paintPage(app);
  app.root.focus({ preventScroll: true });
}

const MARKS = { right: "✓", wrong: "✗", needless: "○", unsure: "?", open: "" };

function fillList(app) {
  const shown = passing(app.rows, app.filter);
  app.items = new Map();
  const items = shown.map((row) => {
    const item = make("li", { role: "option", "data-cell": row.cell, title: `${row.class_name}: ${row.change}\n${row.segment}` }, make("b", { class: "atk-mark" }),
      make("span", { class: "atk-name" }, row.class_name), make("span", { class: "atk-muted atk-to" }, row.change), make("span", { class: "atk-muted atk-num" }, row.score === null ? "–" : row.score.toFixed(2)));
    item.addEventListener("pointerdown", (event) => event.preventDefault());
    item.addEventListener("click", () => { app.root.focus({ preventScroll: true }); show(app, row); });
    app.items.set(row.cell, item);
    return item;
  });
  app.dom.list.replaceChildren(...items);
  shown.forEach((row) => markRow(app, row));
  setText(app.dom.count, shown.length === app.rows.length ? "" : `${shown.length} of ${app.rows.length}`);
}

function markRow(app, row) {
  const item = app.items.get(row.cell);
  if (!item) return;
  item.dataset.verdict = row.verdict;
  item.dataset.outcome = outcome(row);
  setText(item.firstChild, MARKS[outcome(row)]);
}

function paintPage(app) {
  const { dom, root, row, rows } = app;
  const judged = rows.filter(({ verdict }) => verdict).length;
  setText(dom.rule, `Review of ${app.rule}`);
  setText(dom.progressText, `${judged} of ${rows.length} judged`);
  dom.progress.firstChild.style.width = `${(100 * judged) / Math.max(rows.length, 1)}%`;
  dom.progress.setAttribute("aria-valuemax", rows.length);
  dom.progress.setAttribute("aria-valuenow", judged);
  Object.assign(root.dataset, { judged, cell: row?.cell ?? "", verdict: row?.verdict ?? "", playing: app.clock.playing() });
  dom.undo.disabled = !app.done.length;
  paintEstimates(app);
  dom.card.hidden = !row;
  if (!row) return app.say(app.ready ? "The rule changed no cell, so there is nothing to review." : "");
  paintCard(app, row);
  for (const [cell, item] of app.items) item.setAttribute("aria-selected", String(cell === row.cell));
  const item = app.items.get(row.cell);
  if (item) {
    const [box, list] = [item.getBoundingClientRect(), dom.list.getBoundingClientRect()];
    if (box.top < list.top) dom.list.scrollTop -= list.top - box.top; // scrollIntoView would move the notebook, too
    else if (box.bottom > list.bottom) dom.list.scrollTop += box.bottom - list.bottom;
  }
  return app.refresh();
}

function paintCard(app, row) {
  const { dom } = app;
  setText(dom.above, row.above.length ? `${row.above.join(", ")} ›` : "");
  setText(dom.className, row.class_name);
  const [from, to] = row.change.split(" → ");
  dom.change.replaceChildren(make("b", { "data-label": from }, from), " → ", make("b", { "data-label": to }, to));
  dom.scores.hidden = row.score === null;
  dom.score.firstChild.style.width = `${100 * (row.score ?? 0)}%`;
  setText(dom.scoreText, row.score === null ? "" : row.score.toFixed(2));
  setText(dom.where, `${row.title === row.recording ? row.recording : `${row.title} · ${row.recording}`} · ${formatTime(row.start_s)} to ${formatTime(row.end_s)}`);
  dom.where.title = row.segment;
  const asked = row.masked ? "The rule hides this label as doubtful. Is the class there?" : `The rule says: ${row.accept}. Right?`;
  setText(dom.question, asked);
  const faces = row.masked ? ["Present", "Absent"] : [`Accept: ${row.accept}`, `Reject: ${opposite(row.accept)}`];
  [faces[0], faces[1], "Unsure"].forEach((text, at) => {
    const node = dom[["accept", "reject", "unsure"][at]];
    setText(node.firstChild, text);
    setText(node.lastChild, (row.masked ? "YNU" : "ARU")[at]);
    node.setAttribute("aria-pressed", String(row.verdict === [row.accept, opposite(row.accept), "unsure"][at]));
  });
  const info = row.silent ? { readable: false, problem: row.silent } : app.infos.get(row.recording);
  dom.stage.classList.toggle("atk-mute", Boolean(info && !info.readable));
  dom.silent.hidden = !info?.problem;
  setText(dom.silent, info?.problem ? (info.readable ? info.problem : `No sound: ${info.problem}. The cell can still be judged by its name.`) : "");
  dom.play.disabled = Boolean(info && !info.readable);
}

function paintEstimates(app) {
  const cards = app.estimates.map((told) => {
    const { value, range, rest, provisional } = wordsOf(told);
    const bar = make("span", { class: "atk-interval" });
    if (told.n) {
      const [line, dot] = [make("i"), make("b")];
      line.style.left = `${100 * told.low}%`;
      line.style.width = `${100 * (told.high - told.low)}%`;
      dot.style.left = `${100 * told.value}%`;
      bar.append(line, dot);
    }
    return make("div", { class: "atk-estimate", "data-change": told.change, "data-n": told.n, "data-value": told.n ? told.value.toFixed(4) : "" },
      make("div", {}, make("b", {}, told.change), make("span", { class: "atk-muted" }, ` ${told.meaning}`)),
      make("div", { class: "atk-number" }, make("strong", { class: "atk-num" }, value), make("span", { class: "atk-num atk-muted" }, range), provisional ? make("span", { class: "atk-provisional", title: "Not every drawn cell is judged yet, and those that are may not be typical." }, "provisional") : null),
      bar, make("div", { class: "atk-muted atk-small" }, rest));
  });
  app.dom.estimates.replaceChildren(...cards);
}

// ---------------------------------------------------------------- picture
function tilesOf(app, row, info, width = app.width) {
  const view = viewOf(row, info.duration_s);
  const zoom = clamp(Math.floor(Math.log((view.end - view.start) / Math.max(width, 100) / TILE_HOP_S) / Math.log(4)), 0, 6);
  const [first, last] = [Math.floor(view.start / tileSpan(zoom)), Math.ceil(view.end / tileSpan(zoom)) - 1];
  return Array.from({ length: Math.max(last - first + 1, 1) }, (_, step) => app.media.tile(row.recording, zoom, first + step));
}

function drawPicture(app) {
  const { dom, row } = app;
  const info = app.infos.get(row?.recording);
  if (!row || row.silent || !info?.readable) {
    app.root.dataset.ready = String(Boolean(row && (row.silent || info)));
    if (row) paintCard(app, row);
    return;
  }
  paintCard(app, row);
  app.width = Math.floor(dom.stage.getBoundingClientRect().width);
  if (app.width < 50) return;
  const height = app.settings.height || 180;
  const g = sharpContext(dom.canvas, app.width, height + AXIS_H);
  const view = viewOf(row, info.duration_s);
  const shade = SHADES[app.theme];
  const x = (time) => GUTTER_W + ((time - view.start) / (view.end - view.start)) * (app.width - GUTTER_W);
  const tiles = tilesOf(app, row, info);
  const here = tiles.filter(Boolean);
  app.root.dataset.ready = String(here.length === tiles.length);
  if (here.length === tiles.length && !app.levels) app.levels = levelsOf(here);
  const look = [app.theme, ...(app.levels ?? [0, 255])].join();
  if (app.look !== look) [app.look, app.ink] = [look, colourTable(app.theme, app.levels ?? [0, 255])];
  g.clearRect(0, 0, app.width, height + AXIS_H);
  g.save();
  g.beginPath();
  g.rect(GUTTER_W, 0, app.width - GUTTER_W, height);
  g.clip();
  g.fillStyle = INKS[app.theme][0];
  g.fillRect(GUTTER_W, 0, app.width, height);
  for (const tile of here) g.drawImage(paintTile(tile, look, app.ink), x(tile.start_s), 0, x(tile.end_s) - x(tile.start_s), height);
  for (const [from, to] of [[view.start, row.start_s], [row.end_s, view.end]]) {
    if (to - from < 1e-6) continue;
    g.fillStyle = shade.outside;
    g.fillRect(x(from), 0, x(to) - x(from), height);
    g.fillStyle = shade.edge;
    g.fillRect(x(from === view.start ? to : from) - 0.75, 0, 1.5, height);
  }
  g.restore();
  drawAxes(g, app, info, { view, height, x });
  drawHead(app);
}

function drawAxes(g, app, info, { view, height, x }) {
  g.font = `11px ${getComputedStyle(app.root).fontFamily}`;
  g.fillStyle = SHADES[app.theme].text;
  [g.textAlign, g.textBaseline] = ["right", "middle"];
  for (const hz of [250, 1000, 4000, 16000]) {
    const band = info.mel_hz.findIndex((centre) => centre >= hz);
    if (band > 0) g.fillText(hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`, GUTTER_W - 6, height * (1 - band / info.mel_hz.length));
  }
  const wish = (view.end - view.start) / Math.max((app.width - GUTTER_W) / 80, 1);
  const step = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600].find((each) => each >= wish) ?? 1800;
  [g.textAlign, g.textBaseline] = ["left", "top"];
  for (let tick = Math.ceil(view.start / step - 1e-9); tick * step <= view.end; tick++) {
    const at = x(tick * step);
    g.fillRect(Math.round(at), height, 1, 4);
    if (at < app.width - 30) g.fillText(formatTime(tick * step, step < 1 ? (step < 0.1 ? 2 : 1) : 0), at + 3, height + 5);
  }
}

function drawHead(app) {
  const { row, dom } = app;
  const info = app.infos.get(row?.recording);
  if (!info?.readable || row.silent || !app.width) return;
  const height = app.settings.height || 180;
  const g = sharpContext(dom.overlay, app.width, height + AXIS_H);
  g.clearRect(0, 0, app.width, height + AXIS_H);
  const view = viewOf(row, info.duration_s);
  const x = GUTTER_W + ((app.time - view.start) / (view.end - view.start)) * (app.width - GUTTER_W);
  g.fillStyle = SHADES[app.theme].head;
  g.fillRect(clamp(x, GUTTER_W, app.width - 1.5), 0, 1.5, height);
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
    a: accept, y: accept, r: reject, n: reject, u: () => app.row && judge(app, "unsure"), Space: toggle,
    j: () => move(app, 1), ArrowDown: () => move(app, 1), ArrowRight: () => move(app, 1), k: () => move(app, -1), ArrowUp: () => move(app, -1), ArrowLeft: () => move(app, -1),
    o: () => show(app, nextOpen(passing(app.rows, app.filter), app.row?.cell)), "Ctrl+z": takeBack, "?": () => toggleHelp(app),
  };
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
  const kept = app.stored === false ? "kept in the kernel only" : "saved";
  setText(app.dom.savedText, { saved: kept, saving: "saving", unsaved: `not saved: ${reason}` }[state]);
  app.dom.saved.title = state === "unsaved" ? `${count} kept in this browser. ${reason}` : app.stored === false ? "No store was given: verdicts end with the kernel." : "";
  app.dom.retry.hidden = app.dom.discard.hidden = !refused;
}

/** Ask for the cells until the kernel answers: it may be busy or still starting. */
async function greet(app) {
  app.ready = false;
  for (let tries = 0; !app.closed && !app.ready; tries++) {
    app.say(tries ? "Waiting for the kernel …" : "");
    try {
      const answer = await app.client.ask("hello", {}, tries ? 10000 : 6000);
      if (!app.closed) receiveReview(app, answer);
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
    model, dom: {}, settings: model.get("settings") ?? {}, rows: [], items: new Map(), infos: new Map(), sounds: new Map(), estimates: [], done: [],
    filter: { class_name: "", change: "", status: "" }, row: null, rule: "", ready: false, touched: false, theme: "light", time: 0, width: 0, levels: null,
  };
  app.root = make("div", { class: "atk-review", "data-testid": "review", role: "application", tabindex: "0", "aria-label": "Review of a rule. Press question mark for the keys." });
  app.client = createClient(model);
  app.say = (text, kind = "info") => { setText(app.dom.status, text); app.dom.status.dataset.kind = kind; };
  app.refresh = () => { app.frame ??= requestAnimationFrame(() => { app.frame = null; if (app.root.isConnected) drawPicture(app); }); };
  const fault = (error) => app.say(error.message || String(error), "error");
  app.media = createMedia(app.client, { onLoad: (recording) => recording === app.row?.recording && app.refresh(), onError: (error, recording) => recording === app.row?.recording && fault(error) });
  app.clock = createClock({ onTick: (time) => played(app, time), onHeard: () => {}, onEnd: (_, time) => played(app, time), onError: fault });
  buildPage(app);
  app.outbox = createOutbox({
    client: app.client, prefix: `audiotk:review:${model.get("review_id") ?? ""}:${model.get("labeler") ?? ""}:`,
    onStatus: (status) => showSaved(app, status), onAck: (message) => acknowledged(app, message),
    onRefused: (_, text) => greet(app).then(() => app.say(`Not saved: ${text}`, "error")),
  });
  app.client.on("error", (message) => app.say(message.text, "error"));
  el.append(app.root);
  return app;
}

function renderReview({ model, el }) {
  const app = createApp(model, el);
  const unshield = shieldKeys(app.root);
  bindKeys(app);
  const themes = watchTheme(app.root, () => app.settings.theme, (theme) => { app.theme = theme; app.refresh(); });
  const resized = new ResizeObserver(() => app.refresh());
  resized.observe(app.root);
  greet(app);
  return () => {
    app.closed = true;
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

export default { render: renderReview };
