/** Addresses of the views: they stand behind the #, because the paths of this host are the API's. */
import { useEffect, useState } from "./lib.js";

/** Returns what the address asks for: `{parts: ["jobs", "job_…"], query: URLSearchParams}`. */
function readRoute(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a stray % in a pasted address
  }
}

/** Returns the address of a view; `query` members that are empty are left out. */
export function address(parts, query = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  return `#/${parts.map(encodeURIComponent).join("/")}${asked.size ? `?${asked}` : ""}`;
}

/** Goes to a view; `replace` leaves no step in the browser's history. */
export function go(parts, query, { replace = false } = {}) {
  const target = address(parts, query);
  if (replace) {
    history.replaceState(null, "", target);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = target;
  }
}

/** The route as it stands; the component is drawn anew when it changes. */
export function useRoute() {
  const [route, setRoute] = useState(readRoute);
  useEffect(() => {
    const follow = () => setRoute(readRoute());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return route;
}
