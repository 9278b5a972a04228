/** The microphone: permission, samples as they come, and how loud they are. */
import { html, useEffect, useState } from "./lib.js";
import { peakOf } from "./wav.js";

const WORKLET = new URL("./worklet.js", import.meta.url);

/** Why there is no microphone, for people. */
export class MicrophoneError extends Error {
  constructor(message, hint) {
    super(message);
    this.hint = hint;
  }
}

/**
 * Opens the microphone; `onSamples(samples, rate)` is told each piece, Float32Array, mono. Returns {rate, close}.
 * Throws MicrophoneError.
 */
export async function openMicrophone(onSamples) {
  const stream = await permitted();
  const context = new AudioContext();
  try {
    await context.audioWorklet.addModule(WORKLET);
  } catch (error) {
    stream.getTracks().forEach((track) => track.stop());
    await context.close();
    throw new MicrophoneError("The browser can't read the microphone here.", String(error));
  }
  const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  tap.port.onmessage = (event) => onSamples(event.data, context.sampleRate);
  context.createMediaStreamSource(stream).connect(tap);
  await context.resume();
  let open = true;
  const close = () => {
    if (!open) return; // closing twice is an error to the browser
    open = false;
    tap.port.onmessage = null;
    stream.getTracks().forEach((track) => track.stop());
    context.close();
  };
  return { rate: context.sampleRate, close };
}

async function permitted() {
  if (!navigator.mediaDevices) {
    throw new MicrophoneError(
      "The browser gives no microphone to this address.",
      "Open the page over https, or on the service's own machine as localhost.",
    );
  }
  try {
    // What cleans up calls would cut the soft ends off short words.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: true };
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    const refused = error.name === "NotAllowedError";
    throw new MicrophoneError(
      refused ? "The microphone is not allowed." : "There is no microphone.",
      refused ? "Allow it beside the address of this page, then try again." : "Connect one, then try again.",
    );
  }
}

/** Records `seconds` of sound; `onLevel(peak, share)` is told on the way. Returns {samples, rate}. Throws MicrophoneError. */
export async function recordClip(seconds, onLevel, signal) {
  const pieces = [];
  let length = 0;
  let finish;
  const full = new Promise((resolve) => {
    finish = resolve;
  });
  const microphone = await openMicrophone((samples, rate) => {
    pieces.push(samples);
    length += samples.length;
    const share = length / (seconds * rate);
    onLevel(peakOf(samples), Math.min(1, share));
    if (share >= 1) finish();
  });
  signal?.addEventListener("abort", finish);
  if (signal?.aborted) finish();
  await full;
  microphone.close();
  const samples = new Float32Array(length);
  let at = 0;
  for (const piece of pieces) {
    samples.set(piece, at);
    at += piece.length;
  }
  return { samples, rate: microphone.rate };
}

/** How loud it is, 0 to 1 of full scale. */
export function Level({ peak }) {
  return html`<meter class="level" aria-label="Loudness" min="0" max="1" low="0.05" high="0.9" optimum="0.4" value=${peak}></meter>`;
}

/** A player of a Blob; its address is given back when the player goes. */
export function Player({ blob, label }) {
  const [url, setUrl] = useState(null);
  useEffect(() => {
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url && html`<audio controls preload="metadata" src=${url} aria-label=${label}></audio>`;
}
