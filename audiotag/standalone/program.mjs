// The executable as a WebAssembly module: compiled once, instantiated for each run.

const encoder = new TextEncoder();

/**
 * Run the program and return its exit code.
 *
 * `host` gives the system calls: open(name: Uint8Array) and read(file, bytes: Uint8Array) return a number or -errno,
 * write(file, bytes) 0 or -errno, as Linux numbers errors; close(file) nothing. Files 0, 1 and 2 are open.
 */
export function run(module, args, host) {
  const bytes = (at, size) => new Uint8Array(exports.memory.buffer, at, size);
  const calls = {
    open: (name, size) => host.open(bytes(name, size)),
    read: (file, to, size) => host.read(file, bytes(to, size)),
    write: (file, from, size) => host.write(file, bytes(from, size)),
    close: (file) => host.close(file),
  };
  const { exports } = new WebAssembly.Instance(module, { host: calls });
  const line = encoder.encode(["audio-inference", ...args].map((arg) => arg + "\0").join(""));
  if (line.length > exports.arguments_size()) {
    host.write(2, encoder.encode("audio-inference: the arguments are too long\n"));
    return 2;
  }
  bytes(exports.arguments(), line.length).set(line);
  return exports.run(args.length + 1);
}
