/** Asks a person which stations of the kitchen this screen shows. @module stationdialog */

import { byId, button, h } from "./dom.js";
import { t } from "./i18n.js";
import { live } from "./connection.js";
import { closed, items } from "./orders.js";
import { change, settings } from "./settings.js";
import { lookAtAll } from "./stations.js";

/** The page searches this many recent orders for the names of stations, in addition to the orders on the board. */
const ORDERS = 200;

/** @type {Set<string>} */
const known = new Set();

export function askForStations() {
  const dialog = byId("ask");
  dialog.onclose = null;
  dialog.replaceChildren(
    h("h2", { id: "ask-title", text: t("stations.title") }),
    h("p", { text: t("stations.words") }),
    h("div", { id: "stations-list", class: "rings", role: "group", "aria-labelledby": "ask-title" }),
    h("div", { class: "card-actions" }, button("quiet stations-all", null, t("stations.all"), () => choose([])), button("yes", null, t("stations.done"), () => dialog.close())),
  );
  learn([...items.values(), ...closed.values()]);
  dialog.showModal();
  dialog.querySelector("[data-station]")?.focus();
  learnMore();
}

/** Adds the stations that these orders name to the list. @param {{items?: import("./orders.js").Line[]}[]} orders */
function learn(orders) {
  settings.stations.forEach((name) => known.add(name));
  orders.flatMap((order) => order.items ?? []).forEach(({ category }) => category && known.add(category));
  showStations();
}

/** Adds the stations that recent orders name. These orders may be closed. */
async function learnMore() {
  const list = await live.connection?.api.list("orders", { status: "all", limit: ORDERS }).catch(() => null);
  if (list && document.getElementById("stations-list")) learn(list.orders);
}

function showStations() {
  const focused = document.activeElement?.dataset?.station;
  const names = [...known].sort((one, other) => one.localeCompare(other));
  const row = (name) => button("quiet", null, name, () => toggle(name), { data: { station: name }, "aria-pressed": String(settings.stations.includes(name)) });
  const place = byId("stations-list");
  place.replaceChildren(...names.map(row));
  [...place.children].find((one) => one.dataset.station === focused)?.focus();
}

/** @param {string} name */
const toggle = (name) => choose(settings.stations.includes(name) ? settings.stations.filter((other) => other !== name) : [...settings.stations, name]);

/** @param {string[]} stations empty: all stations */
function choose(stations) {
  change({ stations });
  lookAtAll(false);
  showStations();
  document.dispatchEvent(new Event("vestnik:stations"));
}
