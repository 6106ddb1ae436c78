// The page: a list of sessions, the worst first, or the one that its address names.

import { json } from "./data.js";
import { SessionView } from "./session.js";
import { clock, percent } from "./words.js";

const byId = (id) => document.getElementById(id);
const page = json("page");
const view = new SessionView();

const NUMBERS = {
  der: ["DER", percent],
  miss: ["Miss", percent],
  false_alarm: ["False alarm", percent],
  confusion: ["Confusion", percent],
  scored: ["Scored", (seconds) => clock(seconds, 0)],
  num_reference: ["Reference speakers", String],
  num_hypothesis: ["Hypothesis speakers", String],
  num_turns: ["Turns", String],
  duration: ["Length", (seconds) => clock(seconds, 0)],
};
const SCORED = ["der", "miss", "false_alarm", "confusion", "scored", "num_reference", "num_hypothesis"];
const UNSCORED = ["num_hypothesis", "num_turns", "duration"];
const numbers = page.condition ? SCORED : UNSCORED;

// #2 is the second session of the list, #2@61.5 a moment in it.
function route() {
  const [, asked, at] = /^#(\d+)(?:@([\d.]+))?$/.exec(location.hash) ?? [];
  const one = page.sessions.length === 1 ? page.sessions[0] : page.sessions[asked - 1];
  const moment = at && Number(at);
  if (one && view.asked === one.number) {
    if (view.data && moment !== undefined) view.goTo(moment);
    return;
  }
  byId("index").hidden = Boolean(one);
  byId("session").hidden = !one;
  byId("back").hidden = !one || page.sessions.length === 1;
  const title = one ? one.session_id : `${page.sessions.length} sessions`;
  byId("title").textContent = title;
  document.title = `${title} · diarize view`;
  head(one ?? page.total);
  if (one) view.show(one.number, moment);
  else view.leave();
}

function head(values) {
  const items = numbers.filter((name) => name in values).map((name) => {
    const item = document.createElement("li");
    const [label, write] = NUMBERS[name];
    const strong = document.createElement("b");
    strong.textContent = write(values[name]);
    const quiet = document.createElement("span");
    quiet.textContent = ` ${label}`;
    item.append(strong, quiet);
    return item;
  });
  byId("numbers").replaceChildren(...items);
  byId("condition").textContent = page.condition ?? "";
}

// ---- the list

let order = { column: page.condition ? "der" : "session_id", down: Boolean(page.condition) };

function columns() {
  const heads = ["session_id", ...numbers].map((name) => {
    const cell = document.createElement("th");
    cell.dataset.column = name;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name === "session_id" ? "Session" : NUMBERS[name][0];
    button.addEventListener("click", () => {
      const first = name !== "session_id";
      order = { column: name, down: order.column === name ? !order.down : first };
      rows();
    });
    cell.append(button);
    return cell;
  });
  if (page.condition) {
    const cell = document.createElement("th");
    cell.className = "words";
    cell.textContent = "Parts";
    heads.splice(2, 0, cell);
  }
  byId("columns").replaceChildren(...heads);
}

function rows() {
  const { column, down } = order;
  for (const cell of byId("columns").cells) {
    if (cell.dataset.column === column) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  // DER without scored speech is null: infinite.
  const value = (session) => session[column] ?? Infinity;
  const sign = down ? -1 : 1;
  const compare = (a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0);
  const sorted = [...page.sessions].sort((a, b) => sign * compare(a, b) || a.number - b.number);
  const most = Math.max(100, ...page.sessions.map((session) => session.der ?? 0));
  byId("rows").replaceChildren(...sorted.map((session) => row(session, most)));
}

function row(session, most) {
  const made = document.createElement("tr");
  const link = document.createElement("a");
  link.href = `#${session.number + 1}`;
  link.textContent = link.title = session.session_id;
  made.insertCell().append(link);
  for (const name of numbers) {
    made.insertCell().textContent = NUMBERS[name][1](session[name]);
    if (name === "der") made.append(parts(session, most));
  }
  made.addEventListener("click", () => (location.hash = link.hash));
  return made;
}

function parts(session, most) {
  const cell = document.createElement("td");
  cell.className = "parts";
  const bar = document.createElement("div");
  bar.className = "bar";
  for (const [name, kind] of [["miss", "miss"], ["false_alarm", "false-alarm"], ["confusion", "confusion"]]) {
    const part = document.createElement("i");
    part.className = kind;
    part.style.width = `${(100 * (session[name] ?? 0)) / most}%`;
    part.title = `${NUMBERS[name][0]}: ${percent(session[name])}`;
    if (session[name]) bar.append(part);
  }
  cell.append(bar);
  return cell;
}

columns();
rows();
addEventListener("hashchange", route);
route();
document.documentElement.dataset.ready = "true";
