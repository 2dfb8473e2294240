
const TYPES = {
  float: Float32Array, double: Float64Array, uint8_t: Uint8Array, int8_t: Int8Array, uint16_t: Uint16Array,
  int16_t: Int16Array, uint32_t: Uint32Array, int32_t: Int32Array, uint64_t: BigUint64Array, int64_t: BigInt64Array,
};

const length = ({ shape }) => shape.reduce((a, b) => a * b, 1);

/** Load the module from a WebAssembly.Module, its bytes, or a Response (a promise of one, too). */
export async function load(source) {
  source = await source;
  if (typeof Response !== "undefined" && source instanceof Response) source = await source.arrayBuffer();
  const module = source instanceof WebAssembly.Module ? source : await WebAssembly.compile(source);
  const { memory, place, run } = (await WebAssembly.instantiate(module, {})).exports;
  const view = (parameter, which) => new TYPES[parameter.type](memory.buffer, place(which), length(parameter));
  return {
    inputs,
    outputs,
    /** Run the model: typed arrays by the names of inputs, to typed arrays by the names of outputs. */
    run(feeds) {
      inputs.forEach((input, i) => {
        const data = feeds[input.name], Type = TYPES[input.type];
        if (!(data instanceof Type) || data.length !== length(input))
          throw new TypeError(`input "${input.name}" must be a ${Type.name} of ${length(input)} elements`);
        view(input, i).set(data);
      });
      if (!run()) throw new RangeError("the data are invalid, such as an index out of range");
      return Object.fromEntries(outputs.map((output, i) => [output.name, view(output, inputs.length + i).slice()]));
    },
  };
}
