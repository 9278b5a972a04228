/** Samples as WAV files, and what of a recording is speech. Samples are Float32Array, mono, -1 to 1. */

const FRAME_SECONDS = 0.02;
const MARGIN_SECONDS = 0.12; // kept before and after: words begin and end softly
const LOUD_SHARE = 0.12; // of the loudest frame's level; below it is the room
const LEAST_SECONDS = 0.2;
const QUIET_LEVEL = 0.01; // -40 dB below full scale: nothing was said

/** Returns a Blob: 16-bit PCM WAV, mono. */
export function wavOf(samples, rate) {
  const size = samples.length * 2;
  const view = new DataView(new ArrayBuffer(44 + size));
  const text = (at, word) => [...word].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // mono
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, size, true);
  samples.forEach((sample, index) => view.setInt16(44 + index * 2, pcm(sample), true));
  return new Blob([view.buffer], { type: "audio/wav" });
}

/** Returns the samples as an ArrayBuffer of 16-bit little-endian PCM. */
export function pcmOf(samples) {
  const view = new DataView(new ArrayBuffer(samples.length * 2));
  samples.forEach((sample, index) => view.setInt16(index * 2, pcm(sample), true));
  return view.buffer;
}

function pcm(sample) {
  return Math.max(-32768, Math.min(32767, Math.round(sample * 32767)));
}

/** Returns the largest magnitude among the samples. */
export function peakOf(samples) {
  return samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
}

/** Returns what is left without the silence before and after, and whether anything was said at all. */
export function trimmed(samples, rate) {
  const frame = Math.round(rate * FRAME_SECONDS);
  const levels = [];
  for (let at = 0; at + frame <= samples.length; at += frame) levels.push(rms(samples.subarray(at, at + frame)));
  const loudest = Math.max(0, ...levels);
  const first = levels.findIndex((level) => level >= loudest * LOUD_SHARE);
  if (first < 0 || loudest < QUIET_LEVEL) return { samples, silent: true };
  const last = levels.findLastIndex((level) => level >= loudest * LOUD_SHARE);
  const margin = Math.round(rate * MARGIN_SECONDS);
  const start = Math.max(0, first * frame - margin);
  const end = Math.min(samples.length, Math.max((last + 1) * frame + margin, start + Math.round(rate * LEAST_SECONDS)));
  return { samples: samples.slice(start, end), silent: false };
}

function rms(samples) {
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
}
