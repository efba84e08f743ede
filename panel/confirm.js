/** Asks a person to confirm an action that is hard to undo. @module confirm */

import { byId, button, h } from "./dom.js";

/**
 * @param {{title: string, words: string, yes: string, no: string}} question
 * @returns {Promise<boolean>} true if the person has confirmed
 */
export function ask({ title, words, yes, no }) {
  const dialog = byId("ask");
  return new Promise((resolve) => {
    const answer = (said) => {
      dialog.onclose = null;
      dialog.close();
      resolve(said);
    };
    dialog.onclose = () => resolve(false);
    const back = button("quiet", null, no, () => answer(false));
    dialog.replaceChildren(
      h("h2", { id: "ask-title", text: title }),
      h("p", { text: words }),
      h("div", { class: "card-actions" }, back, button("no no-full ask-yes", null, yes, () => answer(true))),
    );
    dialog.showModal();
    back.focus();
  });
}
