/** Listening while one speaks: the microphone's samples go out by web socket, words come back as they are detected. */
import { key } from "./api.js";
import { openMicrophone } from "./microphone.js";
import { peakOf, pcmOf } from "./wav.js";

const SUBPROTOCOL = "synesthesia.v1";
const MOST_WAITING = 1_000_000; // bytes: beyond it the network is too slow, and old sound is worth less than new

/**
 * Opens a stream; `tell(message)` gets what the service says, and `{type: "level", peak}`, and at last `{type: "closed", code, reason}`.
 * Returns {stop}. Throws MicrophoneError.
 */
export async function listen(model, tell) {
  let socket = null;
  const microphone = await openMicrophone((samples) => {
    tell({ type: "level", peak: peakOf(samples) });
    if (socket?.readyState === WebSocket.OPEN && socket.bufferedAmount < MOST_WAITING) socket.send(pcmOf(samples));
  });
  const address = new URL(`/predict/stream?model=${encodeURIComponent(model)}`, location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  // A page can't set a socket's headers, so the key goes as a subprotocol; the service never repeats it.
  socket = new WebSocket(address, key() ? [SUBPROTOCOL, `bearer.${key()}`] : [SUBPROTOCOL]);
  socket.onopen = () => socket.send(JSON.stringify({ type: "start", encoding: "pcm_s16le", sample_rate: microphone.rate, channels: 1 }));
  socket.onmessage = (event) => tell(JSON.parse(event.data));
  socket.onclose = ({ code, reason }) => {
    microphone.close();
    tell({ type: "closed", code, reason });
  };
  const stop = () => {
    microphone.close();
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "stop" }));
    else socket.close();
  };
  return { stop };
}
