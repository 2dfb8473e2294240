// Sends blocks of microphone samples, mixed to mono, to the page.
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(4096);
    this.size = 0;
  }

  process([channels]) {
    const length = channels.length ? channels[0].length : 0;
    for (let i = 0; i < length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.block[this.size++] = sum / channels.length;
      if (this.size === this.block.length) {
        this.port.postMessage(this.block.slice());
        this.size = 0;
      }
    }
    return true;
  }
}
registerProcessor("capture", Capture);
