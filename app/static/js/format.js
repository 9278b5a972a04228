/** Numbers, times and sizes as people read them. */

const MISSING = "–";

/** 0.873 → "87.3 %". */
export function percent(share, digits = 1) {
  return share == null ? MISSING : `${(share * 100).toFixed(digits)} %`;
}

/** 0.041 → "+4.1": percentage points with their sign. */
export function points(share) {
  return share == null ? MISSING : `${share > 0 ? "+" : ""}${(share * 100).toFixed(1)}`;
}

/** Seconds → "0.6 s", "4 min 5 s", "2 h 3 min". */
export function duration(seconds) {
  if (seconds == null) return MISSING;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Bytes → "1.4 MB". */
export function bytes(count) {
  if (count == null) return MISSING;
  const units = ["B", "kB", "MB", "GB", "TB"];
  const place = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), units.length - 1);
  return `${(count / 1000 ** place).toFixed(place ? 1 : 0)} ${units[place]}`;
}

/** 885452 → "885,452". */
export function count(number) {
  return number == null ? MISSING : number.toLocaleString("en");
}

/** RFC 3339 → the reader's own date and time. */
export function when(time) {
  return time == null ? MISSING : new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

/** RFC 3339 → the time of day, to the second. */
export function clock(time) {
  return new Date(time).toLocaleTimeString([]);
}

/** 0.00123456 → "0.00123": as many digits as mean something. */
export function number(value, digits = 3) {
  return value == null ? MISSING : String(Number(value.toPrecision(digits)));
}

/** label_conflict → "label conflict". */
export function words(name) {
  return name.replaceAll("_", " ");
}

/** noise_20_db → "noise 20 dB": a way in which a recording can be worse. */
export function condition(name) {
  return words(name).replace(/ db$/, " dB");
}
