/** Finds an order or booking by its number, the customer's name, or digits of the phone number. @module search */

import { byId, h, icon } from "./dom.js";
import { numberOf, typeOf } from "./facts.js";
import { t } from "./i18n.js";
import { openOrder } from "./order.js";
import { closed, items } from "./orders.js";

/** The most results in the list. */
const MOST = 12;

setUp();

export function showFind() {
  byId("find-words").value = "";
  show();
  byId("find").showModal();
  byId("find-words").focus();
}

function setUp() {
  const dialog = byId("find");
  byId("find-words").addEventListener("input", show);
  byId("find-form").addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.querySelector(".found")?.click();
  });
  byId("find-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

/** Whether an order or booking matches the words that a person has typed. @param {import("./orders.js").Item} item @param {string} words in lower case */
export function fits({ number, customer_name: name, phone }, words) {
  const digits = words.replace(/\D/g, "");
  const isInPhone = digits.length >= 3 && (phone ?? "").replace(/\D/g, "").includes(digits);
  return String(number).toLowerCase().includes(words.replace(/^[#№]/, "")) || (name ?? "").toLowerCase().includes(words) || isInPhone;
}

function show() {
  const words = byId("find-words").value.trim().toLowerCase();
  const all = [...items.values(), ...[...closed.values()].reverse()];
  const found = words ? all.filter((item) => fits(item, words)).slice(0, MOST) : [];
  const row = (item) => {
    const open = () => {
      byId("find").close();
      openOrder(item.key);
    };
    const status = h("span", { class: "status", data: { status: item.status }, text: t(`status.${item.kind}.${item.status}`) });
    const who = [typeOf(item), item.customer_name, item.phone].filter(Boolean).join(" · ");
    return h("li", {}, h("button", { type: "button", class: "found", on: { click: open } }, h("b", { text: numberOf(item) }), h("span", { text: who }), status));
  };
  const none = words && !found.length ? [h("li", { class: "quiet-words", text: t("find.none") })] : [];
  byId("find-list").replaceChildren(...found.map(row), ...none);
}
