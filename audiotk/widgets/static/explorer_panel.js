// Beside the members: what is selected, how pure it is, its theme, the promotion, and the table of clusters. Functions only.

const THEME_WORDS = { neg_hard: "hard negative", neg_silence: "silence", neg_ambient: "ambience" };
const COLOUR_WORDS = { cluster: "cluster", class: "class", level: "level", device: "device", theme: "promoted theme", after: "before / after" };

// ---------------------------------------------------------------- pure
const share = (value) => `${Math.floor(100 * value + 1e-9)} %`; // a bound is never rounded up
const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

const decibels = (level) => `${level < 0 ? "−" : ""}${Math.abs(level).toFixed(0)} dBFS`;

/** What a bound on purity says, in words. */
function purityWords({ heard, right, unsure, true: events }) {
  if (!heard) return "Hear members to learn how pure it is; the random ones make the bound.";
  const odd = [events && many(events, "true event"), unsure && `${unsure} unsure`].filter(Boolean).join(", ");
  return `${right} of ${heard} counted are false positives${odd ? `; ${odd}` : ""}`;
}

/** Facts about a selection in one line. */
function factWords({ size, classes, recordings, groups, level_dbfs: level, devices }) {
  const names = classes.map(([name, count]) => (count === size ? name : `${name} ${Math.round((100 * count) / size)} %`)).join(", ");
  const parts = [many(size, "false positive"), names, `${many(recordings, "recording")} in ${many(groups, "group")}`];
  if (level !== null) parts.push(decibels(level));
  if (devices.length) parts.push(devices.join(", "));
  return parts.join(" · ");
}

/** Neighbour of a cluster in the table, `by` rows on; the first one if none is selected. */
function clusterBeside(clusters, cluster, by) {
  const at = clusters.findIndex((row) => row.cluster === cluster);
  if (at < 0) return clusters[by > 0 ? 0 : clusters.length - 1];
  return clusters[at + by];
}

// ---------------------------------------------------------------- purity and promotion
function buildPanel(app) {
  const { dom } = app;
  dom.name = make("h3");
  dom.facts = make("div", { class: "atk-facts atk-muted" });
  dom.clear = button(app, { label: "Select nothing", key: "Esc", class: "atk-link", face: ["Clear"], act: () => chooseNothing(app) });
  dom.low = make("strong", { class: "atk-num" });
  dom.bound = make("span", { class: "atk-interval" }, make("i"));
  dom.purityText = make("div", { class: "atk-muted atk-small" });
  dom.purity = make("div", { class: "atk-box", role: "status", "aria-label": "Purity" },
    make("div", { class: "atk-number" }, make("span", { class: "atk-muted" }, "purity"), dom.low, make("span", { class: "atk-muted atk-small" }, "lower 95 % bound")), dom.bound, dom.purityText);
  dom.themes = make("div", { class: "atk-themes", role: "group", "aria-label": "Theme" });
  dom.note = make("input", { type: "text", class: "atk-note", placeholder: "note (N)", "aria-label": "Note", maxlength: "1000" });
  dom.promote = button(app, { label: "Promote", key: "P", class: "atk-promote", face: [make("span", {}, "Promote"), keycap("P")], "aria-label": null, act: () => promote(app) });
  dom.door = make("div", { class: "atk-door atk-small" });
  dom.leave = button(app, { label: "Leave them out", key: "X", class: "atk-link", hidden: true, act: () => narrow(app) });
  dom.promotion = make("div", { class: "atk-box" }, dom.themes, make("div", { class: "atk-pair" }, dom.note, dom.promote), make("div", { class: "atk-doorway" }, dom.door, dom.leave));
  dom.judge = make("div", { class: "atk-judge" }, dom.purity, dom.promotion);
  dom.empty = make("div", { class: "atk-empty atk-muted" });
  return make("div", { class: "atk-panel" }, make("div", { class: "atk-chosen" }, dom.name, dom.clear), dom.facts, dom.empty, buildHear(app), dom.judge);
}

function fillThemes(app) {
  app.dom.themes.replaceChildren(...app.kinds.map((name, at) => {
    const dot = make("i");
    dot.style.background = THEME_COLOURS[name] ?? "#8a6f5c";
    return button(app, { label: name, key: String(at + 1), "data-theme-name": name, title: `${THEME_WORDS[name] ?? name}  (${at + 1})`, "aria-label": null, face: [dot, name, keycap(String(at + 1))], act: () => chooseTheme(app, name) });
  }));
}

function chooseTheme(app, name) {
  if (!name) return;
  app.themed = name;
  paint(app);
}

function paintPanel(app) {
  const { dom, selection, purity, root } = app;
  setText(dom.name, selection ? selection.name : "Nothing is selected");
  setText(dom.facts, selection ? factWords(selection) : "");
  dom.clear.hidden = dom.judge.hidden = !selection;
  dom.empty.hidden = Boolean(selection);
  dom.more.disabled = !selection || selection.drawn >= selection.size;
  Object.assign(root.dataset, { selected: selection ? String(selection.size) : "0", selection: selection?.name ?? "", heard: String(purity?.heard ?? 0), right: String(purity?.right ?? 0), low: (purity?.low ?? 0).toFixed(4), themed: app.themed ?? "" });
  if (!selection) return;
  const low = purity?.heard ? purity.low : null;
  setText(dom.low, low === null ? "–" : `≥ ${share(low)}`);
  dom.purity.dataset.level = low === null ? "" : low >= 0.8 ? "good" : low >= 0.5 ? "fair" : "poor";
  const bar = dom.bound.firstChild;
  bar.style.left = `${100 * (low ?? 0)}%`;
  bar.style.width = low === null ? "0%" : `${100 * (1 - low)}%`;
  setText(dom.purityText, purityWords(purity ?? { heard: 0 }));
  for (const node of dom.themes.children) node.setAttribute("aria-pressed", String(node.dataset.themeName === app.themed));
  const members = selection.size - (purity?.true ?? 0) - (purity?.unsure ?? 0);
  setText(dom.promote.firstChild, app.waits ? "Promoting …" : `Promote ${members.toLocaleString("en")}`);
  paintDoor(app);
}

/** Why a theme is suggested for the selected cluster. */
function whyTheme(app) {
  const row = app.clusters.find(({ cluster }) => cluster === app.selection.cluster);
  return row?.reason && row.reason !== "promoted" ? ` ${row.theme ? `Suggested: ${row.theme}` : "No theme is suggested"} (${row.reason}).` : "";
}

/** What the door says of the selection; asked again for each one. */
function paintDoor(app) {
  const { dom, selection, gate, root } = app;
  const mine = gate?.key === selection.key && gate.size === selection.size ? gate : null;
  root.dataset.refused = mine ? String(mine.refused) : "";
  dom.leave.hidden = !mine?.refused || mine.refused === selection.size;
  dom.promote.disabled = !app.mayPromote || app.waits || !mine || mine.refused > 0 || !app.themed;
  const told = () => {
    if (!app.mayPromote) return "No door was given, so nothing may be promoted.";
    if (!mine) return "The door is asked …";
    if (mine.fault) return mine.fault;
    if (mine.refused) return `Refused: ${mine.refused.toLocaleString("en")} of ${selection.size.toLocaleString("en")} must not be trained on. ${mine.reasons.join("; ")}`;
    const done = selection.promoted ? `${many(selection.promoted, "member")} promoted already. ` : "";
    return `${done}The door lets all pass.${app.themed ? "" : " Choose a theme."}${whyTheme(app)}`;
  };
  dom.door.dataset.state = mine?.refused ? "refused" : mine ? "open" : "";
  setText(dom.door, told());
}

async function askDoor(app) {
  const { selection } = app;
  if (!selection || !app.mayPromote) return;
  const { key, size } = selection;
  try {
    const found = await app.client.ask("door", {}, 600000);
    if (app.selection?.key === key && app.selection.size === size && found.key === key) app.gate = { ...found, size };
  } catch (error) {
    if (app.selection?.key === key) app.gate = { key, size, refused: size, reasons: [], fault: error.message };
  }
  if (!app.closed) paint(app);
}

function promote(app) {
  const { selection, dom } = app;
  if (!selection) return app.say("Select a cluster or draw around points first.");
  if (!app.themed) return app.say("Choose a theme first: 1, 2 or 3.", "warn");
  if (dom.promote.disabled) return app.say(`Not promoted. ${dom.door.textContent}`, "warn");
  app.waits = newUuid();
  app.outbox.add({
    uuid: app.waits, kind: "promote", rows: selection.rows, key: selection.key, name: selection.name, theme: app.themed,
    note: dom.note.value.trim(), at_client: new Date().toISOString(),
  });
  paint(app);
  return app.say(`Promoting ${selection.name} as ${app.themed} …`);
}

// ---------------------------------------------------------------- clusters
function buildTable(app) {
  const { dom } = app;
  const heads = [["", ""], ["cluster", ""], ["mostly", ""], ["size", "r"], ["theme", ""], ["heard", "r"], ["purity ≥", "r"], ["promoted", "r"], ["still fires", "r"]];
  dom.heads = make("tr", {}, ...heads.map(([text, side]) => make("th", { "data-side": side }, text)));
  dom.body = make("tbody");
  dom.table = make("div", { class: "atk-clusters", role: "group", "aria-label": "Clusters" }, make("table", {}, make("thead", {}, dom.heads), dom.body));
  return dom.table;
}

function fillTable(app) {
  app.lines = new Map(app.clusters.map((row) => {
    const swatch = make("i");
    const cells = Array.from({ length: 9 }, (_, at) => make("td", { "data-side": [3, 5, 6, 7, 8].includes(at) ? "r" : "" }));
    cells[0].append(swatch);
    setText(cells[1], row.cluster < 0 ? "unassigned" : String(row.cluster));
    setText(cells[2], row.class_name);
    setText(cells[3], row.size.toLocaleString("en"));
    const line = make("tr", { "data-cluster": row.cluster }, ...cells);
    line.addEventListener("pointerdown", (event) => event.preventDefault());
    line.addEventListener("click", () => { app.focus(); chooseCluster(app, row.cluster); });
    return [row.cluster, { line, cells, swatch }];
  }));
  app.dom.body.replaceChildren(...[...app.lines.values()].map(({ line }) => line));
  paintTable(app);
}

function paintTable(app) {
  const has = app.still !== null;
  app.dom.heads.lastChild.hidden = !has;
  for (const row of app.clusters) {
    const { line, cells, swatch } = app.lines.get(row.cluster);
    swatch.style.background = clusterColour(app, row.cluster);
    setText(cells[4], row.theme);
    cells[4].title = row.reason;
    setText(cells[5], row.heard ? `${row.right}/${row.heard}` : "");
    setText(cells[6], row.purity_low === null ? "" : share(row.purity_low));
    setText(cells[7], row.promoted ? `${row.promoted.toLocaleString("en")}` : "");
    setText(cells[8], has && row.still !== null ? `${row.still.toLocaleString("en")}` : "");
    cells[8].hidden = !has;
    line.dataset.promoted = String(row.promoted);
    const isNow = app.selection?.cluster === row.cluster;
    if (line.getAttribute("aria-selected") !== String(isNow)) {
      line.setAttribute("aria-selected", String(isNow));
      if (isNow) reveal(app.dom.table, line);
    }
  }
}

/** Scroll a box, and nothing around it, so that a part of it is seen. */
function reveal(box, part) {
  const [outer, inner] = [box.getBoundingClientRect(), part.getBoundingClientRect()];
  if (inner.top < outer.top + 28) box.scrollTop -= outer.top + 28 - inner.top;
  else if (inner.bottom > outer.bottom) box.scrollTop += inner.bottom - outer.bottom;
}
