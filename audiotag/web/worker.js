// Runs the program on one file after the other; posts each row when it is written.
import { run } from "../program.mjs";

const BLOCK = 1 << 20; // bytes read from a file at a time

const compiled = WebAssembly.compileStreaming(fetch(new URL("../tagger.wasm", import.meta.url)));
compiled.catch(() => {}); // told with the first request

/** Reads a file from its start to its end, piece by piece. */
function reading(blob) {
  const reader = new FileReaderSync();
  let block = new Uint8Array(0), from = 0, next = 0;
  return (to) => {
    if (from === block.length && next < blob.size) {
      block = new Uint8Array(reader.readAsArrayBuffer(blob.slice(next, next + BLOCK)));
      next += block.length;
      from = 0;
    }
    const piece = block.subarray(from, from + to.length);
    to.set(piece);
    from += piece.length;
    return piece.length;
  };
}

function rows(module, blob, options, row) {
  const decoders = [1, 2].map(() => new TextDecoder()), texts = ["", ""], read = reading(blob);
  const code = run(module, ["--json", ...options, "-"], {
    open: () => -2,
    read: (file, to) => read(to),
    write(file, bytes) {
      texts[file - 1] += decoders[file - 1].decode(bytes, { stream: true });
      if (file === 1) {
        const lines = texts[0].split("\n");
        texts[0] = lines.pop();
        for (const line of lines) row(JSON.parse(line));
      }
      return 0;
    },
    close() {},
  });
  if (code === 2) throw new Error(texts[1]);
}

onmessage = async ({ data: { id, blob, options } }) => {
  try {
    const module = await compiled;
    if (blob) rows(module, blob, options, (row) => postMessage({ id, row }));
    postMessage({ id });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
};
