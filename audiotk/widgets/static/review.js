// Review of a rule: one changed cell after the other, its sound, one key a verdict.

const OUTSIDE = { light: "rgba(251, 252, 254, .62)", dark: "rgba(12, 15, 22, .62)" };
const MARKS = { right: "✓", wrong: "✗", needless: "○", unsure: "?", open: "" };
const VALUE_OF = { present: 1, absent: 0, unsure: null };

// ---------------------------------------------------------------- pure
const opposite = (word) => (word === "present" ? "absent" : "present");

/** What a verdict means for the rule: "right", "wrong", "needless" (a mask on a right label), "unsure" or "open". */
function outcome({ said, masked, change, accept }) {
  if (!said || said === "unsure") return said || "open";
  if (masked) return said === change.split(" → ")[0] ? "needless" : "right";
  return said === accept ? "right" : "wrong";
}

function passes(row, { class_name, change, status }) {
  const fits = status === "" || (status === "judged" ? Boolean(row.said) : outcome(row) === status);
  return fits && (!class_name || row.class_name === class_name) && (!change || row.change === change);
}

/** The part of the recording that is shown: the segment with some of what is around it. */
function viewOf({ start_s, end_s }, duration_s = end_s) {
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

// ---------------------------------------------------------------- the page
function above(app) {
  app.dom.estimates = make("div", { class: "atk-estimates", "aria-label": "How often the rule was right" });
  return [app.dom.estimates];
}

function card(app) {
  const { dom } = app;
  dom.above = make("div", { class: "atk-above atk-muted" });
  dom.className = make("h3");
  dom.change = make("span", { class: "atk-change" });
  dom.score = make("span", { class: "atk-score", title: "Score of the class" }, make("i"));
  dom.scoreText = make("span", { class: "atk-muted atk-num" });
  dom.scores = make("span", { class: "atk-pair" }, make("span", { class: "atk-muted" }, "score"), dom.score, dom.scoreText);
  dom.where = make("div", { class: "atk-where atk-muted" });
  dom.question = make("div", { class: "atk-question" });
  const verdict = (name, key) => (dom[name] = button(app, { label: name, key, class: "atk-verdict", "data-verdict": name, "aria-label": null, face: [make("span"), keycap(key)], act: () => answer(app, name) }));
  const bar = make("div", { class: "atk-bar" }, dom.play, verdict("accept", "A"), verdict("reject", "R"), verdict("unsure", "U"), make("span", { class: "atk-gap" }), dom.before, dom.after, dom.undo);
  return [dom.above, dom.className, make("div", { class: "atk-facts" }, dom.change, dom.scores), dom.stage, dom.where, dom.question, bar];
}

/** Accept or reject what the rule says of the row, or leave it open. */
const verdictOf = (row, name) => ({ accept: row.accept, reject: opposite(row.accept), unsure: "unsure" })[name];
const answer = (app, name) => app.row && decide(app, verdictOf(app.row, name));

function item(app, row) {
  const score = make("span", { class: "atk-muted atk-num" }, row.score === null ? "–" : row.score.toFixed(2));
  const parts = [make("span", { class: "atk-name" }, row.class_name), make("span", { class: "atk-muted atk-to" }, row.change), score];
  return { title: `${row.class_name}: ${row.change}\n${row.segment}`, parts };
}

function mark(row, node) {
  node.dataset.outcome = outcome(row);
  return MARKS[outcome(row)];
}

function options(rows) {
  const found = (name) => [...new Set(rows.map((row) => row[name]))].sort();
  const status = ["open", "judged", "right", "wrong", ...(rows.some((row) => row.masked) ? ["needless"] : []), "unsure"];
  return { class_name: ["any class", found("class_name")], change: ["any change", found("change")], status: ["any verdict", status] };
}

function paintFacts(app, row, info) {
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
  const faces = row.masked ? ["Present", "Absent", "Unsure"] : [`Accept: ${row.accept}`, `Reject: ${opposite(row.accept)}`, "Unsure"];
  ["accept", "reject", "unsure"].forEach((name, at) => {
    setText(dom[name].firstChild, faces[at]);
    setText(dom[name].lastChild, (row.masked ? "YNU" : "ARU")[at]);
    dom[name].setAttribute("aria-pressed", String(row.said === verdictOf(row, name)));
  });
  dom.stage.classList.toggle("atk-mute", Boolean(info && !info.readable));
}

function paintEstimates(app) {
  const cards = (app.estimates ?? []).map((told) => {
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
function draw(app, row, info) {
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
const REVIEW = {
  name: "review", trait: "review_id", label: "Review of a rule.", key: "cell", said: "verdict", gutter: 46, height: 180,
  words: {
    thing: "cell", list: "Cells", span: "segment", done: "judged", undo: "undo the last verdict", open: "next cell without a verdict",
    all: "Every drawn cell is judged.", rest: "Every cell that passes the filter is judged.", none: "The rule changed no cell, so there is nothing to review.",
    mute: ". The cell can still be judged by its name.",
  },
  help: [["A, Y", "accept: the rule is right (of a masked label: the class is there)"], ["R, N", "reject: it is not"], ["U", "unsure: one cannot tell"]],
  notes: [
    "What counts is the sound: is the class anywhere in the segment? Going back and pressing another key replaces a verdict.",
    "The cells are a random sample of all that the rule changed. Until every one of them is judged, those that are judged come from one end of the order, so the share is provisional.",
    "A mask says that a label is doubtful, not that it is wrong. For masks the share tells how often the hidden label was wrong; a mask on a right label (○) is no error, only needless.",
  ],
  filters: { class_name: "Class", change: "Change", status: "Verdict" }, passes, options,
  keys: { a: (app) => answer(app, "accept"), y: (app) => answer(app, "accept"), r: (app) => answer(app, "reject"), n: (app) => answer(app, "reject"), u: (app) => answer(app, "unsure") },
  refusal: () => "",
  fields: (verdict) => ({ value: VALUE_OF[verdict] }),
  saidIn: ({ value }) => Object.keys(VALUE_OF).find((word) => VALUE_OF[word] === value),
  undone: (row) => `Undone: ${row.class_name} is ${row.said || "open"} again.`,
  take: (app, { rule, stored, estimates }) => Object.assign(app, { rule, stored, estimates }),
  acknowledged: (app, { estimates }) => Object.assign(app, { estimates }),
  kept: (app) => (app.stored === false ? ["kept in the kernel only", "No store was given: verdicts end with the kernel."] : ["saved", ""]),
  title: ({ rule }) => (rule ? `Review of ${rule}` : ""), head: () => [], above, card, item, mark,
  paintHead: paintEstimates, paintCard: paintFacts,
  silent: (_, row) => row.silent,
  view: viewOf,
  heard: ({ start_s, end_s }, duration_s) => ({ start: start_s, end: Math.min(end_s, duration_s) }),
  layout: (app) => ({ mel: 0, melHeight: heightOf(app), axis: heightOf(app), height: heightOf(app) + AXIS_H }), draw,
};

export default { render: (context) => renderCards(context, REVIEW) };
