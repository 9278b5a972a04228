/** Answers of the service as state of a component. */
import { ask } from "./api.js";
import { useCallback, useEffect, useState } from "./lib.js";

const RETRY_MILLISECONDS = 3000;

/**
 * The answer at `path` (null: none is asked for), as `{data, error, reload}`.
 * `pause(data)` tells after how many milliseconds to look again; null: not again.
 */
export function useResource(path, pause = () => null) {
  const [state, setState] = useState({ path, data: null, error: null });
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (!path) return undefined;
    const control = new AbortController();
    let timer;
    const look = async () => {
      let next;
      try {
        const data = await ask(path, { signal: control.signal });
        setState({ path, data, error: null });
        next = pause(data);
      } catch (error) {
        if (control.signal.aborted) return;
        setState((old) => ({ path, data: old.path === path ? old.data : null, error }));
        next = error.status === 0 || error.status >= 500 ? RETRY_MILLISECONDS : null;
      }
      if (next && !control.signal.aborted) timer = setTimeout(look, next);
    };
    look();
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, [path, round]);
  const reload = useCallback(() => setRound((number) => number + 1), []);
  const current = state.path === path ? state : { data: null, error: null };
  return { data: current.data, error: current.error, reload };
}

/**
 * A list that is read page by page, as `{rows, more, error, loading}`; `more` is null after the last page.
 * `pause(rows)` as above: the first page is looked at again.
 */
export function usePages(path, { limit = 50, pause = () => null } = {}) {
  const join = path.includes("?") ? "&" : "?";
  const first = useResource(`${path}${join}limit=${limit}`, (page) => pause(page.data));
  const [later, setLater] = useState({ path, rows: [], last: null, error: null });
  const mine = later.path === path ? later : { rows: [], last: null, error: null };
  const fresh = first.data?.data ?? [];
  const seen = new Set(fresh.map((row) => row.id));
  const rows = [...fresh, ...mine.rows.filter((row) => !seen.has(row.id))];
  const last = mine.last ?? first.data;
  const more = async () => {
    try {
      const page = await ask(`${path}${join}limit=${limit}&after=${encodeURIComponent(last.last_id)}`);
      setLater({ path, rows: [...mine.rows, ...page.data], last: page, error: null });
    } catch (error) {
      setLater({ ...mine, path, error });
    }
  };
  const error = mine.error ?? first.error;
  return { rows, more: last?.has_more ? more : null, error, loading: !first.data && !first.error, reload: first.reload };
}
