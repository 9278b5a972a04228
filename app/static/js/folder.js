/** Files that were dropped or chosen: an archive as it is, a folder as a zip. */
import { zipOf } from "./zip.js";

const ARCHIVE = /\.(zip|tar|tar\.gz|tgz)$/i;
const HIDDEN = /(^|\/)(\.|__MACOSX\/|Thumbs\.db$)/; // what systems put into folders by themselves

/** Whether the service takes the file as it is. */
function isArchive(file) {
  return ARCHIVE.test(file.name);
}

/**
 * Reads a drop; returns {files, folder}: a list of {name, data}, and the folder that all lay in, or "". Call it in the event itself:
 * later the drop is empty.
 */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = await Promise.all(entries.map((entry) => walk(entry, "")));
  return withoutCommonFolder(found.flat());
}

/** The same of what was chosen in a dialog. */
export function chosenFiles(list) {
  return withoutCommonFolder([...list].map((file) => ({ name: file.webkitRelativePath || file.name, data: file })));
}

/** Returns {file, name}: the archive to upload and what to call the dataset. Throws RangeError where nothing was chosen. */
export async function archiveOf(files, folderName, onProgress) {
  if (files.length === 1 && isArchive(files[0].data)) {
    const { data } = files[0];
    return { file: data, name: data.name.replace(ARCHIVE, "") };
  }
  const kept = files.filter(({ name }) => !HIDDEN.test(name));
  if (!kept.length) throw new RangeError("There is no file in it.");
  return { file: await zipOf(kept, onProgress), name: folderName || "recordings" };
}

/** Returns the name of the folder that all files lie in, or "". */
function commonFolder(names) {
  const first = names[0]?.split("/")[0] ?? "";
  return names.length && names.every((name) => name.startsWith(`${first}/`)) ? first : "";
}

/** Returns {files, folder}: the outermost folder is no label where labels lie below it. */
function withoutCommonFolder(files) {
  const folder = commonFolder(files.map(({ name }) => name));
  const deep = files.some(({ name }) => name.split("/").length > 2 || /^[^/]+\/metadata\.(csv|jsonl)$/.test(name));
  const kept = folder && deep ? files.map(({ name, data }) => ({ name: name.slice(folder.length + 1), data })) : files;
  return { files: kept, folder };
}

async function walk(entry, path) {
  if (entry.isFile) {
    const data = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ name: path + entry.name, data }];
  }
  const reader = entry.createReader();
  const inside = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
    if (!some.length) break;
    inside.push(...some);
  }
  return (await Promise.all(inside.map((child) => walk(child, `${path}${entry.name}/`)))).flat();
}
