import * as formats from "./results.js";

const ROWS = 8, TAGS = 10;
const LONGEST = 60; // seconds that are tagged in one piece
const HEARD = 5; // seconds that live tags are about

const at = (id) => document.getElementById(id);
const clips = [];

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

function element(parent, tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// -- the tagger ----------------------------------------------------------------------------

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let asked = 0;

worker.onmessage = ({ data }) => {
  if (data.ready) {
    at("files").disabled = at("live").disabled = false;
    say("");
  } else if (data.failed) say(data.failed, true);
  else {
    const { resolve, reject } = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.error) reject(new Error(data.error));
    else resolve(data.rows);
  }
};
worker.onerror = (event) => say(event.message || "the tagger can't be loaded", true);

/** The program's rows for a sound, under its name. */
async function tagged(name, { bytes, options }, ...more) {
  const id = asked++;
  const rows = await new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, bytes, options: [...options, ...more] });
  });
  return rows.map((row) => ({ ...row, path: name }));
}

// -- sound ---------------------------------------------------------------------------------

/** Mono samples of whatever the browser can decode. */
async function decoded(blob, rate) {
  const context = new OfflineAudioContext(1, 1, rate);
  const sound = await context.decodeAudioData(await blob.arrayBuffer());
  const mono = new Float32Array(sound.length);
  for (let c = 0; c < sound.numberOfChannels; c++)
    sound.getChannelData(c).forEach((x, i) => (mono[i] += x / sound.numberOfChannels));
  return mono;
}

const raw = (samples, rate) => ({ bytes: samples.buffer, options: ["--raw", "f32le", "--rate", String(rate)] });

/** What the program is given: WAV as it is, everything else as samples. */
async function input(blob) {
  const start = new TextDecoder("latin1").decode(await blob.slice(0, 12).arrayBuffer());
  if (/^(RIFF|RF64|RIFX)....WAVE/s.test(start)) return { bytes: await blob.arrayBuffer(), options: [] };
  return raw(await decoded(blob, 32000), 32000);
}

// -- files ---------------------------------------------------------------------------------

async function tagFile(blob, name) {
  const clip = { name, whole: null, windows: [] };
  let sound;
  try {
    sound = await input(blob);
  } catch {
    throw new Error(`${name}: this browser can't decode it`);
  }
  [clip.whole] = await tagged(name, sound, "--top", String(TAGS));
  if (clip.whole?.error) {
    if (!/longer than/.test(clip.whole.error.message)) throw new Error(`${name}: ${clip.whole.error.message}`);
    clip.whole = null;
  }
  const duration = clip.whole?.duration ?? LONGEST;
  // windows of two seconds or more: of less sound the model hears things that aren't there
  const hop = clip.whole ? Math.max(1, duration / 60) : 5;
  if (duration > 2 * hop)
    clip.windows = await tagged(name, sound, "--top", String(4 * ROWS), "--window", String(2 * hop), "--hop", String(hop));
  const samples = await decoded(blob, 8000).catch(() => null);
  clips.push(clip);
  show(clip, blob, samples);
}

async function tagFiles(files) {
  const failures = [];
  for (const [i, file] of files.entries()) {
    say(`Listening to ${file.name} (${i + 1} of ${files.length})`);
    await tagFile(file, file.name).catch((error) => failures.push(error.message));
  }
  say(failures.join("; "), true);
}

function fillTags(list, tags) {
  list.replaceChildren();
  for (const { label, score } of tags) {
    const item = element(list, "li");
    element(item, "span", "name", label).title = label;
    element(element(item, "span", "bar"), "i").style.width = `${100 * score}%`;
    element(item, "span", "score", score.toFixed(3));
  }
}

function show({ name, whole, windows }, blob, samples) {
  const card = at("clip").content.cloneNode(true).firstElementChild;
  const [title, warning, list, timeline, player] = card.children;
  const duration = whole?.duration ?? windows.at(-1)?.end ?? 0;
  title.textContent = `${name}, ${duration.toFixed(2)} s`;
  const said = whole?.warning ?? windows.find((row) => row.warning)?.warning;
  warning.hidden = !said;
  warning.textContent = said ?? "";
  fillTags(list, whole?.tags ?? []);
  player.src = URL.createObjectURL(blob);
  at("clips").prepend(card);
  at("downloads").hidden = false;
  timeline.hidden = !samples && !windows.length;
  if (samples) draw(timeline.querySelector("canvas"), samples);
  addWindows(timeline, windows);
  addAxis(timeline, duration);
  follow(player, timeline);
}

function draw(canvas, samples) {
  const { width, height } = canvas, context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(canvas).getPropertyValue("--accent");
  const most = samples.reduce((m, x) => Math.max(m, Math.abs(x)), 1e-6);
  for (let x = 0; x < width; x++) {
    let low = 0, high = 0;
    for (let i = Math.floor((x * samples.length) / width); i < ((x + 1) * samples.length) / width; i++) {
      low = Math.min(low, samples[i] ?? 0);
      high = Math.max(high, samples[i] ?? 0);
    }
    context.fillRect(x, (height / 2) * (1 - high / most), 1, Math.max(1, ((height / 2) * (high - low)) / most));
  }
}

/** The classes that are heard best anywhere, each with its score in every window. */
function addWindows(timeline, windows) {
  const best = new Map();
  for (const { start, tags } of windows)
    for (const { label, score } of tags)
      if (score > (best.get(label)?.score ?? 0)) best.set(label, { score, start });
  for (const [label, { score: most, start: when }] of [...best].sort(([, a], [, b]) => b.score - a.score).slice(0, ROWS)) {
    element(timeline, "div", "name", label).title = label;
    const cells = element(timeline, "div", "cells");
    cells.setAttribute("role", "img");
    cells.setAttribute("aria-label", `${label}: strongest at ${when.toFixed(1)} s with ${most.toFixed(2)}`);
    for (const { start, end, tags } of windows) {
      const score = tags.find((tag) => tag.label === label)?.score, least = tags.at(-1)?.score ?? 0;
      const cell = element(cells, "i");
      cell.style.opacity = score ?? 0;
      const text = score === undefined ? `below ${least.toFixed(3)}` : score.toFixed(3);
      cell.title = `${label} ${text}, ${start.toFixed(1)} to ${end.toFixed(1)} s`;
    }
  }
}

function addAxis(timeline, duration) {
  element(timeline, "span");
  const axis = element(timeline, "div", "axis");
  for (let i = 0; i <= 4; i++) element(axis, "span", "", `${((duration * i) / 4).toFixed(duration < 20 ? 1 : 0)} s`);
  element(timeline, "div", "cursor").hidden = true;
}

function follow(player, timeline) {
  const wave = timeline.querySelector("canvas"), cursor = timeline.querySelector(".cursor");
  function move() {
    if (player.duration) {
      cursor.hidden = false;
      cursor.style.left = `${wave.offsetLeft + (wave.offsetWidth * player.currentTime) / player.duration}px`;
    }
    if (!player.paused) requestAnimationFrame(move);
  }
  player.addEventListener("play", move);
  player.addEventListener("seeked", move);
  wave.addEventListener("click", (event) => {
    if (player.duration) player.currentTime = (player.duration * event.offsetX) / wave.offsetWidth;
  });
}

at("files").addEventListener("change", (event) => {
  tagFiles([...event.target.files]);
  event.target.value = "";
});

for (const name of ["dragover", "dragleave", "drop"])
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && !at("files").disabled) tagFiles([...event.dataTransfer.files]);
  });

for (const button of at("downloads").querySelectorAll("button"))
  button.addEventListener("click", () => {
    const { format } = button.dataset, link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([formats[format](clips)], { type: "text/plain" }));
    link.download = `tags.${format}`;
    link.click();
    URL.revokeObjectURL(link.href);
  });

// -- the microphone ------------------------------------------------------------------------

let listening = null;

/** Tag the last seconds of the microphone, again and again, until `stop` is called. */
async function listen() {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const context = new AudioContext();
  await context.audioWorklet.addModule("microphone.js");
  const heard = new Float32Array(HEARD * context.sampleRate), node = new AudioWorkletNode(context, "microphone");
  let count = 0, busy = false;
  node.port.onmessage = ({ data }) => {
    heard.copyWithin(0, data.length);
    heard.set(data, heard.length - data.length);
    count += data.length;
  };
  context.createMediaStreamSource(stream).connect(node);
  const timer = setInterval(async () => {
    const samples = heard.slice(Math.max(0, heard.length - count));
    if (busy || !samples.length) return;
    busy = true;
    try {
      const [row] = await tagged("microphone", raw(samples, context.sampleRate), "--top", String(TAGS));
      if (row.error) throw new Error(row.error.message);
      fillTags(at("now-tags"), row.tags);
    } catch (error) {
      say(error.message, true);
    }
    busy = false;
  }, 1000);
  return () => {
    clearInterval(timer);
    stream.getTracks().forEach((track) => track.stop());
    context.close();
  };
}

function showListening(on) {
  at("live").textContent = on ? "Stop listening" : "Listen to the microphone";
  at("live").setAttribute("aria-pressed", String(on));
  if (on) at("now").hidden = false;
}

at("live").addEventListener("click", async () => {
  const stop = listening;
  listening = null;
  showListening(false);
  if (stop) return stop();
  try {
    listening = await listen();
    showListening(true);
    say("");
  } catch (error) {
    say(`The microphone can't be used: ${error.message}`, true);
  }
});

navigator.serviceWorker?.register("offline.js").catch(() => {});
