// Segment labeler, part 2: the canvases. Everything is drawn from the state; nothing here changes it.

const GUTTER = 56; // left of the pictures: frequencies
const MARGIN = 8; // right of them: the half of a grip or the playhead at the end
const AXIS = 22;
const LANE = 20;

/** Heights and tops of the parts of the main canvas, in CSS pixels. */
function layoutOf({ width, lanes, ribbon, specHeight }) {
  const rows = clamp(lanes, 1, 6);
  const parts = { width, left: GUTTER, plot: Math.max(width - GUTTER - MARGIN, 50), rows };
  parts.right = GUTTER + parts.plot;
  let y = 0;
  const place = (name, height) => {
    parts[name] = { y, h: height };
    y += height;
  };
  place("axis", AXIS);
  place("lanes", rows * LANE + 4);
  place("wave", Math.round(specHeight * 0.32));
  place("ribbon", ribbon ? ribbon * 13 + 5 : 0);
  place("spec", specHeight);
  return { ...parts, height: y };
}

const PALETTES = {
  light: {
    ground: "#ffffff", paper: "#fbfcfe", text: "#20242c", muted: "#687182", line: "#dfe3ea", grid: "rgba(32,36,44,.07)",
    wave: "#48566e", waveQuiet: "#a9b3c3", accent: "#2f6fde", heard: "#2f9e78", cursor: "#d92f4c",
  },
  dark: {
    ground: "#14171d", paper: "#0c0f16", text: "#e7eaf0", muted: "#8f99aa", line: "#2b313c", grid: "rgba(231,234,240,.07)",
    wave: "#a9b8d2", waveQuiet: "#4d586b", accent: "#6ea1ff", heard: "#4fc39b", cursor: "#ff5c74",
  },
};

/** The text, cut with an ellipsis so that it fits. */
function fitText(g, text, width) {
  if (g.measureText(text).width <= width) return text;
  let length = text.length;
  while (length > 0 && g.measureText(`${text.slice(0, length)}…`).width > width) length--;
  return length ? `${text.slice(0, length)}…` : "";
}

const withAlpha = (colour, alpha) => `rgba(${hexColour(colour).join(",")},${alpha})`;

/** Fill min-max columns around the middle line of a box. */
function drawPeaks(g, part, view, box, gain, colour) {
  const { values, start_s, end_s, n } = part;
  const middle = box.y + box.h / 2;
  const scale = (box.h / 2 - 2) * gain / 32767;
  const column = ((end_s - start_s) / n / (view.end - view.start)) * box.w;
  const first = Math.max(Math.floor(((view.start - start_s) / (end_s - start_s)) * n) - 1, 0);
  const last = Math.min(Math.ceil(((view.end - start_s) / (end_s - start_s)) * n) + 1, n);
  const x0 = box.x + timeToX(view, box.w, start_s);
  g.beginPath();
  for (let index = first; index < last; index++) {
    const top = clamp(middle - values[2 * index + 1] * scale, box.y, box.y + box.h);
    const bottom = clamp(middle - values[2 * index] * scale, box.y, box.y + box.h);
    g.rect(x0 + index * column, Math.min(top, middle - 0.5), Math.max(column, 0.6), Math.max(bottom - top, 1));
  }
  g.fillStyle = colour;
  g.fill();
}

/** The finest peaks that cover the view; what is here already serves until the asked ones come. */
function bestPeaks(media, recording, view, wish) {
  const exact = media.peaks(recording, wish.start, wish.end, wish.n);
  if (exact) return [exact];
  const density = (part) => part.n / (part.end_s - part.start_s);
  return media.peaksAt(recording).filter((part) => part.end_s > view.start && part.start_s < view.end)
    .sort((a, b) => density(b) - density(a)).slice(0, 1);
}

function clipped(g, box, draw) {
  g.save();
  g.beginPath();
  g.rect(box.x, box.y, box.w, box.h);
  g.clip();
  draw();
  g.restore();
}

// ---------------------------------------------------------------- overview
const OVERVIEW = 44;

/** The whole recording: peaks, segments above, what was heard below, the view in front. */
function drawOverview(canvas, app) {
  const { item, view, media, colours: ink, layout } = app;
  const g = sharpContext(canvas, layout.width, OVERVIEW);
  const whole = { start: 0, end: item.duration_s };
  const box = { x: layout.left, y: 9, w: layout.plot, h: OVERVIEW - 16 };
  const place = (time) => box.x + timeToX(whole, box.w, time);
  g.clearRect(0, 0, layout.width, OVERVIEW);
  const parts = bestPeaks(media, item.recording, whole, { start: 0, end: item.duration_s, n: clamp(devicePixels(box.w), 1, 4000) });
  for (const part of parts) drawPeaks(g, part, whole, box, app.gain, ink.waveQuiet);
  const [left, right] = [place(view.start), place(view.end)];
  clipped(g, { x: left, y: 0, w: Math.max(right - left, 2), h: OVERVIEW }, () => parts.forEach((part) => drawPeaks(g, part, whole, box, app.gain, ink.wave)));
  const bar = (from, to, y, h, colour) => {
    g.fillStyle = colour;
    g.fillRect(place(from), y, Math.max(place(to) - place(from), 1.5), h);
  };
  for (const { start_s, end_s, class_name } of app.shownSegments()) bar(start_s, end_s, 2, 5, app.colourOf(class_name));
  bar(0, item.duration_s, OVERVIEW - 4, 3, ink.line);
  for (const [from, to] of app.heardNow()) bar(from, to, OVERVIEW - 4, 3, ink.heard);
  g.font = app.font;
  g.fillStyle = ink.muted;
  g.textAlign = "right";
  g.textBaseline = "middle";
  g.fillText("whole", layout.left - 8, OVERVIEW / 2);
  if (right - left > box.w - 1) return;
  g.fillStyle = withAlpha(ink.accent, 0.1);
  g.strokeStyle = ink.accent;
  g.lineWidth = 1.5;
  g.beginPath();
  g.roundRect(Math.min(left, layout.right - 7), 1, Math.max(right - left - 1, 6), OVERVIEW - 2, 4);
  g.fill();
  g.stroke();
}

// ---------------------------------------------------------------- the view
function drawSpectrogram(g, app, box) {
  const { item, view, media } = app;
  const { zoom, indexes } = tilesFor(view, box.w, item.duration_s);
  const wanted = indexes.map((index) => media.tile(item.recording, zoom, index));
  app.pictureReady = wanted.every(Boolean);
  if (!app.levels && app.pictureReady) app.levels = levelsOf(wanted);
  const levels = app.levels ?? [0, 255];
  const look = [app.theme, app.lift, ...levels].join();
  if (app.inkLook !== look) [app.inkLook, app.inkTable] = [look, colourTable(app.theme, levels, app.lift)];
  const paint = (tile) => {
    const [left, right] = [tile.start_s, tile.end_s].map((time) => box.x + timeToX(view, box.w, time));
    g.drawImage(paintTile(tile, look, app.inkTable), left, box.y, right - left, box.h);
  };
  clipped(g, box, () => {
    g.fillStyle = app.colours.paper;
    g.fillRect(box.x, box.y, box.w, box.h);
    g.imageSmoothingEnabled = true;
    g.imageSmoothingQuality = "medium";
    if (!app.pictureReady) { // coarser or finer ones that are here, until these come
      media.tilesAt(item.recording).filter((tile) => tile.end_s > view.start && tile.start_s < view.end).forEach(paint);
    }
    wanted.filter(Boolean).forEach(paint);
  });
}

function drawFrequencies(g, app, box) {
  const { item, colours: ink } = app;
  const bands = item.mel_hz;
  const top = bands[bands.length - 1];
  let last = Infinity;
  g.textAlign = "right";
  g.textBaseline = "middle";
  for (const hz of [100, 200, 500, 1000, 2000, 4000, 8000, 12000, 16000, 20000, 40000, 80000]) {
    const y = box.y + box.h * (1 - (bandOf(bands, hz) + 0.5) / bands.length);
    if (hz > top || y > box.y + box.h - 8 || y < box.y + 8 || last - y < 22) continue;
    last = y;
    g.fillStyle = ink.grid;
    g.fillRect(box.x, Math.round(y), box.w, 1);
    g.fillStyle = ink.muted;
    g.fillText(hz >= 1000 ? `${hz / 1000} kHz` : `${hz} Hz`, GUTTER - 8, y);
  }
}

function drawAxis(g, app, layout) {
  const { view, colours: ink } = app;
  const { ticks, digits } = axisTicks(view, layout.plot);
  g.textAlign = "left";
  g.textBaseline = "middle";
  for (const { time, major } of ticks) {
    const x = Math.round(layout.left + timeToX(view, layout.plot, time)) + 0.5;
    g.strokeStyle = major ? ink.line : ink.grid;
    g.beginPath();
    g.moveTo(x, major ? 4 : layout.axis.h - 6);
    g.lineTo(x, layout.axis.h);
    g.stroke();
    if (major) {
      g.fillStyle = ink.grid;
      g.fillRect(x - 0.5, layout.wave.y, 1, layout.wave.h);
      g.fillStyle = ink.muted;
      if (x < layout.width - 34) g.fillText(formatTime(time, digits), x + 4, 10);
    }
  }
}

/** Boxes of the segments' bars on the screen: what is drawn is what is hit. */
function segmentBoxes(app, layout) {
  const { lanes } = assignLanes(app.shownSegments());
  return app.shownSegments().map((segment) => {
    const top = layout.lanes.y + 2 + Math.min(lanes.get(segment.id), layout.rows - 1) * LANE;
    const [left, right] = [segment.start_s, segment.end_s].map((time) => layout.left + timeToX(app.view, layout.plot, time));
    return { id: segment.id, segment, left, right, top, bottom: top + LANE - 3 };
  }).filter(({ left, right }) => right >= layout.left - 3 && left <= layout.right + 3);
}

function drawSegment(g, app, layout, box) {
  const { segment } = box;
  const colour = app.colourOf(segment.class_name);
  const chosen = segment.id === app.selected;
  const width = Math.max(box.right - box.left, 2);
  const fill = (part, alpha) => {
    g.fillStyle = withAlpha(colour, alpha);
    g.fillRect(box.left, part.y, width, part.h);
  };
  fill({ y: box.bottom, h: layout.wave.y - box.bottom }, chosen ? 0.3 : 0.14);
  fill(layout.wave, chosen ? 0.26 : 0.15);
  fill(layout.spec, chosen ? 0.16 : 0.06);
  g.fillStyle = withAlpha(colour, chosen ? 1 : 0.55);
  for (const x of [box.left, box.right]) g.fillRect(x - 0.5, layout.wave.y, 1, layout.height - layout.wave.y);
  g.fillStyle = app.mine(segment) ? colour : withAlpha(colour, 0.45);
  g.beginPath();
  g.roundRect(box.left, box.top, width, box.bottom - box.top, Math.min(4, width / 2));
  g.fill();
  if (chosen) {
    g.strokeStyle = app.colours.text;
    g.lineWidth = 1.5;
    g.stroke();
  }
  drawBarText(g, app, layout, box, colour);
}

function drawBarText(g, app, layout, box, colour) {
  const { segment } = box;
  const [left, right] = [Math.max(box.left, layout.left) + 6, Math.min(box.right, layout.right) - 5];
  if (right - left < 8) return;
  const middle = (box.top + box.bottom) / 2 + 0.5;
  const own = app.mine(segment);
  g.textAlign = "left";
  g.textBaseline = "middle";
  g.fillStyle = own ? inkOn(colour) : app.colours.text;
  g.font = `600 ${app.font}`;
  const name = fitText(g, `${segment.class_name ?? "?"}${own ? "" : ` · ${segment.labeler}`}`, right - left);
  if (name.length < 4 && name.endsWith("…")) return;
  g.fillText(name, left, middle);
  const after = left + 7 + g.measureText(name).width;
  g.font = app.font;
  const length = `${(segment.end_s - segment.start_s).toFixed(2)} s${segment.note ? " ✎" : ""}`;
  if (after + g.measureText(length).width > right) return;
  g.globalAlpha *= 0.8;
  g.fillText(length, after, middle);
  g.globalAlpha = 1;
}

/** The two edges of the selected segment; the one the arrow keys move is full. */
function drawGrips(g, app, layout, box) {
  const colour = app.colourOf(box.segment.class_name);
  const middle = layout.wave.y + layout.wave.h / 2;
  for (const edge of ["start", "end"]) {
    const x = edge === "start" ? box.left : box.right;
    if (x < layout.left - 1 || x > layout.right + 1) continue;
    g.fillStyle = colour;
    g.fillRect(x - 1, layout.wave.y, 2, layout.height - layout.wave.y);
    g.beginPath();
    g.roundRect(x - 4, middle - 13, 8, 26, 4);
    g.fillStyle = app.edge === edge ? colour : app.colours.ground;
    g.fill();
    g.strokeStyle = app.edge === edge ? app.colours.ground : colour;
    g.lineWidth = 1.5;
    g.stroke();
  }
}

/** The teacher's scores: a row a class, the stronger the fuller. */
function drawRibbon(g, app, layout) {
  const { teacher } = app.item;
  if (!layout.ribbon.h) return;
  const rows = app.teacherRows();
  g.textBaseline = "middle";
  rows.forEach((column, row) => {
    const y = layout.ribbon.y + 3 + row * 13;
    const name = teacher.classes[column];
    g.fillStyle = app.colours.muted;
    g.textAlign = "right";
    g.fillText(fitText(g, name, GUTTER - 12), GUTTER - 8, y + 6);
    g.fillStyle = app.colours.grid;
    g.fillRect(layout.left, y, layout.plot, 11);
    drawScores(g, app, layout, column, y, app.colourOf(name));
  });
}

function drawScores(g, app, layout, column, y, colour) {
  const { teacher } = app.item;
  const step = (app.view.end - app.view.start) / layout.plot; // a pixel shows the strongest score in it
  for (let row = 0, until = -1, best = 0, from = 0; row < teacher.rows; row++) {
    const [start, end] = [teacher.times[2 * row], teacher.times[2 * row + 1]];
    if (end < app.view.start || start > app.view.end) continue;
    const score = teacher.scores[row * teacher.columns + column];
    if (start >= until) [from, until, best] = [start, Math.max(end, start + step), 0];
    best = Math.max(best, score || 0); // NaN: not scored
    const next = row + 1 < teacher.rows ? teacher.times[2 * row + 2] : Infinity;
    if (next < until - 1e-9 || best < 0.02) continue;
    const [left, right] = [from, Math.min(Math.max(end, from + step), next)].map((time) => layout.left + timeToX(app.view, layout.plot, time));
    g.fillStyle = withAlpha(colour, Math.min(best, 1));
    g.fillRect(left, y, right - left + 0.3, 11);
  }
}

/** The whole main canvas. */
function drawMain(canvas, app, layout) {
  const { item, view, colours: ink, media } = app;
  const g = sharpContext(canvas, layout.width, layout.height);
  g.clearRect(0, 0, layout.width, layout.height);
  g.font = app.font;
  const plot = (part) => ({ x: layout.left, y: part.y, w: layout.plot, h: part.h });
  g.fillStyle = ink.paper;
  g.fillRect(layout.left, layout.wave.y, layout.plot, layout.wave.h);
  drawAxis(g, app, layout);
  const wish = peaksFor(view, devicePixels(layout.plot), item.duration_s);
  clipped(g, plot(layout.wave), () => {
    for (const part of bestPeaks(media, item.recording, view, wish)) drawPeaks(g, part, view, plot(layout.wave), app.gain, ink.wave);
  });
  drawSpectrogram(g, app, plot(layout.spec));
  drawFrequencies(g, app, plot(layout.spec));
  drawRibbon(g, app, layout);
  const boxes = segmentBoxes(app, layout);
  const all = { x: layout.left, y: 0, w: layout.plot, h: layout.height };
  clipped(g, all, () => boxes.sort((a, b) => (a.id === app.selected) - (b.id === app.selected)).forEach((box) => drawSegment(g, app, layout, box)));
  boxes.filter(({ id }) => id === app.selected).forEach((box) => drawGrips(g, app, layout, box));
  return boxes;
}

/** What moves on top of the picture: the playhead, a segment being made, the pointer's time. */
function drawOverlay(canvas, app, layout) {
  const g = sharpContext(canvas, layout.width, layout.height);
  const { colours: ink } = app;
  const place = (time) => layout.left + timeToX(app.view, layout.plot, time);
  g.clearRect(0, 0, layout.width, layout.height);
  g.font = `600 ${app.font}`;
  clipped(g, { x: layout.left, y: 0, w: layout.plot, h: layout.height }, () => {
    const making = app.making();
    if (making) {
      const [left, right] = [place(making.start_s), place(making.end_s)];
      g.fillStyle = withAlpha(making.colour, 0.24);
      g.fillRect(left, layout.lanes.y, right - left, layout.height - layout.lanes.y);
      g.fillStyle = making.colour;
      for (const x of [left, right]) g.fillRect(x - 0.75, layout.lanes.y, 1.5, layout.height - layout.lanes.y);
      drawFlag(g, app, layout, making, (left + right) / 2);
    }
    g.fillStyle = ink.heard;
    for (const [a, b] of app.heardNow()) {
      const [left, right] = [a, b].map(place);
      if (right > layout.left && left < layout.right) g.fillRect(left, layout.axis.h - 2, Math.max(right - left, 1), 2);
    }
  });
  const x = place(app.time);
  if (x < layout.left - 1 || x > layout.right + 1) return;
  g.fillStyle = ink.cursor;
  g.fillRect(x - 0.75, layout.axis.h - 8, 1.5, layout.height - layout.axis.h + 8);
  g.beginPath();
  g.moveTo(x - 5, layout.axis.h - 10);
  g.lineTo(x + 5, layout.axis.h - 10);
  g.lineTo(x, layout.axis.h - 2);
  g.fill();
}

/** Live duration of what is being made or dragged. */
function drawFlag(g, app, layout, making, x) {
  const text = `${making.class_name ?? "?"}  ${(making.end_s - making.start_s).toFixed(3)} s`;
  const width = g.measureText(text).width + 16;
  const left = clamp(x - width / 2, layout.left + 2, layout.right - width - 2);
  g.fillStyle = making.colour;
  g.beginPath();
  g.roundRect(left, layout.wave.y + 6, width, 22, 5);
  g.fill();
  g.fillStyle = inkOn(making.colour);
  g.textAlign = "center";
  g.textBaseline = "middle";
  g.fillText(text, left + width / 2, layout.wave.y + 17.5);
}
