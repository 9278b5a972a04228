/** Zip files by the store method: sounds are as small as they get, and a browser has no packer for this format. */

const TABLE = new Uint32Array(256).map((_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
const UTF8_NAMES = 0x0800; // general purpose bit 11
const VERSION = 20; // 2.0, the least that every reader knows
const NEW_YEAR_1980 = 0x0021; // the format's first day: the same clips make the same archive
const MOST_FILES = 0xffff;
const MOST_BYTES = 0xffffffff;

/** CRC-32 of a Uint8Array, as ISO 3309 has it. */
function crc32(data) {
  let value = 0xffffffff;
  for (let index = 0; index < data.length; index += 1) value = TABLE[(value ^ data[index]) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/**
 * Returns a Blob: a zip of `files`, a list of {name, data} where data is a Blob. Files are read one by one, so that a large folder does
 * not fill the memory. Throws RangeError for what needs zip64. `onProgress(share)` is told how many are in.
 */
export async function zipOf(files, onProgress = () => {}) {
  if (files.length > MOST_FILES) throw new RangeError(`a zip of this page holds ${MOST_FILES} files at most; pack it yourself`);
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [index, { name, data }] of files.entries()) {
    const entry = { name: new TextEncoder().encode(name), crc: crc32(new Uint8Array(await data.arrayBuffer())), size: data.size, offset };
    const head = localHeader(entry);
    parts.push(head, data);
    directory.push(centralHeader(entry));
    offset += head.length + data.size;
    if (offset > MOST_BYTES) throw new RangeError("a zip of this page holds 4 GB at most; pack it yourself");
    onProgress((index + 1) / files.length);
  }
  const size = directory.reduce((sum, header) => sum + header.length, 0);
  return new Blob([...parts, ...directory, endRecord(files.length, size, offset)], { type: "application/zip" });
}

function localHeader({ name, crc, size }) {
  return bytesOf(30, name, (view) => {
    view.setUint32(0, 0x04034b50, true);
    view.setUint16(4, VERSION, true);
    common(view, 6, name, crc, size);
  });
}

function centralHeader({ name, crc, size, offset }) {
  return bytesOf(46, name, (view) => {
    view.setUint32(0, 0x02014b50, true);
    view.setUint16(4, VERSION, true);
    view.setUint16(6, VERSION, true);
    common(view, 8, name, crc, size);
    view.setUint32(42, offset, true);
  });
}

/** The fields that both headers have, in the same order: flags, method (0: stored), time, date, checksum, sizes, length of the name. */
function common(view, at, name, crc, size) {
  view.setUint16(at, UTF8_NAMES, true);
  view.setUint16(at + 6, NEW_YEAR_1980, true);
  view.setUint32(at + 8, crc, true);
  view.setUint32(at + 12, size, true);
  view.setUint32(at + 16, size, true);
  view.setUint16(at + 20, name.length, true);
}

function endRecord(count, size, offset) {
  return bytesOf(22, new Uint8Array(0), (view) => {
    view.setUint32(0, 0x06054b50, true);
    view.setUint16(8, count, true);
    view.setUint16(10, count, true);
    view.setUint32(12, size, true);
    view.setUint32(16, offset, true);
  });
}

function bytesOf(length, name, fill) {
  const bytes = new Uint8Array(length + name.length);
  fill(new DataView(bytes.buffer));
  bytes.set(name, length);
  return bytes;
}
