// The scores of a recording, window by window, and what is computed from them; knows no page.

const SCALE = 65535;

export class Result {
  constructor(name, labels) {
    Object.assign(this, { name, labels, windows: [], tags: [], of: "", model: "", warning: "", spectrogram: null });
    this.duration = this.expected = 0;
    this.best = new Float64Array(labels.length);
  }

  /** Takes a line of an analysis; returns whether it was the last. */
  add(line) {
    if (line.error) throw new Error(line.error);
    if (line.labels) {
      Object.assign(this, { labels: line.labels, model: line.model, best: new Float64Array(line.labels.length) });
    } else if (line.scores) {
      this.addWindow(line.start, line.end, line.peak, line.scores);
    } else {
      Object.assign(this, line, { expected: 0 });
      return true;
    }
    return false;
  }

  /** Length of the time axis: what is analysed, and what is expected to come. */
  get span() {
    return Math.max(this.duration, this.expected);
  }

  addWindow(start, end, peak, scores) {
    this.windows.push({ start, end, peak, scores });
    this.duration = Math.max(this.duration, end);
    for (let c = 0; c < scores.length; c++) this.best[c] = Math.max(this.best[c], scores[c] / SCALE);
  }

  score(window, label) {
    return this.windows[window].scores[label] / SCALE;
  }

  /** Where the cell of a window ends: half-way between its middle and the next one's. */
  edge(window) {
    const { start, end } = this.windows[window], next = this.windows[window + 1];
    return next ? (start + end + next.start + next.end) / 4 : end;
  }

  /** The window whose cell holds a time; -1 where none was analysed. */
  at(time) {
    if (!this.windows.length || time > this.edge(this.windows.length - 1)) return -1;
    let low = 0, high = this.windows.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.edge(middle) < time) low = middle + 1; else high = middle;
    }
    return low;
  }

  /** Classes of at least a score anywhere, or those whose name has a text in it, best first. */
  classes(threshold, text, count) {
    const wanted = text.trim().toLowerCase();
    const fits = (c) => (wanted ? this.labels[c].toLowerCase().includes(wanted) : this.best[c] >= threshold);
    return [...this.labels.keys()].filter(fits).sort((a, b) => this.best[b] - this.best[a]).slice(0, count);
  }

  /** The classes of one window, best first: [class, score]. */
  top(window, count) {
    const scores = [...this.windows[window].scores].map((score, c) => [c, score / SCALE]);
    return scores.sort((a, b) => b[1] - a[1]).slice(0, count);
  }

  /** Times during which the scores of a class reach a threshold: {label, start, end, score}, in order of time. */
  regions(threshold, classes = [...this.labels.keys()]) {
    const found = [];
    for (const c of classes) {
      let open = null;
      this.windows.forEach((_, i) => {
        const score = this.score(i, c), start = i ? this.edge(i - 1) : 0;
        if (score < threshold) open = null;
        else if (open) Object.assign(open, { end: this.edge(i), score: Math.max(open.score, score) });
        else found.push((open = { label: this.labels[c], start, end: this.edge(i), score }));
      });
    }
    return found.sort((a, b) => a.start - b.start || b.score - a.score);
  }

  // -- files ---------------------------------------------------------------------------------

  json(threshold) {
    const windows = this.windows.map(({ start, end }, i) => ({
      start, end,
      tags: this.top(i, this.labels.length).filter(([, s]) => s >= threshold)
        .map(([c, s]) => ({ label: this.labels[c], score: Number(s.toFixed(5)) })),
    }));
    const { name, duration, model, of, tags, warning } = this;
    return JSON.stringify({ path: name, duration, model, threshold, of, tags, ...(warning && { warning }), windows }, null, 1);
  }

  csv(threshold) {
    const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const rows = this.windows.flatMap(({ start, end }, i) => this.top(i, this.labels.length)
      .filter(([, s]) => s >= threshold).map(([c, s]) => [this.name, start, end, this.labels[c], s.toFixed(5)]));
    return [["path", "start", "end", "label", "score"], ...rows].map((row) => row.map(String).map(quoted).join(",")).join("\r\n") + "\r\n";
  }

  audacity(threshold) {
    return this.regions(threshold).map((r) => `${r.start.toFixed(3)}\t${r.end.toFixed(3)}\t${r.label}\n`).join("");
  }
}
