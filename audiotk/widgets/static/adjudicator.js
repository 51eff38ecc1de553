// Adjudication: the marks of several labelers below each other, one case after the other, one key a decision.

const TINTS = {
  light: { outside: "rgba(251, 252, 254, .66)", wave: "#8a97a8", lane: "#f5f6f9", merged: "#20242c" },
  dark: { outside: "rgba(12, 15, 22, .66)", wave: "#7d8aa0", lane: "#1d222b", merged: "#f2f4f8" },
};
const [WAVE_H, LANE_H, GAP, GUTTER] = [54, 34, 6, 78];
const KINDS = { missed: "missed by somebody", boundary: "other edges", class: "other class" };
const FACES = { both: "Both", neither: "Neither", unsure: "Unsure" };
const MARKS = { both: "B", neither: "N", unsure: "?" };

// ---------------------------------------------------------------- pure
function passes({ said, classes, ...row }, { class_name, kind, status }) {
  const fits = status === "" || (status === "open" ? !said : status === "unsure" ? said === "unsure" : Boolean(said));
  return fits && (!class_name || classes.includes(class_name)) && (!kind || row.kind === kind);
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

// ---------------------------------------------------------------- the page
function head(app) {
  app.dom.blind = make("span", { class: "atk-badge", title: "Names are hidden; the order of the lanes is drawn for each recording." }, "blind");
  return [app.dom.blind];
}

function card(app) {
  const { dom } = app;
  dom.className = make("h3");
  dom.kind = make("span", { class: "atk-kind" });
  dom.where = make("span", { class: "atk-muted atk-num atk-where" });
  dom.lanes = make("ol", { class: "atk-hidden", "aria-label": "What each labeler says" });
  dom.choices = make("div", { class: "atk-choices" });
  const facts = make("div", { class: "atk-facts" }, dom.className, dom.kind, make("span", { class: "atk-gap" }), dom.where);
  const bar = make("div", { class: "atk-bar" }, dom.play, dom.choices, make("div", { class: "atk-nav" }, dom.before, dom.after, dom.undo));
  return [facts, dom.stage, dom.lanes, make("div", { class: "atk-question" }, "Who is right?"), bar];
}

function item(app, row) {
  const [dot, names] = [make("i", { class: "atk-dot" }), row.classes.join(" / ")];
  dot.style.background = app.colours[row.classes[0]];
  const parts = [dot, make("span", { class: "atk-name" }, names), make("span", { class: "atk-muted atk-to" }, KINDS[row.kind]), make("span", { class: "atk-muted atk-num" }, `${row.disputed_s.toFixed(2)} s`)];
  return { title: `${names}, ${KINDS[row.kind]}\n${row.recording}, ${formatTime(row.start_s)}`, parts };
}

function options(rows) {
  const kinds = Object.keys(KINDS).filter((kind) => rows.some((row) => row.kind === kind));
  return { class_name: ["all classes", [...new Set(rows.flatMap((row) => row.classes))].sort()], kind: ["all kinds", kinds, KINDS], status: ["all cases", ["open", "decided", "unsure"]] };
}

function paintFacts(app, row) {
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
  const key = [row.id, row.said].join();
  if (dom.choices.dataset.key === key) return;
  dom.choices.dataset.key = key;
  const choice = (name, face, letter) => {
    const state = { disabled: Boolean(refusal(row, name)), "aria-pressed": String(row.said === name), "aria-label": null };
    return button(app, { label: refusal(row, name) || face, key: letter, class: "atk-choice", "data-choice": name, ...state, face: [keycap(letter), make("span", {}, face)], act: () => decide(app, name) });
  };
  const lanes = row.lanes.map((lane, at) => choice(String(at + 1), `${names[at]}: ${wordsOf(lane)}`, String(at + 1)));
  dom.choices.replaceChildren(...lanes, ...Object.entries(FACES).map(([name, face]) => choice(name, face, face[0])));
}

// ---------------------------------------------------------------- picture
/** Where things stand, from the top: waveform, spectrogram, lanes, axis. */
function layout(app, row) {
  const lanes = WAVE_H + heightOf(app) + 2 * GAP;
  const axis = lanes + LANE_H * row.lanes.length;
  return { mel: WAVE_H + GAP, melHeight: heightOf(app), lanes, axis, height: axis + AXIS_H };
}

function draw(app, row, info) {
  const places = placesOf(app, row, info);
  const { at } = places;
  app.dom.stage.style.minHeight = `${at.height}px`;
  const g = sharpContext(app.dom.canvas, app.width, at.height);
  g.clearRect(0, 0, app.width, at.height);
  g.fillStyle = INKS[app.theme][0];
  g.fillRect(GUTTER, at.mel, app.width, at.melHeight);
  const ready = info?.readable ? drawSound(g, app, row, info, places) : Boolean(info);
  drawLanes(g, app, row, places);
  drawEdges(g, app, row, places, TINTS[app.theme].outside);
  drawAxes(g, app, info, places);
  return ready;
}

function drawSound(g, app, row, info, places) {
  const { view, at, x } = places;
  const tiles = tilesOf(app, row, info);
  const here = tiles.filter(Boolean);
  const whole = app.media.tile(row.recording, clamp(Math.ceil(Math.log(info.duration_s / tileSpan(0)) / Math.log(4)), 0, 6), 0);
  if (whole) app.levels = levelsOf([whole]); // of all of the recording: what is quiet looks quiet
  else if (here.length === tiles.length && !app.levels) app.levels = levelsOf(here);
  const peaks = app.media.peaks(row.recording, view.start, view.end, clamp(app.width - GUTTER, 100, 2000));
  clipped(g, app, { top: 0, height: at.mel + at.melHeight }, () => {
    drawTiles(g, app, here, places);
    if (peaks) drawWave(g, app, peaks, x);
  });
  return here.length === tiles.length && Boolean(whole && peaks) && peaks.until_s >= peaks.end_s - 1e-6;
}

function drawWave(g, app, { values, start_s, end_s }, x) {
  const count = values.length / 2;
  const most = values.reduce((top, value) => Math.max(top, Math.abs(value)), 1);
  const step = (end_s - start_s) / count;
  g.fillStyle = TINTS[app.theme].wave;
  for (let column = 0; column < count; column++) {
    const [low, high] = [values[2 * column] / most, values[2 * column + 1] / most];
    const left = x(start_s + column * step);
    g.fillRect(left, (WAVE_H / 2) * (1 - high), Math.max(x(start_s + (column + 1) * step) - left, 0.7), Math.max((WAVE_H / 2) * (high - low), 1));
  }
}

function drawLanes(g, app, row, { at, x }) {
  const { text } = SHADES[app.theme];
  const { names, marks } = app.recordings[row.recording];
  row.lanes.forEach((lane, place) => {
    const top = at.lanes + place * LANE_H;
    g.fillStyle = TINTS[app.theme].lane;
    g.fillRect(GUTTER, top + 2, app.width - GUTTER, LANE_H - 4);
    drawName(g, app, { place, name: names[place], top });
    if (lane === null) {
      g.fillStyle = text;
      g.fillText("not heard", GUTTER + 8, top + LANE_H / 2);
    }
  });
  clipped(g, app, { top: at.lanes, height: at.axis - at.lanes }, () => drawMarks(g, app, row, { marks, at, x }));
}

/** The ranges that labelers marked; those that are not of the case are pale. */
function drawMarks(g, app, row, { marks, at, x }) {
  const own = new Set(row.lanes.flatMap((lane, place) => (lane ?? []).map((span) => [place, ...span].join())));
  for (const [place, start, end, name] of marks) {
    const [left, right, top] = [x(start), x(end), at.lanes + place * LANE_H];
    if (right < GUTTER || left > app.width) continue;
    const mine = own.has([place, start, end, name].join());
    g.globalAlpha = mine ? 1 : 0.3;
    g.fillStyle = app.colours[name] ?? SHADES[app.theme].text;
    g.beginPath();
    g.roundRect(left, top + 6, Math.max(right - left, 2), LANE_H - 12, 4);
    g.fill();
    const room = Math.min(right, app.width) - Math.max(left, GUTTER) - 12;
    if (mine && room > 16) {
      g.fillStyle = inkOn(app.colours[name] ?? "#888888");
      g.fillText(fitText(g, name, room), Math.max(left, GUTTER) + 6, top + LANE_H / 2 + 0.5);
    }
  }
  g.globalAlpha = 1;
  if (row.merged) drawMerged(g, app, row.merged, { at, x });
}

function drawName(g, app, { place, name, top }) {
  const shade = SHADES[app.theme];
  [g.textAlign, g.textBaseline] = ["left", "middle"];
  g.font = `600 12px ${app.font}`;
  g.fillStyle = app.row.said === String(place + 1) ? shade.edge : shade.text;
  g.fillText(fitText(g, `${place + 1}  ${name}`, GUTTER - 10), 2, top + LANE_H / 2);
  g.font = `12px ${app.font}`;
}

/** What "both" would make: a dashed frame over all lanes. */
function drawMerged(g, app, merged, { at, x }) {
  g.save();
  g.strokeStyle = TINTS[app.theme].merged;
  g.lineWidth = app.row.said === "both" ? 2 : 1;
  g.setLineDash(app.row.said === "both" ? [] : [4, 3]);
  for (const [start, end] of merged) g.strokeRect(x(start), at.lanes + 1.5, Math.max(x(end) - x(start), 1), at.axis - at.lanes - 3);
  g.restore();
}

function fitText(g, text, room) {
  if (g.measureText(text).width <= room) return text;
  let length = text.length;
  while (length > 1 && g.measureText(`${text.slice(0, length)}…`).width > room) length--;
  return `${text.slice(0, length)}…`;
}

// ---------------------------------------------------------------- the deck
const choose = (name) => (app) => decide(app, name);
const ADJUDICATOR = {
  name: "adjudicator", trait: "adjudication_id", label: "Adjudication of labelers.", key: "case", said: "choice", gutter: GUTTER, height: 150,
  words: {
    thing: "case", list: "Cases", span: "case", done: "decided", undo: "undo the last decision", open: "next open case", mute: "",
    all: "Every case is decided.", rest: "Every case that passes the filter is decided.", none: "The labelers agree wherever they have heard the same: there is nothing to decide.",
  },
  help: [["1, 2, …", "the labeler of this lane is right"], ["B", "both: merge them (medians of their edges; of two classes, both stay)"], ["N", "neither: there is nothing"], ["U", "unsure: one cannot tell"]],
  notes: [
    "What counts is the sound. A labeler who marked nothing is right if there is nothing. Going back and pressing another key replaces a decision.",
    "Marks of full colour belong to the case, pale ones are marks nearby. The dashed range is what B would make.",
  ],
  filters: { class_name: "Class", kind: "Kind", status: "Decision" }, passes, options,
  keys: { b: choose("both"), n: choose("neither"), u: choose("unsure"), ...Object.fromEntries([..."123456789"].map((lane) => [lane, choose(lane)])) },
  refusal,
  fields: (choice) => ({ choice }),
  saidIn: ({ choice }) => choice,
  undone: ({ said }) => (said ? "Undone: the earlier decision is back." : "Undone: the case is open again."),
  take: (app, { recordings, colours, blind }) => Object.assign(app, { recordings, colours, blind }),
  acknowledged: () => {},
  kept: () => ["saved", ""],
  title: () => "Adjudication", head, above: () => [], card, item, mark: ({ said }) => MARKS[said] ?? said,
  paintHead: (app) => { app.dom.blind.hidden = !app.blind; }, paintCard: paintFacts,
  silent: (app, row) => app.recordings[row.recording].silent,
  view: viewOf, heard: heardOf, layout, draw,
};

export default { render: (context) => renderCards(context, ADJUDICATOR) };
