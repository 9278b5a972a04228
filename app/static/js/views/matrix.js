/** The confusion matrix: rows are what was said, columns what was heard. One cell at a time is in the tab order; arrows move. */
import { count, percent } from "../format.js";
import { html, useMemo, useState } from "../lib.js";
import { Section, Word } from "../parts.js";

const DEEP = 0.5; // share above which a cell is dark enough for light ink

/** `clips(said, heard)` makes what is shown of a chosen cell; null: nothing can be. */
export function Matrix({ matrix, clips }) {
  const { labels, counts } = matrix;
  const [at, setAt] = useState([0, 0]);
  const [chosen, setChosen] = useState(null);
  const sums = useMemo(() => counts.map((row) => row.reduce((sum, value) => sum + value, 0)), [counts]);
  const move = (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = at.map((place, axis) => Math.min(labels.length - 1, Math.max(0, place + step[axis])));
    setAt(next);
    event.currentTarget.querySelector(`[data-at="${next.join(" ")}"]`).focus();
  };
  // The cells are many: they are drawn anew only when the numbers change, not when the focus moves.
  const body = useMemo(() => counts.map((row, said) => html`<tr key=${said}>
    <th scope="row"><${Word}>${labels[said]}<//></th>
    ${row.map((value, heard) => html`
      <${Cell} key=${heard} value=${value} share=${sums[said] ? value / sums[said] : 0} place=${[said, heard]} onFocus=${setAt} onChoose=${setChosen} />`)}
  </tr>`), [counts]);
  const [said, heard] = at;
  return html`<${Section} title="What is taken for what">
    <p id="matrix-note" class="note">Rows are what was said, columns what was heard; a share is of its row.${clips && " Choose a cell to hear its clips."}</p>
    <div class="scroll matrix-frame" onKeyDown=${move}>
      <table class="matrix" aria-describedby="matrix-note">
        <caption class="unseen">Confusion matrix</caption>
        <thead><tr>
          <td class="corner">said \\ heard</td>
          ${labels.map((label) => html`<th key=${label} scope="col"><${Word}>${label}<//></th>`)}
        </tr></thead>
        <tbody>${body}</tbody>
      </table>
    </div>
    <p class="told" aria-live="polite">
      “<${Word}>${labels[said]}<//>” was heard as “<${Word}>${labels[heard]}<//>”: ${count(counts[said][heard])} of ${count(sums[said])},
      ${" "}${percent(sums[said] ? counts[said][heard] / sums[said] : null)}</p>
    ${clips && chosen && counts[chosen[0]][chosen[1]] > 0 && clips(labels[chosen[0]], labels[chosen[1]])}
  <//>`;
}

function Cell({ value, share, place, onFocus, onChoose }) {
  const kind = place[0] === place[1] ? "right" : "wrong";
  const first = place[0] === 0 && place[1] === 0;
  const point = () => onFocus(place);
  const choose = () => {
    onFocus(place); // not every browser gives the focus to a button that is clicked
    onChoose(place);
  };
  return html`<td class=${`${kind} ${share > DEEP ? "deep" : ""}`} style=${{ "--share": share }}>
    <button type="button" class="cell" data-at=${place.join(" ")} tabindex=${first ? 0 : -1} onFocus=${point} onClick=${choose}>${value || "·"}</button>
  </td>`;
}
