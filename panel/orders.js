/**
 * What is known of the store's orders and bookings, in the server's canonical form. Lists give it, events change it, and
 * nothing else does: a button changes Postgres, and what it did comes back as an event.
 *
 * @module orders
 */

import { isOwn } from "./stations.js";

/** @typedef {"orders"|"bookings"} Kind */
/**
 * @typedef {object} Item an order or a booking: the members of docs/protocol.md, and what this page adds
 * @property {string} key kind, store, source and id: names it on this page
 * @property {string} store
 * @property {Kind} kind
 * @property {string} id unique within its source
 * @property {string} source
 * @property {string} number what people call out
 * @property {string} status
 * @property {string[]} next what a person may make of it, the usual first; the server says it
 * @property {string} [status_word] the shop's own word, where its mapping does not know it
 * @property {string} [reason]
 * @property {string} [order_type] delivery, pickup, dine_in, or the shop's own word
 * @property {string} [customer_name]
 * @property {string} [phone]
 * @property {string} [address]
 * @property {string} [comment]
 * @property {number|string} [persons] of a booking: `guests`
 * @property {number|string} [guests]
 * @property {{method?: string, paid?: boolean, change_from?: number}} [payment] change_from in minor units
 * @property {number} [total] in minor units
 * @property {string} [currency]
 * @property {number} [currency_digits]
 * @property {string} [due_at] of a booking: `starts_at`
 * @property {string} [starts_at]
 * @property {number} [promised_minutes]
 * @property {Line[]} [items]
 * @property {number} [items_omitted]
 * @property {{label: string, value: string}[]} [extra]
 * @property {{field: string, text: string}[]} [unreadable]
 * @property {number} since when it came, milliseconds
 * @property {number} [promised] when the minutes were promised, milliseconds
 * @property {number} [stands] since when it has its status, milliseconds
 * @property {string} [by] who gave it its status by a button
 * @property {string} [previous_status] what it was before, as far as this page has seen it
 * @property {string} [event] its new_order or new_booking event
 * @property {string[]} [marks] what the shop changed of it, which nobody has looked at yet
 */
/** @typedef {{name: string, quantity: number|string, price?: number, options?: string[], note?: string, category?: string}} Line price in minor units; category: the station */

const OPEN = ["pending", "preparing", "ready", "delivering"];
const PAGE = 500;
/** Pages of a list that are loaded: 2,000 open orders. */
const PAGES = 4;
/** Closed ones that stay known, so that one step back finds them. */
const CLOSED = 50;
/** Events that say what changed, and not all that is known. */
const PARTIAL = ["order_status_changed", "order_cancelled", "order_removed", "booking_removed"];
/** What this page adds, and no event says. */
const OWN = ["since", "event", "promised", "stands", "by", "previous_status", "marks"];
/** A promise of this page's own is no news to it. */
const UNMARKED = ["promised_minutes"];

/** @type {Map<string, Item>} what is open */
export const items = new Map();
/** @type {Map<string, Item>} what was closed lately, the oldest first */
export const closed = new Map();

/** Two stores may have sources, and orders, of one name. @param {Kind} kind @param {string} store @param {string} source @param {string} id */
export const keyOf = (kind, store, source, id) => `${kind}/${store}/${source}/${id}`;

/** @param {string} key @returns {Kind} */
export const kindOf = (key) => (key.startsWith("orders/") ? "orders" : "bookings");

/** Open, or closed lately. @param {string} key */
export const find = (key) => items.get(key) ?? closed.get(key);

/** @param {Item} item */
export const isOpen = (item) => OPEN.includes(item.status);

/** The older first; of one transaction, the lower number. @param {Item} a @param {Item} b */
export const byAge = (a, b) => a.since - b.since || a.key.length - b.key.length || (a.key < b.key ? -1 : 1);

/** What waits for an answer of this screen, the oldest first. @param {Kind} [kind] */
export const unanswered = (kind) => [...items.values()].filter((item) => item.status === "pending" && (!kind || item.kind === kind) && isOwn(item)).sort(byAge);

/** From a list. @param {string} store @param {Kind} kind @param {any} row @returns {Item} */
export function fromList(store, kind, row) {
  const { order_id, booking_id, event_id, answer, acknowledged, ...item } = row;
  const at = answer && Date.parse(answer.at);
  return {
    ...item,
    kind,
    store,
    key: keyOf(kind, store, row.source, row.id),
    event: event_id,
    since: Date.parse(row.created_at) || Date.now(),
    ...(answer?.minutes ? { promised: at } : {}),
    ...(answer?.status === row.status ? { stands: at, by: answer.by } : {}),
    marks: items.get(keyOf(kind, store, row.source, row.id))?.marks,
  };
}

/** The first page of the orders of each store, asked for while the page is still being made. @type {Map<string, Promise<any>>} */
const ahead = new Map();

/** Asks for the orders before anything can show them. @param {import("./vestnik.js").Api} api */
export function loadAhead(api) {
  ahead.set(api.of, listOpen(api, "orders").catch(() => null));
}

/** @param {import("./vestnik.js").Api} api @param {Kind} kind @param {Item} [last] of the page before */
const listOpen = (api, kind, last) => api.list(kind, { status: "active", limit: PAGE, before: last?.id, before_source: last?.source });

/**
 * Loads what is open. The cursor is that of the first list: what happened after it may come again, which does no harm. So the
 * bookings are asked for after the orders: read before that cursor, they would miss what happened between.
 * @param {import("./vestnik.js").Api} api
 * @param {(() => void)|null} onOrders called when the orders are there; null: all of it is changed at once
 * @returns {Promise<{cursor: string, unavailable: string[]}>} and the sources that could not be read
 */
export async function load(api, onOrders) {
  const orders = await loadAll(api, "orders");
  if (onOrders) {
    replace(api.of, "orders", orders);
    onOrders();
  }
  const bookings = await loadAll(api, "bookings");
  if (!onOrders) replace(api.of, "orders", orders);
  replace(api.of, "bookings", bookings);
  return { cursor: orders.cursor, unavailable: [...orders.unavailable, ...bookings.unavailable] };
}

/** Puts what was loaded in the place of what was known. @param {string} store @param {Kind} kind @param {{loaded: Item[], unavailable: Set<string>}} list */
function replace(store, kind, { loaded, unavailable }) {
  for (const [key, item] of items) {
    // What cannot be read now is not over for that.
    if (item.store === store && item.kind === kind && !unavailable.has(item.source)) items.delete(key);
  }
  loaded.forEach((item) => items.set(item.key, item));
}

/** @param {import("./vestnik.js").Api} api @param {Kind} kind */
async function loadAll(api, kind) {
  /** @type {Item[]} */
  const loaded = [];
  const unavailable = new Set();
  let cursor = "";
  for (let page = 0; page < PAGES; page += 1) {
    const begun = kind === "orders" && page === 0 ? ahead.get(api.of) : null;
    ahead.delete(api.of);
    const list = (await begun) ?? (await listOpen(api, kind, loaded.at(-1)));
    cursor ||= list.cursor;
    loaded.push(...list[kind].map((row) => fromList(api.of, kind, row)));
    (list.unavailable ?? []).forEach((source) => unavailable.add(source));
    if (!list.more) break;
  }
  return { loaded, cursor, unavailable };
}

/** Which order or booking an event is about. @param {import("./vestnik.js").VestnikEvent} event */
export function subject({ data, store_id: store }) {
  if (data?.source === undefined) return null;
  const kind = data.booking_id === undefined ? "orders" : "bookings";
  const id = data.booking_id ?? data.order_id;
  return id === undefined ? null : { kind: /** @type {Kind} */ (kind), store, source: data.source, id, key: keyOf(kind, store, data.source, id) };
}

/**
 * Takes an event in.
 * @param {import("./vestnik.js").VestnikEvent} event
 * @returns {{item: Item, previous: Item|undefined, isNew: boolean, isUnknown: boolean}|null} null: it changes nothing;
 *   unknown: the event says less than a card needs, and the lists must be loaded
 */
export function apply(event) {
  const about = subject(event);
  if (!about) return null;
  const previous = items.get(about.key);
  const isNew = event.type === "new_order" || event.type === "new_booking";
  // The list had it already, and may know more of it than its first event.
  if (isNew && previous && !event.data.previous_status) {
    previous.event ??= event.id;
    return null;
  }
  const known = previous ?? closed.get(about.key);
  const isPartial = PARTIAL.includes(event.type);
  const item = merged(event, about, known, isPartial, isNew);
  const isGone = event.type === "order_removed" || event.type === "booking_removed";
  closed.delete(item.key);
  if (isGone || !isOpen(item)) {
    items.delete(item.key);
    if (!isGone && (known || !isPartial)) keepClosed(item);
  } else if (known || !isPartial) {
    items.set(item.key, item);
  }
  return { item, previous, isNew, isUnknown: isPartial && !known && isOpen(item) && !isGone };
}

/** What is known of it after an event. @returns {Item} */
function merged(event, about, known, isPartial, isNew) {
  const { order_ids, order_id, booking_id, changed = [], by, ...data } = event.data;
  const at = Date.parse(event.at);
  const before = { ...known };
  // What an event of a status does not say of these, is so no longer.
  for (const name of ["status_word", "reason", ...changed]) delete before[name];
  const own = known ? Object.fromEntries(OWN.map((name) => [name, known[name]])) : { since: at };
  const item = { ...(isPartial ? before : {}), ...own, ...data, ...about };
  if (isNew) Object.assign(item, { since: at, event: event.id, promised: undefined, marks: [] });
  const isMoved = known?.status !== item.status;
  if (isMoved) Object.assign(item, { stands: at, by });
  const isPromised = changed.includes("promised_minutes") || (isMoved && item.status === "preparing");
  if (item.promised_minutes && isPromised) item.promised = at;
  const marks = changed.filter((name) => !UNMARKED.includes(name));
  if (marks.length) item.marks = [...new Set([...(item.marks ?? []), ...marks])];
  return item;
}

/** @param {Item} item */
export function keepClosed(item) {
  closed.set(item.key, item);
  if (closed.size > CLOSED) closed.delete(closed.keys().next().value);
}
