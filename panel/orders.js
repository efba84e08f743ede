/**
 * What is known of the store's orders and bookings. Lists give it, events change it, and nothing else does: a button
 * changes Postgres, and what it did comes back as an event.
 *
 * @module orders
 */

/** @typedef {"orders"|"bookings"} Kind */
/**
 * @typedef {object} Item an order or a booking
 * @property {string} key kind and id: names it on this page
 * @property {Kind} kind
 * @property {string} id
 * @property {string} status
 * @property {number} since when it was written, milliseconds
 * @property {string[]} next what a person may make of it
 * @property {string} [event] its new_order or new_booking event
 * @property {string} [reason]
 * @property {string} [customer_name]
 * @property {number} [total] in minor units
 * @property {string} [order_type]
 * @property {any[]} [items]
 * @property {number} [guests]
 * @property {string} [starts_at]
 * @property {{by?: string, at: string, status: string, minutes?: number}} [answer]
 */

const OPEN = { orders: ["pending", "preparing", "ready", "delivering"], bookings: ["pending", "preparing", "ready"] };
const PAGE = 500;
/** Pages of a list that are loaded: 2,000 open orders. */
const PAGES = 4;

/** @type {Map<string, Item>} what is open */
export const items = new Map();

/** @param {Kind} kind @param {string} id */
export const keyOf = (kind, id) => `${kind}/${id}`;

/** @param {Item} item */
export const isOpen = (item) => OPEN[item.kind].includes(item.status);

/** What is open of a kind, the oldest first. @param {Kind} kind @param {string} [status] */
export function open(kind, status) {
  return [...items.values()]
    .filter((item) => item.kind === kind && (!status || item.status === status))
    .sort((a, b) => a.since - b.since || Number(a.id) - Number(b.id));
}

/** What waits for an answer. */
export const unanswered = () => [...items.values()].filter((item) => item.status === "pending");

/** What a person of the store may make of it, the usual first: as the server has it. @param {Item} item */
function nextOf({ kind, status, order_type }) {
  if (status === "pending") return ["preparing", "rejected"];
  if (status === "preparing") return [kind === "orders" ? "ready" : "completed", "rejected"];
  if (status === "ready") return [kind === "orders" && order_type === "delivery" ? "delivering" : "completed"];
  return status === "delivering" ? ["completed"] : [];
}

/** From a list. @param {Kind} kind @param {any} row @returns {Item} */
export function fromList(kind, row) {
  const { event_id, created_at, next, ...rest } = row;
  const item = { ...rest, kind, key: keyOf(kind, row.id), event: event_id, since: Date.parse(created_at) || Date.now() };
  return { ...item, next: next ?? nextOf(item) };
}

/**
 * Loads what is open. The cursor is that of the first list: what happened after it may come again, which does no harm.
 * @param {import("./vestnik.js").Api} api
 */
export async function load(api) {
  const [orders, cursor] = await loadAll(api, "orders");
  const [bookings] = await loadAll(api, "bookings");
  items.clear();
  [...orders, ...bookings].forEach((item) => items.set(item.key, item));
  return cursor;
}

/** @param {import("./vestnik.js").Api} api @param {Kind} kind @returns {Promise<[Item[], string]>} */
async function loadAll(api, kind) {
  const loaded = [];
  let cursor;
  let before;
  for (let page = 0; page < PAGES; page += 1) {
    const list = await api.list(kind, { status: "active", limit: PAGE, before });
    cursor ??= list.cursor;
    loaded.push(...list[kind].map((row) => fromList(kind, row)));
    before = loaded.at(-1)?.id;
    if (!list.more) break;
  }
  return [loaded, cursor];
}

/** What an event is about. @param {import("./vestnik.js").VestnikEvent} event @returns {{kind: Kind, id: string}|null} */
export function subject({ type, data }) {
  if (data?.booking_id !== undefined && /booking/.test(type)) return { kind: "bookings", id: String(data.booking_id) };
  if (data?.order_id !== undefined) return { kind: "orders", id: String(data.order_id) };
  return null;
}

/**
 * Takes an event in.
 * @param {import("./vestnik.js").VestnikEvent} event
 * @returns {{item: Item, previous: Item|undefined, isNew: boolean}|null} null: it changes nothing
 */
export function apply(event) {
  const about = subject(event);
  if (!about) return null;
  const key = keyOf(about.kind, about.id);
  const previous = items.get(key);
  const isNew = event.type === "new_order" || event.type === "new_booking";
  // The list had it already, and may know more of it than its first event.
  if (isNew && previous) {
    previous.event ??= event.id;
    return null;
  }
  const { order_ids, order_id, booking_id, previous_status, ...data } = event.data;
  const item = { since: Date.parse(event.at), ...previous, ...data, ...about, key, updated_at: event.at };
  if (isNew) item.event = event.id;
  item.next = nextOf(item);
  if (isOpen(item)) items.set(key, item);
  else items.delete(key);
  return { item, previous, isNew };
}

/** What an item of an order says: shops write it in several ways. @param {any} line */
export function lineOf(line) {
  if (line === null || typeof line !== "object") return { name: String(line ?? ""), count: 1 };
  const first = (...names) => names.map((name) => line[name]).find((value) => value !== undefined && value !== null && value !== "");
  const extras = [first("options", "modifiers", "extras"), first("comment", "note", "notes")].flat().filter(Boolean);
  const said = first("quantity", "qty", "count") ?? 1;
  const [count, price] = [Number(said), first("price")];
  const words = extras.map((extra) => (typeof extra === "object" ? extra.name ?? "" : String(extra))).filter(Boolean);
  return {
    name: String(first("name", "title", "product") ?? JSON.stringify(line)),
    count: Number.isFinite(count) ? count : String(said),
    cost: typeof price === "number" && Number.isFinite(count) ? price * count : undefined,
    note: words.join(", "),
  };
}

/** Its lines; none where the shop says none. @param {Item} item */
export const linesOf = (item) => (Array.isArray(item.items) ? item.items.map(lineOf) : []);
