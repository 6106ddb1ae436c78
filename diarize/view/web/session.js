// One session: playback, errors one by one, keys.

import { session, sound } from "./data.js";
import { Timeline } from "./timeline.js";
import { clock, names, wrong } from "./words.js";

const byId = (id) => document.getElementById(id);
const BEFORE = 1.0; // seconds heard before an error
const LISTED = 500;

export class SessionView {
  constructor() {
    this.audio = new Audio();
    this.timeline = new Timeline({
      seek: (time) => this.seek(time, true),
      hover: (time) => this.tell(time),
      kinds: () => this.reorder(),
    });
    this.audio.addEventListener("play", () => this.follow());
    for (const event of ["play", "pause", "ended", "seeked"]) {
      this.audio.addEventListener(event, () => this.showPosition());
    }
    this.audio.addEventListener("error", () => {
      if (this.audio.error && this.data?.playable) {
        const reason = this.audio.error.message;
        this.say(`The sound cannot be played (${reason}). Ogg Opus needs Safari 18.4, or another browser.`);
      }
    });
    byId("play").addEventListener("click", () => this.toggle());
    byId("speed").addEventListener("change", (event) => (this.audio.playbackRate = Number(event.target.value)));
    byId("next").addEventListener("click", () => this.step(1));
    byId("previous").addEventListener("click", () => this.step(-1));
    byId("order").addEventListener("change", () => this.reorder());
    byId("in").addEventListener("click", () => this.timeline.zoomBy(2));
    byId("out").addEventListener("click", () => this.timeline.zoomBy(0.5));
    byId("fit").addEventListener("click", () => this.timeline.fit());
    byId("list").addEventListener("toggle", () => this.fillList());
    byId("spans").addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row) this.choose(Number(row.dataset.place));
    });
    document.addEventListener("keydown", (event) => this.key(event));
  }

  async show(number, at) {
    this.leave();
    const asked = (this.asked = number);
    const data = await session(number);
    if (this.asked !== asked) return;
    this.data = data;
    this.position = data.start;
    const recording = sound(number);
    data.playable = Boolean(recording);
    if (recording) {
      this.address = URL.createObjectURL(recording);
      this.audio.src = this.address;
      this.audio.playbackRate = Number(byId("speed").value);
    }
    byId("play").disabled = byId("speed").disabled = !recording;
    byId("play").title = recording ? "" : "No recording was given";
    byId("errors").hidden = byId("list").hidden = !data.scored;
    this.timeline.show(data);
    this.reorder();
    this.showPosition();
    if (at !== undefined) this.goTo(at);
    byId("session").dataset.ready = String(number);
  }

  leave() {
    this.asked = null;
    this.data = null;
    this.audio.pause();
    if (this.address) this.audio.removeAttribute("src");
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = null;
    delete byId("session").dataset.ready;
  }

  // ---- playback

  get time() {
    return this.data.playable ? this.data.start + this.audio.currentTime : this.position;
  }

  seek(time, play = false) {
    const { start, end, playable } = this.data;
    this.position = Math.min(Math.max(time, start), end);
    if (playable) {
      this.audio.currentTime = this.position - start;
      if (play) this.audio.play().catch((error) => this.say(`Playback failed: ${error.message}`));
    }
    this.showPosition(this.position);
  }

  toggle() {
    if (!this.data?.playable) return;
    if (this.audio.paused) this.seek(this.time >= this.data.end ? this.data.start : this.time, true);
    else this.audio.pause();
  }

  follow() {
    if (!this.data || this.audio.paused) return;
    this.showPosition();
    requestAnimationFrame(() => this.follow());
  }

  showPosition(time = this.data && this.time) {
    if (!this.data) return;
    const playing = !this.audio.paused && !this.audio.ended;
    byId("play").setAttribute("aria-pressed", String(playing));
    byId("play").querySelector("span").textContent = playing ? "Pause" : "Play";
    byId("clock").textContent = `${clock(time)} / ${clock(this.data.end)}`;
    this.timeline.point(time, playing);
  }

  // ---- errors

  reorder() {
    if (!this.data) return;
    const shown = this.data.errors.filter((error) => this.timeline.kinds.has(error.kind));
    if (byId("order").value === "length") shown.sort((a, b) => b.seconds - a.seconds || a.index - b.index);
    const chosen = this.timeline.chosen;
    this.ordered = shown;
    this.place = shown.indexOf(chosen);
    if (this.place < 0) this.timeline.choose(null);
    byId("next").disabled = byId("previous").disabled = !shown.length;
    this.showPlace();
    this.fillList();
  }

  // In order of time the next one is counted from where playback is.
  step(by) {
    if (!this.ordered?.length) return;
    let place = this.place + by;
    if (this.place < 0 && byId("order").value === "time") {
      const later = this.ordered.findIndex((error) => error.start > this.time);
      const next = later < 0 ? this.ordered.length : later;
      place = by > 0 ? next : next - 1;
    } else if (this.place < 0) place = by > 0 ? 0 : -1;
    this.choose((place + this.ordered.length) % this.ordered.length);
  }

  choose(place) {
    const error = this.ordered[place];
    this.place = place;
    this.timeline.reveal(error);
    this.timeline.choose(error);
    this.seek(error.start - BEFORE);
    this.showPlace();
    history.replaceState(null, "", `#${this.asked + 1}@${error.start.toFixed(2)}`);
    this.say(`${capital(error.kind)}, ${clock(error.start)} to ${clock(error.end)}: ${wrong(error)}.`);
    for (const row of byId("spans").rows) row.toggleAttribute("aria-current", Number(row.dataset.place) === place);
  }

  // To the error that begins at a time, else to the time.
  goTo(time) {
    const place = this.ordered.findIndex((error) => Math.abs(error.start - time) < 0.006);
    if (place >= 0) return this.choose(place);
    this.timeline.reveal({ start: time, end: time });
    this.seek(time);
  }

  showPlace() {
    const total = this.ordered.length;
    byId("place").textContent = this.place < 0 ? `${total} errors` : `${this.place + 1} of ${total}`;
  }

  fillList() {
    const body = byId("spans");
    body.replaceChildren();
    if (!this.data || !byId("list").open) return;
    const shown = this.ordered.slice(0, LISTED);
    for (const [place, error] of shown.entries()) {
      const row = body.insertRow();
      row.dataset.place = String(place);
      const cells = [clock(error.start), clock(error.end), error.seconds.toFixed(2), error.kind, wrong(error)];
      cells.forEach((text, column) => {
        const cell = row.insertCell();
        cell.textContent = text;
        if (column > 2) cell.className = "words";
      });
    }
    if (shown.length < this.ordered.length) {
      const cell = body.insertRow().insertCell();
      cell.colSpan = 5;
      cell.textContent = `${this.ordered.length - shown.length} more: see them by Next error.`;
    }
  }

  // ---- words

  say(text) {
    byId("said").textContent = text;
  }

  tell(time) {
    const place = byId("pointed");
    if (time === null || !this.data) {
      place.textContent = "";
      return;
    }
    const of = (side) => this.timeline.speakersAt(time).filter((row) => row.side === side).map((row) => row.name);
    const parts = [clock(time)];
    if (this.data.scored) parts.push(`reference: ${names(of("reference")) || "nobody"}`);
    parts.push(`hypothesis: ${names(of("hypothesis")) || "nobody"}`);
    place.textContent = parts.join("  ·  ");
  }

  key(event) {
    if (!this.data || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = event.target.tagName;
    if (at === "SELECT" || (event.key === " " && (at === "BUTTON" || at === "SUMMARY" || at === "INPUT"))) return;
    const leap = event.shiftKey ? 5 : 1;
    const actions = {
      " ": () => this.toggle(),
      n: () => this.step(1),
      p: () => this.step(-1),
      ArrowLeft: () => this.move(this.time - leap),
      ArrowRight: () => this.move(this.time + leap),
      Home: () => this.move(this.data.start),
      End: () => this.move(this.data.end),
      "+": () => this.timeline.zoomBy(2),
      "=": () => this.timeline.zoomBy(2),
      "-": () => this.timeline.zoomBy(0.5),
      0: () => this.timeline.fit(),
    };
    const act = actions[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  move(time) {
    this.seek(time);
    this.timeline.point(this.position, true);
  }
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

