// Samples: 16-bit, as WAV files, from files that only the browser can decode, and from the microphone.

const RATE = 32000;

export function toInt16(samples) {
  return Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768))));
}

/** A WAV file of 16-bit mono samples. */
export function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44));
  const text = (offset, s) => [...s].forEach((c, i) => view.setUint8(offset + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + samples.byteLength, true);
  text(8, "WAVEfmt "); view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, samples.byteLength, true);
  return new Blob([view, samples], { type: "audio/wav" });
}

/** The sound of a file that the browser can decode, as a WAV file. */
export async function decoded(blob) {
  const context = new AudioContext({ sampleRate: RATE });
  try {
    const sound = await context.decodeAudioData(await blob.arrayBuffer());
    const mono = new Float32Array(sound.length);
    for (let c = 0; c < sound.numberOfChannels; c++)
      sound.getChannelData(c).forEach((x, i) => { mono[i] += x / sound.numberOfChannels; });
    return wav(toInt16(mono), RATE);
  } finally {
    context.close();
  }
}

/** A recording in progress; `heard` is called with the last `seconds` of 16-bit samples, about once a second. */
export class Recording {
  static async start(seconds, heard) {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    const context = new AudioContext();
    await context.audioWorklet.addModule("page/capture.js");
    return new Recording(stream, context, seconds, heard);
  }

  constructor(stream, context, seconds, heard) {
    Object.assign(this, { stream, context, rate: context.sampleRate, blocks: [], size: 0 });
    const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    let since = 0;
    node.port.onmessage = ({ data }) => {
      this.blocks.push(toInt16(data));
      this.size += data.length;
      since += data.length;
      if (since >= this.rate && this.size >= seconds * this.rate) {
        since = 0;
        heard(this.last(Math.round(seconds * this.rate)), this.size / this.rate);
      }
    };
    context.createMediaStreamSource(stream).connect(node);
  }

  last(count) {
    const joined = new Int16Array(count);
    let end = count;
    for (let i = this.blocks.length - 1; i >= 0 && end > 0; i--) {
      const block = this.blocks[i].subarray(Math.max(0, this.blocks[i].length - end));
      end -= block.length;
      joined.set(block, end);
    }
    return joined.subarray(end);
  }

  stop() {
    this.stream.getTracks().forEach((track) => track.stop());
    this.context.close();
    return wav(this.last(this.size), this.rate);
  }
}
