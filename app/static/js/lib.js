/** What every module needs of Preact, by one address: templates as tagged strings, which escape all that they are given. */
import { Component, h } from "../vendor/preact.mjs";
import htm from "../vendor/htm.mjs";

export { Component, Fragment, render } from "../vendor/preact.mjs";
export { useCallback, useEffect, useMemo, useRef, useState } from "../vendor/hooks.mjs";

/** Makes elements from a tagged template. Values become text, never markup. */
export const html = htm.bind(h);

/** The same component, drawn anew only when one of its properties is another: for the rows of long lists. */
export function memo(View) {
  return class extends Component {
    shouldComponentUpdate(next) {
      return Object.keys(next).some((name) => next[name] !== this.props[name]);
    }

    render(props) {
      return h(View, props);
    }
  };
}
