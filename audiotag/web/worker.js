// Runs the program on one sound after the other: bytes in, rows out.
import { run } from "./program.mjs";

const compiled = WebAssembly.compileStreaming(fetch("tagger.wasm"));
compiled.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ failed: `the tagger can't be loaded: ${error.message}` }),
);

/** The rows that the program writes for the bytes of its standard input. */
function rows(module, data, options) {
  const decoders = [1, 2].map(() => new TextDecoder()), texts = ["", ""];
  let at = 0;
  const code = run(module, ["--json", ...options, "-"], {
    open: () => -2,
    read(file, to) {
      const piece = data.subarray(at, at + to.length);
      to.set(piece);
      at += piece.length;
      return piece.length;
    },
    write(file, bytes) {
      texts[file - 1] += decoders[file - 1].decode(bytes, { stream: true });
      return 0;
    },
    close() {},
  });
  if (code === 2) throw new Error(texts[1]);
  return texts[0].split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

onmessage = async ({ data: { id, bytes, options } }) => {
  try {
    postMessage({ id, rows: rows(await compiled, new Uint8Array(bytes), options) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
};
