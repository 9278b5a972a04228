/** Runs beside the sound: hands on what the microphone gives, in pieces that are worth a message. */

const PIECE = 2048; // samples; 43 ms at 48 kHz

class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(PIECE);
    this.filled = 0;
  }

  process([channels]) {
    for (const sample of channels[0] ?? []) {
      this.piece[this.filled] = sample;
      this.filled += 1;
      if (this.filled === PIECE) {
        this.port.postMessage(this.piece);
        this.piece = new Float32Array(PIECE);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("tap", Tap);
