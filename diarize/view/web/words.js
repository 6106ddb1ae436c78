// Times and errors in words.

export function clock(seconds, digits = 2) {
  const sign = seconds < 0 ? "-" : "";
  const unit = 10 ** digits;
  const whole = Math.round(Math.abs(seconds) * unit);
  const total = Math.floor(whole / unit);
  const [h, m, s] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const two = (n) => String(n).padStart(2, "0");
  const rest = digits ? `.${String(whole % unit).padStart(digits, "0")}` : "";
  return `${sign}${h ? `${h}:${two(m)}` : m}:${two(s)}${rest}`;
}

export function percent(value) {
  return value === null ? "infinite" : `${value.toFixed(2)} %`;
}

export function names(list) {
  return list.length > 4 ? `${list.slice(0, 4).join(", ")} and ${list.length - 4} more` : list.join(", ");
}

// What is wrong in a stretch: its count may be less than the speakers whom it names.
export function wrong({ kind, count, reference, hypothesis }) {
  const some = (list) => (count < list.length ? `${count} of ${names(list)}` : names(list));
  if (kind === "miss") return `${some(reference)} not found`;
  if (kind === "false alarm") return `${some(hypothesis)} found, nobody speaks for it`;
  return `${some(reference)} speaks, ${some(hypothesis)} found`;
}
