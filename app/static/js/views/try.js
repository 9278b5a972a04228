/** Ask a model: a file, one clip from the microphone, an item of a dataset, or live. */
import { fetchAnswer } from "../api.js";
import { html, useRef, useState } from "../lib.js";
import { Level, Player, recordClip } from "../microphone.js";
import { Choice, Empty, Field, Progress, Section, To, Trouble, View, Waiting, Word } from "../parts.js";
import { useResource } from "../resource.js";
import { go } from "../route.js";
import { wavOf } from "../wav.js";
import { Heard } from "./answer.js";
import { Explained } from "./explained.js";
import { FromItem } from "./from_item.js";
import { Live } from "./live.js";

const CLIP_SECONDS = 2;
const WAYS = { clip: "Microphone, one clip", file: "A file", item: "An item of a dataset", live: "Live" };

export function TryView({ query }) {
  const models = useResource("/models?modality=audio&limit=100");
  const aliases = useResource("/aliases");
  const asked = query.get("model") ?? "";
  const way = WAYS[query.get("way")] ? query.get("way") : "clip";
  const trouble = models.error ?? aliases.error;
  if (!models.data || !aliases.data) return html`<${Waiting} title="Try it" problem=${trouble} />`;
  const listed = models.data.data;
  const known = new Set(listed.map((model) => model.id));
  const names = aliases.data.data.filter((alias) => known.has(alias.model) || alias.name === asked).map((alias) => alias.name);
  const own = listed.map((model) => [model.id, model.name ? `${model.name} (${model.id})` : model.id]);
  const more = asked && !names.includes(asked) && !own.some(([id]) => id === asked) ? [asked] : [];
  const options = [...names, ...own, ...more];
  if (!options.length) {
    return html`<${View} title="Try it"><${Empty}>
      <p>No model can listen yet.</p>
      <div class="actions"><${To} parts=${["jobs", "new"]} className="button primary">Start a job<//></div>
    <//><//>`;
  }
  const model = asked || (names.includes("default") ? "default" : String(Array.isArray(options[0]) ? options[0][0] : options[0]));
  const change = (field) => (value) => go(["try"], { model, way, [field]: value }, { replace: true });
  return html`<${View} title="Try it">
    <${Section} title="Ask a model">
      <div class="filters">
        <${Field} id="model" label="Model"><${Choice} id="model" value=${model} options=${options} onChange=${change("model")} /><//>
        <${Field} id="way" label="With"><${Choice} id="way" value=${way} options=${Object.entries(WAYS)} onChange=${change("way")} /><//>
      </div>
    <//>
    ${way === "live" ? html`<${Live} key=${model} model=${model} />` : html`<${Ask} key=${`${model} ${way}`} model=${model} way=${way} query=${query} />`}
  <//>`;
}

const SOURCES = { clip: FromMicrophone, file: FromFile, item: FromItem };

function Ask({ model, way, query }) {
  const [state, setState] = useState({ phase: "idle", answer: null, sound: null, problem: null });
  const hear = async (sound, item = null) => {
    setState({ phase: "asking", sound, item, answer: null, problem: null });
    try {
      const body = new FormData();
      body.append("file", sound, sound.name ?? "clip.wav");
      const began = performance.now();
      const response = await fetchAnswer(`/predict?model=${encodeURIComponent(model)}`, { method: "POST", body });
      const answer = await response.json();
      setState({ phase: "idle", sound, item, answer, milliseconds: performance.now() - began, problem: null });
    } catch (problem) {
      setState({ phase: "idle", sound, item, answer: null, problem });
    }
  };
  return html`
    <${Section} title=${WAYS[way]}>
      <${SOURCES[way]} onSound=${hear} query=${query} model=${model} />
      ${state.sound && html`<${Player} blob=${state.sound} label="What was asked" />`}
      ${state.item && html`<p>It is <${Word}>${state.item.file_name}<//>, labelled “<${Word}>${state.item.label}<//>”.</p>`}
      ${state.phase === "asking" && html`<p role="status">Asking …</p>`}
      <${Trouble} problem=${state.problem} />
    <//>
    <div aria-live="polite">${state.answer && html`<${Heard} answer=${state.answer} milliseconds=${state.milliseconds} />`}</div>
    ${state.answer && html`<${Explained} model=${state.answer.model} sound=${state.sound} />`}`;
}

function FromFile({ onSound }) {
  const [over, setOver] = useState(false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    const [file] = event.dataTransfer.files;
    if (file) onSound(file);
  };
  const chosen = (event) => {
    const [file] = event.currentTarget.files;
    event.currentTarget.value = "";
    if (file) onSound(file);
  };
  const hold = (event) => {
    event.preventDefault();
    setOver(true);
  };
  return html`<div class=${`drop ${over ? "over" : ""}`} onDragOver=${hold} onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <p>Drop a recording here, or</p>
    <label class="button primary file">Choose a recording
      <input type="file" accept="audio/*,.wav,.flac,.ogg,.mp3,.webm,.m4a" onChange=${chosen} />
    </label>
  </div>`;
}

function FromMicrophone({ onSound }) {
  const [state, setState] = useState({ recording: false, problem: null });
  const control = useRef(null);
  const begin = async () => {
    control.current = new AbortController();
    setState({ recording: true, peak: 0, share: 0, problem: null });
    try {
      const show = (peak, share) => setState({ recording: true, peak, share, problem: null });
      const { samples, rate } = await recordClip(CLIP_SECONDS, show, control.current.signal);
      setState({ recording: false, problem: null });
      if (samples.length) onSound(wavOf(samples, rate));
    } catch (problem) {
      setState({ recording: false, problem });
    }
  };
  return html`<div class="stack">
    <div class="actions">
      ${state.recording
        ? html`<button type="button" onClick=${() => control.current.abort()}>That was it</button>`
        : html`<button type="button" class="primary" onClick=${begin}>Speak for ${String(CLIP_SECONDS)} seconds</button>`}
    </div>
    ${state.recording && html`<${Level} peak=${state.peak} /><${Progress} label="Speak now" share=${state.share} />`}
    <${Trouble} problem=${state.problem} />
  </div>`;
}
