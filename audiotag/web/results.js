// Results of several clips, { name, whole, windows }, as JSON lines, CSV, and Audacity's labels.

const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

const rowsOf = ({ whole, windows }) => [...(whole ? [whole] : []), ...windows];

export function json(clips) {
  return clips.flatMap(rowsOf).map((row) => JSON.stringify(row) + "\n").join("");
}

export function csv(clips) {
  const lines = [["path", "start", "end", "label", "score"]];
  for (const { path, start = 0, end, duration, tags = [] } of clips.flatMap(rowsOf))
    for (const { label, score } of tags) lines.push([path, start, end ?? duration, label, score]);
  return lines.map((line) => line.map((cell) => quoted(String(cell))).join(",") + "\n").join("");
}

/** The best class of each window; several clips follow each other as if played in a row. */
export function txt(clips) {
  let offset = 0, text = "";
  for (const { whole, windows } of clips) {
    const rows = windows.length ? windows : whole ? [whole] : [];
    let last = 0;
    for (const { start = 0, end, duration, tags = [] } of rows) {
      last = Math.max(last, end ?? duration);
      if (tags.length) text += `${(offset + start).toFixed(6)}\t${(offset + last).toFixed(6)}\t${tags[0].label}\n`;
    }
    offset += last;
  }
  return text;
}
