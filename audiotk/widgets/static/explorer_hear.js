// The members that are heard: a grid of short players with their spectrograms, one key a verdict. Functions only.

const SAYS = { false: "False positive", true: "True event", unsure: "Unsure" };
const SIGNS = { false: "✓", true: "✗", unsure: "?", "": "" };
const SAID_VALUE = { false: 0, true: 1, unsure: null };
const WHYS = { medoid: "typical", border: "border", nearest: "near true", random: "random" };
const WHY_TITLES = {
  medoid: "The most typical member (medoid)", border: "At the border: far from the most typical member",
  nearest: "Nearest to true events", random: "Drawn at random: counts for the bound",
};
const THUMB_H = 76;

// ---------------------------------------------------------------- pure
/** The next row without a verdict after `row`, from the start again; null if there is none. */
function openAfter(rows, row) {
  const at = rows.indexOf(row);
  return [...rows.slice(at + 1), ...rows.slice(0, Math.max(at, 0))].find(({ word }) => !word) ?? null;
}

/** Zoom of the tiles that show `span` seconds on `width` pixels. */
const zoomOf = (span, width) => clamp(Math.floor(Math.log(span / Math.max(width, 100) / TILE_HOP_S) / Math.log(4)), 0, 6);

/** Verdicts and the stack of what can be undone, with operations that are not acknowledged yet on top. */
function withPending(rows, undoable, pending) {
  const words = new Map(rows.map(({ row, word }) => [row, word]));
  const acts = [...undoable];
  for (const op of pending) {
    if (op.kind === "judgement") {
      acts.push({ kind: "judgement", target: op.uuid, row: op.row, before: words.get(op.row) ?? "" });
      words.set(op.row, Object.keys(SAID_VALUE).find((word) => SAID_VALUE[word] === op.value));
    } else if (op.kind === "undo") {
      const at = acts.findIndex(({ target }) => target === op.target);
      const [gone] = at < 0 ? [] : acts.splice(at, 1);
      if (gone?.kind === "judgement") words.set(gone.row, op.before ?? "");
    }
  }
  return { words: [...words], acts };
}

// ---------------------------------------------------------------- the grid
function buildHear(app) {
  const { dom } = app;
  dom.grid = make("div", { class: "atk-grid", role: "listbox", "aria-label": "Members to hear" });
  dom.where = make("div", { class: "atk-where atk-muted" });
  dom.play = button(app, { label: "Play again, or stop", key: "Space", class: "atk-play", face: ["▶"], act: () => toggle(app) });
  const keys = { false: "F", true: "T", unsure: "U" };
  const verdicts = Object.keys(SAYS).map((word) => (dom[word] = button(app, {
    label: SAYS[word], key: keys[word], class: "atk-verdict", "data-word": word, "aria-label": null, face: [SAYS[word], keycap(keys[word])], act: () => sayIt(app, word),
  })));
  dom.before = button(app, { label: "Previous member", key: "K", face: ["‹"], act: () => step(app, -1) });
  dom.after = button(app, { label: "Next member", key: "J", face: ["›"], act: () => step(app, 1) });
  dom.more = button(app, { label: "More members, drawn at random", key: "M", class: "atk-more", face: ["More", keycap("M")], "aria-label": null, act: () => more(app) });
  dom.undo = button(app, { label: "Undo", key: "Ctrl+Z", face: ["↶"], act: () => undoLast(app) });
  const bar = make("div", { class: "atk-bar" }, dom.play, ...verdicts, make("span", { class: "atk-gap" }), dom.before, dom.after, dom.more, dom.undo);
  dom.hear = make("div", { class: "atk-hear" }, dom.grid, dom.where, bar);
  return dom.hear;
}

/** Make the tiles of a page. */
function fillGrid(app) {
  app.tiles = new Map(app.rows.map((row) => {
    const [canvas, head, mark, note] = [make("canvas"), make("i", { class: "atk-head-line" }), make("b", { class: "atk-mark" }), make("span", { class: "atk-no-sound" })];
    const name = make("span", { class: "atk-name" }, row.class_name);
    const why = make("span", { class: "atk-why", "data-why": row.why, title: WHY_TITLES[row.why] }, WHYS[row.why]);
    const node = make("div", { class: "atk-tile", role: "option", "data-row": row.row, title: `${row.class_name}\n${row.title}\n${row.segment}` },
      make("div", { class: "atk-thumb" }, canvas, head, note), make("div", { class: "atk-caption" }, mark, name, why));
    node.addEventListener("pointerdown", (event) => event.preventDefault());
    node.addEventListener("click", () => { app.focus(); goTo(app, row); });
    return [row.row, { node, canvas, head, mark, note }];
  }));
  app.dom.grid.replaceChildren(...[...app.tiles.values()].map(({ node }) => node));
  for (const row of app.rows) {
    markTile(app, row);
    soundOf(app, row).then(() => app.refresh());
  }
}

function markTile(app, row) {
  const tile = app.tiles.get(row.row);
  if (!tile) return;
  tile.node.dataset.word = row.word;
  setText(tile.mark, SIGNS[row.word]);
}

function drawGrid(app) {
  for (const row of app.rows) {
    const tile = app.tiles.get(row.row);
    const info = infoOf(app, row);
    setText(tile.note, info && !info.readable ? "no sound" : "");
    tile.note.title = info?.problem ?? "";
    if (!info?.readable) continue;
    const width = Math.floor(tile.canvas.parentElement.getBoundingClientRect().width);
    if (width < 20) continue;
    drawThumb(app, row, info, tile.canvas, width);
  }
  app.root.dataset.pictured = String(app.rows.filter((row) => row.pictured).length);
}

function drawThumb(app, row, info, canvas, width) {
  const [start, end] = [row.start_s, Math.min(row.end_s, info.duration_s)];
  if (end <= start) return;
  const zoom = zoomOf(end - start, width);
  const [first, last] = [Math.floor(start / tileSpan(zoom)), Math.max(Math.ceil(end / tileSpan(zoom)) - 1, Math.floor(start / tileSpan(zoom)))];
  const tiles = Array.from({ length: last - first + 1 }, (_, at) => app.media.tile(row.recording, zoom, first + at));
  if (!tiles.every(Boolean)) return;
  const stamp = [width, app.theme, devicePixelRatio].join();
  if (row.pictured === stamp) return;
  row.pictured = stamp;
  const levels = levelsOf(tiles);
  const look = [app.theme, ...levels].join();
  const ink = colourTable(app.theme, levels);
  const g = sharpContext(canvas, width, THUMB_H);
  g.fillStyle = INKS[app.theme][0];
  g.fillRect(0, 0, width, THUMB_H);
  const x = (time) => ((time - start) / (end - start)) * width;
  for (const tile of tiles) g.drawImage(paintTile(tile, look, ink), x(tile.start_s), 0, x(tile.end_s) - x(tile.start_s), THUMB_H);
}

/** What is current: in the grid, in words below it, on the buttons. */
function paintHear(app) {
  const { dom, row, rows, root } = app;
  dom.hear.hidden = !rows.length;
  for (const [at, { node, head }] of app.tiles) {
    const isNow = at === row?.row;
    node.setAttribute("aria-selected", String(isNow));
    if (!isNow) head.style.opacity = 0;
  }
  Object.assign(root.dataset, { at: row ? String(rows.indexOf(row)) : "", word: row?.word ?? "", judged: String(rows.filter(({ word }) => word).length), page: String(rows.length) });
  for (const word of Object.keys(SAYS)) dom[word].setAttribute("aria-pressed", String(row?.word === word));
  dom.undo.disabled = !app.done.length;
  if (!row) return;
  const info = infoOf(app, row);
  dom.play.disabled = Boolean(info && !info.readable);
  const level = row.level_dbfs === null ? "" : ` · ${decibels(row.level_dbfs)}`;
  const device = row.device ? ` · ${row.device}` : "";
  const problem = info && !info.readable ? ` · no sound: ${info.problem}` : "";
  setText(dom.where, `${rows.indexOf(row) + 1} of ${rows.length} · ${row.class_name} ${row.score.toFixed(2)} · ${row.title} ${formatTime(row.start_s)} – ${formatTime(row.end_s, 1)}${level}${device}${problem}`);
  dom.where.title = row.segment;
}

/** Make a member current, and play it once somebody has touched the page. */
async function goTo(app, row) {
  if (app.row !== row) app.clock.stop();
  app.row = row;
  paint(app);
  if (!row) return;
  const visit = (app.visit = {});
  const info = await soundOf(app, row);
  if (app.closed || app.row !== row) return;
  paintHear(app);
  if (info.readable && app.settings.autoplay !== false && app.touched && app.visit === visit) play(app);
  fetchAhead(app, openAfter(app.rows, row));
}

/** Have the sound of the next member here before it is its turn. */
async function fetchAhead(app, row) {
  if (!row) return;
  const info = await soundOf(app, row);
  const end = Math.min(row.end_s, info.duration_s ?? 0);
  if (!app.closed && info.readable && end > row.start_s) app.media.sound(row.recording, row.start_s, end, info.duration_s).catch(() => {});
}

function step(app, by) {
  const to = app.rows[app.rows.indexOf(app.row) + by];
  if (to) goTo(app, to);
  else if (app.rows.length) app.say(by > 0 ? "This is the last member of the page: M shows more of them." : "This is the first member.");
}

/** Where the sound is, as a line over the current tile. */
function tick(app, time) {
  app.time = time;
  const { row, root } = app;
  const playing = app.clock.playing();
  root.dataset.playing = String(playing);
  root.dataset.time = time.toFixed(3);
  setText(app.dom.play, playing ? "■" : "▶");
  const tile = app.tiles.get(row?.row);
  if (!tile) return;
  tile.head.style.opacity = playing ? 1 : 0;
  tile.head.style.left = `${clamp((100 * (time - row.start_s)) / (row.end_s - row.start_s), 0, 100)}%`;
}

// ---------------------------------------------------------------- verdicts
function sayIt(app, word) {
  const { row, selection } = app;
  if (!row || !selection) return app.say("Select a cluster or draw around points first.");
  const info = infoOf(app, row);
  if (info && !info.readable && word !== "unsure") return app.say(`It cannot be heard, so it can only be unsure: ${info.problem}`, "warn");
  const uuid = newUuid();
  app.done.push({ kind: "judgement", target: uuid, row: row.row, before: row.word });
  row.word = word;
  markTile(app, row);
  app.outbox.add({ uuid, kind: "judgement", row: row.row, value: SAID_VALUE[word], key: selection.key, why: row.why, at_client: new Date().toISOString() });
  const next = openAfter(app.rows, row);
  if (next) return goTo(app, next);
  app.visit = null;
  app.clock.stop();
  paint(app);
  return app.say(selection.drawn < selection.size ? "All of this page are judged. M shows more of them, P promotes." : "All members are judged. P promotes.");
}

function undoLast(app) {
  const last = app.done.pop();
  if (!last) return app.say("There is nothing to undo.");
  const row = app.rows.find((each) => each.row === last.row);
  const before = last.before ?? "";
  app.outbox.add({ uuid: newUuid(), kind: "undo", what: last.kind, target: last.target, before, at_client: new Date().toISOString() });
  if (last.kind === "promotion") {
    paint(app);
    return app.say(`Taken back: ${last.words}.`);
  }
  if (row) {
    row.word = before;
    markTile(app, row);
    goTo(app, row);
  }
  return app.say(row ? `Undone: ${row.class_name} is ${before ? SAYS[before].toLowerCase() : "open"} again.` : "Undone: the verdict on a member of another selection.");
}
