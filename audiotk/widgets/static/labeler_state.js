// Segment labeler, part 1: pure functions - operations, lanes, places on the screen, names of classes.

const SHORTEST_S = 0.005; // nothing shorter can be made by hand
const GREY = "#8b94a3";
const VERDICTS = { confirmed: "confirmed", not_found: "not found", unsure: "unsure", open: "open" };

// ---------------------------------------------------------------- operations
/** What one operation changes: {what, name, before, after}. */
function patchOf(state, op) {
  const { kind, payload } = op;
  if (kind === "segment" || kind === "delete") {
    const before = state.segments.find(({ id }) => id === payload.id) ?? null;
    return { what: "segment", name: payload.id, before, after: kind === "delete" ? null : { ...before, note: null, ...payload } };
  }
  if (kind === "claim") {
    const name = payload.class_name ?? "";
    const after = payload.verdict === "open" ? null : payload.verdict;
    return { what: "claim", name, before: state.claims[name] ?? null, after };
  }
  if (kind === "note") return { what: "note", before: state.notes, after: [...state.notes, payload.text] };
  return null;
}

/** The state with a patch's `after` in place; the given state stays as it is. */
function applyPatch(state, { what, name, after: value }) {
  if (what === "note") return { ...state, notes: value };
  if (what === "claim") {
    const claims = { ...state.claims };
    if (value === null) delete claims[name];
    else claims[name] = value;
    return { ...state, claims };
  }
  const others = state.segments.filter(({ id }) => id !== name);
  return { ...state, segments: sortSegments(value === null ? others : [...others, value]) };
}

/** The state after an operation; `patches` knows what those made here change. */
function applyOperation(state, op, patches = new Map()) {
  if (op.kind === "heard") return { ...state, heard: mergeRanges([...state.heard, ...op.payload.ranges]) };
  const patch = patches.get(op.uuid) ?? patchOf(state, op);
  return patch ? applyPatch(state, patch) : state;
}

/** The state with an operation in its lists of what can be undone and redone. */
function listOperation(state, { uuid, kind, payload: { target } }, patches) {
  if (kind === "heard") return state;
  const { undoable, redoable } = state;
  const put = (list, one) => (one === undefined || list.includes(one) ? list : [...list, one]);
  const cut = (list) => list.filter((one) => one !== target);
  if (kind !== "undo") return { ...state, undoable: put(undoable, uuid), redoable: [] };
  const first = patches.get(target)?.target; // a redo: what comes back
  if (first || redoable.includes(target)) return { ...state, undoable: put(undoable, first), redoable: cut(redoable) };
  return { ...state, undoable: cut(undoable), redoable: put(redoable, uuid) };
}

const sortSegments = (segments) => [...segments].sort((a, b) => a.start_s - b.start_s || a.end_s - b.end_s || (a.id < b.id ? -1 : 1));

/** Lane of each segment, so that overlapping ones never share one: {lanes: Map id -> lane, count}. */
function assignLanes(segments) {
  const ends = [];
  const lanes = new Map();
  for (const { id, start_s, end_s } of sortSegments(segments)) {
    let lane = ends.findIndex((end) => end <= start_s);
    if (lane < 0) lane = ends.length;
    ends[lane] = end_s;
    lanes.set(id, lane);
  }
  return { lanes, count: ends.length };
}

/** Two times as a segment inside the recording, or null where it would be too short. */
function orderedRange(a, b, duration_s) {
  const [start_s, end_s] = [clamp(Math.min(a, b), 0, duration_s), clamp(Math.max(a, b), 0, duration_s)];
  return end_s - start_s < SHORTEST_S ? null : { start_s: roundTime(start_s), end_s: roundTime(end_s) };
}
const roundTime = (seconds) => Math.round(seconds * 1e6) / 1e6;

/** A segment with one edge (or, "both", the whole) put elsewhere; it keeps its shortest length and stays inside. */
function moveEdge(segment, edge, to_s, duration_s) {
  const { start_s, end_s } = segment;
  if (edge === "start") return { ...segment, start_s: roundTime(clamp(to_s, 0, end_s - SHORTEST_S)) };
  if (edge === "end") return { ...segment, end_s: roundTime(clamp(to_s, start_s + SHORTEST_S, duration_s)) };
  const start = clamp(to_s, 0, duration_s - (end_s - start_s));
  return { ...segment, start_s: roundTime(start), end_s: roundTime(start + end_s - start_s) };
}

// ---------------------------------------------------------------- view and screen
/** A view of at most the recording and at least 20 ms around the wished one. */
function fitView(start, end, duration_s) {
  const span = clamp(end - start, Math.min(0.02, duration_s), duration_s);
  const from = clamp(start + (end - start - span) / 2, 0, duration_s - span);
  return { start: from, end: from + span };
}

/** The view with `factor` times its length, with the time `at` staying in its place on the screen. */
function zoomView(view, factor, at, duration_s) {
  const span = clamp((view.end - view.start) * factor, Math.min(0.02, duration_s), duration_s);
  const start = at - ((at - view.start) / (view.end - view.start)) * span;
  return fitView(start, start + span, duration_s);
}

/** The view moved so that `time` is in it, with a margin; the same object where it already is. */
function viewWith(view, time, duration_s) {
  const span = view.end - view.start;
  if (time >= view.start && time <= view.end) return view;
  return fitView(time - 0.1 * span, time + 0.9 * span, duration_s);
}

const timeToX = (view, width, time) => ((time - view.start) / (view.end - view.start)) * width;
const xToTime = (view, width, x) => view.start + (x / width) * (view.end - view.start);

/** Round steps for an axis: [{time, major}] about `gap` pixels apart. */
function axisTicks(view, width, gap = 90) {
  const wish = ((view.end - view.start) / width) * gap;
  const steps = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  const step = steps.find((candidate) => candidate >= wish) ?? 14400;
  const count = [1, 2, 5].some((lead) => Math.abs(Math.log10(step / lead) % 1) < 1e-9) ? 5 : 3;
  const ticks = [];
  for (let index = Math.ceil((view.start * count) / step - 1e-9); (index * step) / count <= view.end + 1e-9; index++) {
    ticks.push({ time: (index * step) / count, major: index % count === 0 });
  }
  return { ticks, digits: step >= 1 ? 0 : Math.ceil(-Math.log10(step) - 1e-9) };
}

/** Zoom level of the tiles and their numbers for a view of `width` device pixels: one to four frames a pixel. */
function tilesFor(view, width, duration_s) {
  const zoom = clamp(Math.floor(Math.log((view.end - view.start) / width / TILE_HOP_S) / Math.log(4)), 0, 6);
  const [first, last] = [Math.floor(view.start / tileSpan(zoom)), Math.ceil(Math.min(view.end, duration_s) / tileSpan(zoom)) - 1];
  return { zoom, indexes: Array.from({ length: Math.max(last - first + 1, 1) }, (_, step) => first + step) };
}

/** The range of peaks to ask for: a grid of half views with a view to each side, so that panning asks rarely. */
function peaksFor(view, width, duration_s) {
  const span = view.end - view.start;
  if (span >= duration_s / 2) return { start: 0, end: duration_s, n: Math.min(Math.round((width * duration_s) / span), 4000) };
  const start = Math.max((Math.floor((2 * view.start) / span) * span) / 2 - span / 2, 0);
  const end = Math.min(start + 2.5 * span, duration_s);
  return { start, end, n: Math.min(Math.round((width * (end - start)) / span), 4000) };
}

/** Row (0 = lowest band) of a frequency among the bands' centres, with its fraction. */
function bandOf(mel_hz, hz) {
  const above = mel_hz.findIndex((centre) => centre >= hz);
  if (above <= 0) return above < 0 ? mel_hz.length : 0;
  return above - 1 + (hz - mel_hz[above - 1]) / (mel_hz[above] - mel_hz[above - 1]);
}

/**
 * What lies under (x, y): {id, part: "start" | "end" | "body"} or null. `boxes` = [{id, left, right, top, bottom}] are the
 * bars in their lanes; the edges of the selected segment reach through the whole picture and come first.
 */
function hitTest(boxes, x, y, selected, reach = 6) {
  const edge = ({ id, left, right }, distance) => {
    const [before, after] = [Math.abs(x - left), Math.abs(x - right)];
    if (Math.min(before, after) > distance) return null;
    const inner = right - left < 2 * distance; // a thin one: the side decides
    return { id, part: inner ? (x < (left + right) / 2 ? "start" : "end") : before < after ? "start" : "end" };
  };
  const chosen = boxes.find(({ id }) => id === selected);
  const grip = chosen && edge(chosen, reach);
  if (grip) return grip;
  const bar = boxes.findLast((box) => y >= box.top && y <= box.bottom && x >= box.left - 2 && x <= box.right + 2);
  if (!bar) return null;
  return edge(bar, Math.min(reach, (bar.right - bar.left) / 4)) || { id: bar.id, part: "body" };
}

// ---------------------------------------------------------------- names
/** Classes for what was typed: whole beginnings first, then beginnings of words, then anywhere, then letters in order. */
function matchClasses(names, typed) {
  const wanted = typed.trim().toLowerCase();
  const rank = (name) => {
    const low = name.toLowerCase();
    if (low.startsWith(wanted)) return 0;
    if (low.split(/[^\p{L}\p{N}]+/u).some((word) => word.startsWith(wanted))) return 1;
    if (low.includes(wanted)) return 2;
    let at = -1;
    return [...wanted].every((letter) => (at = low.indexOf(letter, at + 1)) >= 0) ? 3 : 9;
  };
  return names.map((name, place) => ({ name, place, rank: rank(name) })).filter((found) => found.rank < 9)
    .sort((a, b) => a.rank - b.rank || a.place - b.place).map(({ name }) => name);
}

/** Classes with a key (1-9 by place unless given) and a colour each: what is none is grey. */
function completeClasses(classes) {
  return classes.map((given, place) => ({
    name: given.name,
    key: given.key ?? (place < 9 ? String(place + 1) : null),
    colour: /^#([0-9a-f]{3}|[0-9a-f]{6})$/i.test(given.colour ?? "") ? given.colour : GREY,
  }));
}
