/**
 * The orders and bookings that this page knows, in the canonical form of the server. Only lists and events change
 * them. When a person presses a button, the server changes Postgres, and the page gets the result as an event.
 *
 * @module orders
 */

import { isOwn } from "./stations.js";

/** @typedef {"orders"|"bookings"} Kind */
/**
 * @typedef {object} Item an order or a booking: the members of docs/protocol.md, and members that this page adds
 * @property {string} key kind, store, source and id; unique on this page
 * @property {string} store
 * @property {Kind} kind
 * @property {string} id unique within its source
 * @property {string} source
 * @property {string} number the number that people say aloud
 * @property {string} status
 * @property {string[]} next the statuses that a person may request, the usual one first; the server sends them
 * @property {string} [status_word] the shop's own status, if the mapping does not know it
 * @property {string} [reason]
 * @property {string} [order_type] delivery, pickup, dine_in, or the shop's own word
 * @property {string} [customer_name]
 * @property {string} [phone]
 * @property {string} [address]
 * @property {string} [comment]
 * @property {number|string} [persons] the number of persons of an order; a booking has `guests`
 * @property {number|string} [guests]
 * @property {{method?: string, paid?: boolean, change_from?: number}} [payment] change_from in minor units
 * @property {number} [total] in minor units
 * @property {string} [currency]
 * @property {number} [currency_digits]
 * @property {string} [due_at] when the customer wants the order; a booking has `starts_at`
 * @property {string} [starts_at]
 * @property {number} [promised_minutes]
 * @property {Line[]} [items]
 * @property {number} [items_omitted]
 * @property {{label: string, value: string}[]} [extra]
 * @property {{field: string, text: string}[]} [unreadable]
 * @property {number} since when the order or booking came, milliseconds
 * @property {number} [promised] when the minutes were promised, milliseconds
 * @property {number} [stands] when the status was set, milliseconds
 * @property {string} [by] the person who set the status with a button
 * @property {string} [previous_status] the status before the current one, if this page has seen it
 * @property {string} [event] the id of its new_order or new_booking event
 * @property {string[]} [marks] the fields that the shop has changed and nobody has looked at yet
 */
/** @typedef {{name: string, quantity: number|string, price?: number, options?: string[], note?: string, category?: string}} Line price in minor units; category: the station */

const OPEN = ["pending", "preparing", "ready", "delivering"];
const PAGE = 500;
/** The most pages of a list that the page loads. Four pages have 2,000 open orders. */
const PAGES = 4;
/** The most closed orders and bookings that the page keeps, so that a person can undo the last step. */
const CLOSED = 50;
/** Types of events that have only some fields of the order or booking: its ids and the changed fields. */
const PARTIAL = ["order_status_changed", "order_cancelled", "order_removed", "booking_removed"];
/** Members that this page adds; events do not have them. */
const OWN = ["since", "event", "promised", "stands", "by", "previous_status", "marks"];
/** Panels set these fields, so the page does not mark their changes as changes by the shop. */
const UNMARKED = ["promised_minutes"];

/** Open orders and bookings, by key. @type {Map<string, Item>} */
export const items = new Map();
/** Orders and bookings that were closed lately, by key. The first entry was closed first. @type {Map<string, Item>} */
export const closed = new Map();

/**
 * The key of an order or booking. The key contains the store, because the sources of two stores may have equal names.
 * @param {Kind} kind
 * @param {string} store
 * @param {string} source
 * @param {string} id
 */
export const keyOf = (kind, store, source, id) => `${kind}/${store}/${source}/${id}`;

/** @param {string} key @returns {Kind} */
export const kindOf = (key) => (key.startsWith("orders/") ? "orders" : "bookings");

/** The order or booking of a key, if it is open or was closed lately. @param {string} key */
export const find = (key) => items.get(key) ?? closed.get(key);

/** @param {Item} item */
export const isOpen = (item) => OPEN.includes(item.status);

/** Sorts by age, the oldest first. For equal times, the lower id comes first. @param {Item} a @param {Item} b */
export const byAge = (a, b) => a.since - b.since || a.key.length - b.key.length || (a.key < b.key ? -1 : 1);

/** The orders and bookings that this screen must answer, the oldest first. */
export const unanswered = () => [...items.values()].filter((item) => item.status === "pending" && isOwn(item)).sort(byAge);

/** Converts a row of the server's list into an order or booking. @param {string} store @param {Kind} kind @param {any} row @returns {Item} */
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

/** The first page of orders of each store, by store. The request starts before the board exists. @type {Map<string, Promise<any>>} */
const ahead = new Map();

/** Requests the orders before the board exists, so that the board shows them sooner. @param {import("./vestnik.js").Api} api */
export function loadAhead(api) {
  ahead.set(api.of, listOpen(api, "orders").catch(() => null));
}

/** Requests one page of the open orders or bookings. @param {import("./vestnik.js").Api} api @param {Kind} kind @param {Item} [last] the last entry of the previous page */
const listOpen = (api, kind, last) => api.list(kind, { status: "active", limit: PAGE, before: last?.id, before_source: last?.source });

/**
 * Loads the open orders first, and then the open bookings. Returns the cursor of the list of orders, because the
 * server read that list first. Events after this cursor may repeat changes that the lists already contain. Repeated
 * changes do no harm. With a later cursor, the page could miss a change.
 * @param {import("./vestnik.js").Api} api
 * @param {(() => void)|null} onOrders called when the orders are loaded; null: orders and bookings are replaced together
 * @returns {Promise<{cursor: string, unavailable: string[]}>} the cursor, and the sources that could not be read
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

/**
 * Replaces the orders or bookings of a store in `items` by the loaded orders or bookings.
 * @param {string} store
 * @param {Kind} kind
 * @param {{loaded: Item[], unavailable: Set<string>}} list
 */
function replace(store, kind, { loaded, unavailable }) {
  for (const [key, item] of items) {
    // Keep the orders of a source that the server cannot read now, because they may still be open.
    if (item.store === store && item.kind === kind && !unavailable.has(item.source)) items.delete(key);
  }
  loaded.forEach((item) => items.set(item.key, item));
}

/** Loads all pages of the open orders or bookings, at most {@link PAGES}. @param {import("./vestnik.js").Api} api @param {Kind} kind */
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

/** The order or booking that an event is about; null if the event is about something else. @param {import("./vestnik.js").VestnikEvent} event */
export function subject({ data, store_id: store }) {
  if (data?.source === undefined) return null;
  const kind = data.booking_id === undefined ? "orders" : "bookings";
  const id = data.booking_id ?? data.order_id;
  return id === undefined ? null : { kind: /** @type {Kind} */ (kind), store, source: data.source, id, key: keyOf(kind, store, data.source, id) };
}

/**
 * Applies an event to the known orders and bookings.
 * @param {import("./vestnik.js").VestnikEvent} event
 * @returns {{item: Item, previous: Item|undefined, isNew: boolean, isUnknown: boolean}|null} null: the event changes nothing;
 *   isUnknown: the event has too few members for a card, so the lists must be loaded
 */
export function apply(event) {
  const about = subject(event);
  if (!about) return null;
  const previous = items.get(about.key);
  const isNew = event.type === "new_order" || event.type === "new_booking";
  // A list has already brought this order. The list may be newer than the event, so ignore the fields of the event.
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

/** Returns the order or booking with the changes of an event. @returns {Item} */
function merged(event, about, known, isPartial, isNew) {
  const { order_ids, order_id, booking_id, changed = [], by, ...data } = event.data;
  const at = Date.parse(event.at);
  const before = { ...known };
  // Delete the old values of these fields: if the event does not have a field, the field is empty now.
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

/** Adds a closed order or booking to {@link closed}, and drops the oldest entry if there are too many. @param {Item} item */
export function keepClosed(item) {
  closed.set(item.key, item);
  if (closed.size > CLOSED) closed.delete(closed.keys().next().value);
}
