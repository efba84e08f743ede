/** After a press, shows a button in the strip above the board for a moment. The button undoes the press. @module undo */

import { byId, button } from "./dom.js";
import { signedNumber } from "./facts.js";
import { t } from "./i18n.js";

/** How long the button stays. */
const OFFERED_MS = 6_000;
/** The most undo buttons at once. A person can undo an older press in the dialog of its order. */
const MOST = 3;

/** Shows the button that undoes a press. @param {import("./orders.js").Item} item @param {string} to the requested status @param {() => void} undo */
export function offerUndo(item, to, undo) {
  const place = byId("undo");
  place.querySelector(`[data-undo="${CSS.escape(item.key)}"]`)?.remove();
  const what = `undo.${item.kind}.${to}`;
  const label = t("undo.one", { id: signedNumber(item) });
  const offered = button("undo-one", "undo", label, () => (offered.remove(), undo()), { data: { undo: item.key }, "aria-label": `${label}: ${t(what)}` });
  place.prepend(offered);
  while (place.children.length > MOST) place.lastElementChild.remove();
  setTimeout(() => offered.remove(), OFFERED_MS);
}
