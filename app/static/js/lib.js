/** What every module needs of Preact, by one address: templates as tagged strings, which escape all that they are given. */
import { h } from "../vendor/preact.mjs";
import htm from "../vendor/htm.mjs";

export { Component, Fragment, render } from "../vendor/preact.mjs";
export { useCallback, useEffect, useMemo, useRef, useState } from "../vendor/hooks.mjs";

/** Makes elements from a tagged template. Values become text, never markup. */
export const html = htm.bind(h);
