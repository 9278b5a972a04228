/** Talking to the service: the key, problems, uploads that tell how far they are, files as blobs. */

const KEPT = "synesthesia.key"; // sessionStorage: gone with the tab, and no other site or tab reads it
const lockListeners = new Set();

/** The key to send, or "" where none was given. */
export function key() {
  return sessionStorage.getItem(KEPT) ?? "";
}

/** Keeps the key for this tab; "" forgets it. */
export function keepKey(value) {
  if (value) sessionStorage.setItem(KEPT, value);
  else sessionStorage.removeItem(KEPT);
}

/** Calls `listener` whenever the service asks for a key; returns what ends that. */
export function onLocked(listener) {
  lockListeners.add(listener);
  return () => lockListeners.delete(listener);
}

/** What the service answered instead of what was asked (RFC 9457), or that it did not answer. */
export class Problem extends Error {
  constructor(status, body, retryAfter = null) {
    super(body.detail || body.title || `status ${status}`);
    this.status = status; // 0: no answer
    this.code = body.code ?? "";
    this.hint = body.hint ?? "";
    this.errors = body.errors ?? [];
    this.retryAfter = retryAfter; // seconds
  }
}

const UNREACHABLE = { detail: "The service does not answer.", hint: "Is it still running? The page goes on by itself once it answers." };

/** Asks the service; returns JSON. Throws Problem, and AbortError where `signal` says so. */
export async function ask(path, options = {}) {
  const response = await fetchAnswer(path, options);
  return response.status === 204 ? null : response.json();
}

/** Asks the service; returns the body as a Blob. */
export async function askBlob(path) {
  return (await fetchAnswer(path, { accept: "*/*" })).blob();
}

/** Sends `body` as JSON; a POST that creates is made once however often it is sent. */
export function send(method, path, body, { signal, once = false } = {}) {
  const headers = { "Content-Type": "application/json", ...(once ? { "Idempotency-Key": newKey() } : {}) };
  return ask(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
}

/** As fetch, with the key; throws Problem for what is no success. */
export async function fetchAnswer(path, { method = "GET", headers = {}, body, signal, accept = "application/json" } = {}) {
  let response;
  try {
    response = await fetch(path, { method, body, signal, headers: { Accept: accept, ...authorization(), ...headers } });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, UNREACHABLE);
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const text = await response.text();
  return problemFrom(response.status, text, response.headers.get("Retry-After"));
}

function problemFrom(status, text, retryAfter) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    body = { detail: `The service answered with status ${status}.` }; // a proxy's own page
  }
  if (status === 401) lockListeners.forEach((listener) => listener());
  return new Problem(status, body, retryAfter && Number(retryAfter));
}

function authorization() {
  return key() ? { Authorization: `Bearer ${key()}` } : {};
}

/**
 * Uploads a form by POST; returns JSON. `onProgress(share)` is told how much has gone out: fetch can't tell that yet.
 * Throws Problem.
 */
export function upload(path, fields, file, fileName, { onProgress = () => {}, signal } = {}) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) form.append(name, value);
  form.append("file", file, fileName);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Idempotency-Key", newKey());
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(new Problem(0, UNREACHABLE));
    request.onabort = () => reject(new DOMException("The upload was given up.", "AbortError"));
    request.onload = () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(problemFrom(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** Saves an answer as a file of the reader's: a plain link could not send the key. Throws Problem. */
export async function download(path, fileName) {
  const url = URL.createObjectURL(await askBlob(path));
  const link = Object.assign(document.createElement("a"), { href: url, download: fileName });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000); // the browser reads it after the click
}

function newKey() {
  // randomUUID is for https and this machine only; these numbers are everywhere.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
