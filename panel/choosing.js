/** Asks which of several stores is meant, before something is done in one of them. @module choosing */

import { byId, button, h } from "./dom.js";
import { t } from "./i18n.js";
import { isSeveral, live, storeName } from "./connection.js";

/** The store that is looked at; where that is all of them, the one that a person names. @param {string} title what is done there @returns {Promise<string|null>} */
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
