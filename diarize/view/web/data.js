// What Python wrote into the page: JSON, and bytes as base64.

export function json(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

export function bytes(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

async function inflate(base64) {
  const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A session as it is drawn: times in seconds of the recording.
export async function session(number) {
  const data = json(`session-${number}`);
  for (const lane of data.lanes) lane.turns = Float64Array.from(lane.turns);
  data.errors = data.errors.map(([start, end, kind, count, reference, hypothesis], index) => ({
    start, end, kind, count, reference, hypothesis, index, seconds: count * (end - start),
  }));
  if (data.peaks) data.peaks.values = new Int8Array((await inflate(data.peaks.values)).buffer);
  if (data.posterior) data.posterior.sums = sums(await inflate(data.posterior.values), data.posterior);
  return data;
}

// Of each slot, sums up to each frame, so that a mean over any stretch takes one subtraction.
function sums(values, { num_slots }) {
  const frames = values.length / num_slots;
  return Array.from({ length: num_slots }, (_, slot) => {
    const out = new Float64Array(frames + 1);
    for (let t = 0; t < frames; t++) out[t + 1] = out[t] + values[slot * frames + t];
    return out;
  });
}

export function sound(number) {
  const block = document.getElementById(`sound-${number}`);
  return block && new Blob([bytes(block.textContent)], { type: "audio/ogg; codecs=opus" });
}
