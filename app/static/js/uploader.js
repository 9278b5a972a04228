/** Sending a file: dropped, or chosen by a button; a bar while it goes out, then the reader is led on. */
import { Problem, upload } from "./api.js";
import { archiveOf, chosenFiles, droppedFiles } from "./folder.js";
import { html, useEffect, useRef, useState } from "./lib.js";
import { Field, Input, Notice, Progress, Trouble } from "./parts.js";

const IDLE = { phase: "idle", share: 0, problem: null };

/** Takes an archive or a folder, sends it as a dataset; `onMade(dataset)` is told. `parent`: the dataset that it extends. */
export function DatasetUpload({ parent, onMade }) {
  const [state, setState] = useState(IDLE);
  const [name, setName] = useState("");
  const control = useRef(null);
  useEffect(() => () => control.current?.abort(), []);

  const take = async (reading) => {
    control.current = new AbortController();
    const { signal } = control.current;
    try {
      setState({ phase: "packing", share: 0, problem: null });
      const { files, folder } = await reading;
      const archive = await archiveOf(files, folder, (share) => setState({ phase: "packing", share, problem: null }));
      const onProgress = (share) => setState({ phase: "uploading", share, problem: null });
      const fields = { name: name.trim() || archive.name, parent };
      const made = await upload("/datasets", fields, archive.file, `${archive.name}.zip`, { onProgress, signal });
      onMade(made);
    } catch (problem) {
      setState({ ...IDLE, problem: signal.aborted ? null : told(problem) });
    }
  };

  if (state.phase !== "idle") {
    const label = state.phase === "packing" ? "Packing the folder" : state.share < 1 ? "Uploading" : "Sent; the service looks at the archive";
    return html`<div role="status"><${Progress} label=${label} share=${state.share < 1 ? state.share : null} />
      <p><button type="button" onClick=${() => control.current.abort()}>Give up</button></p></div>`;
  }
  return html`<div class="stack">
    <${Field} id="dataset-name" label="Name" note="Without one, it is called like its file.">
      <${Input} id="dataset-name" dir="auto" value=${name} onChange=${setName} maxlength="200" aria-describedby="dataset-name-note" />
    <//>
    <${Drop} onFiles=${take} />
    <${Trouble} problem=${state.problem} />
  </div>`;
}

/** Returns a problem as it can be shown; what the browser throws by itself has no words for people. */
function told(problem) {
  if (problem instanceof Problem || problem instanceof RangeError) return problem;
  return new Problem(0, { detail: "The files can't be read.", hint: String(problem) });
}

function Drop({ onFiles }) {
  const [over, setOver] = useState(false);
  const chosen = (event) => {
    if (event.currentTarget.files.length) onFiles(Promise.resolve(chosenFiles(event.currentTarget.files)));
    event.currentTarget.value = ""; // the same file may be chosen again after it was mended
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    onFiles(droppedFiles(event.dataTransfer));
  };
  const hold = (event) => {
    event.preventDefault();
    setOver(true);
  };
  return html`<div class=${`drop ${over ? "over" : ""}`} onDragOver=${hold} onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <p>Drop an archive or a folder here, or</p>
    <div class="actions">
      <label class="button primary file">Choose an archive
        <input type="file" accept=".zip,.tar,.tar.gz,.tgz,.gz" onChange=${chosen} />
      </label>
      <label class="button file">Choose a folder<input type="file" webkitdirectory multiple onChange=${chosen} /></label>
    </div>
    <p class="note">One folder a label, as <code>seven/clip-1.wav</code>, or a <code>metadata.csv</code> with the columns${" "}
      <code>file_name,label</code> and, where you know them, <code>split</code> and <code>speaker</code>.</p>
  </div>`;
}

/** Sends one file to `path`, as a form; `onMade(answer)` is told. */
export function FileUpload({ path, label, accept, onMade }) {
  const [state, setState] = useState(IDLE);
  const chosen = async (event) => {
    const [file] = event.currentTarget.files;
    event.currentTarget.value = "";
    if (!file) return;
    const onProgress = (share) => setState({ phase: "uploading", share, problem: null });
    onProgress(0);
    try {
      onMade(await upload(path, {}, file, file.name, { onProgress }));
      setState({ ...IDLE, phase: "made" });
    } catch (problem) {
      setState({ ...IDLE, problem });
    }
  };
  return html`<div class="stack">
    ${state.phase === "uploading"
      ? html`<${Progress} label="Uploading" share=${state.share < 1 ? state.share : null} />`
      : html`<p><label class="button file">${label}<input type="file" accept=${accept} onChange=${chosen} /></label></p>`}
    ${state.phase === "made" && html`<${Notice} kind="good">It is here now.<//>`}
    <${Trouble} problem=${state.problem} />
  </div>`;
}
