// The model as WebAssembly, in a worker, as the page uses it. See audiotag/serve/engine.js for the other engine.

const PICTURE = { rate: 8000, bytes: 200e6 }; // rate of the level, and largest file that is decoded for it
const LABELS_OF_CLIP = 10;

let facts = null, worker = null, asked = 0;
const waiting = new Map();

function start() {
  worker?.terminate();
  for (const take of waiting.values()) take({ stopped: true });
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => waiting.get(data.id)?.(data);
  worker.onerror = (event) => {
    for (const take of waiting.values()) take({ error: event.message || "the model can't be loaded" });
  };
}

/** Yields the rows that the program writes for a file; aborting ends the program. */
async function* rows(blob, options, signal) {
  if (signal?.aborted) throw new DOMException("stopped", "AbortError");
  const id = asked++, queue = [];
  let wake = () => {};
  waiting.set(id, (message) => { queue.push(message); wake(); });
  signal?.addEventListener("abort", start);
  worker.postMessage({ id, blob, options });
  try {
    for (;;) {
      if (!queue.length) await new Promise((resolve) => { wake = resolve; });
      const message = queue.shift();
      if (message.row) yield message.row;
      else if (message.stopped) throw new DOMException("stopped", "AbortError");
      else if (message.error) throw new Error(message.error);
      else return;
    }
  } finally {
    waiting.delete(id);
    signal?.removeEventListener("abort", start);
  }
}

/** The model and its classes: {models, model, version, labels}; null for limits, because files are read in pieces. */
export async function about() {
  facts = await fetch(new URL("model.json", import.meta.url)).then((answer) => answer.json());
  start();
  for await (const _ of rows(null, [])); // until it is compiled
  navigator.serviceWorker?.register("offline.js").catch(() => {});
  return { ...facts, models: [facts.model], frameRate: null, recordingSeconds: null, recordingBytes: null };
}

function allScores(tags) {
  const found = new Float64Array(facts.labels.length);
  for (const { index, score } of tags) found[index] = score;
  return found;
}

/** The greatest magnitude of a sound from one time to another, where the browser can decode it. */
async function level(blob) {
  if (blob.size > PICTURE.bytes) return () => 0;
  try {
    const context = new OfflineAudioContext(1, 1, PICTURE.rate);
    const samples = (await context.decodeAudioData(await blob.arrayBuffer())).getChannelData(0);
    return (from, to) => samples.subarray(from * PICTURE.rate, to * PICTURE.rate).reduce((m, x) => Math.max(m, Math.abs(x)), 0);
  } catch {
    return () => 0;
  }
}

/** An error that makes the page decode the file itself and try again. */
const undecoded = (message) => Object.assign(new Error(message), { status: 422 });

/** Yields an analysis of a WAV file: a head, each window, an end. */
export async function* analyse(blob, { name, window, hop }, signal) {
  const begin = new TextDecoder("latin1").decode(await blob.slice(0, 12).arrayBuffer());
  if (!/^(RIFF|RF64|RIFX)....WAVE/s.test(begin)) throw undecoded(`${name}: this browser can't decode it`);
  const peak = await level(blob), best = new Float64Array(facts.labels.length), top = String(best.length);
  yield { labels: facts.labels, model: facts.model, window, hop };
  let last = 0, warning = "";
  for await (const row of rows(blob, ["--top", top, "--window", String(window), "--hop", String(hop)], signal)) {
    if (row.error) throw last ? new Error(row.error.message) : undecoded(`${name}: ${row.error.message}`);
    const scores = allScores(row.tags), { start, end } = row;
    scores.forEach((score, c) => { best[c] = Math.max(best[c], score); });
    last = end;
    warning = row.warning ?? warning;
    yield { start, end, peak: peak(start, end), scores: Uint16Array.from(scores, (score) => Math.round(score * 65535)) };
  }
  const strongest = [...best].map((score, c) => ({ label: facts.labels[c], score }));
  let end = { of: "strongest windows", duration: last, tags: strongest.sort((a, b) => b.score - a.score).slice(0, LABELS_OF_CLIP) };
  // longer sound is tagged in windows only, which the program says
  for await (const row of rows(blob, ["--top", String(LABELS_OF_CLIP)], signal))
    if (!row.error) end = { of: "clip", duration: row.duration, tags: row.tags };
  yield { ...end, ...(warning && { warning }) };
}

/** Scores of all classes, in the order of `labels`, of 16-bit mono samples. */
export async function scores(samples, rate, model, signal) {
  const options = ["--raw", "s16le", "--rate", String(rate), "--top", String(facts.labels.length)];
  for await (const row of rows(new Blob([samples]), options, signal)) {
    if (row.error) throw new Error(row.error.message);
    return allScores(row.tags);
  }
  throw new Error("the program gave no answer");
}
