// The cluster explorer: a map of false positives; select some, hear a sample, say what they are, promote them.

// ---------------------------------------------------------------- selecting
/** Ask for another selection; `aim` is the cluster that it will be, so that keys may come before the answer. */
async function choose(app, type, fields, words, aim = null) {
  const turn = (app.turn = {});
  app.aim = aim;
  if (words) app.say(words);
  app.root.dataset.busy = "true";
  try {
    const found = await app.client.ask(type, fields, 60000);
    if (app.closed || app.turn !== turn) return;
    takeState(app, found);
    if (words && app.dom.status.textContent === words) app.say("");
  } catch (error) {
    if (app.turn === turn) app.say(error.message, "error");
  } finally {
    if (app.turn === turn) [app.aim, app.root.dataset.busy] = [null, "false"];
  }
}

const chooseCluster = (app, cluster) => choose(app, "select", { cluster }, "", cluster);

function chooseRows(app, rows, adds) {
  const found = rows.filter((row) => !app.isTrue[row]);
  if (adds && app.members) app.members.forEach((is, row) => is && found.push(row));
  if (!found.length) return app.say("No false positive lies inside of the lasso; what was selected stays.");
  app.root.dataset.lassoed = String(new Set(found).size);
  return choose(app, "select", { rows: toBits(found, app.count) }, `Selecting ${many(found.length, "point")} …`);
}

const chooseNothing = (app) => app.selection && choose(app, "select", {}, "");
const more = (app) => (app.dom.more.disabled ? app.say("There are no more members.") : choose(app, "more", {}, ""));
const narrow = (app) => (!app.selection || app.dom.leave.hidden ? app.say("Nothing is refused, or nothing else is left.") : choose(app, "narrow", {}, ""));

function nextCluster(app, by) {
  const to = clusterBeside(app.clusters, app.aim ?? app.selection?.cluster ?? null, by);
  if (to) chooseCluster(app, to.cluster);
  else app.say(`This is the ${by > 0 ? "last" : "first"} cluster.`);
}

// ---------------------------------------------------------------- what the kernel says
/** Take a message with the state: what is selected, said, promoted. */
function takeState(app, told) {
  app.progress = told.progress;
  for (const row of told.clusters) {
    const at = app.clusters.findIndex(({ cluster }) => cluster === row.cluster);
    if (at >= 0) app.clusters[at] = row;
  }
  if (told.promoted) {
    app.promoted = told.promoted.map((bits) => fromBits(bits, app.count));
    app.isPromoted = app.promoted.reduce((all, bits) => all.map((is, row) => is | bits[row]), new Uint8Array(app.count));
    app.still = told.still === null ? null : fromBits(told.still, app.count);
    app.map.stale = true;
    fillColours(app);
  }
  app.purity = told.purity;
  if (told.selection !== undefined) takeSelection(app, told.selection);
  const { words, acts } = withPending(app.rows, told.undoable, app.outbox.pending());
  app.done = acts;
  const known = new Map(words);
  for (const row of app.rows) row.word = known.get(row.row) ?? row.word;
  app.rows.forEach((row) => markTile(app, row));
  paint(app);
}

function takeSelection(app, selection) {
  const held = app.row?.row;
  const isSame = app.selection?.key === selection?.key && app.selection?.size === selection?.size;
  app.selection = selection;
  app.members = selection ? fromBits(selection.rows, app.count) : null;
  app.map.stale = true;
  const rows = selection ? selection.sample.map((row) => ({ ...row, row: row.point, word: row.verdict })) : [];
  const isSamePage = rows.length === app.rows.length && rows.every(({ row }, at) => row === app.rows[at].row);
  if (isSamePage) rows.forEach((row, at) => { app.rows[at].word = row.word; });
  else {
    app.rows = rows;
    app.clock.stop();
    fillGrid(app);
  }
  if (!isSame) {
    app.themed = app.kinds.includes(selection?.theme) ? selection.theme : null;
    app.dom.note.value = "";
    app.gate = null;
    askDoor(app);
  }
  if (!isSamePage) {
    const first = app.rows.find(({ row }) => row === held) ?? app.rows.find(({ word }) => !word) ?? app.rows[0] ?? null;
    goTo(app, first);
  }
}

/** The kernel's word on an operation, of this view or another one. */
function settled(app, message, op) {
  const row = app.rows.find((each) => each.row === message.row);
  const isPending = app.outbox.pending().some((each) => each.row === message.row);
  if (row && !isPending) row.word = message.word;
  if (op?.uuid === app.waits) {
    app.waits = null;
    app.dom.note.value = "";
    app.say(`Promoted: ${op.name} as ${op.theme}. Ctrl+Z takes it back.`);
    if (app.selection) app.selection.promoted = app.selection.size;
  }
  takeState(app, message);
}

function refused(app, op, text) {
  if (op.kind === "judgement") return meet(app).then(() => app.say(`Not saved: ${text}`, "error"));
  app.outbox.discard([op]); // what cannot be promoted is no work that could be lost
  app.waits = null;
  paint(app);
  return meet(app).then(() => app.say(`${op.kind === "promote" ? "Not promoted" : "Not taken back"}: ${text}`, "error"));
}

/** Ask for everything until the kernel answers: it may be busy or still starting. */
async function meet(app) {
  app.ready = false;
  app.say("");
  for (let tries = 0; !app.closed && !app.ready; tries++) {
    if (tries) app.say("Waiting for the kernel …");
    try {
      const told = await app.client.ask("hello", {}, tries ? 10000 : 6000);
      if (app.closed) break;
      await begin(app, told);
      if (tries) app.say("");
    } catch (error) {
      if (!error.late) return app.say(error.message, "error");
    }
  }
  return app.closed ? undefined : app.outbox.pump();
}

async function begin(app, told) {
  Object.assign(app, { count: told.count, kinds: told.themes, clusters: told.clusters, mayPromote: told.may_promote, title: told.title, isPromoted: new Uint8Array(told.count) });
  if (!app.looks.size) {
    takePoints(app, await app.client.ask("points", {}, 60000));
    if (app.closed) return;
  }
  app.ready = true;
  app.waits = app.outbox.pending().find(({ kind }) => kind === "promote")?.uuid ?? null;
  setText(app.dom.notes, told.notes.join(" "));
  app.dom.notes.hidden = !told.notes.length;
  setText(app.dom.empty, emptyWords(app));
  fillThemes(app);
  fillTable(app);
  takeState(app, told);
}

const emptyWords = (app) => {
  if (!app.clusters.length) return "There is nothing to hear.";
  return `${app.dom.stage ? "Draw around points, click one for its cluster, or press > for the first cluster." : "Draw around points in the map above (lasso), or press > for the first cluster."} Then hear a sample, say what each is, and promote what is pure.`;
};

// ---------------------------------------------------------------- the page
function buildExplorer(app) {
  const { dom } = app;
  dom.title = make("strong", { class: "atk-title" });
  dom.progressText = make("span", { class: "atk-muted atk-num" });
  dom.colour = make("select", { "aria-label": "Colour", class: "atk-colour", onchange: () => { setColour(app, dom.colour.value); app.focus(); } });
  dom.savedText = make("span");
  dom.saved = make("span", { class: "atk-saved", role: "status" }, make("i"), dom.savedText);
  dom.retry = button(app, { label: "Try again", class: "atk-link", hidden: true, act: () => app.outbox.retryRefused() });
  dom.discard = button(app, { label: "Dismiss", class: "atk-link", hidden: true, act: () => askToDiscard(app, () => meet(app)) });
  dom.status = make("div", { class: "atk-status", role: "status", "aria-live": "polite" });
  dom.notes = make("div", { class: "atk-notes", role: "note", hidden: true });
  dom.help = buildHelp(app);
  const head = make("div", { class: "atk-head" }, dom.title, make("label", { class: "atk-pair atk-muted" }, "colour", dom.colour), make("span", { class: "atk-gap" }), dom.progressText, dom.saved, dom.retry, dom.discard,
    button(app, { label: "Keys and help", key: "?", face: ["?"], act: () => toggleHelp(app) }));
  const left = make("div", { class: "atk-left" }, ...(app.model.get("map") === "canvas" ? [buildMap(app)] : []), buildTable(app));
  app.root.append(head, dom.notes, make("div", { class: "atk-both" }, left, buildPanel(app)), dom.status, dom.help);
  if (dom.stage) setMode(app, "lasso");
}

function fillColours(app) {
  const names = [...app.looks.keys(), "theme", ...(app.still ? ["after"] : [])];
  if (app.still && !app.hadStill) app.colour = "after";
  app.hadStill = Boolean(app.still);
  if (!names.includes(app.colour)) app.colour = "cluster";
  app.dom.colour.replaceChildren(...names.map((name) => make("option", { value: name }, COLOUR_WORDS[name])));
  app.dom.colour.value = app.root.dataset.colour = app.colour;
}

function setColour(app, by) {
  app.colour = app.dom.colour.value = app.root.dataset.colour = by;
  if (!app.dom.stage) app.client.tell({ type: "colour", by });
  redrawMap(app);
}

function paint(app) {
  setText(app.dom.title, app.title ?? "");
  setText(app.dom.progressText, (app.progress ?? "").split(", ").slice(1).join(", "));
  paintPanel(app);
  paintHear(app);
  paintTable(app);
  Object.assign(app.root.dataset, { ready: String(app.ready), promoted: String(app.isPromoted.reduce((sum, is) => sum + is, 0)) });
  app.refresh();
}

// ---------------------------------------------------------------- keys and life
const EXPLORER = {
  name: "explorer", key: "row", label: "Explorer of false positives.",
  words: { thing: "member", span: "segment", open: "next member without a verdict", undo: "undo the last verdict or promotion" },
  help: [
    ["F", "false positive: the class is not there"], ["T", "true event: it is there"], ["U", "unsure: one cannot tell"], ["M", "more members, drawn at random"],
    ["<, >", "previous, next cluster"], ["1, 2, 3", "theme"], ["N", "note"], ["P", "promote the selection"], ["X", "leave out what the door refuses"],
    ["L, H", "lasso, move the map"], ["+, −, 0", "zoom, see all"], ["C", "colour by something else"], ["Esc", "select nothing"],
  ],
  notes: [
    "Draw around points with the mouse (with Shift: add them), or click a point for its cluster. Those of no cluster are unassigned.",
    "Members drawn at random make the lower bound on purity. The typical one, those at the border and those near true events are chosen; they can only lower it.",
    "Promoting makes every member an explicit negative, less those heard as true events or unsure. Ctrl+Z takes a promotion back, days later, too.",
  ],
  silent: (_, row) => row.silent,
  heard: ({ start_s, end_s }, duration_s) => ({ start: start_s, end: Math.min(end_s, duration_s) }),
  kept: () => ["saved", ""],
};

function bindExplorer(app) {
  const cycle = () => {
    const names = [...app.dom.colour.options].map(({ value }) => value);
    setColour(app, names[(names.indexOf(app.colour) + 1) % names.length]);
  };
  const mapped = (act) => () => app.dom.stage && app.xy && act();
  const keys = {
    f: () => sayIt(app, "false"), t: () => sayIt(app, "true"), u: () => sayIt(app, "unsure"), m: () => more(app), p: () => promote(app), x: () => narrow(app),
    n: () => app.dom.note.focus(), Space: () => toggle(app), "Ctrl+z": () => undoLast(app), "?": () => toggleHelp(app), o: () => { const to = openAfter(app.rows, app.row); if (to) goTo(app, to); },
    1: () => chooseTheme(app, app.kinds[0]), 2: () => chooseTheme(app, app.kinds[1]), 3: () => chooseTheme(app, app.kinds[2]), c: cycle,
    l: mapped(() => setMode(app, "lasso")), h: mapped(() => setMode(app, "pan")), "+": mapped(() => zoomBy(app, 1.5)), "-": mapped(() => zoomBy(app, 1 / 1.5)), 0: mapped(() => seeAll(app)),
    ...Object.fromEntries(["j", "ArrowRight"].map((name) => [name, () => step(app, 1)])), ...Object.fromEntries(["k", "ArrowLeft"].map((name) => [name, () => step(app, -1)])),
    ArrowDown: () => step(app, columnsOf(app)), ArrowUp: () => step(app, -columnsOf(app)),
    ...Object.fromEntries(["<", ","].map((name) => [name, () => nextCluster(app, -1)])), ...Object.fromEntries([">", "."].map((name) => [name, () => nextCluster(app, 1)])),
  };
  app.root.addEventListener("keydown", (event) => {
    app.touched = true;
    const name = keyName(event);
    if (event.isComposing || !app.ready) return;
    if (name === "Escape") {
      app.say("");
      return escape(app);
    }
    const { tagName } = event.target;
    if (tagName === "INPUT") {
      if (name === "Enter") app.focus();
      return;
    }
    if (tagName === "SELECT" || (tagName === "BUTTON" && (name === "Space" || name === "Enter"))) return;
    const act = keys[name];
    if (!act) return;
    event.preventDefault();
    if (!app.dom.help.hidden && name !== "?") return;
    if (event.repeat && !/Arrow|^[jk+-]$/.test(name)) return;
    app.say(""); // what was said belonged to what was done before; no answer of the kernel takes it away
    act();
  });
  app.root.addEventListener("pointerdown", (event) => {
    app.touched = true;
    if (event.target !== app.dom.status) app.say("");
  });
}

/** Leave what is open: the help, the note, a lasso, and last the selection. */
function escape(app) {
  const { map, dom } = app;
  if (!dom.help.hidden) toggleHelp(app, false);
  else if (document.activeElement === dom.note) app.focus();
  else if (map.drag) {
    [map.drag, map.path] = [null, []];
    app.refresh();
  } else chooseNothing(app);
  app.focus();
}

const columnsOf = (app) => {
  const tops = [...app.dom.grid.children].map((node) => node.offsetTop);
  return Math.max(tops.filter((top) => top === tops[0]).length, 1);
};

function createExplorer(model, el) {
  const app = {
    model, deck: EXPLORER, dom: {}, settings: model.get("settings") ?? {}, count: 0, clusters: [], kinds: [], looks: new Map(), xy: null, isTrue: new Uint8Array(0), isPromoted: new Uint8Array(0),
    promoted: [], still: null, members: null, selection: null, purity: null, rows: [], row: null, tiles: new Map(), lines: new Map(), infos: new Map(), sounds: new Map(), done: [], themed: null, gate: null, waits: null, aim: null,
    colour: "cluster", ready: false, touched: false, theme: "light", time: 0, mayPromote: false,
    map: { mode: "lasso", width: 0, height: 0, view: { x: 0, y: 0, scale: 1 }, home: null, path: [], drag: null, stale: true, middles: [] },
  };
  app.root = make("div", { class: "atk-widget atk-cards atk-explorer", "data-testid": "explorer", "data-map": model.get("map"), role: "application", tabindex: "0", "aria-label": `${EXPLORER.label} Press question mark for the keys.` });
  app.client = createClient(model);
  app.focus = () => app.root.focus({ preventScroll: true });
  app.say = (text, kind = "info") => { setText(app.dom.status, text); app.dom.status.dataset.kind = kind; };
  app.refresh = () => { app.frame ??= requestAnimationFrame(() => { app.frame = null; if (!app.root.isConnected || !app.ready) return; drawMap(app); drawGrid(app); }); };
  const fault = (error) => app.say(error.message || String(error), "error");
  const isShown = (recording) => app.rows.some((row) => row.recording === recording);
  app.media = createMedia(app.client, { onLoad: (recording) => isShown(recording) && app.refresh(), onError: (error, recording) => recording === app.row?.recording && fault(error) });
  app.clock = createClock({ onTick: (time) => tick(app, time), onHeard: () => {}, onEnd: (_, time) => tick(app, time), onError: fault });
  buildExplorer(app);
  app.outbox = createOutbox({
    client: app.client, prefix: `audiotk:explorer:${model.get("explorer_id") ?? ""}:${model.get("labeler") ?? ""}:`,
    onStatus: (status) => showSaved(app, status), onAck: (message, op) => settled(app, message, op), onRefused: (op, text) => refused(app, op, text),
  });
  app.client.on("error", (message) => app.say(message.text, "error"));
  app.client.on("state", (message) => app.ready && takeState(app, message));
  el.append(app.root);
  return app;
}

function render({ model, el }) {
  const app = createExplorer(model, el);
  bindExplorer(app);
  const end = beginView(app, (theme) => {
    app.map.stale = true;
    if (app.ready) paintTable(app);
    if (!app.dom.stage) app.client.tell({ type: "theme", theme });
  });
  const decoded = () => { app.media.forgetHalf(); app.refresh(); };
  model.on("change:ready", decoded); // a long recording was read to its end
  meet(app);
  return () => {
    model.off("change:ready", decoded);
    end();
  };
}

export default { render };
