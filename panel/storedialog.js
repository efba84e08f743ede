/** Asks a person to choose a store before an action, if the page has several stores. @module storedialog */

import { byId, button, h } from "./dom.js";
import { t } from "./i18n.js";
import { isSeveral, live, storeName } from "./connection.js";

/**
 * The store that is selected in the panel. If all stores are selected, a person chooses one of them.
 * @param {string} title the name of the action
 * @returns {Promise<string|null>} null if the person cancels
 */
export async function chooseStore(title) {
  if (!isSeveral() || live.shown) return live.opened?.store ?? null;
  const dialog = byId("ask");
  return new Promise((resolve) => {
    const answer = (store) => {
      dialog.onclose = null;
      dialog.close();
      resolve(store);
    };
    dialog.onclose = () => resolve(null);
    const row = (store) => button("quiet", null, storeName(store), () => answer(store), { data: { inStore: store } });
    dialog.replaceChildren(
      h("h2", { id: "ask-title", text: title }),
      h("p", { text: t("stores.which") }),
      h("div", { class: "pauses" }, ...[...live.stores.keys()].map(row)),
      h("div", { class: "card-actions" }, button("quiet", null, t("order.back"), () => answer(null))),
    );
    dialog.showModal();
    dialog.querySelector("[data-in-store]").focus();
  });
}
