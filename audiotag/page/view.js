// Drawing of a result: tags, level, and classes over time.

export const at = (id) => document.getElementById(id);

export function element(parent, tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  parent.append(made);
  return made;
}

export const scoreText = (score) => (score > 0 && score < 0.005 ? "<0.01" : score.toFixed(2));

export function clock(seconds, digits = 0) {
  const whole = Math.floor(seconds), two = (n) => String(n).padStart(2, "0");
  if (seconds < 60) return `${seconds.toFixed(seconds < 20 ? Math.max(1, digits) : digits)} s`;
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export function showTags(list, tags) {
  list.replaceChildren();
  for (const { label, score } of tags) {
    const item = element(list, "li");
    element(item, "span", "name", label).title = label;
    element(element(item, "span", "bar"), "i").style.width = `${100 * score}%`;
    element(item, "span", "score", scoreText(score));
  }
}

function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  const pen = canvas.getContext("2d");
  pen.fillStyle = getComputedStyle(canvas).color;
  return [pen, canvas.width, canvas.height];
}

/** One row: the opacity of a cell is the score of its window, of the best one where several share a column. */
export function drawRow(canvas, result, label) {
  const [pen, width, height] = prepare(canvas), scale = width / result.span;
  const best = new Float32Array(width), known = new Uint8Array(width);
  result.windows.forEach((_, i) => {
    const from = Math.floor((i ? result.edge(i - 1) : 0) * scale);
    const to = Math.min(width, Math.max(from + 1, Math.round(result.edge(i) * scale)));
    const score = result.score(i, label);
    for (let x = from; x < to; x++) { best[x] = Math.max(best[x], score); known[x] = 1; }
  });
  for (let x = 0; x < width; x++) {
    if (!known[x]) continue;
    pen.globalAlpha = best[x];
    pen.fillRect(x, 0, 1, height);
  }
  // the stripes of the canvas stay where nothing is known
  canvas.style.setProperty("--known", `${(100 * known.lastIndexOf(1)) / width}%`);
}

export function drawLevel(canvas, result) {
  const [pen, width, height] = prepare(canvas), scale = width / result.span;
  canvas.style.setProperty("--known", `${(100 * result.duration) / result.span}%`);
  result.windows.forEach(({ peak }, i) => {
    const from = Math.floor((i ? result.edge(i - 1) : 0) * scale), to = Math.max(from + 1, Math.round(result.edge(i) * scale));
    const tall = Math.max(1, Math.min(1, peak) * height);
    pen.fillRect(from, (height - tall) / 2, to - from, tall);
  });
}

/** Lists of classes over time; keeps its rows while the classes stay the same. */
export class Rows {
  constructor(parent, pointed) {
    Object.assign(this, { parent, pointed, shown: "", canvases: [] });
  }

  draw(result, classes) {
    const key = classes.join();
    if (key !== this.shown) {
      this.shown = key;
      this.parent.replaceChildren();
      this.canvases = classes.map((c) => {
        element(this.parent, "div", "name", result.labels[c]).title = result.labels[c];
        const canvas = element(this.parent, "canvas", "cells");
        canvas.setAttribute("role", "img");
        canvas.dataset.label = result.labels[c];
        canvas.onpointermove = (event) => this.pointed(c, event.offsetX / canvas.clientWidth);
        return canvas;
      });
    }
    classes.forEach((c, i) => {
      const when = result.windows.reduce((a, _, w) => (result.score(w, c) > result.score(a, c) ? w : a), 0);
      const { start, end } = result.windows[when] ?? { start: 0, end: 0 };
      const text = `${result.labels[c]}: strongest from ${clock(start, 1)} to ${clock(end, 1)} with ${scoreText(result.best[c])}`;
      this.canvases[i].setAttribute("aria-label", text);
      drawRow(this.canvases[i], result, c);
    });
  }
}
