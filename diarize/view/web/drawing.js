// What the canvases have in common: sharp lines, stretches of time, one redraw per frame.

export const KINDS = ["miss", "false alarm", "confusion"];
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];

// A canvas of so many CSS pixels, cleared; null while nobody sees it.
export function clear(canvas, height) {
  const width = canvas.clientWidth;
  if (!width) return null;
  const scale = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) {
    [canvas.width, canvas.height] = [w, h];
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

// Stretches in order of their starts: `reach` lets those that a window shows be found in it.
export class Stretches {
  constructor(starts, ends) {
    this.starts = starts;
    this.ends = ends;
    this.reach = new Float64Array(starts.length);
    let reach = -Infinity;
    for (let i = 0; i < starts.length; i++) this.reach[i] = reach = Math.max(reach, ends[i]);
  }

  get length() {
    return this.starts.length;
  }

  // Calls visit(index) for each that overlaps [from, to).
  within(from, to, visit) {
    for (let i = after(this.reach, from); i < this.length && this.starts[i] < to; i++) {
      if (this.ends[i] > from) visit(i);
    }
  }

  covers(time) {
    let found = false;
    this.within(time, time + 1e-9, () => (found = true));
    return found;
  }

  // Calls paint(x, width) for each that is seen; what falls onto painted pixels is left out.
  paint(view, paint) {
    let done = -Infinity;
    this.within(view.from, view.to, (i) => {
      const x = Math.max(view.x(this.starts[i]), -4);
      const end = Math.min(view.x(this.ends[i]), view.width + 4);
      const stop = Math.max(end, x + 1);
      if (stop <= done + 0.5) return;
      paint(x, stop - x, i);
      done = stop;
    });
  }
}

// The first index at which rising values exceed a limit.
function after(values, limit) {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > limit) high = middle;
    else low = middle + 1;
  }
  return low;
}

// A step between ticks so that their labels have room, seconds.
export function tickStep(secondsPerPixel, room = 84) {
  return STEPS.find((step) => step >= secondsPerPixel * room) ?? 28800;
}

export function colors() {
  const style = getComputedStyle(document.documentElement);
  const names = ["back", "raised", "line", "text", "quiet", "wave", "error", "unscored", "chosen"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

export function hatch(context, color) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.strokeStyle = color;
  pen.lineWidth = 1.8;
  for (const shift of [-6, 0, 6]) {
    pen.beginPath();
    pen.moveTo(shift - 1, 7);
    pen.lineTo(shift + 7, -1);
    pen.stroke();
  }
  return context.createPattern(tile, "repeat");
}

// Extremes of the buckets that each pixel shows, as one filled outline.
export function wave(context, peaks, start, view, top, height, color) {
  const { per_second: rate, values } = peaks;
  const half = height / 2;
  const [middle, last] = [top + half, values.length / 2];
  const [upper, lower] = [[], []];
  for (let x = 0; x <= view.width; x++) {
    const first = Math.max(Math.floor((view.time(x) - start) * rate), 0);
    const stop = Math.min(Math.max(Math.floor((view.time(x + 1) - start) * rate), first + 1), last);
    if (first >= stop) continue;
    let [low, high] = [127, -128];
    for (let i = first; i < stop; i++) {
      if (values[2 * i] < low) low = values[2 * i];
      if (values[2 * i + 1] > high) high = values[2 * i + 1];
    }
    upper.push([x, middle - Math.max((high / 127) * half, 0.5)]);
    lower.push([x, middle - Math.min((low / 127) * half, -0.5)]);
  }
  if (!upper.length) return;
  context.fillStyle = color;
  context.beginPath();
  for (const [x, y] of upper) context.lineTo(x, y);
  for (const [x, y] of lower.reverse()) context.lineTo(x, y);
  context.fill();
}
