/** The bar of stores: how many orders wait in each store, the state of its connection, and which store is selected. @module storebar */

import { byId, button, h } from "./dom.js";
import { t } from "./i18n.js";
import { isSeveral, live, storeName } from "./connection.js";
import { unanswered } from "./orders.js";

// Hidden until the first call of `showStoreBar`: an empty bar would move the board by its margin for a moment.
const bar = h("div", { id: "store-bar", class: "store-bar", role: "group", hidden: true });
byId("main").before(bar);
let shown = "";

/** Shows the bar, if the page has several stores. */
export function showStoreBar() {
  bar.hidden = !isSeveral();
  if (bar.hidden) return;
  // The history shows one store, so the bar marks that store while the history is open.
  const isOfOne = document.body.dataset.view === "history";
  const chosen = isOfOne ? live.opened.store : live.shown;
  const all = isOfOne ? [] : [{ store: "", name: t("stores.all"), line: "live", n: 0 }];
  const counts = unanswered();
  const chips = [...all, ...[...live.stores.values()].map(({ store, connection }) => ({ store, name: storeName(store), line: connection.state.name, n: counts.filter((item) => item.store === store).length }))];
  const shows = JSON.stringify([chips, chosen]);
  if (shows === shown) return;
  shown = shows;
  const focused = /** @type {HTMLElement} */ (document.activeElement)?.dataset.storeOf;
  bar.setAttribute("aria-label", t("stores.label"));
  bar.replaceChildren(...chips.map(chip));
  for (const one of bar.children) {
    if (/** @type {HTMLElement} */ (one).dataset.storeOf === chosen) one.setAttribute("aria-pressed", "true");
    if (/** @type {HTMLElement} */ (one).dataset.storeOf === focused) /** @type {HTMLElement} */ (one).focus();
  }
}

/** The button of a store. @param {{store: string, name: string, line: string, n: number}} one line: the state of the connection; n: how many orders wait */
function chip({ store, name, line, n }) {
  const made = button("quiet", null, name, () => look(store), { data: { storeOf: store, line }, "aria-pressed": "false" });
  if (n) made.append(h("b", { class: "badge", text: String(n) }));
  return made;
}

/** Selects a store. @param {string} store "" for all stores */
function look(store) {
  live.shown = store;
  document.dispatchEvent(new Event("vestnik:look"));
}
