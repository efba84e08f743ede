/** Says that a screen is that of some stations, and how many orders are not on it: nobody looks for an order in vain. @module stationbar */

import { at, button, h, icon } from "./dom.js";
import { say } from "./i18n.js";
import { items } from "./orders.js";
import { settings } from "./settings.js";
import { isLookingAtAll, isOfStations, isOwn, lookAtAll } from "./stations.js";

let shown = "";
/** Whether the shop says of any dish where it is made. */
let hasStations = false;

/** Shows it, where there is something to be said. */
export function showStationBar() {
  hasStations ||= isOfStations() || [...items.values()].some((item) => item.items?.some(({ category }) => category));
  if (at("stations-open").hidden === hasStations) at("stations-open").hidden = !hasStations;
  const others = isOfStations() ? [...items.values()].filter((item) => !isOwn(item)).length : 0;
  const shows = isOfStations() ? [document.documentElement.lang, settings.stations, others, isLookingAtAll()].join() : "";
  if (shows === shown) return;
  shown = shows;
  const place = at("station-bar");
  place.hidden = !isOfStations();
  if (place.hidden) return place.replaceChildren();
  const words = isLookingAtAll() ? say("stations.looking") : others ? say("stations.hidden", { n: others }) : say("stations.none");
  const toggle = button("quiet", null, say(isLookingAtAll() ? "stations.showOwn" : "stations.showAll"), look, { id: "stations-look", "aria-pressed": String(isLookingAtAll()) });
  const hadFocus = document.activeElement?.id === "stations-look";
  place.replaceChildren(icon("hat"), h("p", {}, h("strong", { text: settings.stations.join(", ") }), h("span", { text: words })), others || isLookingAtAll() ? toggle : "");
  if (hadFocus) document.getElementById("stations-look")?.focus();
}

function look() {
  lookAtAll();
  document.dispatchEvent(new Event("vestnik:look"));
}
