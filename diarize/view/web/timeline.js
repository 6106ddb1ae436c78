// A session over time: sound, errors, lanes, and what a pointer does to them.

import { select } from "d3-selection";
import { zoom, zoomIdentity } from "d3-zoom";
import { clear, colors, hatch, KINDS, Stretches, tickStep, wave } from "./drawing.js";
import { clock } from "./words.js";

const OVERVIEW = 36, RULER = 24, WAVE = 76, ERROR = 18, BAR = 20, HEAT = 12, GAP = 3;
const LANES = 230; // pixels of lanes that are seen at least
const CLOSEST = 0.5; // seconds that fill the width at least

const byId = (id) => document.getElementById(id);

export class Timeline {
  constructor({ seek, hover, kinds }) {
    this.on = { seek, hover, kinds };
    this.stage = byId("stage");
    this.lanes = byId("lanes");
    this.canvases = { overview: byId("overview"), top: byId("top"), turns: byId("turns") };
    this.data = null;
    this.chosen = null;
    this.position = 0;
    this.transform = zoomIdentity;
    this.asked = false;
    this.listen();
  }

  listen() {
    const { top, turns, overview } = this.canvases;
    this.gesture = zoom()
      .clickDistance(4)
      .filter((event) => this.data && (event.type === "wheel" ? this.zooms(event) : !event.button))
      .wheelDelta((event) => {
        const unit = event.deltaMode === 1 ? 0.05 : event.deltaMode ? 1 : 0.002;
        return -event.deltaY * unit * (event.ctrlKey && Math.abs(event.deltaY) < 40 ? 10 : 1);
      })
      .on("start", ({ sourceEvent }) => this.grab(sourceEvent?.type === "mousedown"))
      .on("end", () => this.grab(false))
      .on("zoom", ({ transform }) => {
        this.transform = transform;
        for (const canvas of [top, turns]) canvas.__zoom = transform;
        this.redraw();
      });
    for (const canvas of [top, turns]) {
      select(canvas).call(this.gesture).on("dblclick.zoom", null);
      canvas.addEventListener("click", (event) => this.on.seek(this.view.time(event.offsetX)));
      canvas.addEventListener("pointermove", (event) => this.on.hover(this.view.time(event.offsetX)));
      canvas.addEventListener("pointerleave", () => this.on.hover(null));
      canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    }
    const there = (event) => this.centre(this.whole.time(event.offsetX));
    overview.addEventListener("pointerdown", (event) => {
      overview.setPointerCapture(event.pointerId);
      there(event);
    });
    overview.addEventListener("pointermove", (event) => event.buttons && there(event));
    this.lanes.addEventListener("scroll", () => this.redraw());
    new ResizeObserver(() => this.resize()).observe(this.stage);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.restyle());
  }

  zooms(event) {
    return event.ctrlKey || event.metaKey || (event.currentTarget === this.canvases.top && !sideways(event));
  }

  wheel(event) {
    if (this.zooms(event) || !sideways(event)) return;
    event.preventDefault();
    this.scroll(event.deltaX || event.deltaY);
  }

  grab(on) {
    for (const canvas of [this.canvases.top, this.canvases.turns]) canvas.classList.toggle("grabbing", on);
  }

  show(data) {
    this.data = data;
    this.chosen = null;
    this.kinds = new Set(KINDS);
    this.errors = Object.fromEntries(
      KINDS.map((kind) => {
        const own = data.errors.filter((error) => error.kind === kind);
        return [kind, new Stretches(own.map((e) => e.start), own.map((e) => e.end))];
      }),
    );
    let y = 0;
    this.rows = data.lanes.map((lane, index) => {
      const even = (odd) => lane.turns.filter((_, i) => i % 2 === odd);
      const paired = index && lane.group === data.lanes[index - 1].group;
      const bar = lane.side === "slot" ? 0 : BAR;
      const height = GAP + bar + (lane.slot === null ? 0 : HEAT) + GAP;
      const row = { ...lane, y, bar, height, first: !paired, turns: new Stretches(even(0), even(1)) };
      y += height;
      return row;
    });
    this.height = y;
    this.label();
    this.width = 0;
    this.transform = zoomIdentity;
    this.lanes.scrollTop = 0;
    this.restyle();
  }

  // What stands left of the canvases.
  label() {
    const head = (text, height) => element("div", { text, height });
    const heads = [head("", RULER)];
    if (this.data.peaks) heads.push(head(this.data.heard, WAVE));
    for (const kind of this.data.scored ? KINDS : []) {
      const box = element("label", { height: ERROR });
      const input = element("input");
      Object.assign(input, { type: "checkbox", checked: true });
      input.addEventListener("change", () => {
        this.kinds[input.checked ? "add" : "delete"](kind);
        this.on.kinds(this.kinds);
        this.redraw();
      });
      box.append(input, element("i", { class: `swatch ${kind.replace(" ", "-")}` }), kind);
      heads.push(box);
    }
    byId("heads").replaceChildren(...heads);
    const names = this.rows.map((row) => {
      const item = element("li", { height: row.height, class: row.first ? "first" : "" });
      const dot = element("i", { class: "dot" });
      dot.style.background = row.color;
      const name = element("span", { text: row.name });
      item.title = row.slot === null ? row.name : `${row.name}; the strip is the posterior of slot ${row.slot}`;
      item.append(dot, name, element("small", { text: TAGS[row.side] }));
      return item;
    });
    byId("names").replaceChildren(...names);
    const above = OVERVIEW + heads.reduce((sum, head) => sum + parseFloat(head.style.height), 0);
    this.stage.style.minHeight = `${above + Math.min(this.height, LANES) + 6}px`;
  }

  restyle() {
    this.colors = colors();
    this.hatched = hatch(this.canvases.top.getContext("2d"), this.colors.error);
    this.resize();
  }

  resize() {
    const width = this.canvases.turns.clientWidth;
    if (!this.data || !width) return;
    const { k, x } = this.transform;
    const moved = this.width ? x * (width / this.width) : x;
    this.width = width;
    const box = [[0, 0], [width, 1]];
    const most = Math.max((this.data.end - this.data.start) / CLOSEST, 1);
    this.gesture.extent(box).translateExtent(box).scaleExtent([1, most]);
    this.drawn = null;
    this.gesture.transform(select(this.canvases.top), zoomIdentity.translate(moved, 0).scale(k));
  }

  // Between pixels and seconds: of what is shown, and of the whole.
  get view() {
    return scale(this.data, this.width, this.transform);
  }

  get whole() {
    return scale(this.data, this.width, zoomIdentity);
  }

  zoomBy(factor) {
    const { from, to, x } = this.view;
    const inside = this.position >= from && this.position <= to;
    this.gesture.scaleBy(select(this.canvases.top), factor, [inside ? x(this.position) : this.width / 2, 0]);
  }

  scroll(pixels) {
    this.gesture.translateBy(select(this.canvases.top), -pixels / this.transform.k, 0);
  }

  centre(time) {
    this.scroll(this.view.x(time) - this.width / 2);
  }

  fit() {
    this.gesture.transform(select(this.canvases.top), zoomIdentity);
  }

  // Show a stretch with what surrounds it; the zoom stays where it shows it well.
  reveal({ start, end }) {
    const { from, to, width } = this.view;
    const length = Math.max(end - start, 0.05);
    const now = to - from;
    const wanted = Math.max(length * 4, 12);
    const span = now > wanted * 2.5 || now < length * 1.25 ? wanted : now;
    const k = (this.data.end - this.data.start) / span;
    const middle = (start + end) / 2;
    const x = width / 2 - this.whole.x(middle) * k;
    this.gesture.transform(select(this.canvases.top), zoomIdentity.translate(x, 0).scale(Math.max(k, 1)));
    this.gesture.translateBy(select(this.canvases.top), 0, 0);
  }

  choose(error) {
    this.chosen = error;
    this.redraw();
  }

  // Where playback is; a view that it leaves follows.
  point(time, follow) {
    this.position = time;
    if (!this.width) return;
    const { from, to, x } = this.view;
    if (follow && (time < from || time > to)) this.scroll(x(time) - this.width * 0.1);
    this.drawCursor();
  }

  redraw() {
    if (this.asked || !this.data) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      const begin = performance.now();
      this.draw();
      const { from, to } = this.view;
      Object.assign(this.stage.dataset, { redraw: (performance.now() - begin).toFixed(2), from, to });
    });
  }

  draw() {
    this.drawOverview();
    this.drawTop();
    this.drawTurns();
    this.drawCursor();
  }

  drawCursor() {
    const cursor = byId("cursor");
    const x = this.view.x(this.position);
    cursor.hidden = !(x >= -0.5 && x <= this.width + 0.5);
    cursor.style.transform = `translateX(${x}px)`;
  }

  drawOverview() {
    const canvas = this.canvases.overview;
    const height = OVERVIEW;
    this.drawn ??= this.paintOverview(height);
    const pen = clear(canvas, height);
    if (!pen) return;
    pen.drawImage(this.drawn, 0, 0, this.width, height);
    const { from, to } = this.view;
    const [left, right] = [this.whole.x(from), this.whole.x(to)];
    pen.fillStyle = this.colors.unscored;
    pen.fillRect(0, 0, left, height);
    pen.fillRect(right, 0, this.width - right, height);
    pen.strokeStyle = this.colors.quiet;
    pen.lineWidth = 1.5;
    pen.strokeRect(Math.max(left, 0) + 0.75, 0.75, Math.max(right - left - 1.5, 2), height - 1.5);
  }

  // Sound, and below it the share of each pixel's time that is wrong.
  paintOverview(height) {
    const canvas = document.createElement("canvas");
    const scale = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.max(this.width * scale, 1), height * scale];
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const { whole, data } = this;
    const part = data.scored ? height - 14 : height;
    if (data.peaks) wave(pen, data.peaks, data.start, whole, 1, part - 2, this.colors.wave);
    if (!data.scored) return canvas;
    const share = new Float64Array(Math.ceil(whole.width) + 1);
    for (const { start, end, count } of data.errors) {
      const [x, stop] = [Math.max(whole.x(start), 0), Math.min(whole.x(end), whole.width)];
      for (let i = Math.floor(x); i < stop; i++) {
        share[i] += count * Math.max(Math.min(stop, i + 1) - Math.max(x, i), 0);
      }
    }
    pen.fillStyle = this.colors.error;
    share.forEach((value, x) => {
      const size = value > 0 ? Math.max(Math.min(value, 1) * 12, 1.5) : 0;
      pen.fillRect(x, height - 1 - size, 1, size);
    });
    return canvas;
  }

  drawTop() {
    const { data, colors, view } = this;
    const sound = data.peaks ? WAVE : 0;
    const height = RULER + sound + (data.scored ? KINDS.length * ERROR : 0);
    const pen = clear(this.canvases.top, height);
    if (!pen) return;
    this.drawChosen(pen, view, RULER, height);
    const step = tickStep((view.to - view.from) / view.width);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (let n = Math.ceil(view.from / step); n * step <= view.to; n++) {
      const x = view.x(n * step);
      pen.fillStyle = colors.line;
      pen.fillRect(Math.round(x), 0, 1, height);
      pen.fillStyle = colors.quiet;
      pen.fillText(clock(n * step, step < 1 ? 1 : 0), x + 4, RULER / 2);
    }
    if (data.peaks) wave(pen, data.peaks, data.start, view, RULER + 2, WAVE - 4, colors.wave);
    if (!data.scored) return;
    this.drawUnscored(pen, view, RULER + sound, height);
    KINDS.forEach((kind, row) => {
      const y = RULER + sound + row * ERROR;
      pen.fillStyle = colors.line;
      pen.fillRect(0, y, view.width, 1);
      pen.globalAlpha = this.kinds.has(kind) ? 1 : 0.25;
      pen.fillStyle = kind === "confusion" ? this.hatched : colors.error;
      pen.strokeStyle = colors.error;
      this.errors[kind].paint(view, (x, width) => {
        const solid = kind === "false alarm" || width < 5;
        if (width < 5) pen.fillStyle = colors.error;
        if (solid || kind === "confusion") pen.fillRect(x, y + 4, width, ERROR - 7);
        if (kind === "confusion") pen.fillStyle = this.hatched;
        if (!solid) outline(pen, x, y + 4, width, ERROR - 7);
      });
      pen.globalAlpha = 1;
    });
  }

  drawTurns() {
    const { colors, view } = this;
    const height = Math.min(this.lanes.clientHeight, this.height);
    const pen = clear(this.canvases.turns, Math.max(height, 1));
    if (!pen) return;
    const scrolled = this.lanes.scrollTop;
    this.drawChosen(pen, view, 0, height);
    const step = tickStep((view.to - view.from) / view.width);
    pen.fillStyle = colors.line;
    for (let n = Math.ceil(view.from / step); n * step <= view.to; n++) {
      pen.fillRect(Math.round(view.x(n * step)), 0, 1, height);
    }
    const seen = this.rows.filter((row) => row.y + row.height > scrolled && row.y < scrolled + height);
    const heat = this.heat(view, seen);
    for (const row of seen) {
      const y = row.y - scrolled;
      if (row.first && row.y) {
        pen.fillStyle = colors.line;
        pen.fillRect(0, y, view.width, 1);
      }
      pen.fillStyle = row.color;
      row.turns.paint(view, (x, width) => pen.fillRect(x, y + GAP, width, row.bar));
      if (row.slot === null) continue;
      pen.imageSmoothingEnabled = false;
      const top = y + GAP + row.bar;
      pen.drawImage(heat, 0, row.slot, heat.width, 1, 0, top + (row.bar ? 2 : 0), view.width, HEAT - (row.bar ? 2 : 0));
    }
    this.drawUnscored(pen, view, 0, height);
  }

  // A row of pixels per slot, as strong as the posterior is on the mean of each pixel's time.
  heat(view, rows) {
    const { posterior } = this.data;
    if (!posterior) return null;
    const canvas = (this.strip ??= document.createElement("canvas"));
    [canvas.width, canvas.height] = [Math.ceil(view.width), posterior.num_slots];
    const pen = canvas.getContext("2d");
    for (const { slot, color } of rows) {
      if (slot === null) continue;
      const sums = posterior.sums[slot];
      const image = pen.createImageData(canvas.width, 1);
      const rgb = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
      for (let x = 0; x < canvas.width; x++) {
        const first = Math.floor((view.time(x) - posterior.start) / posterior.frame_shift + 1e-6);
        const stop = Math.floor((view.time(x + 1) - posterior.start) / posterior.frame_shift + 1e-6);
        const [a, b] = [Math.max(first, 0), Math.min(Math.max(stop, first + 1), sums.length - 1)];
        image.data.set(rgb, 4 * x);
        image.data[4 * x + 3] = a < b ? (sums[b] - sums[a]) / (b - a) : 0;
      }
      pen.putImageData(image, 0, slot);
    }
    return canvas;
  }

  drawChosen(pen, view, top, bottom) {
    if (!this.chosen) return;
    const [x, stop] = [view.x(this.chosen.start), view.x(this.chosen.end)];
    pen.fillStyle = this.colors.chosen;
    pen.fillRect(x - 1, top, Math.max(stop - x, 1) + 2, bottom - top);
  }

  // Grey where a UEM or a manifest says that nothing counts.
  drawUnscored(pen, view, top, bottom) {
    const { regions, start, end } = this.data;
    if (!regions) return;
    pen.fillStyle = this.colors.unscored;
    let from = start;
    for (const [begin, stop] of [...regions, [end, end]]) {
      const [x, until] = [Math.max(view.x(from), 0), Math.min(view.x(begin), view.width)];
      if (until > x) pen.fillRect(x, top, until - x, bottom - top);
      from = Math.max(from, stop);
    }
  }

  speakersAt(time) {
    return this.rows.filter((row) => row.side !== "slot" && row.turns.covers(time));
  }
}

const TAGS = { reference: "ref", hypothesis: "hyp", slot: "slot" };

function sideways(event) {
  return event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
}

function scale({ start, end }, width, transform) {
  const pixels = width / (end - start);
  const x = (time) => transform.applyX((time - start) * pixels);
  const time = (at) => transform.invertX(at) / pixels + start;
  return { x, time, width, from: time(0), to: time(width) };
}

function outline(pen, x, y, width, height) {
  pen.lineWidth = 1.5;
  pen.strokeRect(x + 0.75, y + 0.75, width - 1.5, height - 1.5);
}

function element(kind, { text = "", height = 0, class: name = "" } = {}) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (name) made.className = name;
  if (height) made.style.height = `${height}px`;
  return made;
}
