/** A bar that says which stations this screen shows, and how many orders of other stations it hides. @module stationbar */

import { byId, button, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { items } from "./orders.js";
import { settings } from "./settings.js";
import { isLookingAtAll, isOfStations, isOwn, lookAtAll } from "./stations.js";

let shown = "";
/** Whether any order has named a station for a dish. */
let hasStations = false;

/** Shows the bar, if the screen shows only some stations. */
export function showStationBar() {
  hasStations ||= isOfStations() || [...items.values()].some((item) => item.items?.some(({ category }) => category));
  if (byId("stations-open").hidden === hasStations) byId("stations-open").hidden = !hasStations;
  const others = isOfStations() ? [...items.values()].filter((item) => !isOwn(item)).length : 0;
  const shows = isOfStations() ? [document.documentElement.lang, settings.stations, others, isLookingAtAll()].join() : "";
  if (shows === shown) return;
  shown = shows;
  const place = byId("station-bar");
  place.hidden = !isOfStations();
  if (place.hidden) return place.replaceChildren();
  const words = isLookingAtAll() ? t("stations.looking") : others ? t("stations.hidden", { n: others }) : t("stations.none");
  const toggle = button("quiet", null, t(isLookingAtAll() ? "stations.showOwn" : "stations.showAll"), look, { id: "stations-look", "aria-pressed": String(isLookingAtAll()) });
  const hadFocus = document.activeElement?.id === "stations-look";
  place.replaceChildren(icon("hat"), h("p", {}, h("strong", { text: settings.stations.join(", ") }), h("span", { text: words })), others || isLookingAtAll() ? toggle : "");
  if (hadFocus) document.getElementById("stations-look")?.focus();
}

function look() {
  lookAtAll();
  document.dispatchEvent(new Event("vestnik:look"));
}
