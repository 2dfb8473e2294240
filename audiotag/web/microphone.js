// The part that runs on the audio thread: passes on what the microphone hears, mixed to one channel.
registerProcessor(
  "microphone",
  class extends AudioWorkletProcessor {
    process([channels]) {
      if (channels.length) {
        const mono = new Float32Array(channels[0].length);
        for (const channel of channels) channel.forEach((x, i) => (mono[i] += x / channels.length));
        this.port.postMessage(mono, [mono.buffer]);
      }
      return true;
    }
  },
);
