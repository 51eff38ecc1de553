// Segment labeler, part 6: the life of the widget.

// ---------------------------------------------------------------- state
/** A message about a recording as the state that is shown: complete, with unsent operations on top. */
function completeItem(app, message) {
  const { teacher } = message;
  let item = { ...message, segments: sortSegments(message.segments), teacher: teacher && unpackTeacher(teacher, message.buffers) };
  for (const op of app.outbox.pending()) {
    if (op.recording === item.recording) item = listOperation(applyOperation(item, op, app.patches), op, app.patches);
  }
  return item;
}

function unpackTeacher(teacher, buffers) {
  if (teacher.scores) return teacher;
  const [scores, times] = buffers.map((buffer) => new Float32Array(bytesOf(buffer).buffer));
  return { ...teacher, scores, times };
}

/** Show a recording; the same one again only brings its state up to date. */
function load(app, message) {
  const before = app.item;
  const same = before?.recording === message.recording;
  app.item = completeItem(app, message);
  app.known.set(app.item.position, message);
  for (const position of app.known.keys()) if (app.known.size > 12) app.known.delete(position);
  if (!same) {
    app.clock.stop();
    const { claim, duration_s } = app.item;
    Object.assign(app, { selected: null, edge: "end", opened: null, staged: null, held: null, drag: null, heardFresh: [], time: 0, levels: null });
    app.view = { start: 0, end: Math.min(duration_s, duration_s <= 30 ? 30 : 20) || 1 };
    keepBrush(app, claim);
    app.say(""); // what was said belonged to the recording before
  }
  app.refresh();
}

/** The class of new segments is one of the list. */
function keepBrush(app, wish = app.brush) {
  const has = (name) => app.classes.some((known) => known.name === name);
  app.brush = has(wish) ? wish : has(app.brush) ? app.brush : app.classes[0]?.name ?? null;
}

/** Ask for what the next recording will show first, while this one is looked at. */
function warm(app, message) {
  if (!message.readable || !message.duration_s) return;
  const view = { start: 0, end: Math.min(message.duration_s, message.duration_s <= 30 ? 30 : 20) };
  const { recording, duration_s } = message;
  const wish = peaksFor(view, devicePixels(app.layout.plot), duration_s);
  app.media.peaks(recording, wish.start, wish.end, wish.n);
  app.media.peaks(recording, 0, duration_s, clamp(devicePixels(app.layout.plot), 1, 4000));
  const { zoom: level, indexes } = tilesFor(view, app.layout.plot, duration_s);
  indexes.forEach((index) => app.media.tile(recording, level, index));
  warmSound(app, message);
}

/** Ask for the first sound of a recording, once. */
function warmSound(app, { recording, duration_s }) {
  if (app.warmed.has(recording)) return;
  app.warmed.add(recording);
  app.media.chunk(recording, 0, duration_s).catch(() => {}); // asked again, and told, when it is played
}

/** The store's word on an operation: its lists of what can be undone are true once nothing else is under way. */
function acknowledged(app, message, op) {
  if (message.progress) app.progress = message.progress;
  if (!app.item || op?.recording !== app.item.recording) return app.refresh();
  if (!app.outbox.pending().some(({ recording }) => recording === app.item.recording)) {
    app.item = { ...app.item, undoable: message.undoable ?? app.item.undoable, redoable: message.redoable ?? app.item.redoable };
  }
  return app.refresh();
}

function showSaved(app, { state, count, reason, refused }) {
  const { dom, root } = app;
  root.dataset.saved = state;
  root.dataset.unsent = count;
  setText(dom.savedText, { saved: "saved", saving: "saving", unsaved: `not saved: ${reason}` }[state]);
  dom.savedText.title = state === "unsaved" ? `${count} operation${count > 1 ? "s" : ""} kept in this browser. ${reason}` : "";
  dom.retry.hidden = dom.discard.hidden = !refused;
}

// ---------------------------------------------------------------- the app
function createApp(model, el) {
  const app = {
    model, dom: {}, classes: completeClasses(model.get("classes")), settings: model.get("settings"), queue: model.get("queue"),
    item: null, patches: new Map(), known: new Map(), warmed: new Set(), heardFresh: [], turn: 0, time: 0, view: { start: 0, end: 1 }, selected: null, edge: "end",
    opened: null, staged: null, held: null, drag: null, brush: null, gainDb: 0, gain: 1, lift: 0, panel: null, boxes: [], width: 0,
    filter: { text: "", status: "" }, theme: "light", colours: PALETTES.light, font: "12px sans-serif", loopOf: null,
  };
  app.progress = app.queue.claims;
  app.root = make("div", { class: "atk-widget atk-labeler", "data-testid": "labeler", role: "application", tabindex: "0", "aria-label": "Segment labeler. Press question mark for the keys." });
  app.client = createClient(model);
  addQuestions(app);
  addActions(app);
  app.media = createMedia(app.client, { onLoad: () => app.refresh(), onError: (error, recording) => recording === app.item?.recording && app.fault(error) });
  app.clock = createClock({
    onTick: (time) => ticked(app, time),
    onHeard: (ranges) => { app.heardFresh = mergeRanges([...app.heardFresh, ...ranges], 0.001); },
    onEnd: (reason, time) => stopped(app, reason, time),
    onError: (error) => app.fault(error),
  });
  buildPage(app);
  app.outbox = createOutbox({
    client: app.client, prefix: `audiotk:ops:${model.get("store_id")}:${model.get("labeler")}:`,
    onStatus: (status) => showSaved(app, status), onAck: (message, op) => acknowledged(app, message, op),
    onRefused: (op, text) => { app.say(`Not saved: ${text}`, "error"); if (app.item) go(app, "open", { position: app.item.position }, null); },
  });
  el.append(app.root);
  return app;
}

/** What the drawing asks the app. */
function addQuestions(app) {
  const known = (name) => app.classes.find((found) => found.name === name);
  app.colourOf = (name) => known(name)?.colour ?? GREY;
  app.mine = (segment) => !segment.labeler || segment.labeler === app.model.get("labeler");
  app.shownSegments = () => (app.staged ? sortSegments(app.item.segments.map((segment) => (segment.id === app.staged.id ? app.staged : segment))) : app.item.segments);
  app.heardNow = () => (app.heardFresh.length ? mergeRanges([...app.item.heard, ...app.heardFresh]) : app.item.heard);
  app.now = () => (app.clock.playing() ? clamp(app.clock.position(), 0, app.item.duration_s) : app.time);
  app.note = () => app.item.notes[app.item.notes.length - 1] ?? "";
  app.making = () => {
    const { opened, held, drag, staged } = app;
    const from = opened ?? (held && performance.now() - held.at > HOLD_MS / 2 ? held : null);
    const colour = (class_name) => ({ class_name, colour: app.colourOf(class_name) });
    const now = app.time;
    if (from) return { start_s: Math.min(from.start_s, now), end_s: Math.max(from.start_s, now), ...colour(from.class_name ?? from.name) };
    if (drag?.kind === "create" && drag.moved) return { start_s: Math.min(drag.from, drag.to), end_s: Math.max(drag.from, drag.to), ...colour(app.brush) };
    if (drag?.moved && staged) return { ...staged, ...colour(staged.class_name) };
    return null;
  };
  app.teacherRows = () => {
    const { teacher } = app.item;
    if (!teacher) return [];
    if (!teacher.order) {
      const best = teacher.classes.map((_, column) => {
        let most = 0;
        for (let at = column; at < teacher.scores.length; at += teacher.columns) most = Math.max(most, teacher.scores[at] || 0);
        return most;
      });
      teacher.order = teacher.classes.map((_, column) => column).sort((a, b) => best[b] - best[a]);
    }
    const first = teacher.classes.indexOf(claimClass(app));
    return [...(first >= 0 ? [first] : []), ...teacher.order.filter((column) => column !== first)].slice(0, 3);
  };
}

/** Small changes of what is shown, used everywhere. */
function addActions(app) {
  app.refresh = () => {
    if (!app.item || app.frame) return;
    app.frame = requestAnimationFrame(() => { app.frame = null; render(app); });
  };
  app.select = (id, edge = "end") => {
    if (app.staged && app.staged.id !== id) flushEdit(app);
    [app.selected, app.edge] = [id, edge];
    app.refresh();
  };
  app.show = (from, to = from) => {
    const { duration_s } = app.item;
    if (to - from > app.view.end - app.view.start) app.view = fitView(from - 0.05 * (to - from), to + 0.05 * (to - from), duration_s);
    else app.view = viewWith(viewWith(app.view, to, duration_s), from, duration_s);
    app.refresh();
  };
  app.say = (text, kind = "info") => {
    setText(app.dom.status, text);
    app.dom.status.dataset.kind = kind;
  };
  app.fault = (error) => app.say(error.message, "error");
  app.focus = () => app.root.focus({ preventScroll: true });
}

function buildPage(app) {
  const { dom, root } = app;
  dom.status = make("div", { class: "atk-status", role: "status", "aria-live": "polite" });
  dom.mirror = make("ol", { class: "atk-mirror", "aria-label": "Segments" });
  root.append(buildHead(app), buildClaim(app), ...buildStage(app), buildTransport(app), buildClasses(app), buildInspector(app), dom.status, dom.mirror);
  fillClasses(app);
}

function ticked(app, time) {
  app.time = time;
  if (!app.clock.looping() && (time > app.view.end || time < app.view.start)) {
    app.view = viewWith(app.view, time, app.item.duration_s);
    app.refresh();
  }
  if (app.heardFresh.length && performance.now() - (app.heardAt ?? 0) > 5000) flushHeard(app);
  showPlayback(app);
  showHeard(app);
  if (app.layout) drawOverlay(app.dom.overlay, app, app.layout);
  placeHead(app);
}

function stopped(app, reason, time) {
  if (!app.item) return;
  app.time = clamp(time, 0, app.item.duration_s);
  if (reason !== "replaced") flushHeard(app);
  app.refresh();
}

const devicePixels = (width) => Math.round(width * Math.min(devicePixelRatio, 2));

function placeHead(app) {
  const x = app.layout.left + (app.item.duration_s ? (app.time / app.item.duration_s) * app.layout.plot : 0);
  app.dom.overviewHead.style.transform = `translateX(${x.toFixed(1)}px)`;
}

/** Bring page and canvases up to date. */
function render(app) {
  if (!app.item || !app.root.isConnected) return;
  const { width } = app.dom.main.parentElement.getBoundingClientRect();
  if (width >= 10) app.width = Math.floor(width); // else not laid out now
  if (!app.width) return;
  app.dom.blind.hidden = !app.settings.blind || Boolean(app.item.teacher) || !app.item.readable;
  const lanes = Math.max(assignLanes(app.shownSegments()).count, 2);
  app.layout = layoutOf({ width: app.width, lanes, ribbon: app.teacherRows().length, specHeight: app.settings.height });
  showPage(app);
  app.dom.overview.parentElement.hidden = !app.item.readable;
  if (app.item.readable) {
    drawOverview(app.dom.overview, app);
    app.boxes = drawMain(app.dom.main, app, app.layout);
    drawOverlay(app.dom.overlay, app, app.layout);
    placeHead(app);
  }
  if (!app.item.readable || app.pictureReady) {
    if (app.item.readable) warmSound(app, app.item);
    if (app.ahead) warm(app, app.ahead);
    app.ahead = null;
  }
  app.root.dataset.ready = String(Boolean(app.pictureReady) || !app.item.readable);
}

/** Ask for the current recording until the kernel answers: it may be busy or still starting. */
async function greet(app) {
  for (let tries = 0; !app.closed && !app.item; tries++) {
    app.say(tries ? "Waiting for the kernel …" : "");
    try {
      const answer = await app.client.ask("hello", {}, tries ? 10000 : 6000);
      if (!app.closed) load(app, answer);
    } catch (error) {
      if (!error.late) return app.fault(error);
    }
  }
  return app.outbox.pump();
}

function listenToModel(app) {
  const { model, client } = app;
  const state = (message) => {
    if (app.item?.recording !== message.recording) return;
    app.item = completeItem(app, { ...app.item, ...message });
    if (!app.item.segments.some(({ id }) => id === app.selected)) app.selected = null;
    app.refresh();
  };
  client.on("item", (message) => {
    if (!message.prefetch) return load(app, message);
    app.known.set(message.position, message);
    app.ahead = message; // until this picture is complete
    return app.refresh();
  });
  client.on("state", state);
  client.on("teacher", (message) => {
    if (app.item?.recording !== message.recording) return;
    app.item = { ...app.item, teacher: unpackTeacher(message.teacher ?? message, message.buffers) };
    app.say("Now the teacher's scores are shown.");
    app.refresh();
  });
  client.on("problem", ({ recording, text }) => {
    if (app.item?.recording === recording) app.item = { ...app.item, problem: text };
    app.refresh();
  });
  client.on("error", (message) => app.say(message.text, "error"));
  const traits = {
    "change:classes": () => { app.classes = completeClasses(model.get("classes")); fillClasses(app); keepBrush(app); },
    "change:queue": () => { app.queue = model.get("queue"); app.progress = app.queue.claims; },
    "change:settings": () => { app.settings = model.get("settings"); app.themes.look(); },
    "change:ready": () => app.media.forgetHalf(),
  };
  const hear = Object.entries(traits).map(([name, act]) => [name, () => { act(); app.refresh(); }]);
  hear.forEach(([name, act]) => model.on(name, act));
  return () => hear.forEach(([name, act]) => model.off(name, act));
}

function renderLabeler({ model, el }) {
  const app = createApp(model, el);
  bindKeys(app);
  bindMain(app);
  bindOverview(app);
  const deaf = listenToModel(app);
  const end = beginView(app, (theme) => {
    app.colours = PALETTES[theme];
    app.font = `11.5px ${getComputedStyle(app.root).fontFamily || "sans-serif"}`;
  });
  const save = () => { if (app.item) { flushEdit(app); flushHeard(app); } };
  addEventListener("pagehide", save);
  greet(app);
  return () => {
    save();
    removeEventListener("pagehide", save);
    deaf();
    end();
  };
}

export default { render: renderLabeler };
