// Review of a rule: one changed cell after the other, its sound, one key a verdict.

const MARKS = { right: "✓", wrong: "✗", needless: "○", unsure: "?", open: "" };
const KEYS = { accept: "A", reject: "R", unsure: "U" };

// ---------------------------------------------------------------- pure
const opposite = (word) => (word === "present" ? "absent" : "present");

/** What a verdict means for the rule: "right", "wrong", "needless" (a mask on a right label), "unsure" or "open". */
function outcome({ said, masked, change, accept }) {
  if (!said || said === "unsure") return said || "open";
  if (masked) return said === change.split(" → ")[0] ? "needless" : "right";
  return said === accept ? "right" : "wrong";
}

const passes = (row, { class_name, change, status }) =>
  hasStatus(row, status, outcome(row)) && (!class_name || row.class_name === class_name) && (!change || row.change === change);

/** Accept or reject what the rule says of the row, or leave it open. */
const verdictOf = (row, name) => ({ accept: row.accept, reject: opposite(row.accept), unsure: "unsure" })[name];

// ---------------------------------------------------------------- the page
const answer = (app, name) => app.row && decide(app, verdictOf(app.row, name));

function above(app) {
  app.dom.estimates = make("div", { class: "atk-estimates", "aria-label": "How often the rule was right" });
  return [app.dom.estimates];
}

function card(app) {
  const { dom } = app;
  dom.above = make("div", { class: "atk-above atk-muted" });
  dom.className = make("h3");
  dom.change = make("span", { class: "atk-change" });
  dom.where = make("div", { class: "atk-where atk-muted" });
  dom.question = make("div", { class: "atk-question" });
  const bar = verdictBar(app, KEYS, (name) => answer(app, name));
  return [dom.above, dom.className, make("div", { class: "atk-facts" }, dom.change, scorePair(app)), dom.stage, dom.where, dom.question, bar];
}

function item(app, row) {
  const parts = [make("span", { class: "atk-name" }, row.class_name), make("span", { class: "atk-muted atk-to" }, row.change), scoreItem(row)];
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
  paintScore(app, row);
  const asked = row.masked ? "The rule hides this label as doubtful. Is the class there?" : `The rule says: ${row.accept}. Right?`;
  setText(dom.question, asked);
  const faces = row.masked ? ["Present", "Absent", "Unsure"] : [`Accept: ${row.accept}`, `Reject: ${opposite(row.accept)}`, "Unsure"];
  Object.keys(KEYS).forEach((name, at) => paintVerdict(dom[name], { face: faces[at], key: (row.masked ? "YNU" : "ARU")[at], pressed: row.said === verdictOf(row, name) }));
  paintWhere(app, row, info);
}

function paintEstimates(app) {
  const cards = (app.estimates ?? []).map((told) => {
    const rest = `${judgedWords(told)} · a sample of ${plural(told.cells, "changed cell")}`;
    return estimateCard(told, { name: told.change, meaning: told.meaning, rest, data: { "data-change": told.change } });
  });
  app.dom.estimates.replaceChildren(...cards);
}

// ---------------------------------------------------------------- the deck
const REVIEW = {
  ...VERDICTS, name: "review", label: "Review of a rule.",
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
  take: (app, { rule, stored, estimates }) => Object.assign(app, { rule, stored, estimates }),
  acknowledged: (app, { estimates }) => Object.assign(app, { estimates }),
  title: ({ rule }) => (rule ? `Review of ${rule}` : ""), above, card, item, mark,
  paintHead: paintEstimates, paintCard: paintFacts,
};

export default { render: (context) => renderCards(context, REVIEW) };
