// Segment labeler, part 4: keys and pointer.

const HOLD_MS = 280; // a class key pressed longer than this while playing marks a range

// ---------------------------------------------------------------- keys
/** What each key does; names as keyName() gives them. */
function keyMap(app) {
  const move = (by) => (selectedSegment(app) ? nudge(app, by) : seek(app, app.now() + by * (app.view.end - app.view.start)));
  const whole = (by) => nudge(app, by, "both");
  const speak = (verdict) => [() => giveVerdict(app, verdict), () => giveVerdict(app, verdict, true)];
  const [[confirm, confirmOn], [deny, denyOn], [doubt, doubtOn]] = ["confirmed", "not_found", "unsure"].map(speak);
  return {
    Space: () => togglePlay(app), p: () => playSelected(app), l: () => playLoop(app),
    "[": () => changeSpeed(app, -1), "]": () => changeSpeed(app, 1), ArrowUp: () => changeGain(app, 3), ArrowDown: () => changeGain(app, -3),
    ArrowLeft: () => move(-0.01), ArrowRight: () => move(0.01), "Shift+ArrowLeft": () => move(-0.1), "Shift+ArrowRight": () => move(0.1),
    "Alt+ArrowLeft": () => whole(-0.01), "Alt+ArrowRight": () => whole(0.01), "Alt+Shift+ArrowLeft": () => whole(-0.1), "Alt+Shift+ArrowRight": () => whole(0.1),
    Home: () => seek(app, 0), End: () => seek(app, app.item.duration_s),
    s: () => openSegment(app), Enter: () => (app.opened ? closeSegment(app) : openPalette(app)), "/": () => openPalette(app),
    Delete: () => removeSegment(app), Backspace: () => removeSegment(app),
    e: () => otherEdge(app), t: () => tighten(app, ["start", "end"]), "Shift+t": () => tighten(app, [app.edge]),
    i: () => typeIn(app, app.dom[app.edge === "end" ? "end_s" : "start_s"]), w: () => typeIn(app, selectedSegment(app) ? app.dom.segmentNote : app.dom.note),
    c: confirm, "Shift+c": confirmOn, n: deny, "Shift+n": denyOn, m: doubt, "Shift+m": doubtOn,
    "<": () => step(app, -1), ">": () => step(app, 1), ",": () => step(app, -1), ".": () => step(app, 1), o: () => openList(app),
    u: () => undo(app), "Ctrl+z": () => undo(app), "Shift+u": () => undo(app, true), "Ctrl+Shift+z": () => undo(app, true), "Ctrl+y": () => undo(app, true),
    "+": () => zoom(app, 1 / 1.5), "=": () => zoom(app, 1 / 1.5), "-": () => zoom(app, 1.5), f: () => fit(app), PageDown: () => pan(app, 0.9), PageUp: () => pan(app, -0.9),
    "?": () => openHelp(app),
  };
}

function otherEdge(app) {
  app.edge = app.edge === "end" ? "start" : "end";
  const segment = selectedSegment(app);
  if (segment) app.show(segment[`${app.edge}_s`]);
  app.say(`The arrows move the ${app.edge}.`);
  app.refresh();
}

function typeIn(app, field) {
  render(app); // what was selected a moment ago is shown
  if (field.offsetParent === null || field.disabled) return app.say("Select one of your segments first (Tab, or click its bar).", "warn");
  field.focus({ preventScroll: true });
  return field.select();
}

/** Leave what is nearest: a panel, a field, the open segment, the selection, the loop. */
function escape(app) {
  if (app.panel) closePanel(app);
  else if (document.activeElement !== app.root && app.root.contains(document.activeElement)) app.focus();
  else if (app.opened) app.opened = null;
  else if (app.drag) endDrag(app, false);
  else if (app.selected) app.select(null);
  else {
    if (app.clock.looping()) app.clock.stop();
    app.letTab = true;
    app.say("Tab now leaves the labeler.");
  }
  app.refresh();
}

/** Whether the key belongs to the field or button that has the focus. */
function fieldHasKey({ target: { tagName } }, name) {
  return tagName === "SELECT" || tagName === "INPUT" || (tagName === "BUTTON" && /^(Enter|Space|(Shift\+)?Tab)$/.test(name));
}

function bindKeys(app) {
  const keys = keyMap(app);
  const classOf = (name) => app.classes.find(({ key }) => key !== null && key !== undefined && String(key).toLowerCase() === name);
  app.root.addEventListener("keydown", (event) => {
    const name = keyName(event);
    if (event.isComposing) return;
    if (name === "Escape") {
      event.preventDefault();
      escape(app);
      return;
    }
    if (event.target.tagName === "INPUT" && name === "Enter" && !app.panel) {
      event.target.blur();
      app.focus();
      return;
    }
    if (!app.item || fieldHasKey(event, name) || app.panel) return;
    if (name === "Tab" || name === "Shift+Tab") {
      if (app.letTab || !app.shownSegments().length) return;
      event.preventDefault();
      stepSegment(app, name === "Tab" ? 1 : -1);
      return;
    }
    app.letTab = false;
    const wanted = classOf(name) ?? (keys[name] ? null : classOf(/^Digit\d$/.test(event.code) && name.length === 1 ? event.code[5] : ""));
    const act = wanted ? () => pressClass(app, wanted.name, event) : keys[name];
    if (!act) return;
    event.preventDefault();
    if (!app.item.readable && !["<", ">", ",", ".", "o", "?", "c", "n", "m", "u", "w"].includes(name.replace("Shift+", ""))) {
      app.say(app.item.problem, "error");
      return;
    }
    if (!event.repeat || /Arrow|Page|Tab|^[-+=[\]]$/.test(name)) act();
  });
  app.root.addEventListener("keyup", (event) => releaseClass(app, keyName(event).replace(/^.*\+(?=.)/, "")));
  app.root.addEventListener("blur", () => { app.held = null; });
}

/** A class key goes down: at once what it means, but while something plays it may turn out to be held. */
function pressClass(app, name, event) {
  if (event.repeat) return;
  if (!app.clock.playing() || app.clock.looping() || app.opened) {
    chooseClass(app, name);
    return;
  }
  app.held = { key: keyName(event), name, start_s: app.now(), at: performance.now() };
  app.refresh();
}

function releaseClass(app, key) {
  const { held } = app;
  if (!held || held.key !== key) return;
  app.held = null;
  if (performance.now() - held.at < HOLD_MS) chooseClass(app, held.name);
  else {
    app.brush = held.name;
    createSegment(app, held.start_s, app.now(), held.name);
  }
  app.refresh();
}

// ---------------------------------------------------------------- pointer
/** The right start of a drag for what lies under the pointer. */
function grab(app, x, y, touch) {
  const { layout } = app;
  const time = clamp(xToTime(app.view, layout.plot, x - layout.left), 0, app.item.duration_s);
  const hit = hitTest(app.boxes, x, y, app.selected, touch ? 14 : 6);
  const segment = hit && app.shownSegments().find(({ id }) => id === hit.id);
  if (segment && app.mine(segment)) return { kind: hit.part, id: hit.id, from: time, before: segment, x };
  if (segment) return { kind: "look", id: hit.id, from: time, x };
  return { kind: y < layout.axis.h ? "seek" : "create", from: time, x };
}

function bindMain(app) {
  const { overlay } = app.dom;
  const at = (event) => {
    const box = overlay.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const timeAt = (x) => clamp(xToTime(app.view, app.layout.plot, x - app.layout.left), 0, app.item.duration_s);
  overlay.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !app.item?.readable) return;
    event.preventDefault();
    app.focus();
    flushEdit(app);
    const [x, y] = at(event);
    app.drag = { ...grab(app, x, y, event.pointerType === "touch"), moved: false, to: timeAt(x) };
    if (app.drag.id) app.select(app.drag.id, app.drag.kind === "start" ? "start" : app.drag.kind === "end" ? "end" : app.edge);
    if (app.drag.kind === "seek") seek(app, app.drag.from);
    overlay.setPointerCapture(event.pointerId);
  });
  overlay.addEventListener("pointermove", (event) => {
    if (!app.item?.readable) return;
    const [x, y] = at(event);
    if (!app.drag) {
      const { kind } = grab(app, x, y, false);
      overlay.style.cursor = { start: "ew-resize", end: "ew-resize", body: "grab", look: "pointer", seek: "text", create: "crosshair" }[kind];
      setText(app.dom.under, whatIsUnder(app, x, y));
      return;
    }
    if (Math.abs(x - app.drag.x) >= 4) app.drag.moved = true;
    app.drag.to = timeAt(x);
    if (app.drag.moved) dragTo(app, x);
  });
  overlay.addEventListener("pointerleave", () => setText(app.dom.under, ""));
  overlay.addEventListener("pointerup", () => endDrag(app, true));
  overlay.addEventListener("pointercancel", () => endDrag(app, false));
  overlay.addEventListener("dblclick", () => { if (app.selected) fit(app); });
  overlay.addEventListener("wheel", (event) => turnWheel(app, event, timeAt(at(event)[0])), { passive: false });
}

/** Time under the pointer, with the frequency or the teacher's score. */
function whatIsUnder(app, x, y) {
  const { layout, item } = app;
  const { spec, ribbon } = layout;
  if (x < layout.left) return "";
  const time = xToTime(app.view, layout.plot, x - layout.left);
  const at = formatTime(clamp(time, 0, item.duration_s));
  if (y >= spec.y && y < spec.y + spec.h) {
    const bands = item.mel_hz;
    const hz = bands[clamp(Math.floor((1 - (y - spec.y) / spec.h) * bands.length), 0, bands.length - 1)];
    return `${at}, ${hz < 1000 ? `${Math.round(hz)} Hz` : `${(hz / 1000).toFixed(1)} kHz`}`;
  }
  const column = y >= ribbon.y + 3 ? app.teacherRows()[Math.floor((y - ribbon.y - 3) / 13)] : undefined;
  if (column === undefined) return at;
  const { classes, times, scores, rows, columns } = item.teacher;
  const row = Array.from({ length: rows }, (_, index) => index).find((index) => times[2 * index] <= time && time < times[2 * index + 1]);
  const score = row === undefined ? NaN : scores[row * columns + column];
  return `${at}, teacher: ${classes[column]} ${Number.isNaN(score) ? "not scored" : score.toFixed(2)}`;
}

function dragTo(app, x) {
  const { drag } = app;
  const { duration_s } = app.item;
  if (x < app.layout.left + 8) pan(app, -0.02);
  if (x > app.layout.right - 8) pan(app, 0.02);
  if (drag.kind === "seek") seek(app, drag.to);
  else if (drag.kind === "start" || drag.kind === "end") stage(app, moveEdge(drag.before, drag.kind, drag.before[`${drag.kind}_s`] + drag.to - drag.from, duration_s), 0);
  else if (drag.kind === "body") stage(app, moveEdge(drag.before, "both", drag.before.start_s + drag.to - drag.from, duration_s), 0);
  app.refresh();
}

/** The button goes up (or the drag is given up): one operation for the whole drag. */
function endDrag(app, keep) {
  const { drag } = app;
  app.drag = null;
  if (!drag) return;
  if (!keep) app.staged = null;
  else if (drag.kind === "create" && drag.moved) createSegment(app, drag.from, drag.to);
  else if (drag.kind === "create") {
    const under = app.shownSegments().find(({ start_s, end_s }) => start_s <= drag.from && end_s >= drag.from);
    app.select(under?.id ?? null);
    seek(app, drag.from);
  } else if (!drag.moved && (drag.kind === "body" || drag.kind === "look")) seek(app, drag.from);
  flushEdit(app);
  app.refresh();
}

/** Zoom (or, sideways, pan) once the labeler has the focus; before that the page scrolls. */
function turnWheel(app, event, time) {
  if (!app.item?.readable) return;
  if (!app.root.contains(document.activeElement) && !event.ctrlKey) return;
  event.preventDefault();
  const pixels = event.deltaMode === 1 ? 16 : 1;
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan(app, (sideways * pixels) / app.layout.plot);
  else zoom(app, Math.exp(clamp(event.deltaY * pixels, -300, 300) * 0.0022), time);
}

function bindOverview(app) {
  const { overview } = app.dom;
  let grip = null;
  const timeAt = (event) => {
    const box = overview.getBoundingClientRect();
    return clamp((event.clientX - box.left - app.layout.left) / app.layout.plot, 0, 1) * app.item.duration_s;
  };
  overview.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !app.item?.readable) return;
    event.preventDefault();
    app.focus();
    overview.setPointerCapture(event.pointerId);
    const time = timeAt(event);
    const { start, end } = app.view;
    const reach = (6 / app.layout.plot) * app.item.duration_s;
    const near = end - start < app.item.duration_s && (Math.abs(time - start) < reach ? "start" : Math.abs(time - end) < reach ? "end" : null);
    if (!near && (time < start || time > end)) app.view = fitView(time - (end - start) / 2, time + (end - start) / 2, app.item.duration_s);
    grip = { near, time, view: app.view };
    if (end - start >= app.item.duration_s) seek(app, time);
    app.refresh();
  });
  overview.addEventListener("pointermove", (event) => {
    if (!grip) return;
    const [time, { duration_s }] = [timeAt(event), app.item];
    const { near, view } = grip;
    if (near === "start") app.view = fitView(Math.min(time, view.end - 0.02), view.end, duration_s);
    else if (near === "end") app.view = fitView(view.start, Math.max(time, view.start + 0.02), duration_s);
    else app.view = fitView(view.start + time - grip.time, view.end + time - grip.time, duration_s);
    app.refresh();
  });
  for (const end of ["pointerup", "pointercancel"]) overview.addEventListener(end, () => { grip = null; });
  overview.addEventListener("wheel", (event) => turnWheel(app, event, timeAt(event)), { passive: false });
}
