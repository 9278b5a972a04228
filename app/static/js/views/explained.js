/** Which part of a sound decided: asked for once the answer is there. */
import { fetchAnswer } from "../api.js";
import { html, useEffect, useState } from "../lib.js";
import { Section, Trouble } from "../parts.js";
import { Spectrogram } from "../spectrogram.js";

export function Explained({ model, sound }) {
  const [state, setState] = useState({ data: null, error: null });
  useEffect(() => {
    const control = new AbortController();
    const look = async () => {
      const body = new FormData();
      body.append("file", sound, sound.name ?? "clip.wav");
      try {
        const response = await fetchAnswer(`/explanations?model=${encodeURIComponent(model)}`, { method: "POST", body, signal: control.signal });
        setState({ data: await response.json(), error: null });
      } catch (error) {
        if (!control.signal.aborted) setState({ data: null, error });
      }
    };
    setState({ data: null, error: null });
    look();
    return () => control.abort();
  }, [model, sound]);
  const { data, error } = state;
  const note = "Each part is taken away in turn and the model asked again; framed is what made the answer less probable when it was gone.";
  return html`<${Section} title="What decided" note=${note}>
    <${Trouble} problem=${error} />
    ${!data && !error && html`<p role="status">Asking 72 times more …</p>`}
    ${data && html`
      <${Spectrogram} data=${data.spectrogram} label="what the model was given" occlusion=${data.occlusion} answer=${data.explained} />
      <p class="note">Found out in ${Math.round(data.milliseconds)} ms.</p>`}
  <//>`;
}
