/** Asks which stations of the kitchen a screen is for. @module stationing */

import { at, button, h } from "./dom.js";
import { say } from "./i18n.js";
import { live } from "./live.js";
import { closed, items } from "./orders.js";
import { change, settings } from "./settings.js";
import { lookAtAll } from "./stations.js";

/** Orders whose dishes' stations are offered, beside those on the board. */
const ORDERS = 200;

/** @type {Set<string>} */
const known = new Set();

export function askForStations() {
  const dialog = at("ask");
  dialog.onclose = null;
  dialog.replaceChildren(
    h("h2", { id: "ask-title", text: say("stations.title") }),
    h("p", { text: say("stations.words") }),
    h("div", { id: "stations-list", class: "rings", role: "group", "aria-labelledby": "ask-title" }),
    h("div", { class: "card-actions" }, button("quiet stations-all", null, say("stations.all"), () => choose([])), button("yes", null, say("stations.done"), () => dialog.close())),
  );
  learn([...items.values(), ...closed.values()]);
  dialog.showModal();
  dialog.querySelector("[data-station]")?.focus();
  learnMore();
}

/** @param {{items?: import("./orders.js").Line[]}[]} orders */
function learn(orders) {
  settings.stations.forEach((name) => known.add(name));
  orders.flatMap((order) => order.items ?? []).forEach(({ category }) => category && known.add(category));
  showStations();
}

/** Those of the last orders, which may be over. */
async function learnMore() {
  const list = await live.connection?.api.list("orders", { status: "all", limit: ORDERS }).catch(() => null);
  if (list && document.getElementById("stations-list")) learn(list.orders);
}

function showStations() {
  const focused = document.activeElement?.dataset?.station;
  const names = [...known].sort((one, other) => one.localeCompare(other));
  const row = (name) => button("quiet", null, name, () => toggle(name), { data: { station: name }, "aria-pressed": String(settings.stations.includes(name)) });
  const place = at("stations-list");
  place.replaceChildren(...names.map(row));
  [...place.children].find((one) => one.dataset.station === focused)?.focus();
}

/** @param {string} name */
const toggle = (name) => choose(settings.stations.includes(name) ? settings.stations.filter((other) => other !== name) : [...settings.stations, name]);

/** @param {string[]} stations none: all of them */
function choose(stations) {
  change({ stations });
  lookAtAll(false);
  showStations();
  document.dispatchEvent(new Event("vestnik:stations"));
}
