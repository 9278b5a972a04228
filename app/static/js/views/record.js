/** From nothing to a dataset: say words into the microphone. */
import { upload } from "../api.js";
import { archiveOfClips, dropAllClips, dropClip, keepClip, keptClips } from "../clips.js";
import { duration } from "../format.js";
import { html, useEffect, useRef, useState } from "../lib.js";
import { Level, Player, recordClip } from "../microphone.js";
import { Action, Choice, Empty, Field, Input, Notice, Progress, Section, To, Trouble, View, Word } from "../parts.js";
import { useResource } from "../resource.js";
import { go } from "../route.js";
import { trimmed } from "../wav.js";

const LENGTHS = [["1", "1 second"], ["1.5", "1.5 seconds"], ["2", "2 seconds"], ["3", "3 seconds"]];
const COUNTDOWN = 3;
const BEAT_MILLISECONDS = 600;
const ENOUGH = 5; // clips a label: what a first model can be made from

export function RecordView({ query }) {
  const [clips, setClips] = useState(keptClips);
  const [parent, setParent] = useState(query.get("parent") ?? "");
  const refresh = () => setClips(keptClips());
  const base = useResource(parent ? `/datasets/${encodeURIComponent(parent)}` : null);
  const known = [...new Set([...(base.data?.labels ?? []), ...clips.map((clip) => clip.label)])];
  return html`<${View} title="Record words">
    <p class="lead">Choose a word, say it a few times, then the next word. Two words with ${ENOUGH} clips each are enough for a first model;
      one more label for other noises and words teaches it to tell them from yours.</p>
    ${parent && html`<${Notice}>
      The clips extend <${To} parts=${["datasets", parent]}><${Word}>${base.data?.name ?? parent}<//><//>.
      <button type="button" onClick=${() => setParent("")}>Make a new dataset instead</button>
    <//>`}
    <${Trouble} problem=${base.error} />
    <${Recorder} known=${known} onClip=${refresh} />
    <${Clips} clips=${clips} onChange=${refresh} />
    ${clips.length > 0 && html`<${Save} clips=${clips} parent=${parent} known=${base.data?.labels ?? []} />`}
  <//>`;
}

function Recorder({ known, onClip }) {
  const [label, setLabel] = useState("");
  const [speaker, setSpeaker] = useState("");
  const [seconds, setSeconds] = useState("1.5");
  const [state, setState] = useState({ phase: "idle", problem: null });
  const control = useRef(null);
  useEffect(() => () => control.current?.abort(), []);
  const begin = async (event) => {
    event.preventDefault();
    control.current = new AbortController();
    const { signal } = control.current;
    try {
      for (let left = COUNTDOWN; left > 0 && !signal.aborted; left -= 1) {
        setState({ phase: "counting", left });
        await new Promise((resolve) => setTimeout(resolve, BEAT_MILLISECONDS));
      }
      if (!signal.aborted) {
        const show = (peak, share) => setState({ phase: "recording", peak, share });
        const { samples, rate } = await recordClip(Number(seconds), show, signal);
        if (!signal.aborted) keepClip({ label: label.trim(), speaker: speaker.trim(), rate, ...trimmed(samples, rate) });
      }
      setState({ phase: "idle", problem: null });
      onClip();
    } catch (problem) {
      setState({ phase: "idle", problem });
    }
  };
  const busy = state.phase !== "idle";
  const field = { dir: "auto", maxlength: 200, autocomplete: "off", disabled: busy };
  return html`<${Section} title="Say it">
    <form class="stack" onSubmit=${begin}>
      <div class="filters">
        <${Field} id="label" label="Word">
          <${Input} id="label" ...${field} list="labels" required pattern=".*\\S.*" value=${label} onChange=${setLabel} />
          <datalist id="labels">${known.map((word) => html`<option value=${word}></option>`)}</datalist>
        <//>
        <${Field} id="speaker" label="Who speaks (may stay empty)">
          <${Input} id="speaker" ...${field} value=${speaker} onChange=${setSpeaker} />
        <//>
        <${Field} id="seconds" label="Length">
          <${Choice} id="seconds" value=${seconds} options=${LENGTHS} disabled=${busy} onChange=${setSeconds} />
        <//>
      </div>
      <div class="actions">
        ${busy
          ? html`<button type="button" onClick=${() => control.current.abort()}>Stop</button>`
          : html`<button class="primary">Record${label.trim() && html` “<${Word}>${label.trim()}<//>”`}</button>`}
      </div>
      <div role="status" class="signal">
        ${state.phase === "counting" && html`<span class="countdown">${state.left}</span>`}
        ${state.phase === "recording" && html`<strong>Speak now</strong>`}
      </div>
      ${state.phase === "recording" && html`<${Level} peak=${state.peak} /><${Progress} label="Recording" share=${state.share} />`}
      <${Trouble} problem=${state.problem} />
    </form>
  <//>`;
}

function Clips({ clips, onChange }) {
  const labels = [...new Set(clips.map((clip) => clip.label))];
  if (!clips.length) return html`<${Section} title="Clips"><${Empty}>What you record stands here, to be heard and taken again.<//><//>`;
  const remove = (id) => {
    dropClip(id);
    onChange();
  };
  return html`<${Section} title=${`Clips (${clips.length})`}>
    ${labels.map((label) => {
      const mine = clips.filter((clip) => clip.label === label);
      return html`<section key=${label} class="take">
        <h3><${Word}>${label}<//> <span class="note">${mine.length}${mine.length < ENOUGH ? ` of ${ENOUGH}` : ""}</span></h3>
        <ul class="clips">
          ${mine.map((clip, index) => html`<li key=${clip.id}>
            <${Player} blob=${clip.wav} label=${`${label}, clip ${index + 1}`} />
            <span>${duration(clip.seconds)}${clip.silent && html` <strong>nothing was heard</strong>`}</span>
            <button type="button" aria-label=${`Remove clip ${index + 1} of ${label}`} onClick=${() => remove(clip.id)}>Remove</button>
          </li>`)}
        </ul>
      </section>`;
    })}
  <//>`;
}

function Save({ clips, parent, known }) {
  const [name, setName] = useState("recorded words");
  const [share, setShare] = useState(null);
  const labels = new Set([...known, ...clips.map((clip) => clip.label)]);
  const missing = labels.size < 2 ? "Record a second word: telling words apart takes two." : null;
  const save = async () => {
    const archive = await archiveOfClips(clips);
    const fields = { name: name.trim() || "recorded words", modality: "audio", parent };
    const made = await upload("/datasets", fields, archive, "clips.zip", { onProgress: setShare });
    dropAllClips();
    go(["datasets", made.id]);
  };
  return html`<${Section} title="Make a dataset of them">
    <div class="stack">
      <${Field} id="record-name" label="Name">
        <${Input} id="record-name" dir="auto" maxlength="200" value=${name} onChange=${setName} />
      <//>
      ${missing && html`<${Notice} kind="warn">${missing}<//>`}
      ${share != null && share < 1 && html`<${Progress} label="Uploading" share=${share} />`}
      <div class="actions">
        <${Action} run=${save} className="primary" disabled=${Boolean(missing)}>Save ${String(clips.length)} clips<//>
      </div>
    </div>
  <//>`;
}
