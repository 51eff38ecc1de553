// Review of a teacher: class after class what it says against the labels, its sound, one key a verdict.

const MARKS = { right: "✓", wrong: "✗", unsure: "?", open: "" };
const KEYS = { accept: "Y", reject: "N", unsure: "U" };
const FACES = { accept: "Present", reject: "Absent", unsure: "Unsure" };
const SAID = { accept: "present", reject: "absent", unsure: "unsure" };
const GROUPS = { present: "Teacher: present, label: absent", unknown: "Teacher: present, no label", absent: "Teacher: absent, label: present", both: "Both: present" };

// ---------------------------------------------------------------- pure
/** Which of the four strata a row is of; a key of GROUPS. */
function groupOf({ teacher, label }) {
  if (teacher === "absent") return "absent";
  return { absent: "present", unknown: "unknown", present: "both" }[label];
}

/** What a verdict means for the teacher: "right", "wrong", "unsure" or "open". */
function outcome({ said, teacher }) {
  if (!said || said === "unsure") return said || "open";
  return said === teacher ? "right" : "wrong";
}

const passes = (row, { class_name, group, status }) =>
  hasStatus(row, status, outcome(row)) && (!class_name || row.class_name === class_name) && (!group || groupOf(row) === group);

/** Names of classes in the order of the rows. */
const classesOf = (rows) => [...new Set(rows.map((row) => row.class_name))];

/** How far an estimate is, and of what; without a value, what it waits for. */
function restOf(told, of) {
  const waits = told.value === null && told.n ? " · a share needs a verdict in each group" : "";
  return `${judgedWords(told)} · a sample of ${of}${waits}`;
}

/** Estimates by kind and class. */
const keyOf = ({ kind, class_name }) => `${kind} ${class_name}`;

// ---------------------------------------------------------------- the page
const answer = (app, name) => app.row && decide(app, SAID[name]);

/** Go to a class: its first open cell or, if all are judged, its first one. */
function showClass(app, name) {
  const mine = app.rows.filter((row) => row.class_name === name);
  if (!mine.length) return;
  const { class_name, group, status } = app.dom.selects;
  if (app.filter.class_name) app.filter.class_name = class_name.value = name;
  app.filter.group = group.value = app.filter.status = status.value = "";
  fillList(app);
  show(app, mine.find((row) => !row.said) ?? mine[0]);
}

function moveClass(app, by) {
  const names = classesOf(app.rows);
  const to = names[names.indexOf(app.row?.class_name) + by];
  if (to === undefined) app.say(`This is the ${by > 0 ? "last" : "first"} class.`);
  else showClass(app, to);
}

function above(app) {
  const { dom } = app;
  [app.chips, app.estimates] = [new Map(), new Map()];
  dom.earlier = button(app, { label: "Previous class", key: "<", face: ["‹"], act: () => moveClass(app, -1) });
  dom.later = button(app, { label: "Next class", key: ">", face: ["›"], act: () => moveClass(app, 1) });
  dom.place = make("span", { class: "atk-muted atk-num" });
  dom.classes = make("div", { class: "atk-classes", role: "group", "aria-label": "Classes" });
  dom.estimates = make("div", { class: "atk-estimates", "aria-label": "How often the teacher was right" });
  return [make("div", { class: "atk-strip" }, dom.earlier, dom.later, dom.place, dom.classes), dom.estimates];
}

/** One button a class: name, precision so far, how far it is. Made once; paintClasses keeps it up to date. */
function fillClasses(app) {
  app.chips = new Map(classesOf(app.rows).map((name) => {
    const [label, count, fill] = [make("span", { class: "atk-name" }), make("span", { class: "atk-muted atk-num" }), make("i")];
    setText(label, name);
    const chip = button(app, { label: name, class: "atk-class", "aria-label": null, face: [label, count, make("span", { class: "atk-done" }, fill)], act: () => showClass(app, name) });
    return [name, { chip, count, fill }];
  }));
  app.dom.classes.replaceChildren(...[...app.chips.values()].map(({ chip }) => chip));
}

function paintClasses(app) {
  const now = app.row?.class_name;
  const names = [...app.chips.keys()];
  setText(app.dom.place, names.length ? `class ${names.indexOf(now) + 1} of ${names.length}` : "");
  for (const [name, { chip, count, fill }] of app.chips) {
    const mine = app.rows.filter((row) => row.class_name === name);
    const done = mine.filter((row) => row.said).length;
    const { value = null } = app.estimates.get(keyOf({ kind: "precision", class_name: name })) ?? {};
    setText(count, value === null ? `${done}/${mine.length}` : percent(value));
    fill.style.width = `${(100 * done) / mine.length}%`;
    chip.dataset.done = String(done === mine.length);
    chip.title = `${name}: ${done} of ${mine.length} judged${value === null ? "" : `, precision ${percent(value)}`}`;
    if (chip.getAttribute("aria-pressed") !== String(name === now)) {
      chip.setAttribute("aria-pressed", String(name === now));
      if (name === now) reveal(app.dom.classes, chip);
    }
  }
  app.dom.earlier.disabled = names.indexOf(now) <= 0;
  app.dom.later.disabled = names.indexOf(now) === names.length - 1;
}

/** Scroll a box, and nothing around it, so that a part of it is seen. */
function reveal(box, part) {
  const [outer, inner] = [box.getBoundingClientRect(), part.getBoundingClientRect()];
  if (inner.top < outer.top) box.scrollTop -= outer.top - inner.top;
  else if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom;
}

function paintHead(app) {
  paintClasses(app);
  const now = app.row?.class_name;
  const told = (kind, name) => app.estimates.get(keyOf({ kind, class_name: name }));
  const estimate = (found, name, meaning, of) => found && found.cells > 0 && estimateCard(found, { name, meaning, rest: restOf(found, of(found)), data: { "data-kind": found.kind, "data-class": found.class_name } });
  const above = (found) => `${plural(found.cells, "cell")} above ${found.threshold === null ? "the thresholds" : found.threshold}`;
  const disputed = (found) => `${plural(found.cells, "cell")} that only the label has`;
  const cards = [estimate(told("precision", now), now, "precision at the threshold", above), estimate(told("missed", now), now, "real misses of the teacher", disputed)];
  if (app.chips.size > 1) cards.push(estimate(told("precision", "(all)"), "All classes", "precision at the thresholds", above));
  app.dom.estimates.replaceChildren(...cards.filter(Boolean));
}

function card(app) {
  const { dom } = app;
  dom.className = make("h3");
  dom.claims = make("span", { class: "atk-change" });
  dom.where = make("div", { class: "atk-where atk-muted" });
  dom.question = make("div", { class: "atk-question" });
  const scores = scorePair(app);
  dom.threshold = make("u");
  dom.score.append(dom.threshold);
  const bar = verdictBar(app, KEYS, (name) => answer(app, name));
  return [dom.className, make("div", { class: "atk-facts" }, dom.claims, scores), dom.stage, dom.where, dom.question, bar];
}

function paintFacts(app, row, info) {
  const { dom } = app;
  setText(dom.className, row.class_name);
  const claim = (who, word) => [make("span", { class: "atk-muted" }, `${who} `), make("b", { "data-label": word }, word), " "];
  dom.claims.replaceChildren(...claim("teacher", row.teacher), ...(app.labelled ? claim("label", row.label) : []));
  paintScore(app, row);
  dom.threshold.style.left = `${100 * row.threshold}%`;
  setText(dom.scoreText, `${row.score.toFixed(2)} ${row.teacher === "present" ? ">" : "≤"} ${Number(row.threshold.toFixed(3))}`);
  dom.score.title = `Score ${row.score}, threshold ${row.threshold}`;
  setText(dom.question, `Is “${row.class_name}” anywhere in the segment?`);
  Object.keys(KEYS).forEach((name) => paintVerdict(dom[name], { face: FACES[name], key: KEYS[name], pressed: row.said === SAID[name] }));
  paintWhere(app, row, info);
}

function item(app, row) {
  const name = app.filter.class_name ? row.title : `${row.class_name} · ${row.title}`;
  const tag = { present: "label absent", unknown: app.labelled ? "no label" : "", absent: "teacher absent", both: "" }[groupOf(row)];
  const parts = [make("span", { class: "atk-name" }, name), make("span", { class: "atk-to" }, tag), scoreItem(row)];
  return { title: `${row.class_name}: ${GROUPS[groupOf(row)]}\n${row.segment}`, parts };
}

function mark(row, node) {
  node.dataset.outcome = outcome(row);
  return MARKS[outcome(row)];
}

function options(rows) {
  const groups = Object.keys(GROUPS).filter((group) => rows.some((row) => groupOf(row) === group));
  return { class_name: ["any class", classesOf(rows)], group: ["all cells", groups, GROUPS], status: ["any verdict", ["open", "judged", "right", "wrong", "unsure"]] };
}

// ---------------------------------------------------------------- the deck
function take(app, { teacher, labelled, stored, estimates }) {
  const isFirst = !app.chips.size;
  Object.assign(app, { teacher, labelled, stored, estimates: new Map(estimates.map((told) => [keyOf(told), told])) });
  if (isFirst) app.filter.class_name = (app.rows.find((row) => !row.said) ?? app.rows[0])?.class_name ?? "";
  fillClasses(app);
}

const REVIEW = {
  ...VERDICTS, name: "teacher_review", label: "Review of a teacher.",
  words: {
    thing: "cell", list: "Cells", span: "segment", done: "judged", undo: "undo the last verdict", open: "next cell without a verdict",
    all: "Every drawn cell is judged.", rest: "Every cell that is listed is judged. Press > for the next class.",
    none: "There is nothing to review: no score is above its threshold, and no label says present.",
    mute: ". The cell can still be judged by its name.",
  },
  help: [["Y, A", "present: the class is in the segment"], ["N, R", "absent: it is not"], ["U", "unsure: one cannot tell"], ["<, >", "previous, next class"]],
  notes: [
    "What counts is the sound: is the class anywhere in the segment? Going back and pressing another key replaces a verdict. ✓ and ✗ say whether the teacher is right.",
    "The cells are a random sample, in which those where teacher and label differ come up more often than they occur; the precision weights them back. Until every cell is judged, those that are come from one end of the order, so it is provisional.",
  ],
  filters: { class_name: "Class", group: "Teacher and label", status: "Verdict" }, passes, options,
  keys: {
    ...Object.fromEntries(Object.entries({ y: "accept", a: "accept", n: "reject", r: "reject", u: "unsure" }).map(([key, name]) => [key, (app) => answer(app, name)])),
    ...Object.fromEntries(["<", ","].map((key) => [key, (app) => moveClass(app, -1)])), ...Object.fromEntries([">", "."].map((key) => [key, (app) => moveClass(app, 1)])),
  },
  take,
  acknowledged: (app, { estimates }) => estimates.forEach((told) => app.estimates.set(keyOf(told), told)),
  title: ({ teacher }) => (teacher ? `Review of ${teacher}` : ""), above, card, item, mark, paintHead, paintCard: paintFacts,
};

export default { render: (context) => renderCards(context, REVIEW) };
