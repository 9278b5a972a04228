/** The frame of the page: where one can go, the key, and the view that the address asks for. */
import { ask, key, keepKey, onLocked } from "./api.js";
import { html, render, useEffect, useRef, useState } from "./lib.js";
import { Section, To, Trouble, View } from "./parts.js";
import { useRoute } from "./route.js";
import { CompareView } from "./views/compare.js";
import { DatasetView } from "./views/dataset.js";
import { DatasetsView } from "./views/datasets.js";
import { HomeView } from "./views/home.js";
import { JobView } from "./views/job.js";
import { JobsView } from "./views/jobs.js";
import { ModelView } from "./views/model.js";
import { ModelsView } from "./views/models.js";
import { NewJobView } from "./views/new_job.js";
import { RecordView } from "./views/record.js";
import { TryView } from "./views/try.js";

const PLACES = [
  ["datasets", "Datasets"],
  ["record", "Record"],
  ["jobs", "Jobs"],
  ["models", "Models"],
  ["try", "Try it"],
];
const PLACE_OF = { compare: "models" }; // views that stand below another place
const LISTS = { datasets: DatasetsView, record: RecordView, jobs: JobsView, models: ModelsView, try: TryView };
const THINGS = { datasets: DatasetView, jobs: JobView, models: ModelView };

function viewOf({ parts, query }) {
  const [place, id, ...rest] = parts;
  if (!place) return html`<${HomeView} />`;
  if (place === "jobs" && id === "new" && !rest.length) return html`<${NewJobView} key=${query.toString()} query=${query} />`;
  if (place === "compare" && rest.length === 1) return html`<${CompareView} key=${parts.join("/")} ids=${[id, rest[0]]} query=${query} />`;
  const Found = rest.length ? null : id ? THINGS[place] : LISTS[place];
  return Found ? html`<${Found} key=${parts.join("/")} id=${id} query=${query} />` : html`<${Lost} />`;
}

function Lost() {
  return html`<${View} title="There is no such view">
    <p>The address may be mistyped. <${To} parts=${[]}>Go to the start<//>.</p>
  <//>`;
}

function Lock({ onKey }) {
  const [problem, setProblem] = useState(null);
  const field = useRef(null);
  const submit = async (event) => {
    event.preventDefault();
    keepKey(field.current.value.trim());
    try {
      await ask("/limits");
      onKey();
    } catch (refused) {
      keepKey("");
      setProblem(refused);
    }
  };
  return html`<${View} title="This service asks for a key">
    <${Section} title="Key">
      <form class="stack" onSubmit=${submit}>
        <label for="key">The key that the operator of this service gave you</label>
        <input id="key" ref=${field} type="password" autocomplete="off" required />
        <p class="note">It stays in this tab and is forgotten when you close it.</p>
        <button class="primary">Go on</button>
        <${Trouble} problem=${problem} />
      </form>
    <//>
  <//>`;
}

function Shell() {
  const route = useRoute();
  const [locked, setLocked] = useState(false);
  const main = useRef(null);
  useEffect(() => onLocked(() => setLocked(true)), []);
  const forget = () => {
    keepKey("");
    setLocked(true);
  };
  const here = route.parts[0];
  // A link to #main would be another address: the address behind # is the view.
  const skip = () => main.current.focus();
  return html`
    <button type="button" class="skip" onClick=${skip}>Skip to the content</button>
    <header class="top">
      <${To} parts=${[]} className="brand">Synesthesia<//>
      <nav aria-label="Views">
        <ul>
          ${PLACES.map(([place, name]) => html`<li>
            <${To} parts=${[place]} aria-current=${place === (PLACE_OF[here] ?? here) ? "page" : undefined}>${name}<//>
          </li>`)}
        </ul>
      </nav>
      <div class="top-end">
        <a href="/docs">API</a>
        ${key() && html`<button type="button" class="plain" onClick=${forget}>Forget the key</button>`}
      </div>
    </header>
    <main ref=${main} tabindex="-1">${locked ? html`<${Lock} onKey=${() => setLocked(false)} />` : viewOf(route)}</main>
  `;
}

render(html`<${Shell} />`, document.getElementById("page"));
