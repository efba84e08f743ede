/** Asks a person how long the store pauses. @module pausedialog */

import { byId, button, h } from "./dom.js";
import { t } from "./i18n.js";
import { chooseStore } from "./storedialog.js";
import { about } from "./connection.js";
import { beginPause } from "./pause.js";

/** The durations that a person can choose, minutes. */
const MINUTES = [15, 30, 60];

export async function askForPause() {
  const store = await chooseStore(t("pause.open"));
  if (!store) return;
  const dialog = byId("ask");
  const begin = async (span) => {
    if (await beginPause(store, span)) dialog.close();
  };
  const spans = MINUTES.map((n) => button("quiet", null, t("order.minutes", { n }), () => begin({ minutes: n }), { data: { pause: n } }));
  dialog.onclose = null;
  dialog.replaceChildren(
    h("h2", { id: "ask-title", text: about(store, t("pause.title")) }),
    h("p", { text: t("pause.words") }),
    h("div", { class: "pauses" }, ...spans, button("quiet", null, t("pause.tomorrow"), () => begin({ until: "tomorrow" }), { data: { pause: "tomorrow" } })),
    h("div", { class: "card-actions" }, button("quiet", null, t("order.back"), () => dialog.close())),
  );
  dialog.showModal();
  dialog.querySelector("[data-pause]").focus();
}
