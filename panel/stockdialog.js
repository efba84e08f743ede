/** The dialog of the stop list. A person taps an item to put it on the list for the chosen time, and taps a button to take it off. @module stockdialog */

import { byId, button, h } from "./dom.js";
import { dayAndTime, t } from "./i18n.js";
import { chooseStore } from "./storedialog.js";
import { about, connectionOf } from "./connection.js";
import { closed, items } from "./orders.js";
import { settings } from "./settings.js";
import { outOfStock, setStock } from "./stock.js";
import { reasonOf } from "./actionfailure.js";

/** The durations that a person can choose. Each value has the members that the request to the server then contains. */
const SPANS = { tomorrow: { until: "tomorrow" }, hour: { minutes: 60 }, open: {} };
/** The dialog offers dishes of this many recent orders, if they are not older than this. */
const ORDERS = 500;
const DAYS_MS = 7 * 24 * 3_600_000;
/** The most dishes that the dialog offers. */
const MOST = 24;

/** The store whose stop list is open. */
let store = "";
let span = "tomorrow";
/** Dishes of the last days, the most ordered first. @type {string[]} */
let dishes = [];

document.addEventListener("vestnik:stock", () => byId("stock").open && showStopped());

export async function openStock() {
  const chosen = await chooseStore(t("stock.title"));
  if (!chosen) return;
  store = chosen;
  const dialog = byId("stock");
  const spans = Object.keys(SPANS).map((name) => button("quiet", null, t(`stock.for.${name}`), () => choose(name), { data: { stockSpan: name } }));
  const words = h("input", { id: "stock-words", type: "text", maxlength: 200, autocomplete: "off", enterkeyhint: "done", "aria-label": t("stock.like"), placeholder: t("stock.like"), on: { input: showDishes } });
  dialog.replaceChildren(
    h("h2", { id: "stock-title", text: about(store, t("stock.title")) }),
    h("p", { text: t("stock.words") }),
    h("p", { id: "stock-problem", class: "shift-problem", role: "alert" }),
    h("div", { id: "stock-stopped" }),
    h("h3", { text: t("stock.add") }),
    h("div", { class: "rings", role: "group", "aria-label": t("stock.for.label") }, ...spans),
    h("form", { class: "stock-form", on: { submit: addWords } }, words, h("button", { class: "yes", text: t("stock.stop") })),
    h("ul", { id: "stock-dishes", class: "stock-dishes", "aria-label": t("stock.dishes") }),
    h("div", { class: "card-actions" }, button("quiet stock-close", null, t("order.close"), () => dialog.close())),
  );
  choose(span);
  showStopped();
  dialog.showModal();
  learnDishes();
}

/** Chooses the duration for the next item. @param {string} name a key of {@link SPANS} */
function choose(name) {
  span = name;
  byId("stock").querySelectorAll("[data-stock-span]").forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.stockSpan === name)));
}

/** Shows the items out of stock, each with a button to put it back. */
function showStopped() {
  /** @param {import("./stock.js").OutOfStock} one */
  const row = ({ item, until, by }) => {
    const words = [until ? t("stock.until", { time: dayAndTime(until) }) : t("stock.open"), by].filter(Boolean).join(" · ");
    return h("li", { data: { stopped: item } }, h("p", {}, h("strong", { text: item }), h("span", { text: words })), button("quiet", null, t("stock.back"), () => putBack(item)));
  };
  const rows = outOfStock(store).map(row);
  byId("stock-stopped").replaceChildren(rows.length ? h("ul", { class: "stopped" }, ...rows) : h("p", { class: "quiet-words", text: t("stock.none") }));
  showDishes();
}

/** Offers dishes of the last days that match the typed words. */
function showDishes() {
  const words = byId("stock-words").value.trim().toLowerCase();
  const gone = new Set(outOfStock(store).map(({ item }) => item));
  const fit = dishes.filter((dish) => !gone.has(dish) && dish.toLowerCase().includes(words)).slice(0, MOST);
  byId("stock-dishes").replaceChildren(...fit.map((dish) => h("li", {}, button("quiet", null, dish, () => stop(dish), { data: { dish } }))));
}

/** Collects dishes: first from the orders that this page knows, then from the orders of the last days. */
async function learnDishes() {
  takeDishes([...items.values(), ...closed.values()].filter((item) => item.store === store));
  const list = await connectionOf(store)?.api.list("orders", { status: "all", limit: ORDERS }).catch(() => null);
  const isLate = ({ created_at: at }) => !(Date.parse(at) < Date.now() - DAYS_MS);
  if (list) takeDishes(list.orders.filter(isLate));
}

/** @param {{items?: {name: string, quantity: number|string}[]}[]} orders */
function takeDishes(orders) {
  const counts = new Map();
  orders.flatMap((order) => order.items ?? []).forEach(({ name, quantity }) => counts.set(name, (counts.get(name) ?? 0) + (Number(quantity) || 1)));
  dishes = [...counts].sort(([, one], [, other]) => other - one).map(([name]) => name);
  if (byId("stock").open) showDishes();
}

/** Puts the typed item on the stop list. @param {Event} event */
function addWords(event) {
  event.preventDefault();
  const item = byId("stock-words").value.trim();
  if (item) stop(item);
}

/** Puts an item on the stop list. @param {string} item */
const stop = (item) => change(() => connectionOf(store).api.stopItem({ item, ...SPANS[span], by: settings.name || undefined }));

/** Takes an item off the stop list. @param {string} item */
const putBack = (item) => change(() => connectionOf(store).api.putItemBack(item, settings.name));

/** Changes the stop list on the server, and shows the result. @param {() => Promise<{items: import("./stock.js").OutOfStock[]}>} ask sends the request */
async function change(ask) {
  try {
    const { items: list } = await ask();
    byId("stock-words").value = "";
    byId("stock-problem").textContent = "";
    setStock(store, list);
  } catch (error) {
    byId("stock-problem").textContent = `${t("stock.failed")}: ${reasonOf(error)}`;
  }
}
