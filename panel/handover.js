/** Shows a QR code that opens this shift on another device. @module handover */

import { byId, button, h } from "./dom.js";
import { t } from "./i18n.js";
import { qr } from "./qr.js";
import { keptKey } from "./settings.js";

const SVG = "http://www.w3.org/2000/svg";
/** The white border around the code, in modules. */
const EDGE = 4;

/** Shows the QR code. Its link has the key after the `#`, because a browser sends that part of a link to no server. */
export function showHandover() {
  const key = keptKey();
  if (!key) return;
  const link = `${location.origin}/#${new URLSearchParams({ store: key.store, token: key.token })}`;
  const dialog = byId("ask");
  dialog.onclose = () => dialog.replaceChildren();
  dialog.replaceChildren(
    h("h2", { id: "ask-title", text: t("handover.title") }),
    h("p", { text: t("handover.words") }),
    picture(qr(link)) ?? h("p", { text: t("handover.tooLong") }),
    h("div", { class: "card-actions" }, button("quiet", null, t("order.close"), () => dialog.close())),
  );
  dialog.showModal();
}

/** Draws the modules of a QR code; null if there is no code. @param {boolean[][]|null} rows true: a dark module */
function picture(rows) {
  if (!rows) return null;
  const svg = document.createElementNS(SVG, "svg");
  const side = rows.length + 2 * EDGE;
  svg.setAttribute("viewBox", `0 0 ${side} ${side}`);
  svg.setAttribute("class", "qr");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", t("handover.title"));
  svg.setAttribute("shape-rendering", "crispEdges");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", rows.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x + EDGE} ${y + EDGE}h1v1h-1z`] : []))).join(""));
  svg.append(path);
  return svg;
}
