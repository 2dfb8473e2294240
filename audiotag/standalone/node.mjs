
// -- node -------------------------------------------------------------------------------

import fs from "node:fs";

const ERRORS = {
  EPERM: 1, ENOENT: 2, EIO: 5, EBADF: 9, EACCES: 13, ENODEV: 19, ENOTDIR: 20, EISDIR: 21, EINVAL: 22, EMFILE: 24,
  ENOSPC: 28, EPIPE: 32, ENAMETOOLONG: 36, ELOOP: 40,
};

/** The result of a call, or the negative number that Linux gives to its error. */
function attempt(call) {
  for (;;)
    try {
      return call();
    } catch (error) {
      if (error.code === "EOF") return 0;
      if (error.code !== "EAGAIN") return -(ERRORS[error.code] ?? ERRORS.EIO);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
}

const host = {
  open: (name) => attempt(() => fs.openSync(Buffer.from(name))),
  read: (file, to) => attempt(() => fs.readSync(file, to)),
  write(file, from) {
    for (let at = 0; at < from.length; ) {
      const n = attempt(() => fs.writeSync(file, from, at));
      if (n < 0) return n;
      at += n;
    }
    return 0;
  },
  close: (file) => void attempt(() => fs.closeSync(file)),
};

const file = new URL(import.meta.url.replace(/\.mjs$/, ".wasm"));
process.exitCode = run(new WebAssembly.Module(fs.readFileSync(file)), process.argv.slice(2), host);
