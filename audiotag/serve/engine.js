// The server as the page uses it. See audiotag/web/engine.js for the other engine.

/** About a model, by default the first: {models, model, version, labels, frameRate, recordingSeconds, recordingBytes}. */
export async function about(name) {
  const health = await fetch("health").then((r) => r.json()), { models, audiotag, limits } = health;
  const model = models.find((each) => each.name === name) ?? models[0];
  const labels = await fetch(`labels?${new URLSearchParams({ model: model.name })}`).then((r) => r.json());
  return {
    models: models.map((each) => each.name), model: model.name, frameRate: model.frame_rate, version: audiotag, labels: labels.map((each) => each.label),
    recordingSeconds: limits.recording_seconds, recordingBytes: limits.recording_bytes,
  };
}

async function refuse(answer) {
  const content = await answer.json().catch(() => null);
  const error = new Error(content?.error?.message ?? `the server answered with status ${answer.status}`);
  error.status = answer.status;
  throw error;
}

function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return new Uint16Array(bytes.buffer);
}

/** Yields an analysis: a head, each window, an end. See audiotag/serve/windows.py; scores are a Uint16Array here. */
export async function* analyse(blob, { name, window, hop, model }, signal) {
  const upload = [...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(16)).join("-");
  const query = new URLSearchParams({ name, window, hop, model, upload });
  // browsers show nothing of an answer before they have sent all of a request: another request gets the lines meanwhile
  const sent = fetch(`windows?${query}`, { method: "POST", body: blob, signal });
  const refused = sent.then((answer) => (answer.ok ? new Promise(() => {}) : answer));
  const answer = await Promise.race([fetch(`windows?${new URLSearchParams({ upload })}`, { signal }), refused]);
  if (!answer.ok) await refuse(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) {
      const line = JSON.parse(part);
      yield line.scores ? { ...line, scores: unpack(line.scores) } : line;
    }
  }
}

/** Scores of all classes, in the order of `labels`, of 16-bit mono samples. */
export async function scores(samples, rate, model, signal) {
  const query = new URLSearchParams({ raw: "s16le", rate, top: 1 << 20, name: "microphone", model });
  const answer = await fetch(`tag?${query}`, { method: "POST", body: samples, signal });
  if (!answer.ok) await refuse(answer);
  const found = [];
  for (const { index, score } of (await answer.json()).tags) found[index] = score;
  return found;
}
