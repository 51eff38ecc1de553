// The explorer's own map: points on a plain canvas, a lasso over them, names of clusters, colours and their legend.
// Rows of points travel as bits (base64); places are uint16 on a square, 65535 where a point has none. Functions only.

const NOWHERE = 65535;
const GREY = { light: "#b3bac6", dark: "#4b5464" };
const LEVELS = ["#4456c7", "#5f9fd6", "#58b89a", "#e0a63a", "#d1495b"]; // quiet to loud
const THEME_COLOURS = { neg_hard: "#d9583b", neg_silence: "#5b7bd5", neg_ambient: "#3f9d74" };
const STILL = { light: ["#a9b8cc", "#d1495b"], dark: ["#4d5d74", "#ff7085"] }; // silent now, fires still
const TRUE_COLOUR = { light: "#12805c", dark: "#5fe0b4" };
const GRABS = 10; // pixels around a click in which a point is taken
const FEWEST = 6; // pixels that a lasso is long; below it is a click

// ---------------------------------------------------------------- pure
/** Bits of rows as base64, the first point lowest. */
function toBits(rows, count) {
  const bytes = new Uint8Array(Math.ceil(count / 8));
  for (const row of rows) bytes[row >> 3] |= 1 << (row & 7);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

/** 0 or 1 for each point from base64 of bits. */
function fromBits(text, count) {
  const bytes = atob(text);
  const found = new Uint8Array(count);
  for (let row = 0; row < count; row++) found[row] = (bytes.charCodeAt(row >> 3) >> (row & 7)) & 1;
  return found;
}

/** Whether (x, y) lies inside of a polygon [[x, y], ...] (even-odd rule). */
function isInside(polygon, x, y) {
  let inside = false;
  for (let at = 0, before = polygon.length - 1; at < polygon.length; before = at++) {
    const [[ax, ay], [bx, by]] = [polygon[at], polygon[before]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

/** Rows of the points inside of a polygon; `xy` are pairs of places, `polygon` is in the same units. */
function rowsInside(polygon, xy) {
  const xs = polygon.map(([x]) => x);
  const ys = polygon.map(([, y]) => y);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const rows = [];
  for (let row = 0; 2 * row < xy.length; row++) {
    const [x, y] = [xy[2 * row], xy[2 * row + 1]];
    if (x === NOWHERE || x < left || x > right || y < low || y > high) continue;
    if (isInside(polygon, x, y)) rows.push(row);
  }
  return rows;
}

/** The row of the point nearest to (x, y) that is at most `reach` away, or -1. */
function nearestRow(xy, x, y, reach) {
  let [best, found] = [reach * reach, -1];
  for (let row = 0; 2 * row < xy.length; row++) {
    if (xy[2 * row] === NOWHERE) continue;
    const away = (xy[2 * row] - x) ** 2 + (xy[2 * row + 1] - y) ** 2;
    if (away <= best) [best, found] = [away, row];
  }
  return found;
}

/** The view in which all places are seen: {x, y} in the middle, and pixels a unit. */
function fitView(xy, width, height, margin = 22) {
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let at = 0; at < xy.length; at += 2) {
    if (xy[at] === NOWHERE) continue;
    [left, right] = [Math.min(left, xy[at]), Math.max(right, xy[at])];
    [low, high] = [Math.min(low, xy[at + 1]), Math.max(high, xy[at + 1])];
  }
  if (left > right) return { x: 0, y: 0, scale: 1 };
  const room = [Math.max(width - 2 * margin, 20), Math.max(height - 2 * margin, 20)];
  const scale = Math.min(room[0] / Math.max(right - left, 1), room[1] / Math.max(high - low, 1));
  return { x: (left + right) / 2, y: (low + high) / 2, scale: Math.min(scale, 1) };
}

const toScreen = (view, width, height, x, y) => [width / 2 + (x - view.x) * view.scale, height / 2 - (y - view.y) * view.scale];
const toPlace = (view, width, height, x, y) => [view.x + (x - width / 2) / view.scale, view.y - (y - height / 2) / view.scale];

/** A view zoomed by `factor` that leaves what is under the screen point where it is. */
function zoomed(view, width, height, x, y, factor) {
  const [px, py] = toPlace(view, width, height, x, y);
  const scale = clamp(view.scale * factor, 1e-4, 8);
  return { x: px - (x - width / 2) / scale, y: py + (y - height / 2) / scale, scale };
}

/** Colours of categories that stay apart: hues by the golden angle, two lightnesses. */
function categoryColour(at, theme) {
  const hue = (215 + at * 137.508) % 360;
  const light = theme === "dark" ? [64, 74] : [46, 58];
  return `hsl(${hue.toFixed(0)} ${theme === "dark" ? 62 : 58}% ${light[at % 2]}%)`;
}

/** The colour of a share of the level scale, as [r, g, b]. */
function levelColour(share) {
  const place = clamp(share, 0, 1) * (LEVELS.length - 1);
  const first = Math.min(Math.floor(place), LEVELS.length - 2);
  const [from, to] = [hexColour(LEVELS[first]), hexColour(LEVELS[first + 1])];
  return from.map((value, channel) => Math.round(value + (place - first) * (to[channel] - value)));
}

/** The middle of each category (medians of x and y) and its size; `codes` as they come, places as pairs. */
function middles(codes, xy, count) {
  const rows = Array.from({ length: count }, () => []);
  for (let row = 0; row < codes.length; row++) if (xy[2 * row] !== NOWHERE) rows[codes[row]].push(row);
  const middle = (mine, shift) => mine.map((row) => xy[2 * row + shift]).sort((a, b) => a - b)[mine.length >> 1];
  return rows.map((mine) => (mine.length ? { x: middle(mine, 0), y: middle(mine, 1), size: mine.length } : null));
}

// ---------------------------------------------------------------- colours
/** What the points are coloured by: {about: {names or low, high}, codes, colours: code -> colour}. */
function lookOf(app, by) {
  const { theme } = app;
  const grey = GREY[theme];
  if (by === "theme") {
    const codes = new Uint16Array(app.count);
    app.promoted.forEach((bits, at) => bits.forEach((is, row) => { if (is) codes[row] = at + 1; }));
    return { about: { by, names: ["not promoted", ...app.kinds] }, codes, colours: [grey, ...app.kinds.map((name) => THEME_COLOURS[name] ?? "#8a6f5c")] };
  }
  if (by === "after") return { about: { by, names: ["silent now", "fires still"] }, codes: app.still, colours: STILL[theme] };
  const [about, codes] = app.looks.get(by);
  if (by === "level") {
    const colours = Array.from({ length: 255 }, (_, value) => `rgb(${levelColour(value / 254).join()})`);
    return { about, codes, colours: [...colours, grey] };
  }
  const skip = by === "cluster" ? 1 : 0; // the unassigned are no category of their own
  return { about, codes, colours: about.names.map((_, at) => (at < skip ? grey : categoryColour(at - skip, theme))) };
}

const clusterColour = (app, cluster) => {
  const names = app.looks.get("cluster")?.[0].names ?? [];
  const at = names.indexOf(String(cluster));
  return at > 0 ? categoryColour(at - 1, app.theme) : GREY[app.theme];
};

// ---------------------------------------------------------------- drawing
/** Radius of a point in pixels: smaller where there are many, larger when looked at closely. */
const radiusOf = (count, closer) => clamp(6.4 - Math.log10(Math.max(count, 10)) * 1.05, 1.3, 4.5) * Math.min(closer ** 0.35, 3);

function sprite(colour, radius, ratio, kind) {
  const size = Math.ceil((radius + 1) * 2 * ratio);
  const canvas = make("canvas");
  [canvas.width, canvas.height] = [size, size];
  const g = canvas.getContext("2d");
  g.translate(size / 2, size / 2);
  g.scale(ratio, ratio);
  g.beginPath();
  if (kind === "true") g.rect(-radius, -radius, 2 * radius, 2 * radius);
  else g.arc(0, 0, kind === "promoted" ? radius * 0.9 : radius, 0, 2 * Math.PI);
  if (kind === "promoted") {
    [g.strokeStyle, g.lineWidth] = [colour, Math.max(radius * 0.55, 0.9)];
    g.stroke();
  } else {
    g.fillStyle = colour;
    g.fill();
  }
  return canvas;
}

function drawPoints(app) {
  const { map } = app;
  const g = sharpContext(app.dom.canvas, map.width, map.height);
  g.clearRect(0, 0, map.width, map.height);
  if (!app.xy) return;
  const ratio = devicePixelRatio;
  const look = (app.look = lookOf(app, app.colour));
  const radius = radiusOf(app.count, map.view.scale / map.home.scale);
  const sprites = new Map();
  const chosen = app.members;
  g.setTransform(1, 0, 0, 1, 0, 0);
  for (const front of chosen ? [0, 1] : [1]) { // what is selected lies on top
    g.globalAlpha = front ? (app.count > 5000 ? 0.78 : 0.88) : 0.16;
    for (let row = 0; row < app.count; row++) {
      if (app.xy[2 * row] === NOWHERE || (chosen && chosen[row] !== front)) continue;
      const [x, y] = toScreen(map.view, map.width, map.height, app.xy[2 * row], app.xy[2 * row + 1]);
      if (x < -9 || y < -9 || x > map.width + 9 || y > map.height + 9) continue;
      const kind = app.isTrue[row] ? "true" : app.isPromoted[row] ? "promoted" : "";
      const key = `${kind}${look.codes[row]}`;
      let drawn = sprites.get(key);
      if (!drawn) sprites.set(key, (drawn = sprite(kind === "true" ? TRUE_COLOUR[app.theme] : look.colours[look.codes[row]], radius, ratio, kind)));
      g.drawImage(drawn, x * ratio - drawn.width / 2, y * ratio - drawn.height / 2);
    }
  }
  g.globalAlpha = 1;
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawNames(g, app);
  app.root.dataset.drawn = String(Number(app.root.dataset.drawn ?? 0) + 1);
}

/** Numbers of clusters at their middles, the largest first, none over another. */
function drawNames(g, app) {
  const { map } = app;
  const [{ names }] = app.looks.get("cluster");
  const taken = [];
  g.font = `600 11px ${getComputedStyle(app.root).fontFamily}`;
  [g.textAlign, g.textBaseline] = ["center", "middle"];
  const order = map.middles.map((_, at) => at).filter((at) => at && map.middles[at]).sort((a, b) => map.middles[b].size - map.middles[a].size);
  for (const at of order.slice(0, 60)) {
    const [x, y] = toScreen(map.view, map.width, map.height, map.middles[at].x, map.middles[at].y);
    const half = g.measureText(names[at]).width / 2 + 5;
    const box = [x - half, x + half, y - 9, y + 9];
    if (x < 0 || y < 0 || x > map.width || y > map.height) continue;
    if (taken.some(([l, r, t, b]) => box[0] < r && box[1] > l && box[2] < b && box[3] > t)) continue;
    taken.push(box);
    const isNow = app.selection && String(app.selection.cluster) === names[at];
    g.globalAlpha = app.selection && !isNow ? 0.55 : 0.92;
    g.fillStyle = app.theme === "dark" ? "#14171d" : "#ffffff";
    g.beginPath();
    g.roundRect(box[0], box[2], 2 * half, 18, 9);
    g.fill();
    g.globalAlpha = 1;
    [g.strokeStyle, g.lineWidth] = [categoryColour(at - 1, app.theme), isNow ? 2 : 1];
    g.stroke();
    g.fillStyle = app.theme === "dark" ? "#e7eaf0" : "#20242c";
    g.fillText(names[at], x, y + 0.5);
  }
}

/** The lasso, and rings around the members that are heard. */
function drawOverlay(app) {
  const { map, dom } = app;
  if (!map.width) return;
  const g = sharpContext(dom.overlay, map.width, map.height);
  g.clearRect(0, 0, map.width, map.height);
  const accent = getComputedStyle(app.root).getPropertyValue("--atk-accent").trim() || "#2f6fde";
  for (const row of app.rows) {
    if (!app.xy || app.xy[2 * row.row] === NOWHERE) continue;
    const [x, y] = toScreen(map.view, map.width, map.height, app.xy[2 * row.row], app.xy[2 * row.row + 1]);
    const isNow = row === app.row;
    for (const [width, colour] of [[isNow ? 5 : 3.5, app.theme === "dark" ? "#14171d" : "#ffffff"], [isNow ? 2.5 : 1.5, isNow ? accent : app.theme === "dark" ? "#e7eaf0" : "#20242c"]]) {
      [g.lineWidth, g.strokeStyle] = [width, colour];
      g.beginPath();
      g.arc(x, y, isNow ? 8 : 5, 0, 2 * Math.PI);
      g.stroke();
    }
  }
  if (map.path.length > 1) {
    g.beginPath();
    map.path.forEach(([x, y], at) => (at ? g.lineTo(x, y) : g.moveTo(x, y)));
    g.closePath();
    g.globalAlpha = 0.1;
    g.fillStyle = accent;
    g.fill();
    g.globalAlpha = 1;
    [g.strokeStyle, g.lineWidth] = [accent, 1.5];
    g.setLineDash([5, 4]);
    g.stroke();
    g.setLineDash([]);
  }
}

/** The legend of the colours; a cluster's entries select it. */
function paintLegend(app) {
  const { about, colours } = app.look;
  const dot = (colour) => {
    const node = make("i");
    node.style.background = colour;
    return node;
  };
  const parts = [];
  if (about.by === "level") {
    const bar = make("span", { class: "atk-ramp" });
    bar.style.background = `linear-gradient(90deg, ${LEVELS.join(", ")})`;
    parts.push(make("span", {}, decibels(about.low)), bar, make("span", {}, decibels(about.high)));
  } else if (about.by === "cluster") {
    parts.push(make("span", { class: "atk-key" }, dot(colours[0]), "unassigned"));
  } else {
    about.names.slice(0, 9).forEach((name, at) => parts.push(make("span", { class: "atk-key", title: name }, dot(colours[at]), make("span", {}, name))));
    if (about.names.length > 9) parts.push(make("span", {}, `${about.names.length - 9} more`));
  }
  if (app.isPromoted.includes(1) && about.by !== "theme") parts.push(make("span", { class: "atk-key" }, make("i", { class: "atk-hollow" }), "promoted"));
  if (app.isTrue.includes(1)) {
    const mark = dot(TRUE_COLOUR[app.theme]);
    mark.className = "atk-square";
    parts.push(make("span", { class: "atk-key" }, mark, "true event"));
  }
  app.dom.legend.replaceChildren(...parts);
}

// ---------------------------------------------------------------- the map
function buildMap(app) {
  const { dom } = app;
  dom.canvas = make("canvas", { class: "atk-points" });
  dom.overlay = make("canvas", { class: "atk-overlay", "data-testid": "map", role: "img", "aria-label": "Map of the false positives" });
  dom.under = make("div", { class: "atk-under atk-muted" });
  dom.legend = make("div", { class: "atk-legend atk-muted" });
  dom.lasso = button(app, { label: "Lasso: draw around points", key: "L", class: "atk-mode", face: ["Lasso"], act: () => setMode(app, "lasso") });
  dom.pan = button(app, { label: "Move the map", key: "H", class: "atk-mode", face: ["Move"], act: () => setMode(app, "pan") });
  dom.nearer = button(app, { label: "Zoom in", key: "+", face: ["+"], act: () => zoomBy(app, 1.5) });
  dom.farther = button(app, { label: "Zoom out", key: "−", face: ["−"], act: () => zoomBy(app, 1 / 1.5) });
  dom.home = button(app, { label: "See all", key: "0", face: ["All"], act: () => seeAll(app) });
  const tools = make("div", { class: "atk-tools" }, dom.lasso, dom.pan, dom.nearer, dom.farther, dom.home);
  dom.stage = make("div", { class: "atk-stage" }, dom.canvas, dom.overlay, tools, dom.under);
  dom.stage.style.height = `${app.settings.height || 470}px`;
  bindMap(app);
  return make("div", { class: "atk-map" }, dom.stage, dom.legend);
}

function setMode(app, mode) {
  app.map.mode = mode;
  app.dom.lasso?.setAttribute("aria-pressed", String(mode === "lasso"));
  app.dom.pan?.setAttribute("aria-pressed", String(mode === "pan"));
  app.dom.overlay.style.cursor = mode === "pan" ? "grab" : "crosshair";
}

/** Take the places and codes of the points. */
function takePoints(app, { colourings, buffers }) {
  const parts = buffers.map(bytesOf);
  const words = (part) => new Uint16Array(part.buffer);
  app.xy = words(parts[0]);
  app.looks = new Map(colourings.map((about, at) => [about.by, [about, words(parts[at + 1])]]));
  app.isTrue = parts[parts.length - 1];
  const [{ names }, codes] = app.looks.get("cluster");
  app.map.middles = middles(codes, app.xy, names.length);
}

function sizeMap(app) {
  const { map, dom } = app;
  if (!dom.stage) return;
  const box = dom.stage.getBoundingClientRect();
  const [width, height] = [Math.floor(box.width), Math.floor(box.height)];
  if (width < 80 || (width === map.width && height === map.height)) return;
  const isHome = !map.width || map.view === map.home;
  Object.assign(map, { width, height });
  if (app.xy) map.home = fitView(app.xy, width, height);
  if (isHome) map.view = map.home;
  map.stale = true;
}

function seeAll(app) {
  app.map.view = app.map.home = fitView(app.xy, app.map.width, app.map.height);
  redrawMap(app);
}

function zoomBy(app, factor, x = app.map.width / 2, y = app.map.height / 2) {
  app.map.view = zoomed(app.map.view, app.map.width, app.map.height, x, y, factor);
  redrawMap(app);
}

function redrawMap(app) {
  app.map.stale = true;
  app.refresh();
}

/** Draw what is not drawn yet. */
function drawMap(app) {
  if (app.dom.stage) sizeMap(app);
  if (!app.xy || !app.map.width) return;
  if (app.map.stale) {
    app.map.stale = false;
    drawPoints(app);
    paintLegend(app);
  }
  drawOverlay(app);
}

function bindMap(app) {
  const { dom, map } = app;
  const at = (event) => {
    const box = dom.overlay.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const place = ([x, y]) => toPlace(map.view, map.width, map.height, x, y);
  dom.overlay.addEventListener("pointerdown", (event) => {
    if (!app.xy || !map.width) return;
    event.preventDefault();
    app.focus();
    dom.overlay.setPointerCapture(event.pointerId);
    map.drag = { pan: map.mode === "pan" || event.button > 0, last: at(event), moved: 0, adds: event.shiftKey };
    map.path = map.drag.pan ? [] : [at(event)];
  });
  dom.overlay.addEventListener("pointermove", (event) => {
    const now = at(event);
    if (!map.drag) return hover(app, place(now));
    const [dx, dy] = [now[0] - map.drag.last[0], now[1] - map.drag.last[1]];
    if (Math.hypot(dx, dy) < (map.drag.pan ? 1 : 3)) return undefined;
    map.drag.moved += Math.hypot(dx, dy);
    map.drag.last = now;
    if (map.drag.pan) {
      map.view = { ...map.view, x: map.view.x - dx / map.view.scale, y: map.view.y + dy / map.view.scale };
      return redrawMap(app);
    }
    map.path.push(now);
    return app.refresh();
  });
  const end = (event) => {
    const { drag } = map;
    if (!drag) return;
    const path = map.path;
    [map.drag, map.path] = [null, []];
    app.refresh();
    if (event.type === "pointercancel") return;
    if (drag.moved < FEWEST) pick(app, place(at(event)));
    else if (!drag.pan) chooseRows(app, rowsInside(path.map(place), app.xy), drag.adds);
  };
  dom.overlay.addEventListener("pointerup", end);
  dom.overlay.addEventListener("pointercancel", end);
  dom.overlay.addEventListener("pointerleave", () => setText(dom.under, ""));
  dom.overlay.addEventListener("wheel", (event) => {
    if (!app.xy || !app.root.contains(document.activeElement)) return; // else the page scrolls, as it should
    event.preventDefault();
    zoomBy(app, 2 ** clamp(-event.deltaY / 240, -1, 1), ...at(event));
  }, { passive: false });
}

/** A click takes the cluster of the point under it. */
function pick(app, [x, y]) {
  const row = nearestRow(app.xy, x, y, GRABS / app.map.view.scale);
  if (row < 0) return app.say("There is no point. Draw around points to select them, or click one for its cluster.");
  return chooseCluster(app, clusterAt(app, row));
}

const clusterAt = (app, row) => {
  const [{ names }, codes] = app.looks.get("cluster");
  return codes[row] ? Number(names[codes[row]]) : -1;
};

function hover(app, [x, y]) {
  const row = app.xy ? nearestRow(app.xy, x, y, GRABS / app.map.view.scale) : -1;
  if (row < 0) return setText(app.dom.under, "");
  const cluster = clusterAt(app, row);
  const [{ names }, codes] = app.looks.get("class");
  return setText(app.dom.under, `${cluster < 0 ? "unassigned" : `cluster ${cluster}`} · ${names[codes[row]]}${app.isTrue[row] ? " · true event" : ""}`);
}
