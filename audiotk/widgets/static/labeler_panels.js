// Segment labeler, part 5: the parts of the page around the canvases, and the panels in front of it.

const ICONS = {
  play: "M5 3.2v9.6L13 8z", pause: "M4.5 3h2.4v10H4.5zM9.1 3h2.4v10H9.1z",
  once: "M3 3h1.6v10H3zM6 4l5.4 4L6 12zM11.6 3h1.6v10h-1.6z",
  loop: "M4.5 4.2H10V2l3.6 3.1L10 8.2V6H6.2v3H4.5zM11.5 11.8H6V14l-3.6-3.1L6 7.8V10h3.8V7h1.7z",
  before: "M10.4 3.2 5.6 8l4.8 4.8", after: "M5.6 3.2 10.4 8l-4.8 4.8", less: "M3.5 8h9", more: "M3.5 8h9M8 3.5v9",
  undo: "M6 3.5 3 6.5l3 3M3.4 6.5h6a3.4 3.4 0 0 1 0 6.8H6.5", redo: "m10 3.5 3 3-3 3M12.6 6.5h-6a3.4 3.4 0 0 0 0 6.8h2.9",
  find: "M7 2.8a4.2 4.2 0 1 1 0 8.4 4.2 4.2 0 0 1 0-8.4M10.2 10.2l3.3 3.3", fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  snap: "M4 2.5v5a4 4 0 0 0 8 0v-5M2.6 5h2.8M10.6 5h2.8", bin: "M3 4.5h10M6.3 4.3V2.8h3.4v1.5M4.4 4.8l.6 8.4h6l.6-8.4",
};
const FILLED = new Set(["play", "pause", "once", "loop"]);

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", FILLED.has(name) ? "atk-icon atk-filled" : "atk-icon");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

const dotOf = (colour) => {
  const dot = make("i", { class: "atk-dot" });
  dot.style.background = colour;
  return dot;
};
const gap = () => make("span", { class: "atk-gap" });
const faint = (also = "") => make("span", { class: `atk-muted atk-num ${also}` });
const press = (app, label, key, face, act, rest) => button(app, { label, key, face: [icon(face)], act, ...rest });

// ---------------------------------------------------------------- the page
function buildHead(app) {
  const { dom } = app;
  dom.title = make("strong", { class: "atk-title" });
  dom.place = faint();
  dom.progress = make("span", { class: "atk-progress", role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0" }, make("i"));
  dom.progressText = faint();
  dom.savedText = make("span");
  dom.saved = make("span", { class: "atk-saved", role: "status" }, make("i"), dom.savedText);
  dom.retry = button(app, { label: "Try again", class: "atk-link", hidden: true, act: () => app.outbox.retryRefused() });
  dom.undo = press(app, "Undo", "U", "undo", () => undo(app));
  dom.redo = press(app, "Redo", "Shift+U", "redo", () => undo(app, true));
  dom.discard = button(app, { label: "Dismiss", class: "atk-link", hidden: true, act: () => askToDiscard(app) });
  return make("div", { class: "atk-head" },
    make("span", { class: "atk-group" },
      press(app, "Previous recording", "<", "before", () => step(app, -1)),
      press(app, "Next recording", ">", "after", () => step(app, 1))),
    dom.title, dom.place, gap(), make("span", { class: "atk-pair" }, dom.progressText, dom.progress),
    dom.saved, dom.retry, dom.discard, make("span", { class: "atk-group" }, dom.undo, dom.redo),
    press(app, "Find a recording", "O", "find", () => openList(app)),
    button(app, { label: "Keys and help", key: "?", face: ["?"], act: () => openHelp(app) }));
}

function buildClaim(app) {
  const { dom } = app;
  dom.claimWhat = make("span", { class: "atk-muted" });
  dom.claimDot = dotOf("");
  dom.claimName = make("strong", { class: "atk-tag" });
  dom.verdicts = {};
  const verdict = (name, label, key) => (dom.verdicts[name] = button(app, {
    label, key, face: [label, keycap(key)], "aria-pressed": "false", "data-verdict": name, act: () => giveVerdict(app, name),
  }));
  dom.heardText = faint();
  dom.under = faint("atk-wide");
  dom.heard = make("span", { class: "atk-progress atk-heard" }, make("i"));
  return make("div", { class: "atk-claim" }, dom.claimWhat, dom.claimDot, dom.claimName,
    make("span", { class: "atk-group", role: "group", "aria-label": "Verdict on the claim" },
      verdict("confirmed", "Confirmed", "C"), verdict("not_found", "Not found", "N"), verdict("unsure", "Unsure", "M")),
    gap(), dom.under, make("span", { class: "atk-pair" }, dom.heardText, dom.heard));
}

function buildStage(app) {
  const { dom } = app;
  dom.overview = make("canvas", { class: "atk-overview" });
  dom.overviewHead = make("i", { class: "atk-head-line" });
  dom.main = make("canvas", { class: "atk-main" });
  dom.overlay = make("canvas", { class: "atk-overlay" });
  dom.blind = make("div", { class: "atk-blind", hidden: true }, "Teacher scores are hidden until your first label.");
  dom.problemText = make("p");
  dom.warning = make("div", { class: "atk-warning", role: "alert", hidden: true });
  dom.problem = make("div", { class: "atk-problem", role: "alert", hidden: true }, make("strong", {}, "This recording cannot be shown"),
    dom.problemText, button(app, { label: "Go on to the next", key: ">", class: "atk-main-button", act: () => step(app, 1) }));
  return [
    dom.warning, make("div", { class: "atk-strip", "aria-hidden": "true" }, dom.overview, dom.overviewHead),
    make("div", { class: "atk-stage" }, dom.main, dom.overlay, dom.blind, dom.problem),
  ];
}

function buildTransport(app) {
  const { dom } = app;
  dom.play = press(app, "Play", "Space", "play", () => togglePlay(app), { class: "atk-play" });
  dom.loop = press(app, "Loop the selection", "L", "loop", () => playLoop(app), { "aria-pressed": "false" });
  dom.time = make("span", { class: "atk-time atk-num" });
  dom.whole = faint("atk-wide");
  dom.speed = make("span", { class: "atk-value atk-num" });
  dom.gain = make("span", { class: "atk-value atk-num" });
  return make("div", { class: "atk-transport" },
    dom.play, press(app, "Play the selection once", "P", "once", () => playSelected(app)), dom.loop, dom.time, dom.whole,
    gap(),
    knob("speed", press(app, "Slower; the pitch goes with it", "[", "less", () => changeSpeed(app, -1)), dom.speed, press(app, "Faster; the pitch goes with it", "]", "more", () => changeSpeed(app, 1))),
    knob("gain", press(app, "Softer, in sound and picture", "↓", "less", () => changeGain(app, -3)), dom.gain, press(app, "Louder, in sound and picture", "↑", "more", () => changeGain(app, 3))),
    knob("zoom", press(app, "Zoom out", "−", "less", () => zoom(app, 1.5)), press(app, "Fit the segment, the whole", "F", "fit", () => fit(app)), press(app, "Zoom in", "+", "more", () => zoom(app, 1 / 1.5))));
}
const knob = (name, ...parts) => make("span", { class: "atk-group atk-knob" }, make("span", { class: "atk-muted" }, name), ...parts);

function buildClasses(app) {
  app.dom.classes = make("div", { class: "atk-classes", role: "group", "aria-label": "Classes" });
  return app.dom.classes;
}

function fillClasses(app) {
  const chips = app.classes.slice(0, 18).map(({ name, key, colour }) => button(app, {
    label: name, key, class: "atk-chip", face: [dotOf(colour), make("span", {}, name), key ? keycap(key) : null],
    "data-class": name, "aria-pressed": "false", act: () => chooseClass(app, name),
  }));
  const more = button(app, { label: "Find a class", key: "/", class: "atk-chip", face: [app.classes.length > 18 ? `${app.classes.length - 18} more` : "find", keycap("/")], act: () => openPalette(app) });
  app.dom.classes.replaceChildren(...chips, more);
}

function buildInspector(app) {
  const { dom } = app;
  const field = (name, label) => {
    const input = make("input", { type: "number", step: "0.001", min: "0", inputmode: "decimal", "data-field": name });
    input.addEventListener("change", () => editField(app, name, input));
    dom[name] = input;
    return make("label", {}, label, input);
  };
  dom.chosenName = button(app, { label: "Change the class", key: "Enter", class: "atk-chip", face: [dotOf(""), make("span")], act: () => openPalette(app) });
  dom.segmentNote = make("input", { type: "text", placeholder: "segment note", maxlength: "500", "aria-label": "Note on this segment" });
  dom.segmentNote.addEventListener("change", () => {
    const segment = editable(app);
    if (segment) stage(app, { ...segment, note: dom.segmentNote.value.trim() }, 0);
    flushEdit(app);
  });
  dom.fields = make("span", { class: "atk-fields" }, dom.chosenName, field("start_s", "start"), field("end_s", "end"), field("length_s", "length"),
    press(app, "Snap both edges to the nearest evidence", "T", "snap", () => tighten(app, ["start", "end"])),
    press(app, "Delete the segment", "Del", "bin", () => removeSegment(app)));
  dom.hint = make("span", { class: "atk-muted" }, "Drag in the picture to mark a sound, or ", keycap("S"), " … ", keycap("Enter"),
    " at the playhead", make("span", { class: "atk-wide" }, ", or hold ", keycap("1"), " – ", keycap("9"), " while you hear it"), ".");
  dom.note = make("input", { type: "text", placeholder: "recording note", maxlength: "2000", "aria-label": "Note on this recording" });
  dom.note.addEventListener("change", () => writeNote(app, dom.note.value));
  return make("div", { class: "atk-inspector" }, dom.fields, dom.hint, make("span", { class: "atk-notes" }, dom.segmentNote, dom.note));
}

/** A typed time: start and end are taken as they are, the length moves the end. */
function editField(app, name, input) {
  const segment = editable(app);
  const value = input.valueAsNumber;
  if (!segment) return;
  const range = {
    start_s: () => orderedStrict(value, segment.end_s, app.item.duration_s),
    end_s: () => orderedStrict(segment.start_s, value, app.item.duration_s),
    length_s: () => orderedStrict(segment.start_s, segment.start_s + value, app.item.duration_s),
  }[name]();
  if (!range) {
    app.say(`A segment lies inside 0 – ${app.item.duration_s.toFixed(3)} s and starts before it ends.`, "warn");
    return app.refresh();
  }
  stage(app, { ...segment, ...range }, 0);
  flushEdit(app);
  return app.show(range.start_s, range.end_s);
}
const orderedStrict = (start, end, duration_s) => (start >= 0 && end <= duration_s + 1e-6 && end - start >= SHORTEST_S ? orderedRange(start, end, duration_s) : null);

// ---------------------------------------------------------------- keeping it true
function showPage(app) {
  const { dom, item, queue } = app;
  setText(dom.title, item.title);
  dom.title.title = item.title;
  setText(dom.place, `${item.position + 1} of ${queue.total}${queue.filtered ? " · filtered" : ""}`);
  const { done = 0, total = 0 } = app.progress;
  setText(dom.progressText, total ? `${app.settings.claims === false ? "labelled" : "claims"} ${done} / ${total}` : "");
  dom.progress.firstChild.style.width = `${total ? (100 * done) / total : 0}%`;
  dom.progress.setAttribute("aria-valuenow", done);
  dom.progress.setAttribute("aria-valuemax", total);
  dom.problem.hidden = item.readable;
  dom.warning.hidden = !item.readable || !item.problem;
  for (const node of [dom.problemText, dom.warning]) setText(node, item.problem ?? "");
  dom.undo.disabled = !item.undoable.length && !app.staged;
  dom.redo.disabled = !item.redoable.length;
  if (document.activeElement !== dom.note) dom.note.value = app.note();
  showClaim(app);
  showInspector(app);
  showHeard(app);
  showPlayback(app);
  showMirror(app);
}

function showClaim(app) {
  const { dom, item } = app;
  const name = claimClass(app);
  setText(dom.claimWhat, item.claim && name === item.claim ? "Clip label" : "Class");
  setText(dom.claimName, name ?? "none");
  dom.claimDot.style.background = app.colourOf(name);
  const held = item.claims[name] ?? "open";
  for (const [verdict, node] of Object.entries(dom.verdicts)) node.setAttribute("aria-pressed", String(held === verdict));
  for (const chip of dom.classes.children) {
    chip.setAttribute("aria-pressed", String(chip.dataset.class === app.brush));
    const verdict = item.claims[chip.dataset.class];
    if (chip.dataset.class) chip.dataset.verdict = verdict ?? "open";
  }
}

function showHeard(app) {
  const { dom, item } = app;
  const part = item.duration_s ? clamp(coveredSeconds(app.heardNow()) / item.duration_s, 0, 1) : 0;
  setText(dom.heardText, `heard ${part > 0.995 ? 100 : Math.floor(part * 100)} %`);
  dom.heard.firstChild.style.width = `${part * 100}%`;
}

function showInspector(app) {
  const { dom } = app;
  const segment = selectedSegment(app);
  dom.fields.hidden = dom.segmentNote.hidden = !segment;
  dom.hint.hidden = Boolean(segment);
  if (!segment) return;
  setText(dom.chosenName.lastChild, segment.class_name ?? "?");
  dom.chosenName.firstChild.style.background = app.colourOf(segment.class_name);
  const values = { start_s: segment.start_s, end_s: segment.end_s, length_s: segment.end_s - segment.start_s };
  for (const [name, value] of Object.entries(values)) {
    if (document.activeElement !== dom[name]) dom[name].value = value.toFixed(3);
    dom[name].disabled = !app.mine(segment);
    dom[name].parentElement.classList.toggle("atk-active", (name === "start_s" && app.edge === "start") || (name === "end_s" && app.edge === "end"));
  }
  if (document.activeElement !== dom.segmentNote) dom.segmentNote.value = segment.note ?? "";
}

function showPlayback(app) {
  const { dom, clock } = app;
  const playing = clock.playing();
  if (dom.play.dataset.face !== String(playing)) {
    dom.play.dataset.face = String(playing);
    dom.play.replaceChildren(icon(playing ? "pause" : "play"));
    dom.play.setAttribute("aria-label", playing ? "Pause" : "Play");
  }
  dom.loop.setAttribute("aria-pressed", String(Boolean(clock.looping())));
  setText(dom.time, formatTime(app.time));
  setText(dom.whole, `of ${formatTime(app.item.duration_s)}`);
  setText(dom.speed, `${clock.rate()}×`);
  setText(dom.gain, `${app.gainDb > 0 ? "+" : ""}${app.gainDb} dB`.replace("-", "−"));
  app.root.dataset.playing = String(playing);
  app.root.dataset.time = app.time.toFixed(4);
}

/** The same as the picture, for tests and for those who do not see it. */
function showMirror(app) {
  const { root, item, dom } = app;
  Object.assign(root.dataset, { recording: item.recording, position: item.position, selected: app.selected ?? "", edge: app.edge });
  const rows = app.shownSegments().map((segment) => {
    const { id, start_s, end_s, class_name } = segment;
    const text = `${class_name}, ${start_s.toFixed(3)} to ${end_s.toFixed(3)} seconds${id === app.selected ? ", selected" : ""}`;
    return make("li", { "data-id": id, "data-start": start_s, "data-end": end_s, "data-class": class_name ?? "", "data-labeler": segment.labeler ?? "" }, text);
  });
  const now = JSON.stringify(rows.map((row) => [row.textContent, row.dataset.id]));
  if (now !== app.mirrored) dom.mirror.replaceChildren(...rows);
  app.mirrored = now;
}

// ---------------------------------------------------------------- panels
function openPanel(app, name, label, ...children) {
  closePanel(app);
  const panel = make("div", { class: `atk-panel atk-${name}`, role: "dialog", "aria-label": label, "data-panel": name, tabindex: "-1" }, ...children);
  const veil = make("div", { class: "atk-veil", onpointerdown: (event) => event.target === veil && (event.preventDefault(), closePanel(app)) }, panel);
  app.panel = veil;
  app.root.append(veil);
  (panel.querySelector("input") ?? panel).focus({ preventScroll: true });
}

function closePanel(app) {
  if (!app.panel) return;
  const had = app.panel.contains(document.activeElement);
  app.panel.remove();
  app.panel = null;
  if (had) app.focus();
}

/** A list under a text field: arrows move, Enter takes, Esc leaves. `fill(text)` gives (a promise of) [{face, take}]. */
function pickList(app, { field, list, fill, onKey }) {
  let [rows, at, turn] = [[], 0, 0];
  list.id = `atk-${newUuid()}`;
  for (const [name, value] of Object.entries({ role: "combobox", "aria-expanded": "true", "aria-controls": list.id })) field.setAttribute(name, value);
  const mark = () => {
    [...list.children].forEach((node, place) => node.setAttribute("aria-selected", String(place === at)));
    field.setAttribute("aria-activedescendant", list.children[at]?.id ?? "");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };
  const take = (place) => rows[place]?.take?.();
  const look = async () => {
    const mine = ++turn;
    const found = await fill(field.value);
    if (mine !== turn) return;
    [rows, at] = [found, 0];
    list.replaceChildren(...rows.map(({ face }, place) => make("li", { role: "option", id: `${list.id}-${place}`, onpointerdown: (event) => event.preventDefault(), onclick: () => take(place) }, ...face)));
    mark();
  };
  field.addEventListener("input", look);
  field.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) at = clamp(at + by, 0, Math.max(rows.length - 1, 0));
    else if (event.key === "Enter") take(at);
    else if (!onKey?.(event)) return;
    event.preventDefault();
    mark();
  });
  look();
  return look;
}

function openPalette(app) {
  flushEdit(app);
  const field = make("input", { type: "text", placeholder: "class …", "aria-label": "Class", autocomplete: "off", spellcheck: "false" });
  const list = make("ul", { role: "listbox", "aria-label": "Classes" });
  openPanel(app, "palette", "Choose a class", field, list);
  const names = app.classes.map(({ name }) => name);
  pickList(app, {
    field, list,
    fill: (text) => matchClasses(names, text).slice(0, 200).map((name) => {
      const { key, colour } = app.classes.find((known) => known.name === name);
      return { face: [dotOf(colour), make("span", {}, name), key ? keycap(key) : null], take: () => { closePanel(app); chooseClass(app, name); } };
    }),
  });
}

const STATUS = { "": "all", open: "open", confirmed: "confirmed", not_found: "not found", unsure: "unsure", problem: "problems" };

function openList(app) {
  flushEdit(app);
  const field = make("input", { type: "text", placeholder: "find a recording …", "aria-label": "Find a recording", autocomplete: "off", spellcheck: "false" });
  const status = make("select", { "aria-label": "Status" }, ...Object.entries(STATUS).map(([value, text]) => make("option", { value }, text)));
  const list = make("ul", { role: "listbox", "aria-label": "Recordings" });
  const foot = faint();
  [field.value, status.value] = [app.filter.text, app.filter.status];
  const narrow = async (text, wanted) => {
    closePanel(app);
    if (await go(app, "filter", { text, status: wanted }, null)) app.filter = { text, status: wanted };
  };
  const keep = button(app, { label: "Work through these", class: "atk-main-button", act: () => narrow(field.value, status.value) });
  const clear = button(app, { label: "Show all again", class: "atk-link", act: () => narrow("", "") });
  clear.hidden = !app.queue.filtered;
  openPanel(app, "list", "Recordings", make("div", { class: "atk-row" }, field, status), list, make("div", { class: "atk-row" }, foot, gap(), clear, keep));
  let page = 0;
  const fetchRows = async (text) => {
    try {
      const answer = await app.client.ask("list", { text, status: status.value, page });
      const [first, last] = [page * 50, page * 50 + answer.rows.length];
      setText(foot, answer.total > last || page ? `${first + 1}–${last} of ${answer.total}` : `${answer.total} recordings`);
      const rows = answer.rows.map((row) => ({ face: rowFace(row), take: () => { closePanel(app); go(app, "open", { position: row.position }, row.position); } }));
      const turn = (label, to) => ({ face: [make("span", { class: "atk-muted" }, label)], take: () => { page = to; look(); } });
      return [...(page ? [turn("earlier …", page - 1)] : []), ...rows, ...(answer.total > last ? [turn("more …", page + 1)] : [])];
    } catch (error) {
      setText(foot, error.message);
      return [];
    }
  };
  field.addEventListener("input", () => { page = 0; });
  const look = pickList(app, { field, list, fill: fetchRows });
  status.addEventListener("change", () => { page = 0; look(); });
}

function rowFace({ position, title, status, claim, n_segments, problem }) {
  return [
    make("span", { class: "atk-muted atk-num" }, String(position + 1)), make("span", { class: "atk-grow", title: problem ?? title }, title),
    make("span", { class: "atk-muted" }, claim ?? ""), make("span", { class: "atk-muted atk-num" }, n_segments ? `${n_segments} ×` : ""),
    make("span", { class: "atk-status-tag", "data-status": status }, STATUS[status]),
  ];
}

const HELP = [
  ["Listen", [["Space", "play, pause"], ["P", "play the selection once"], ["L", "loop the selection"], ["[ ]", "slower, faster (pitch follows)"], ["↑ ↓", "gain, in sound and picture"], ["← →", "move the playhead (Shift: further)"], ["Home End", "to the beginning, the end"]]],
  ["See", [["+ −", "zoom (or the wheel)"], ["F", "fit the segment, the whole"], ["Page ↑ ↓", "a view back, forth"], ["Esc", "leave, select nothing"]]],
  ["Mark", [["S", "start a segment at the playhead"], ["Enter", "end it there"], ["1 – 9", "class of the segment"], ["hold 1 – 9", "mark while you hear it"], ["/", "find a class by typing"], ["drag", "in the picture: a new segment"], ["Del", "delete the segment"]]],
  ["Refine", [["Tab", "next segment (Shift: previous)"], ["← →", "move the edge 10 ms (Shift: 100 ms)"], ["Alt ← →", "move the whole segment"], ["E", "the other edge"], ["T", "snap both edges (Shift: this edge)"], ["I", "type the times"], ["W", "write a note"]]],
  ["Decide", [["C", "confirmed, with its ranges"], ["N", "not found"], ["M", "maybe: unsure"], ["Shift C N M", "decide and go on"], ["< >", "previous, next recording"], ["O", "find, filter recordings"], ["U", "undo (or Ctrl Z)"], ["Shift U", "redo"]]],
];

function openHelp(app) {
  const groups = HELP.map(([name, rows]) => make("section", {}, make("h4", {}, name),
    ...rows.map(([keys, text]) => make("p", {}, make("span", {}, ...keys.split(" ").map((key) => (/^(–|drag|hold)$/.test(key) ? key : keycap(key)))), text))));
  const words = make("p", { class: "atk-muted" }, "Green shows what you have heard: \"not found\" counts there as a real no, and what was never played stays unknown. ",
    "Each change is stored at once; \"saved\" means that it is on the disk.");
  openPanel(app, "help", "Keys", make("div", { class: "atk-help-grid" }, ...groups), words);
}
