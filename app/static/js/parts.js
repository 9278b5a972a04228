/** Pieces that every view is made of. */
import { download } from "./api.js";
import { bytes, percent, words } from "./format.js";
import { html, useEffect, useRef, useState } from "./lib.js";
import { address } from "./route.js";

/**
 * A view; `kind` says what the thing is that its title names. Its heading gets the focus when it opens, so that a screen reader says
 * where one is.
 */
export function View({ title, kind, actions, children }) {
  const heading = useRef(null);
  useEffect(() => heading.current?.focus(), []);
  useEffect(() => {
    document.title = `${title} · Synesthesia`;
  }, [title]);
  return html`<article class="view">
    <header class="view-head">
      <div>
        ${kind && html`<p class="note">${kind}</p>`}
        <h1 ref=${heading} tabindex="-1" dir="auto">${title}</h1>
      </div>
      ${actions && html`<div class="actions">${actions}</div>`}
    </header>
    ${children}
  </article>`;
}

/** A view whose answer is not there yet: it is waited for, or it will not come. */
export function Waiting({ title, problem, retry }) {
  return html`<${View} title=${title}>
    ${problem ? html`<${Trouble} problem=${problem} retry=${retry} />` : html`<p role="status">Loading …</p>`}
  <//>`;
}

/** A part of a view with its heading. */
export function Section({ title, note, children }) {
  return html`<section class="card">
    <h2>${title}</h2>
    ${note && html`<p class="note">${note}</p>`}
    ${children}
  </section>`;
}

/** What went wrong, what to do about it, and which fields are meant. */
export function Trouble({ problem, retry }) {
  if (!problem) return null;
  return html`<div class="notice bad" role="alert">
    <p><strong dir="auto">${problem.message}</strong></p>
    ${problem.hint && html`<p dir="auto">${problem.hint}</p>`}
    ${problem.errors?.length > 0 && html`<ul>
      ${problem.errors.map((error) => html`<li dir="auto"><code>${error.pointer}</code> ${error.detail}</li>`)}
    </ul>`}
    ${retry && html`<p><button type="button" onClick=${retry}>Try again</button></p>`}
  </div>`;
}

/** A hint that is no error. */
export function Notice({ kind = "", children }) {
  return html`<div class=${`notice ${kind}`} role="status">${children}</div>`;
}

/** Nothing is here yet, and the way on. */
export function Empty({ children }) {
  return html`<div class="empty">${children}</div>`;
}

/** How far something is; `share` null: it goes on, nobody knows how far. */
export function Progress({ label, share, detail }) {
  return html`<div class="progress">
    <div class="progress-text"><span>${label}</span><span>${detail ?? (share == null ? "" : percent(share, 0))}</span></div>
    <progress aria-label=${label} max="1" value=${share ?? undefined}></progress>
  </div>`;
}

/** A state with its colour and, for those who do not see colours, its word. */
export function Status({ value }) {
  return html`<span class=${`status ${value}`}>${words(value)}</span>`;
}

/** A user's word: of any length, in any direction of writing, only ever text. */
export function Word({ children, fallback = "" }) {
  return html`<bdi class="word">${children ?? fallback}</bdi>`;
}

/** Name and value pairs; those whose value is null are left out. */
export function Facts({ rows }) {
  const shown = rows.filter(([, value]) => value != null && value !== "");
  return html`<dl class="facts">
    ${shown.map(([name, value]) => html`<div><dt>${name}</dt><dd dir="auto">${value}</dd></div>`)}
  </dl>`;
}

/** A table that scrolls sideways within itself, by keyboard too. */
export function Table({ caption, head, children, className = "" }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}>
    <table class=${className}>
      <caption class="unseen">${caption}</caption>
      <thead><tr>${head.map((cell) => html`<th scope="col">${cell}</th>`)}</tr></thead>
      <tbody>${children}</tbody>
    </table>
  </div>`;
}

/** The next page of a list, where there is one. */
export function More({ more }) {
  return more && html`<p class="more"><button type="button" onClick=${more}>Show more</button></p>`;
}

/** A link to another view. */
export function To({ parts, query, className, children, ...rest }) {
  return html`<a class=${className} href=${address(parts, query)} ...${rest}>${children}</a>`;
}

/** A button that does something at the service: it waits, and shows what went wrong. `sure` asks before. */
export function Action({ run, sure, className = "", children, disabled }) {
  const [state, setState] = useState({ busy: false, asking: false, problem: null });
  const act = async () => {
    setState({ busy: true, asking: false, problem: null });
    try {
      await run();
      setState({ busy: false, asking: false, problem: null });
    } catch (problem) {
      setState({ busy: false, asking: false, problem });
    }
  };
  const ask = () => setState({ busy: false, asking: true, problem: null });
  if (state.asking) {
    return html`<span class="sure" role="group" aria-label=${sure}>
      <span>${sure}</span>
      <button type="button" class="danger" onClick=${act}>Yes</button>
      <button type="button" onClick=${() => setState({ ...state, asking: false })}>No</button>
    </span>`;
  }
  return html`<span class="action">
    <button type="button" class=${className} disabled=${disabled || state.busy} aria-busy=${state.busy} onClick=${sure ? ask : act}>
      ${children}
    </button>
    <${Trouble} problem=${state.problem} />
  </span>`;
}

/** A file of the service's, saved with the key that a plain link could not send. */
export function Download({ path, name, size, children }) {
  return html`<${Action} run=${() => download(path, name)}>${children}${size ? ` (${bytes(size)})` : ""}<//>`;
}

/** A labelled field of a form; `children` is the control, which has the id. */
export function Field({ id, label, note, children }) {
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${children}
    ${note && html`<p class="note" id=${`${id}-note`}>${note}</p>`}
  </div>`;
}

/** A field to type in; `onChange(text)` is told each letter. */
export function Input({ id, value, onChange, ...rest }) {
  return html`<input id=${id} value=${value} ...${rest} onInput=${(event) => onChange(event.currentTarget.value)} />`;
}

/** A choice among few; `options` are values or [value, text] pairs. */
export function Choice({ id, value, onChange, options, disabled }) {
  return html`<select id=${id} value=${value} disabled=${disabled} onChange=${(event) => onChange(event.currentTarget.value)}>
    ${options.map((option) => {
      const [worth, text] = Array.isArray(option) ? option : [option, option];
      return html`<option value=${worth} selected=${worth === value}>${text}</option>`;
    })}
  </select>`;
}
