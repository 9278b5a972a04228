/** Sounds as pictures: time to the right, pitch upward, loudness as light; on top, if it is known, which parts decided. */
import { percent, points } from "./format.js";
import { html, useEffect, useRef } from "./lib.js";
import { Table } from "./parts.js";

// From silence to the loudest; its lightness rises evenly, so that it reads without colours too, and it suits light and dark pages.
const RAMP = [[8, 8, 24], [60, 20, 100], [150, 40, 110], [235, 110, 70], [252, 240, 190]];
const SHADES = Array.from({ length: 256 }, (_, level) => shadeOf(level / 255));
const FAINT = 0.15; // of the largest loss: parts that are worth less are left unmarked
const LEAST_LOSS = 0.02; // two points: below it no part decided

function shadeOf(share) {
  const place = share * (RAMP.length - 1);
  const low = Math.min(RAMP.length - 2, Math.floor(place));
  return RAMP[low].map((value, channel) => Math.round(value + (RAMP[low + 1][channel] - value) * (place - low)));
}

/** `data` is a spectrogram as the service gives it, `occlusion` what each part of it is worth to the answer `answer`. */
export function Spectrogram({ data, label, occlusion, answer }) {
  const canvas = useRef(null);
  useEffect(() => draw(canvas.current, data), [data]);
  const seconds = data.duration_seconds.toFixed(2);
  const spoken = `Spectrogram of ${label}: ${seconds} s, up to ${data.sample_rate / 2000} kHz`;
  return html`<figure class="picture">
    <div class="spectrogram">
      <canvas ref=${canvas} width=${data.frames} height=${data.bands} role="img" aria-label=${spoken}></canvas>
      ${occlusion && html`<${Parts} occlusion=${occlusion} />`}
    </div>
    <div class="picture-scale note" aria-hidden="true"><span>0 s</span><span>${seconds} s</span></div>
    ${occlusion && html`<${Told} occlusion=${occlusion} answer=${answer} />`}
  </figure>`;
}

function draw(canvas, { bands, frames, levels }) {
  const bytes = Uint8Array.from(atob(levels), (letter) => letter.charCodeAt(0));
  const image = new ImageData(frames, bands);
  for (let at = 0; at < bytes.length; at += 1) {
    const row = bands - 1 - Math.floor(at / frames); // the lowest band is the lowest line
    image.data.set([...SHADES[bytes[at]], 255], 4 * (row * frames + (at % frames)));
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** A grid over the picture: the more a part is worth, the stronger its frame. */
function Parts({ occlusion }) {
  const most = Math.max(LEAST_LOSS, ...occlusion.losses.flat());
  const rows = [...occlusion.losses].reverse();
  return html`<div class="parts" aria-hidden="true" style=${{ "--columns": occlusion.losses[0].length, "--lines": rows.length }}>
    ${rows.flatMap((row, line) => row.map((loss, column) => {
      const share = loss / most;
      return html`<span key=${`${line} ${column}`} class=${share > FAINT ? "decided" : ""} style=${{ "--share": Math.max(0, share) }}></span>`;
    }))}
  </div>`;
}

function Told({ occlusion, answer }) {
  const { losses, seconds, hertz } = occlusion;
  const parts = losses.flatMap((row, band) => row.map((loss, place) => ({ loss, band, place })));
  const [first] = parts.sort((one, other) => other.loss - one.loss);
  const when = (place) => `${seconds[place].toFixed(2)} to ${seconds[place + 1].toFixed(2)} s`;
  const pitch = (band) => `${Math.round(hertz[band])} to ${Math.round(hertz[band + 1])} Hz`;
  if (first.loss < LEAST_LOSS) {
    return html`<p class="told">No single part decided: without any one of them “<bdi class="word">${answer}</bdi>” stays as probable.</p>`;
  }
  return html`<p class="told">Most of it is heard at ${when(first.place)} and ${pitch(first.band)}:
      without that, “<bdi class="word">${answer}</bdi>” is ${points(first.loss).replace("+", "")} points less probable.</p>
    <details><summary>The parts that decided</summary>
      <${Table} caption="What each part is worth" head=${["When", "Pitch", "Less probable without it by"]}>
        ${parts.slice(0, 8).filter((part) => part.loss > 0).map((part) => html`<tr key=${`${part.band} ${part.place}`}>
          <th scope="row">${when(part.place)}</th><td>${pitch(part.band)}</td><td class="number">${percent(part.loss)}</td>
        </tr>`)}
      <//>
    </details>`;
}
