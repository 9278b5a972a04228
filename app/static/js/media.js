/** Sounds and pictures of the service: fetched with the key, so they come as blobs, and only when somebody wants them. */
import { ask, askBlob } from "./api.js";
import { html, useEffect, useRef, useState } from "./lib.js";
import { Trouble } from "./parts.js";
import { Spectrogram } from "./spectrogram.js";

const AHEAD = "200px"; // so far below the window pictures are fetched already

/** Returns the address of what an item is. */
export function itemPath(dataset, item) {
  return `/datasets/${encodeURIComponent(dataset)}/items/${encodeURIComponent(item)}`;
}

/** The blob at `path` as an address of this page's, null until it is there: `{url, error}`; given back when the component goes. */
function useBlobUrl(path) {
  const [state, setState] = useState({ path, url: null, error: null });
  useEffect(() => {
    if (!path) return undefined;
    let url = null;
    let gone = false;
    const fetched = async () => {
      try {
        const blob = await askBlob(path);
        if (gone) return;
        url = URL.createObjectURL(blob);
        setState({ path, url, error: null });
      } catch (error) {
        if (!gone) setState({ path, url: null, error });
      }
    };
    fetched();
    return () => {
      gone = true;
      if (url) URL.revokeObjectURL(url);
    };
  }, [path]);
  return state.path === path ? state : { url: null, error: null };
}

/** A picture of a dataset, fetched when it comes into view. `label` says what it shows. */
export function Thumb({ dataset, item, label }) {
  const frame = useRef(null);
  const [near, setNear] = useState(false);
  const { url, error } = useBlobUrl(near ? `${itemPath(dataset, item)}/content` : null);
  useEffect(() => {
    const watcher = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && setNear(true), { rootMargin: AHEAD });
    watcher.observe(frame.current);
    return () => watcher.disconnect();
  }, []);
  return html`<span class="thumb" ref=${frame}>
    ${url && html`<img src=${url} alt=${label} />`}${error && html`<span class="note">${error.message}</span>`}
  </span>`;
}

/** A button that becomes a player. `label` says what is heard. */
export function Listen({ dataset, item, label }) {
  const [asked, setAsked] = useState(false);
  const { url, error } = useBlobUrl(asked ? `${itemPath(dataset, item)}/content` : null);
  if (error) return html`<${Trouble} problem=${error} />`;
  if (url) return html`<audio controls autoplay src=${url} aria-label=${label}></audio>`;
  return html`<button type="button" aria-label=${`Play ${label}`} aria-busy=${asked} onClick=${() => setAsked(true)}>Play</button>`;
}

/** The spectrogram of an item, fetched at once. */
export function ItemPicture({ dataset, item, label }) {
  const [state, setState] = useState({ data: null, error: null });
  useEffect(() => {
    const control = new AbortController();
    ask(`${itemPath(dataset, item)}/spectrogram`, { signal: control.signal }).then(
      (data) => setState({ data, error: null }),
      (error) => !control.signal.aborted && setState({ data: null, error }),
    );
    return () => control.abort();
  }, [dataset, item]);
  if (state.error) return html`<${Trouble} problem=${state.error} />`;
  return state.data ? html`<${Spectrogram} data=${state.data} label=${label} />` : html`<div class="spectrogram empty-picture"></div>`;
}
