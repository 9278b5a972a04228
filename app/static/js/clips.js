/** Clips that were recorded here. They are kept outside the views, so that looking at another view loses none. */
import { wavOf } from "./wav.js";
import { zipOf } from "./zip.js";

const clips = []; // {id, label, speaker, seconds, silent, wav: Blob}
let nextId = 1;

addEventListener("beforeunload", (event) => {
  if (clips.length) event.preventDefault(); // the browser asks whether they may be lost
});

/** The clips, oldest first. */
export function keptClips() {
  return [...clips];
}

/** Keeps a clip: samples as wav.js has them. Returns it. */
export function keepClip({ label, speaker, samples, rate, silent }) {
  const clip = { id: nextId, label, speaker, silent, seconds: samples.length / rate, wav: wavOf(samples, rate) };
  nextId += 1;
  clips.push(clip);
  return clip;
}

/** Forgets the clip with this id. */
export function dropClip(id) {
  const at = clips.findIndex((clip) => clip.id === id);
  if (at >= 0) clips.splice(at, 1);
}

/** Forgets all. */
export function dropAllClips() {
  clips.length = 0;
}

/** Returns a Blob: the clips as an archive with metadata.csv, where a label can be any text. */
export function archiveOfClips(list) {
  const withSpeakers = list.some((clip) => clip.speaker);
  const stamp = Date.now().toString(36); // names must not meet those of the dataset that is extended
  const files = list.map((clip, index) => ({ name: `clips/${stamp}-${String(index + 1).padStart(4, "0")}.wav`, data: clip.wav, clip }));
  const head = withSpeakers ? ["file_name", "label", "speaker"] : ["file_name", "label"];
  const rows = files.map(({ name, clip }) => (withSpeakers ? [name, clip.label, clip.speaker || "unnamed"] : [name, clip.label]));
  const table = [head, ...rows].map((row) => row.map(quoted).join(",")).join("\r\n");
  return zipOf([{ name: "metadata.csv", data: new Blob([`${table}\r\n`]) }, ...files]);
}

function quoted(text) {
  return `"${text.replaceAll('"', '""')}"`; // RFC 4180
}
