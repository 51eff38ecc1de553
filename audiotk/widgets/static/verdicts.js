// Verdicts on single cells: what the decks of review.js and teacher_review.js have in common. Functions only.
// A deck begins with VERDICTS; its rows are what CellReview.told_all says.

const OUTSIDE = { light: "rgba(251, 252, 254, .62)", dark: "rgba(12, 15, 22, .62)" };
const VALUE_OF = { present: 1, absent: 0, unsure: null };

// ---------------------------------------------------------------- pure
/** Whether a row has the status of a filter; `outcome` is what its verdict means. */
const hasStatus = (row, status, outcome) => status === "" || (status === "judged" ? Boolean(row.said) : outcome === status);

/** The part of the recording that is shown: the segment with some of what is around it. */
function viewOf({ start_s, end_s }, duration_s = end_s) {
  const around = Math.min(1, 0.12 * (end_s - start_s));
  return { start: Math.max(start_s - around, 0), end: Math.min(end_s + around, duration_s) };
}

const percent = (share) => `${Math.round(100 * share)} %`;
const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** How much of an estimate is done, in words. */
const judgedWords = ({ n, unsure, open }) => `${n} judged${unsure ? `, ${unsure} unsure` : ""}${open ? `, ${open} to go` : ""}`;

// ---------------------------------------------------------------- the page
/** The buttons of the verdicts: names and keys of three, and what each does. */
function verdictBar(app, keys, act) {
  const { dom } = app;
  const verdict = (name) => (dom[name] = button(app, { label: name, key: keys[name], class: "atk-verdict", "data-verdict": name, "aria-label": null, face: [make("span"), keycap(keys[name])], act: () => act(name) }));
  return make("div", { class: "atk-bar" }, dom.play, ...Object.keys(keys).map(verdict), make("span", { class: "atk-gap" }), dom.before, dom.after, dom.undo);
}

function paintVerdict(button, { face, key, pressed }) {
  setText(button.firstChild, face);
  setText(button.lastChild, key);
  button.setAttribute("aria-pressed", String(pressed));
}

/** The score of the class as a bar and a number. */
function scorePair(app) {
  const { dom } = app;
  dom.score = make("span", { class: "atk-score", title: "Score of the class" }, make("i"));
  dom.scoreText = make("span", { class: "atk-muted atk-num" });
  dom.scores = make("span", { class: "atk-pair" }, make("span", { class: "atk-muted" }, "score"), dom.score, dom.scoreText);
  return dom.scores;
}

function paintScore({ dom }, { score }) {
  dom.scores.hidden = score === null;
  dom.score.firstChild.style.width = `${100 * (score ?? 0)}%`;
  setText(dom.scoreText, score === null ? "" : score.toFixed(2));
}

const scoreItem = ({ score }) => make("span", { class: "atk-muted atk-num" }, score === null ? "–" : score.toFixed(2));

/** Where the sound is, below the picture. */
function paintWhere({ dom }, row, info) {
  setText(dom.where, `${row.title === row.recording ? row.recording : `${row.title} · ${row.recording}`} · ${formatTime(row.start_s)} to ${formatTime(row.end_s)}`);
  dom.where.title = row.segment;
  dom.stage.classList.toggle("atk-mute", Boolean(info && !info.readable));
}

/** An interval as a bar; empty where there is none. */
function intervalBar({ value, low, high }) {
  const bar = make("span", { class: "atk-interval" });
  if (value === null) return bar;
  const [line, dot] = [make("i"), make("b")];
  line.style.left = `${100 * low}%`;
  line.style.width = `${100 * (high - low)}%`;
  dot.style.left = `${100 * value}%`;
  bar.append(line, dot);
  return bar;
}

/** One estimate: what it is of, the share with its interval, how far it is. */
function estimateCard(told, { name, meaning, rest, data }) {
  const { value, low, high, provisional } = told;
  const has = value !== null;
  const range = has ? `${Math.round(100 * low)}–${percent(high)}` : "";
  const early = has && provisional ? make("span", { class: "atk-provisional", title: "Not every drawn cell is judged yet, and those that are may not be typical." }, "provisional") : null;
  return make("div", { class: "atk-estimate", ...data, "data-n": told.n, "data-value": has ? value.toFixed(4) : "" },
    make("div", {}, make("b", {}, name), make("span", { class: "atk-muted" }, ` ${meaning}`)),
    make("div", { class: "atk-number" }, make("strong", { class: "atk-num" }, has ? percent(value) : "–"), make("span", { class: "atk-num atk-muted" }, range), early),
    intervalBar(told), make("div", { class: "atk-muted atk-small" }, rest));
}

// ---------------------------------------------------------------- picture
function drawSegment(app, row, info) {
  if (!info?.readable) return Boolean(info);
  const places = placesOf(app, row, info);
  const { at } = places;
  const g = sharpContext(app.dom.canvas, app.width, at.height);
  const tiles = tilesOf(app, row, info);
  const here = tiles.filter(Boolean);
  if (here.length === tiles.length && !app.levels) app.levels = levelsOf(here);
  g.clearRect(0, 0, app.width, at.height);
  clipped(g, app, { top: 0, height: at.axis }, () => {
    g.fillStyle = INKS[app.theme][0];
    g.fillRect(0, 0, app.width, at.axis);
    drawTiles(g, app, here, places);
    drawEdges(g, app, row, places, OUTSIDE[app.theme]);
  });
  drawAxes(g, app, info, places);
  return here.length === tiles.length;
}

// ---------------------------------------------------------------- the deck
const VERDICTS = {
  look: "verdicts", trait: "review_id", key: "cell", said: "verdict", gutter: 46, height: 180,
  refusal: () => "",
  fields: (verdict) => ({ value: VALUE_OF[verdict] }),
  saidIn: ({ value }) => Object.keys(VALUE_OF).find((word) => VALUE_OF[word] === value),
  undone: (row) => `Undone: ${row.class_name} is ${row.said || "open"} again.`,
  kept: (app) => (app.stored === false ? ["kept in the kernel only", "No store was given: verdicts end with the kernel."] : ["saved", ""]),
  head: () => [],
  silent: (_, row) => row.silent,
  view: viewOf,
  heard: ({ start_s, end_s }, duration_s) => ({ start: start_s, end: Math.min(end_s, duration_s) }),
  layout: (app) => ({ mel: 0, melHeight: heightOf(app), axis: heightOf(app), height: heightOf(app) + AXIS_H }), draw: drawSegment,
};
