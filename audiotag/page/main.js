// The page: files one after another, the chosen one's result, recording, settings.
import * as engine from "./engine.js";
import { Result } from "./result.js";
import { Recording, decoded } from "./sound.js";
import { Rows, at, clock, drawLevel, element, scoreText, showTags } from "./view.js";

const COUNT = 12; // classes over time
const REDRAW = 400; // milliseconds between two drawings of a result that grows

const entries = []; // {name, blob, result, state: "waiting" | "running" | "done" | "failed", error}
let known = { labels: [] }, chosen = null, running = null, recording = null, position = 0;

// -- status and list of files --------------------------------------------------------------------
function say(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

function stateText(entry) {
  const { result, state } = entry;
  if (state === "failed") return "failed";
  if (state === "waiting") return "waiting";
  return clock(result.duration) + (state === "done" ? "" : " so far");
}

function listFiles() {
  at("files").hidden = entries.length < 2;
  at("files").replaceChildren();
  for (const entry of entries) {
    const button = element(element(at("files"), "li"), "button", entry.state === "failed" ? "bad" : "");
    button.type = "button";
    button.setAttribute("aria-current", entry === chosen);
    element(button, "span", "", entry.name);
    element(button, "span", "", stateText(entry));
    button.onclick = () => choose(entry);
  }
}

// -- analysis ------------------------------------------------------------------------------------
function add(blob, name) {
  entries.push({ blob, name, result: new Result(name, known.labels), state: "waiting", error: "" });
  work();
  return entries[entries.length - 1];
}

async function work() {
  const entry = entries.find((each) => each.state === "waiting");
  if (running || !entry) return listFiles();
  running = new AbortController();
  at("cancel").hidden = false;
  entry.state = "running";
  choose(entry);
  say(`Sending ${entry.name}`);
  try {
    try {
      await analyse(entry, entry.blob);
    } catch (error) {
      if (error.status !== 422 || entry.blob.size > 200e6) throw error;
      const sound = await decoded(entry.blob).catch(() => { throw error; });
      await analyse(entry, sound);
    }
    entry.state = "done";
    if (entry === chosen) say("");
  } catch (error) {
    const stopped = error.name === "AbortError", { result } = entry;
    if (stopped && result.windows.length) Object.assign(result, { expected: 0, warning: `stopped at ${clock(result.duration)}: the rest was not analysed` });
    entry.state = entry.again ? "waiting" : stopped && result.windows.length ? "done" : "failed";
    entry.again = false;
    entry.error = stopped ? "stopped" : error.message;
  } finally {
    running = null;
    at("cancel").hidden = true;
  }
  if (entry === chosen) choose(entry);
  work();
}

async function analyse(entry, blob) {
  const window = Number(at("window").value), hop = window * Number(at("hop").value), { model } = known;
  const started = performance.now();
  let drawn = 0, finished = false;
  entry.result = new Result(entry.name, known.labels);
  for await (const line of engine.analyse(blob, { name: entry.name, window, hop, model }, running.signal)) {
    finished = entry.result.add(line) || finished;
    const now = performance.now();
    if (finished || now - drawn > REDRAW) {
      drawn = now;
      if (entry === chosen) {
        draw();
        say(progress(entry, (now - started) / 1000));
      }
      listFiles();
    }
  }
  if (!finished) throw new Error("the connection ended before the analysis did");
}

function progress(entry, seconds) {
  const { duration } = entry.result, whole = at("player").duration, speed = duration / seconds;
  if (!duration) return `Analysing ${entry.name}`;
  const left = Number.isFinite(whole) && whole > duration ? (whole - duration) / speed : null;
  const of = left === null ? "" : ` of ${clock(whole)}, ${clock(left)} left`;
  return `Analysed ${clock(duration)}${of} (${speed.toFixed(0)} times as fast as it sounds)`;
}

// -- the chosen result -----------------------------------------------------------------------------
function choose(entry) {
  if (entry !== chosen) {
    URL.revokeObjectURL(at("player").src);
    at("player").removeAttribute("src");
    if (entry.blob) at("player").src = URL.createObjectURL(entry.blob);
    position = 0;
  }
  chosen = entry;
  listFiles();
  if (entry.state === "failed") say(entry.error.startsWith(entry.name) ? entry.error : `${entry.name}: ${entry.error}`, true);
  else if (entry.state === "done") say("");
  draw();
}

const rows = new Rows(at("rows"), (label, share) => {
  const { result } = chosen, window = result.at(share * result.span);
  if (window < 0) return;
  const { start, end } = result.windows[window];
  at("moment").textContent = `${result.labels[label]} ${scoreText(result.score(window, label))}, ${clock(start, 1)} to ${clock(end, 1)}`;
});

function draw() {
  const entry = chosen, shown = Boolean(entry) && entry.state !== "failed" && entry.result.windows.length > 0;
  at("result").hidden = !shown;
  if (!shown) return;
  const { result } = entry, whole = at("player").duration;
  if (entry.state === "running" && entry.blob && Number.isFinite(whole)) result.expected = whole;
  at("title").textContent = `${result.name}, ${clock(result.duration, 2)}${entry.state === "running" ? " so far" : ""}`;
  at("of").textContent = { clip: "The whole clip", "strongest windows": "The strongest windows of the recording" }[result.of] ?? "The strongest so far";
  at("warning").textContent = result.warning;
  at("warning").hidden = !result.warning;
  const strongest = result.classes(0, "", 10).map((c) => ({ label: result.labels[c], score: result.best[c] }));
  showTags(at("tags"), result.tags.length ? result.tags : strongest);
  at("mel").hidden = !result.spectrogram;
  if (result.spectrogram && at("mel").src !== result.spectrogram) at("mel").src = result.spectrogram;
  at("level").hidden = Boolean(result.spectrogram);
  at("picture-name").textContent = result.spectrogram ? "spectrogram" : "level";
  if (!result.spectrogram) drawLevel(at("level"), result);
  at("timeline").classList.toggle("done", entry.state !== "running");
  drawRows();
  at("axis").replaceChildren();
  for (let i = 0; i <= 4; i++) element(at("axis"), "span", "", clock((result.span * i) / 4));
  moveTo(position, false);
}

function drawRows() {
  if (!chosen || at("result").hidden) return;
  const found = chosen.result.classes(Number(at("threshold").value), at("search").value, COUNT);
  const least = at("search").value ? found : found.length ? found : chosen.result.classes(0, "", 3);
  rows.draw(chosen.result, least);
}

// -- position ----------------------------------------------------------------------------------------
function moveTo(time, seek = true) {
  if (!chosen) return;
  const { result } = chosen, player = at("player"), scrub = at("scrub"), cursor = at("cursor");
  position = Math.max(0, Math.min(time, result.span));
  if (seek && player.duration) player.currentTime = Math.min(position, player.duration);
  cursor.hidden = false;
  cursor.style.left = `${scrub.offsetLeft + (scrub.offsetWidth * position) / (result.span || 1)}px`;
  scrub.setAttribute("aria-valuemax", result.span.toFixed(1));
  scrub.setAttribute("aria-valuenow", position.toFixed(1));
  const window = result.at(position);
  const heard = window < 0 ? "not analysed yet" : result.top(window, 3).map(([c, s]) => `${result.labels[c]} ${scoreText(s)}`).join(", ");
  scrub.setAttribute("aria-valuetext", `${clock(position, 1)}: ${heard}`);
  at("moment").textContent = `At ${clock(position, 1)}: ${heard}`;
}

at("scrub").addEventListener("keydown", (event) => {
  if (!chosen) return;
  const { result } = chosen, hop = result.windows.length > 1 ? result.windows[1].start - result.windows[0].start : 1;
  const moves = {
    ArrowLeft: -hop, ArrowDown: -hop, ArrowRight: hop, ArrowUp: hop,
    PageUp: result.span / 10, PageDown: -result.span / 10, Home: -Infinity, End: Infinity,
  };
  if (event.key in moves) moveTo(position + moves[event.key]);
  else if (event.key === " ") at("player").paused ? at("player").play() : at("player").pause();
  else return;
  event.preventDefault();
});
at("scrub").addEventListener("pointerdown", (event) => {
  at("scrub").setPointerCapture(event.pointerId);
  point(event);
});
at("scrub").addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
function point(event) {
  const box = at("scrub").getBoundingClientRect();
  moveTo((chosen.result.span * (event.clientX - box.left)) / box.width);
}
function follow() {
  moveTo(at("player").currentTime, false);
  if (!at("player").paused) requestAnimationFrame(follow);
}
at("player").addEventListener("play", follow);
at("player").addEventListener("seeked", () => moveTo(at("player").currentTime, false));

// -- files, recording, settings ------------------------------------------------------------------------
at("file").addEventListener("change", (event) => {
  for (const file of event.target.files) add(file, file.name);
  event.target.value = "";
});
for (const name of ["dragover", "dragleave", "drop"])
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") for (const file of event.dataTransfer.files) add(file, file.name);
  });
at("cancel").addEventListener("click", () => running?.abort());

at("record").addEventListener("click", async () => {
  const pressed = (on) => {
    at("record").textContent = on ? "Stop recording" : "Record";
    at("record").setAttribute("aria-pressed", on);
  };
  if (recording) {
    const sound = recording.stop();
    recording = null;
    pressed(false);
    if (chosen?.live) entries.splice(entries.indexOf(chosen), 1);
    add(sound, `recording ${new Date().toLocaleTimeString()}`);
    return;
  }
  try {
    const window = Number(at("window").value), entry = { name: "microphone", live: true, state: "running", error: "" };
    Object.assign(entry, { result: new Result(entry.name, known.labels), model: known.model });
    recording = await Recording.start(window, (samples, seconds) => hear(entry, samples, seconds, window));
    entries.push(entry);
    pressed(true);
    choose(entry);
    say(`Listening: the first tags come after ${window} s`);
  } catch (error) {
    recording = null;
    say(`No microphone: ${error.message}`, true);
  }
});

let asked = false;
async function hear(entry, samples, seconds, window) {
  if (asked) return; // the server is slower than the sound
  asked = true;
  try {
    const found = Uint16Array.from(await engine.scores(samples, recording.rate, entry.model), (s) => Math.round(s * 65535));
    entry.result.addWindow(Math.max(0, seconds - window), seconds, samples.reduce((m, x) => Math.max(m, Math.abs(x)), 0) / 32768, found);
    if (entry === chosen && recording) {
      draw();
      moveTo(seconds - window / 2, false);
      const [[label, score]] = entry.result.top(entry.result.windows.length - 1, 1);
      say(`Now: ${entry.result.labels[label]} ${scoreText(score)}`);
    }
  } catch (error) {
    say(error.message, true);
  } finally {
    asked = false;
  }
}

at("threshold").addEventListener("input", () => {
  at("threshold-text").textContent = Number(at("threshold").value).toFixed(2);
  drawRows();
});
at("search").addEventListener("input", drawRows);
/** Analyses the chosen file again, as the settings are now. */
function again() {
  if (!chosen?.blob) return;
  if (chosen.state === "running") {
    chosen.again = true;
    running.abort();
    return;
  }
  chosen.state = "waiting";
  work();
}
for (const name of ["window", "hop"]) at(name).addEventListener("change", again);
at("models").addEventListener("change", async () => {
  introduce(await engine.about(at("models").value));
  again();
});
addEventListener("resize", () => draw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());

const KINDS = { json: ["json", "application/json"], csv: ["csv", "text/csv"], audacity: ["txt", "text/plain"] };
for (const button of document.querySelectorAll("[data-kind]"))
  button.onclick = () => {
    const [suffix, type] = KINDS[button.dataset.kind], text = chosen.result[button.dataset.kind](Number(at("threshold").value));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = `${chosen.name.replace(/\.[^.]*$/, "")}.${suffix}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

/** Shows a model's name, classes and limits. */
function introduce(about) {
  known = about;
  const hours = about.recordingSeconds / 3600, size = about.recordingBytes / 2 ** 30;
  const limits = about.recordingSeconds ? `recordings of up to ${hours} hours and ${size} GiB` : "everything is computed on this device";
  const frames = about.frameRate ? `; ${about.frameRate} scores per second` : "";
  at("model").textContent = `Model ${about.model}, ${about.labels.length} classes, audiotag ${about.version}; ${limits}${frames}`;
  // windows are for models that have no scores of their own over time
  for (const name of ["window", "hop"]) at(name).closest("label").hidden = Boolean(about.frameRate);
  at("labels").replaceChildren();
  for (const label of about.labels) element(at("labels"), "option").value = label;
}

engine.about().then((about) => {
  introduce(about);
  at("models").closest("label").hidden = about.models.length < 2;
  for (const name of about.models) element(at("models"), "option", "", name);
}).catch((error) => say(`The tagger can't be reached: ${error.message}`, true));
