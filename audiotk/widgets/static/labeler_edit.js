// Segment labeler, part 3: what keys, mouse and buttons do. Each function takes the app, the one object with the state.

// ---------------------------------------------------------------- operations
const newOperation = ({ item }, kind, payload) => ({
  uuid: newUuid(), kind, recording: item.recording, payload, seen_teacher: Boolean(item.teacher), at_client: new Date().toISOString(),
});

/** Send an operation; what it changes is shown at once, the store's word comes later. */
function commit(app, kind, payload) {
  const op = newOperation(app, kind, payload);
  take(app, op, patchOf(app.item, op));
  app.refresh();
}

/** Show what an operation changes, and send it. */
function take(app, op, patch) {
  if (patch) app.patches.set(op.uuid, patch);
  app.item = listOperation(applyOperation(app.item, op, app.patches), op, app.patches);
  app.outbox.add(op);
}

/** Undo the last operation, or (`again`) the last undo. */
function undo(app, again = false) {
  flushEdit(app);
  const list = again ? "redoable" : "undoable";
  const target = app.item[list][app.item[list].length - 1];
  if (!target) return app.say(again ? "Nothing to redo." : "Nothing to undo in this recording.");
  const op = newOperation(app, "undo", { target });
  const patch = app.patches.get(target);
  take(app, op, patch && { ...patch, before: patch.after, after: patch.before, target });
  if (!app.item.segments.some(({ id }) => id === app.selected)) app.selected = null;
  app.say(again ? "Redone." : "Undone.");
  return app.refresh();
}

// ---------------------------------------------------------------- segments
/** A new segment in the class that is chosen; selected, with its end ready for the arrow keys. */
function createSegment(app, from_s, to_s, class_name = app.brush) {
  const range = orderedRange(from_s, to_s, app.item.duration_s);
  if (!range) return app.say(`Too short: a segment has at least ${SHORTEST_S * 1000} ms.`, "warn");
  if (!class_name) return app.say("The list of classes is empty, so nothing can be labelled.", "error");
  flushEdit(app);
  const id = newUuid();
  app.select(id, "end");
  commit(app, "segment", { id, ...range, class_name });
  app.say(`${class_name}, ${(range.end_s - range.start_s).toFixed(3)} s`);
  if (app.settings.snap) tighten(app, ["start", "end"]);
  return id;
}

/** Change a segment on the screen; it is committed a moment later, or with the next action. */
function stage(app, segment, wait = 500) {
  clearTimeout(app.stageTimer);
  app.staged = segment;
  if (wait) app.stageTimer = setTimeout(() => flushEdit(app), wait);
  app.refresh();
}

/** Commit what is staged. */
function flushEdit(app) {
  clearTimeout(app.stageTimer);
  const staged = app.staged;
  app.staged = null;
  if (!staged) return;
  const kept = app.item.segments.find(({ id }) => id === staged.id);
  const same = kept && ["start_s", "end_s", "class_name", "note"].every((field) => kept[field] === staged[field]);
  if (!kept || same) return app.refresh();
  const { id, start_s, end_s, class_name, note } = staged;
  commit(app, "segment", { id, start_s, end_s, class_name, ...(note ? { note } : {}) });
  const looped = app.clock.looping();
  if (looped && app.loopOf === id) playLoop(app, true);
}

const selectedSegment = (app) => app.shownSegments().find(({ id }) => id === app.selected) ?? null;

/** The selected segment if it may be changed; says why not otherwise. */
function editable(app) {
  const segment = selectedSegment(app);
  if (!segment) return app.say("Select a segment first (Tab, or click its bar).", "warn"), null;
  if (!app.mine(segment)) return app.say(`This segment is ${segment.labeler}'s; you cannot change it.`, "warn"), null;
  return segment;
}

function nudge(app, by_s, edge = app.edge) {
  const segment = editable(app);
  if (!segment) return;
  const at = edge === "end" ? segment.end_s : segment.start_s;
  const moved = moveEdge(segment, edge, at + by_s, app.item.duration_s);
  stage(app, moved);
  app.show(edge === "end" ? moved.end_s : moved.start_s);
  app.say(`${moved.start_s.toFixed(3)} – ${moved.end_s.toFixed(3)} s, ${(moved.end_s - moved.start_s).toFixed(3)} s long`);
}

/** Give the class to the segment being made or selected; it is the class of the next ones, too. */
function chooseClass(app, name) {
  if (!app.classes.some((known) => known.name === name)) return;
  app.brush = name;
  const segment = selectedSegment(app);
  if (app.opened) app.opened.class_name = name;
  else if (segment && app.mine(segment)) {
    flushEdit(app);
    if (segment.class_name !== name) stage(app, { ...selectedSegment(app), class_name: name }, 0);
    flushEdit(app);
    app.say(`${name}, ${(segment.end_s - segment.start_s).toFixed(3)} s`);
  } else app.say(`New segments are ${name}.`);
  app.refresh();
}

function removeSegment(app) {
  const segment = editable(app);
  if (!segment) return;
  app.staged = null;
  clearTimeout(app.stageTimer);
  const order = app.shownSegments();
  const at = order.findIndex(({ id }) => id === segment.id);
  const next = order[at + 1] ?? order[at - 1];
  app.select(next?.id ?? null);
  commit(app, "delete", { id: segment.id });
  app.say(`Deleted ${segment.class_name}. U brings it back.`);
}

/** Select the next or previous segment and show it. */
function stepSegment(app, by) {
  flushEdit(app);
  const order = app.shownSegments();
  if (!order.length) return;
  const at = order.findIndex(({ id }) => id === app.selected);
  const ahead = order.findIndex(({ start_s }) => start_s >= app.time - 1e-6);
  const from = at >= 0 ? at + by : by > 0 ? (ahead < 0 ? 0 : ahead) : (ahead < 0 ? order.length : ahead) - 1;
  const segment = order[(from + order.length) % order.length];
  app.select(segment.id);
  if (!app.clock.playing()) app.time = segment.start_s;
  app.show(segment.start_s, segment.end_s);
  app.say(`${segment.class_name}, ${segment.start_s.toFixed(3)} – ${segment.end_s.toFixed(3)} s`);
}

/** Start a segment at the playhead; a second press moves the start. */
function openSegment(app) {
  flushEdit(app);
  app.select(null);
  app.opened = { start_s: app.now(), class_name: app.brush };
  app.say(`${app.brush} starts at ${formatTime(app.opened.start_s)}. Enter ends it, Esc forgets it.`);
  app.refresh();
}

function closeSegment(app) {
  const { start_s, class_name } = app.opened;
  app.opened = null;
  createSegment(app, start_s, app.now(), class_name);
}

/** Ask the kernel for the nearest evidence and move the edges there, as one operation. */
async function tighten(app, edges) {
  const segment = editable(app);
  if (!segment) return;
  flushEdit(app);
  const { recording } = app.item;
  const ask = (edge) => app.client.ask("snap", {
    recording, edge, at_s: edge === "start" ? segment.start_s : segment.end_s, class_name: segment.class_name,
  });
  try {
    const answers = await Promise.all(edges.map(ask));
    const now = app.shownSegments().find(({ id }) => id === segment.id);
    if (app.item.recording !== recording || !now) return;
    let moved = now;
    const told = edges.map((edge, place) => {
      const { to_s, evidence } = answers[place];
      if (evidence === "none") return `${edge}: no evidence near`;
      const from = edge === "start" ? moved.start_s : moved.end_s;
      moved = moveEdge(moved, edge, to_s, app.item.duration_s);
      return `${edge} ${to_s < from ? "−" : "+"}${Math.abs((to_s - from) * 1000).toFixed(0)} ms (${evidence})`;
    });
    stage(app, moved, 0);
    flushEdit(app);
    app.say(`Snapped: ${told.join(", ")}.`);
  } catch (error) {
    app.fault(error);
  }
}

// ---------------------------------------------------------------- claims, notes, heard ranges
/** The class the claim keys speak of: the clip's label, else the chosen class. */
const claimClass = (app) => app.item.claim ?? app.brush;

/** Say what became of a claim; the same verdict again takes it back. */
function giveVerdict(app, verdict, goOn = app.settings.auto_next) {
  const name = claimClass(app);
  if (!name) return app.say("There is no class to speak of.", "warn");
  flushEdit(app);
  flushHeard(app);
  const held = app.item.claims[name];
  const again = held === verdict;
  const marked = app.item.segments.filter((segment) => segment.class_name === name && app.mine(segment)).length;
  if (verdict === "confirmed" && !again && !marked) {
    return app.say(`Mark at least one range of ${name} first: confirmed means "it is there, and here".`, "warn");
  }
  commit(app, "claim", { class_name: name, verdict: again ? "open" : verdict });
  const heard = app.item.duration_s ? coveredSeconds(app.heardNow()) / app.item.duration_s : 0;
  const part = heard < 0.995 ? ` ${Math.round(heard * 100)} % was heard; the rest stays unknown.` : "";
  app.say(again ? `${name}: open again.` : `${name}: ${VERDICTS[verdict]}.${part}`);
  if (goOn && !again) step(app, 1);
  return undefined;
}

function writeNote(app, text) {
  if (text.trim() !== app.note()) commit(app, "note", { text: text.trim() });
}

/** Send what was heard since the last time. */
function flushHeard(app) {
  const ranges = mergeRanges(app.heardFresh, 0.001).map(([start, end]) => [roundTime(Math.max(start, 0)), roundTime(Math.min(end, app.item.duration_s))]);
  [app.heardFresh, app.heardAt] = [[], performance.now()];
  const useful = ranges.filter(([start, end]) => end - start > 0.001);
  const news = coveredSeconds([...app.item.heard, ...useful]) - coveredSeconds(app.item.heard);
  if (news > 0.001) commit(app, "heard", { ranges: useful });
}

// ---------------------------------------------------------------- playing
/** Samples of the shown recording for the clock. */
function loaderOf(app) {
  const { recording, duration_s } = app.item;
  return {
    chunk: (index) => app.media.chunk(recording, index, duration_s),
    sound: (start, end) => app.media.sound(recording, start, end, duration_s),
  };
}

function play(app, range) {
  if (!app.item.readable) return app.say(app.item.problem, "error");
  app.playing = range;
  app.clock.play({ ...range, load: loaderOf(app) });
  app.refresh();
  return undefined;
}

function togglePlay(app) {
  if (app.clock.playing()) return app.clock.stop();
  const from = app.time >= app.item.duration_s - 0.01 ? 0 : app.time;
  app.loopOf = null;
  return play(app, { start: 0, end: app.item.duration_s, from });
}

/** Play the selected segment (or what is seen) once. */
function playSelected(app) {
  const segment = selectedSegment(app) ?? { start_s: app.view.start, end_s: app.view.end };
  app.loopOf = null;
  play(app, { start: segment.start_s, end: segment.end_s });
}

/** Loop the selected segment (or what is seen); again: stop. */
function playLoop(app, anew = false) {
  if (app.clock.looping() && !anew) return app.clock.stop();
  const segment = selectedSegment(app);
  const [start, end] = segment ? [segment.start_s, segment.end_s] : [app.view.start, app.view.end];
  app.loopOf = segment?.id ?? null;
  const inside = anew && app.time > start && app.time < end;
  return play(app, { start, end, from: inside ? app.time : start, loop: true });
}

/** Put the playhead somewhere; what plays goes on from there. */
function seek(app, time) {
  app.time = clamp(time, 0, app.item.duration_s);
  if (app.clock.playing()) {
    app.loopOf = null;
    play(app, { start: 0, end: app.item.duration_s, from: app.time });
  }
  app.show(app.time);
}

function changeSpeed(app, by) {
  const { speeds } = app.settings;
  const at = speeds.indexOf(app.clock.rate());
  setSpeed(app, speeds[clamp(at + by, 0, speeds.length - 1)]);
}

function setSpeed(app, rate) {
  const { playing } = app;
  const was = app.clock.playing();
  const from = app.now();
  if (was) app.clock.stop("replaced");
  app.clock.setRate(rate);
  if (was) play(app, { ...playing, from: clamp(from, playing.start, playing.end) });
  app.say(rate === 1 ? "Speed 1×." : `Speed ${rate}×; the pitch goes with it.`);
  app.refresh();
}

/** Louder or softer, for the ear and for the picture alike. */
function changeGain(app, by_db) {
  app.gainDb = clamp(app.gainDb + by_db, -24, 48);
  app.gain = 10 ** (app.gainDb / 20);
  app.lift = (app.gainDb * 255) / 80;
  app.clock.setGain(app.gain);
  app.say(`Gain ${app.gainDb > 0 ? "+" : ""}${app.gainDb} dB, in sound and picture.`);
  app.refresh();
}

// ---------------------------------------------------------------- view
function zoom(app, factor, at = app.time >= app.view.start && app.time <= app.view.end ? app.time : (app.view.start + app.view.end) / 2) {
  app.view = zoomView(app.view, factor, at, app.item.duration_s);
  app.refresh();
}

/** See the selected segment closely; again (or without one): the whole recording. */
function fit(app) {
  const segment = selectedSegment(app);
  const { duration_s } = app.item;
  if (segment) {
    const margin = Math.max(segment.end_s - segment.start_s, 0.1) * 0.6;
    const close = fitView(segment.start_s - margin, segment.end_s + margin, duration_s);
    const there = Math.abs(close.start - app.view.start) + Math.abs(close.end - app.view.end) < 1e-6;
    app.view = there ? { start: 0, end: duration_s } : close;
  } else app.view = { start: 0, end: duration_s };
  app.refresh();
}

function pan(app, views) {
  const by = (app.view.end - app.view.start) * views;
  app.view = fitView(app.view.start + by, app.view.end + by, app.item.duration_s);
  app.refresh();
}

// ---------------------------------------------------------------- queue
/** Leave the recording as it is: nothing staged, nothing heard that was not sent. */
function leave(app) {
  app.clock.stop();
  flushEdit(app);
  flushHeard(app);
  app.known.set(app.item.position, app.item);
  if (app.opened) app.say("The open segment was not ended and is forgotten.", "warn");
  app.opened = null;
}

/** Ask for another recording; one that is known is shown at once and corrected by the answer. */
async function go(app, type, fields, guess) {
  if (app.item) leave(app);
  const known = guess !== null && app.known.get(guess);
  if (known) load(app, known);
  const turn = ++app.turn;
  try {
    const answer = await app.client.ask(type, fields);
    if (turn === app.turn) load(app, answer);
    return true;
  } catch (error) {
    if (turn === app.turn) app.fault(error);
    return false;
  }
}

function step(app, by) {
  if (app.queue.filtered) return go(app, "step", { by }, null);
  const to = app.item.position + by;
  if (to < 0 || to >= app.queue.total) return app.say(by > 0 ? "This is the last recording." : "This is the first recording.");
  return go(app, "open", { position: to }, to);
}
