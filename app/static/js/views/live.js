/** Words as they are heard, one line each. */
import { percent } from "../format.js";
import { html, useEffect, useRef, useState } from "../lib.js";
import { Level } from "../microphone.js";
import { Empty, Notice, Section, Trouble, Word } from "../parts.js";
import { listen } from "../stream.js";

const NOTE = "A model that learnt to say “none of these” is the one to listen with: others take noises for words sooner or later.";
const MOST = 100; // lines; older ones are dropped
const CLOSED_WELL = 1000;
const NEVER_OPEN = 1006; // all that a page is told of a refused handshake

export function Live({ model }) {
  const [state, setState] = useState({ on: false, peak: 0, position: 0, words: [], behind: 0, problem: null });
  const stream = useRef(null);
  const gone = useRef(false);
  useEffect(() => () => {
    gone.current = true;
    stream.current?.stop();
  }, []);
  const begin = async () => {
    setState({ on: true, peak: 0, position: 0, words: [], behind: 0, problem: null });
    try {
      stream.current = await listen(model, (message) => !gone.current && setState((old) => after(old, message)));
      if (gone.current) stream.current.stop();
    } catch (problem) {
      setState((old) => ({ ...old, on: false, problem }));
    }
  };
  return html`<${Section} title="Live" note=${NOTE}>
    <div class="actions">
      ${state.on
        ? html`<button type="button" onClick=${() => stream.current?.stop()}>Stop</button>
            <span class="note">${state.position.toFixed(0)} s heard</span>`
        : html`<button type="button" class="primary" onClick=${begin}>Listen</button>`}
    </div>
    ${state.on && html`<${Level} peak=${state.peak} />`}
    ${state.behind > 0 && html`<${Notice} kind="warn">
      The answers come ${state.behind.toFixed(1)} s late: the service or the network is slow.
    <//>`}
    <${Trouble} problem=${state.problem} />
    <ol class="heard-words" aria-live="polite" aria-label="Words heard">
      ${state.words.map((word) => html`<li key=${word.sequence}>
        <time>${word.start.toFixed(1)} s</time> <strong><${Word}>${word.label}<//></strong>
        ${" "}<span class="note">${percent(word.probability, 0)}</span>
      </li>`)}
    </ol>
    ${!state.words.length && html`<${Empty}>${state.on ? "Speak." : "Nothing was heard yet."}<//>`}
  <//>`;
}

/** Returns the state after a message of the stream. */
function after(state, message) {
  const changes = {
    level: () => ({ peak: message.peak }),
    detection: () => ({ words: [...state.words, message].slice(-MOST) }),
    position: () => ({ position: message.position, behind: 0 }),
    behind: () => ({ behind: message.seconds }),
    error: () => ({ problem: { message: message.detail, hint: message.hint } }),
    closed: () => ({ on: false, problem: state.problem ?? closing(message) }),
  };
  return { ...state, ...changes[message.type]?.() };
}

function closing({ code, reason }) {
  if (code === CLOSED_WELL) return null;
  if (code === NEVER_OPEN) {
    return { message: "The stream was refused or broke.", hint: "Does the model still exist, and is the service there? Try again." };
  }
  return { message: `The stream was closed${reason ? `: ${reason}` : ""}.`, hint: "Try again." };
}
