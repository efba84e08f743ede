/**
 * The client library of Vestnik. It delivers every event of a store, also over a bad network. It does not change the
 * page.
 *
 *     import { connectWebSocket } from "/panel/vestnik.js";
 *     const connection = connectWebSocket({
 *       store: "7", token: "vst_...",
 *       onEvent: (event) => console.log(event.type, event.data),
 *       onState: (state) => console.log(state.name),
 *     });
 *
 * What the client does:
 * - misses no event: the client keeps the newest cursor, and sends it when it reconnects. The server then continues
 *   after it;
 * - calls `onEvent` once for each event. The server may send an event twice, with the same id;
 * - reconnects at a random moment within the time that the server states. If this fails, it waits 0.5 s, and then
 *   longer, up to 5 s, with a random part. It reconnects at once when the browser is online or visible again;
 * - treats a socket as dead if no message arrives for one and a half heartbeats (45 s), or for 10 s with
 *   `watchClosely`;
 * - streams over HTTP (Server-Sent Events) if the network blocks WebSockets, and tries a WebSocket again every 5 minutes;
 * - polls every 30 s while neither a WebSocket nor a stream can be opened;
 * - stops with a reason when a reconnect cannot succeed, for example because the token was revoked;
 * - forgets the ids of all events when the database has another history (`resync_required` with the reason `epoch` or
 *   `future`), because an id may belong to another event then;
 * - calls `load` before the first connection, and again when the server cannot use the cursor (`resync_required`).
 *   Load your lists in this function. Events that arrive meanwhile wait until the lists are loaded.
 *
 * docs/protocol.md describes the protocol. The client sends the token in headers and subprotocols only, never in a URL.
 *
 * @module vestnik
 */

/**
 * One event of the journal.
 * @typedef {object} VestnikEvent
 * @property {"new_order"|"order_status_changed"|"order_cancelled"|"order_changed"|"order_removed"|"new_booking"|
 *   "booking_status_changed"|"booking_cancelled"|"booking_changed"|"booking_removed"|"order_unanswered"|"chat_disabled"|
 *   "store_paused"|"store_resumed"|"item_out_of_stock"|"item_in_stock"|
 *   string} type ignore types that you do not know
 * @property {string} id identifies the event
 * @property {string} cursor
 * @property {string} store_id
 * @property {string} at when the shop wrote its row, ISO 8601
 * @property {true} [replayed] the client has missed this event before, and the server sends it late
 * @property {any} data the members of docs/protocol.md
 * @property {Channel} channel the channel that brought the event; this client adds it
 */

/**
 * @typedef {"websocket"|"sse"|"polling"} Channel
 *
 * @typedef {"loading"|"connecting"|"catching_up"|"live"|"polling"|"offline"|"stopped"} StateName
 *
 * @typedef {object} State the state of a connection
 * @property {StateName} name
 * @property {Date} since when this state began; for `offline` and `polling`, when the socket was lost
 * @property {Channel} [channel] for `catching_up` and `live`: the channel of the events
 * @property {string} [reason] for `stopped`: `token_revoked`, `unauthorized`, `forbidden_store`, ...
 */

/**
 * @typedef {object} Options
 * @property {string} store
 * @property {string} token
 * @property {string} [base] the server's address; the default is the address of the page
 * @property {string|null} [after] the cursor to continue after; without it, and without `load`, only new events are delivered
 * @property {string} [panel] the name of this panel for the server while the panel has no session; at most 64 characters
 * @property {boolean|null} [rings] whether the page can ring; null for a client that no person looks at
 * @property {number} [pollSeconds] seconds between two polls while there is no socket; the default is 30
 * @property {(event: VestnikEvent) => void} onEvent
 * @property {(state: State) => void} [onState]
 * @property {(why: string|null) => Promise<string>} [load] loads your lists; returns the cursor of the lists
 * @property {(seconds: number) => Promise<string|null>} [renew] called some seconds before the token expires; returns a new token
 */

const PROTOCOL = "vestnik.v1";
/**
 * The shortest and the longest wait between two attempts to reconnect. The wait doubles after each attempt. The
 * client adds up to half of the wait at random, so that many panels do not reconnect in the same moment.
 */
const FIRST_RECONNECT_MS = 500;
const RECONNECT_MS = 5_000;
const CONNECT_DEADLINE_MS = 10_000;
/** A probe is a message that the server must answer. If nothing arrives within this time, the socket is dead. */
const PROBE_DEADLINE_MS = 4_000;
/**
 * The number of idle HTTP connections that a browser keeps to one server. If the network fails without a signal,
 * these connections are dead, and a request over one of them waits until its deadline. So when the network is back,
 * the client sends a short request over each of them.
 */
const POOLED_CONNECTIONS = 6;
const POOL_DEADLINE_MS = 2_000;
const POLL_S = 30;
/** If no message arrives for this many heartbeats, a socket is dead. The server's default heartbeat is 30 s, so this is 45 s. */
const SILENT_HEARTBEATS = 1.5;
/** With `watchClosely`, the client sends a probe if no message arrives for this time. So it finds a dead socket within 10 s. */
const CLOSE_SILENCE_MS = 4_500;
const HEARTBEAT_S = 30;
/** If the server closes a socket with this code or a higher one, a reconnect cannot succeed. */
const STOP_FROM = 4500;
/**
 * The server closes a socket with this code if the store has its maximum of sessions. Another session must end first,
 * so the client waits at least `FULL_RECONNECT_MS`.
 */
const TOO_MANY_SESSIONS = 4430;
const FULL_RECONNECT_MS = 15_000;
/** If this many WebSocket handshakes fail in a row while the server answers over HTTP, the client assumes that the network blocks WebSockets. */
const BLOCKED_AFTER = 2;
/** How often the client tries a WebSocket while it receives events over an HTTP stream. */
const UPGRADE_MS = 5 * 60_000;
/** The HTTP statuses after which a retry cannot succeed. */
const REFUSED = [400, 401, 403, 404];
/** The reasons of `resync_required` after which a known event id may belong to another event, or to no event. */
const OTHER_HISTORY = ["epoch", "future"];
/** The client keeps this many event ids, to recognize an event that the server sends twice. */
const REMEMBERED_IDS = 20_000;
const POLL_PAGE = 500;

/**
 * Opens the stream of a store.
 * @param {Options} options
 * @returns {Connection}
 */
export function connectWebSocket(options) {
  return new Connection(options);
}

/** The stream of a store. {@link connectWebSocket} makes it. */
export class Connection {
  /** @type {State} */
  state = { name: "loading", since: new Date() };
  /** @type {string|null} the newest cursor */
  cursor = null;
  /** @type {Api} */
  api;

  #options;
  #reporter;
  /** @type {WebSocket|HttpStream|null} */
  #socket = null;
  /** The channel of the current socket. While there is no socket, the channel of the next socket. @type {"websocket"|"sse"} */
  #channel = "websocket";
  /** The number of WebSocket handshakes in a row that failed while the server answered over HTTP. */
  #blocked = 0;
  #greeted = false;
  #heardAt = 0;
  #deadAfter = HEARTBEAT_S * SILENT_HEARTBEATS * 1000;
  #watchesClosely = false;
  #probing = false;
  /** Whether the client has dropped the last socket because no message arrived over it. False if the server or the network has closed that socket. */
  #fellSilent = false;
  /** The number of failed attempts in a row. A socket that was lost within 5 s counts as a failed attempt. */
  #failures = 0;
  /** The time within which the server wants clients to reconnect, milliseconds. */
  #jitterMs = FIRST_RECONNECT_MS;
  #lostAt = new Date();
  /** The channel of each delivered event, by event id. @type {Map<string, Channel>} */
  #told = new Map();
  /** Events that wait while `load` runs; null at other times. @type {VestnikEvent[]|null} */
  #held = null;
  #loading = false;
  /** Whether `load` must run once more after the current run. */
  #loadAgain = false;
  #polling = false;
  #pollDueAt = 0;
  #again = true;
  #timers = { reconnect: 0, poll: 0, watch: 0, deadline: 0, load: 0, upgrade: 0 };
  #onWake = () => this.#wake();

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.api = new Api(options);
    this.cursor = options.after ?? null;
    const panel = options.panel ?? `page-${Math.random().toString(36).slice(2, 10)}`;
    this.#reporter = new ReceiptReporter(this.api, panel, options.rings ?? null);
    addEventListener("online", this.#onWake);
    addEventListener("offline", this.#onWake);
    document.addEventListener("visibilitychange", this.#onWake);
    this.#timers.watch = setInterval(() => this.#watch(), 1000);
    // Start in a microtask: the caller does not have this connection yet, but `onState` may use it.
    queueMicrotask(() => this.retry());
  }

  /** Reports to the server that a person has seen this event. @param {string} id */
  ack(id) {
    this.#reporter.report("ack", id, this.#told.get(id));
  }

  /** Reports to the server that the screen shows this event. @param {string} id */
  rendered(id) {
    this.#reporter.report("rendered", id, this.#told.get(id));
  }

  /** Reports to the server that the sound of this event has played. @param {string} id */
  sounded(id) {
    this.#reporter.report("sounded", id, this.#told.get(id));
  }

  /** Reports whether the page can ring: the server treats a page without sound as absent. @param {boolean} rings */
  setRings(rings) {
    this.#reporter.setRings(rings);
  }

  /** Polls for events at once, if there is no live socket. */
  pollNow() {
    if (this.state.name === "live" || this.state.name === "stopped") return;
    this.#poll();
  }

  /** Sets how soon the client finds a dead socket. @param {boolean} closely true: within 10 s; false: within 45 s */
  watchClosely(closely) {
    this.#watchesClosely = closely;
  }

  /** Call this function after a failed request. It checks whether the server still responds over the socket, and drops a dead socket within 4 s. */
  probe() {
    this.#wake();
  }

  /** Connects again at once, even in the state `stopped`. */
  retry() {
    this.#again = true;
    clearTimeout(this.#timers.reconnect);
    if (this.cursor === null && this.#options.load) this.reload(null);
    else this.#open();
  }

  /** Closes the connection. */
  close() {
    this.#again = false;
    removeEventListener("online", this.#onWake);
    removeEventListener("offline", this.#onWake);
    document.removeEventListener("visibilitychange", this.#onWake);
    Object.values(this.#timers).forEach((timer) => clearTimeout(timer));
    clearInterval(this.#timers.watch);
    this.#reporter.close();
    this.#drop();
  }

  /**
   * Calls `options.load` again, until it succeeds. Events wait meanwhile.
   * @param {string|null} why
   */
  async reload(why) {
    this.#held ??= [];
    clearTimeout(this.#timers.load);
    // Do not run two loads at once: the older result could arrive last and replace the newer one.
    if (this.#loading) return void (this.#loadAgain = true);
    this.#loading = true;
    const failure = await this.#load(why);
    this.#loading = false;
    if (!this.#again) return;
    if (failure instanceof ApiError && REFUSED.includes(failure.status)) return this.#stop(failure.code);
    if (failure) {
      if (this.cursor === null) this.#enter("offline", this.#lostAt);
      this.#timers.load = setTimeout(() => this.reload(why), RECONNECT_MS);
    } else {
      this.#release();
      this.#open();
    }
  }

  /** Calls `options.load`, and repeats this if another load was requested meanwhile. Returns the error, or null after a success. */
  async #load(why) {
    try {
      do {
        this.#loadAgain = false;
        const cursor = await this.#options.load(why);
        this.cursor ??= cursor;
      } while (this.#loadAgain && this.#again);
      return null;
    } catch (error) {
      return error;
    }
  }

  #release() {
    const held = this.#held ?? [];
    this.#held = null;
    held.forEach((event) => this.#give(event));
  }

  /** Calls `onEvent`, and catches its exception, so that the next event is still delivered. @param {VestnikEvent} event */
  #give(event) {
    try {
      this.#options.onEvent(event);
    } catch (error) {
      reportError(error);
    }
  }

  /** Enters a state, and reports it. @param {StateName} name @param {Date} [since] @param {string} [reason] */
  #enter(name, since = new Date(), reason) {
    if (this.state.name === name && name !== "stopped") return;
    const isStreamed = name === "catching_up" || name === "live";
    this.state = { name, since, reason, ...(isStreamed ? { channel: this.#channel } : {}) };
    this.#options.onState?.(this.state);
  }

  #open() {
    if (this.#socket || !this.#again) return;
    if (this.#failures === 0) this.#enter("connecting");
    this.#greeted = false;
    const socket = this.#channel === "websocket" ? this.#webSocket() : new HttpStream(this.#address("sse"), this.#options.token);
    this.#socket = socket;
    this.#timers.deadline = setTimeout(() => !this.#greeted && this.#lost(socket, 0), CONNECT_DEADLINE_MS);
    socket.onmessage = (message) => socket === this.#socket && this.#hear(JSON.parse(message.data));
    socket.onclose = (close) => this.#lost(socket, close.code);
  }

  /** The URL of a stream, with its query. @param {string} path the path of the stream */
  #address(path) {
    const address = new URL(this.#options.base ?? location.origin);
    address.pathname = `/api/partner/${path}/${encodeURIComponent(this.#options.store)}`;
    if (this.cursor) address.searchParams.set("after", this.cursor);
    if (path === "sse") address.searchParams.set("panel", this.#reporter.panel);
    return address;
  }

  #webSocket() {
    const address = this.#address("ws/partner");
    address.protocol = address.protocol.replace("http", "ws");
    return new WebSocket(address, [PROTOCOL, `bearer.${this.#options.token}`]);
  }

  /** Tests whether the network lets a WebSocket through. If the WebSocket opens, it replaces the stream over HTTP. */
  #tryUpgrade() {
    const stream = this.#socket;
    const socket = this.#webSocket();
    const end = setTimeout(() => socket.close(), CONNECT_DEADLINE_MS);
    const again = () => (this.#timers.upgrade = setTimeout(() => this.#tryUpgrade(), UPGRADE_MS));
    socket.onclose = () => {
      clearTimeout(end);
      if (stream === this.#socket) again();
    };
    socket.onopen = () => {
      clearTimeout(end);
      socket.onclose = null;
      socket.close();
      if (stream !== this.#socket) return;
      this.#drop();
      this.#channel = "websocket";
      this.#open();
    };
  }

  /** Handles a message from the current socket. @param {any} message */
  #hear(message) {
    this.#heardAt = performance.now();
    clearTimeout(this.#timers.deadline);
    if (message.type === "connected") {
      this.#greeted = true;
      if (this.#fellSilent) this.api.useUpConnections();
      this.#fellSilent = false;
      this.#deadAfter = Math.max(1, message.ping_interval || HEARTBEAT_S) * SILENT_HEARTBEATS * 1000;
      this.#jitterMs = Math.min(RECONNECT_MS, message.reconnect_jitter_ms || 0);
      if (this.#channel === "websocket") {
        this.#blocked = 0;
        this.#reporter.attach(/** @type {WebSocket} */ (this.#socket));
      } else this.#reporter.post();
      if (this.#channel === "sse") this.#timers.upgrade = setTimeout(() => this.#tryUpgrade(), UPGRADE_MS);
      this.#enter("catching_up");
      this.cursor ??= message.cursor;
      return;
    }
    if (message.type === "error") return this.#reporter.refused(message);
    if (message.type === "pong") return this.#reporter.answered();
    // The node cannot read the journal now, so new events do not reach this client.
    if (message.type === "stale") return this.#enter("offline", (this.#lostAt = new Date()));
    if (message.type === "token_expires") return void this.#renew(message.expires_in);
    if (message.type === "resync_required") {
      this.#forgetIfOther(message.reason);
      if (this.#options.load) this.reload(message.reason);
    } else if (message.data) {
      this.#tell(message, this.#channel);
    }
    if (message.cursor) this.cursor = message.cursor;
    // A panel without a WebSocket reports its presence over HTTP.
    if (message.type === "heartbeat" && this.#channel === "sse") this.#reporter.post();
    if (message.type === "live" || (message.type === "heartbeat" && this.state.name === "offline")) {
      clearTimeout(this.#timers.poll);
      this.#enter("live");
    }
  }

  /** Replaces the token before it expires, so that the session stays open. @param {number} seconds until the token expires */
  async #renew(seconds) {
    try {
      const token = await this.#options.renew?.(seconds);
      if (!token) return;
      this.#options.token = token;
      this.api.setToken(token);
      if (this.#channel === "websocket" && this.#greeted && this.#socket?.readyState === WebSocket.OPEN) /** @type {WebSocket} */ (this.#socket).send(JSON.stringify({ type: "token", token }));
    } catch (error) {
      reportError(error);
    }
  }

  /** Delivers an event, unless the client has delivered it before. @param {VestnikEvent} event @param {Channel} channel */
  #tell(event, channel) {
    if (this.#told.has(event.id)) return;
    this.#told.set(event.id, channel);
    if (this.#told.size > REMEMBERED_IDS) this.#told.delete(this.#told.keys().next().value);
    event.channel = channel;
    if (this.#held) this.#held.push(event);
    else this.#give(event);
  }

  /** Handles the loss of a socket: reconnects, or stops. @param {WebSocket|HttpStream} socket @param {number} code the close code; 0 if there is none */
  async #lost(socket, code) {
    if (socket !== this.#socket) return;
    const [greeted, channel] = [this.#greeted, this.#channel];
    this.#drop();
    this.#channel = "websocket";
    if (!this.#again) return;
    if (this.state.name !== "offline" && this.state.name !== "polling") this.#lostAt = new Date();
    if (this.state.name === "live" && Date.now() - this.state.since.getTime() > RECONNECT_MS) this.#failures = 0;
    this.#failures += 1;
    // If the first handshake fails, the network may block WebSockets. So first check over HTTP whether the server
    // responds, and change the state only then.
    const mayBeBlocked = !greeted && channel === "websocket" && this.state.name === "connecting";
    if (!mayBeBlocked) this.#enter(this.state.name === "polling" ? "polling" : "offline", this.#lostAt);
    // A browser does not say why the server has refused a handshake. The code 4401 (an expired token) is below
    // `STOP_FROM`. So ask the server over HTTP whether it refuses this client.
    if (!greeted || code >= STOP_FROM || code === 4401) {
      const { refusal, isServed } = await this.#ask();
      if (refusal) return this.#stop(refusal);
      if (code >= STOP_FROM) return this.#stop(`closed_${code}`);
      if (this.#socket || !this.#again) return;
      if (!greeted && channel === "websocket" && isServed && code !== TOO_MANY_SESSIONS) {
        this.#blocked += 1;
        if (this.#blocked >= BLOCKED_AFTER) {
          this.#channel = "sse";
          return this.#open();
        }
        if (mayBeBlocked) return this.#comeBack(this.#pause());
      }
    }
    if (this.#socket || !this.#again) return;
    if (mayBeBlocked) this.#enter("offline", this.#lostAt);
    this.#comeBack(code === TOO_MANY_SESSIONS ? FULL_RECONNECT_MS * (1 + Math.random()) : this.#pause());
    if (this.#failures > 1) this.#pollWhenDue();
  }

  /** Checks over HTTP whether the server responds, and whether it refuses this client. `refusal` is the error code, or null if the server does not refuse the client. */
  async #ask() {
    try {
      await this.api.session();
      return { isServed: true, refusal: null };
    } catch (error) {
      const isRefused = error instanceof ApiError && REFUSED.includes(error.status);
      return { isServed: false, refusal: isRefused ? error.code : null };
    }
  }

  /** Stops, because a reconnect cannot succeed. @param {string} reason */
  #stop(reason) {
    this.#again = false;
    this.#drop();
    clearTimeout(this.#timers.reconnect);
    clearTimeout(this.#timers.poll);
    this.#enter("stopped", new Date(), reason);
  }

  #drop() {
    clearTimeout(this.#timers.deadline);
    clearTimeout(this.#timers.upgrade);
    const socket = this.#socket;
    this.#socket = null;
    this.#greeted = false;
    this.#reporter.detach();
    if (!socket) return;
    socket.onmessage = socket.onclose = null;
    socket.close();
  }

  /**
   * The wait before the next attempt, milliseconds. The first wait is random within the time that the server has
   * stated, so that the clients of a restarted server do not all reconnect at once.
   */
  #pause() {
    if (this.#failures === 1) return Math.random() * this.#jitterMs;
    const most = Math.min(RECONNECT_MS, FIRST_RECONNECT_MS * 2 ** (this.#failures - 2));
    return most * (1 + Math.random() / 2);
  }

  /** Schedules the next attempt. @param {number} wait milliseconds */
  #comeBack(wait) {
    clearTimeout(this.#timers.reconnect);
    this.#timers.reconnect = setTimeout(() => this.#open(), wait);
  }

  /** Drops a socket if no message has arrived for too long. With `watchClosely`, sends a probe before that. */
  #watch() {
    if (!this.#socket || !this.#greeted) return;
    const silence = performance.now() - this.#heardAt;
    if (silence > this.#deadAfter) this.#fallSilent(this.#socket);
    else if (this.#watchesClosely && silence > CLOSE_SILENCE_MS) this.#wake();
  }

  /** Drops a socket over which no message arrives. @param {WebSocket|HttpStream} socket */
  #fallSilent(socket) {
    if (socket === this.#socket) this.#fellSilent = true;
    this.#lost(socket, 0);
  }

  /** Reconnects at once, or checks the current socket with a probe. Called when the browser reports a change of the network or of visibility. */
  #wake() {
    const socket = this.#socket;
    if (!socket) {
      if (this.#again && this.cursor !== null && navigator.onLine && !document.hidden) this.#comeBack(0);
      return;
    }
    if (!this.#greeted || socket.readyState !== WebSocket.OPEN || this.#probing) return;
    this.#probing = true;
    const asked = performance.now();
    if (this.#channel === "websocket") this.#reporter.ping();
    // The client cannot send a ping over an HTTP stream, so another request checks whether the server responds.
    else this.#ask().then(({ isServed }) => isServed && (this.#heardAt = performance.now()));
    setTimeout(() => {
      this.#probing = false;
      if (this.#heardAt < asked) this.#fallSilent(socket);
    }, PROBE_DEADLINE_MS);
  }

  #pollWhenDue() {
    const wait = Math.max(0, this.#pollDueAt - Date.now());
    clearTimeout(this.#timers.poll);
    this.#timers.poll = setTimeout(() => this.#poll(), wait);
  }

  async #poll() {
    if (this.#polling || !this.#again || this.cursor === null || this.state.name === "live") return;
    this.#polling = true;
    this.#pollDueAt = Date.now() + (this.#options.pollSeconds ?? POLL_S) * 1000;
    try {
      await this.#pollPages();
      if (!this.#socket || !this.#greeted) this.#enter("polling", this.#lostAt);
      this.#reporter.post();
    } catch (error) {
      if (error instanceof ApiError && REFUSED.includes(error.status) && !error.body?.error?.cursor) {
        this.#stop(error.code);
      } else if (this.#again && !this.#greeted) this.#enter("offline", this.#lostAt);
    }
    this.#polling = false;
    if (this.#again && /** @type {StateName} */ (this.state.name) !== "live") this.#pollWhenDue();
  }

  async #pollPages() {
    for (let more = true; more && !(this.#socket && this.#greeted);) {
      const page = await this.api
        .events({ after: this.cursor, limit: POLL_PAGE, panel: this.#reporter.panel })
        .catch((error) => this.#resync(error));
      // A socket that opened meanwhile has continued from the same cursor. So the poll and the socket may bring an
      // event twice, and `#tell` skips it then.
      page.events.forEach((event) => this.#tell(event, "polling"));
      if (!this.#greeted) this.cursor = page.cursor;
      more = page.more;
    }
  }

  /** Forgets the ids of all events if the database has another history, because an id may belong to another event now. @param {string} reason */
  #forgetIfOther(reason) {
    if (!OTHER_HISTORY.includes(reason)) return;
    this.#told.clear();
    this.#reporter.forget();
    // Drop the events that wait for the lists. Either the database has lost them, or the lists contain their changes.
    if (this.#held) this.#held = [];
  }

  /** Continues from the cursor that an error response contains. Throws the error if the response has no cursor. @param {ApiError} error */
  #resync(error) {
    const cursor = error.body?.error?.cursor;
    if (!cursor) throw error;
    this.#forgetIfOther(error.body.error.reason);
    if (this.#options.load) this.reload(error.code);
    return { events: [], cursor, more: false };
  }
}

/**
 * Reads Server-Sent Events with `fetch`, because a browser's EventSource cannot send a token in a header.
 * `Connection` uses this class like a WebSocket, so it has the same members.
 */
class HttpStream {
  readyState = WebSocket.OPEN;
  /** @type {((message: {data: string}) => void)|null} */
  onmessage = null;
  /** @type {((close: {code: number}) => void)|null} */
  onclose = null;
  #abort = new AbortController();

  /** @param {URL} address @param {string} token */
  constructor(address, token) {
    this.#read(address, token)
      .catch(() => 0)
      .then((code) => this.onclose?.({ code }));
  }

  close() {
    this.#abort.abort();
  }

  /** Passes each message to `onmessage`. @returns {Promise<number>} the close code; 0 if the stream ended without a close message */
  async #read(address, token) {
    const headers = { Authorization: `Bearer ${token}`, Accept: "text/event-stream" };
    const answer = await fetch(address, { headers, cache: "no-store", credentials: "omit", signal: this.#abort.signal });
    if (!answer.ok) return answer.status === 429 ? TOO_MANY_SESSIONS : 0;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let code = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return code;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const data = block.slice(block.indexOf("data: ") + "data: ".length);
        const message = JSON.parse(data);
        if (message.type === "close") code = message.code;
        else this.onmessage?.({ data });
      }
    }
  }
}

const ANSWER_DEADLINE_MS = 10_000;
/** The deadline of a request that changes something. It is shorter, because a person waits for the result. */
const CHANGE_DEADLINE_MS = 5_000;

/** An error response of the server. All error responses have one JSON form. */
export class ApiError extends Error {
  /** @param {number} status @param {any} body */
  constructor(status, body) {
    super(body?.error?.message ?? `the server answered ${status}`);
    /** @type {number} */
    this.status = status;
    /** @type {string} */
    this.code = body?.error?.code ?? "unknown";
    /** @type {any} */
    this.body = body;
  }
}

/** The HTTP requests about one store. The token is in the Authorization header only. */
export class Api {
  /** The id of the store. @type {string} */
  of;
  #base;
  #store;
  #token;
  /** How far the server's clock is ahead of this device, milliseconds. The clock of a tablet may be wrong. */
  clockAhead = 0;

  /** @param {{store: string, token: string, base?: string}} where */
  constructor({ store, token, base = location.origin }) {
    this.#base = base;
    this.of = store;
    this.#store = encodeURIComponent(store);
    this.#token = token;
  }

  /** Sets the token that later requests send. @param {string} token */
  setToken(token) {
    this.#token = token;
  }

  /** Asks the server whether it accepts the token. This request exists because a browser does not tell a page why the server refuses a socket. */
  session() {
    return this.#ask("GET", `/api/partner/session/${this.#store}`);
  }

  /** Sends a short request over each idle connection of the browser. The browser then closes those that are dead. */
  useUpConnections() {
    const ask = () => this.#ask("GET", `/api/partner/session/${this.#store}`, {}, undefined, POOL_DEADLINE_MS).catch(() => null);
    for (let n = 0; n < POOLED_CONNECTIONS; n += 1) ask();
  }

  /** The description of the store: name, currency, time zone, Telegram. */
  store() {
    return this.#of("GET", "store");
  }

  /**
   * A list of orders or bookings, and the cursor of the snapshot in which the server has read it.
   * @param {"orders"|"bookings"} kind
   * @param {{status?: string, source?: string, limit?: number, before?: string, before_source?: string}} [query]
   */
  list(kind, query = {}) {
    return this.#of("GET", kind, query);
  }

  /**
   * Changes the status of an order or booking. Errors: 409 `status_conflict` if its current status is not `from`;
   * `status_not_reachable` if no step leads from its current status to `status`.
   * @param {"orders"|"bookings"} kind
   * @param {string} id
   * @param {{source: string, status: string, from?: string, reason?: string, minutes?: number, by?: string}} change
   */
  setStatus(kind, id, change) {
    return this.#of("POST", `${kind}/${encodeURIComponent(id)}/status`, {}, change, CHANGE_DEADLINE_MS);
  }

  /** Reports that a person has seen an event. @param {string} id the id of the event @param {string} [panel] */
  ack(id, panel) {
    return this.#of("POST", `events/${encodeURIComponent(id)}/ack`, { panel });
  }

  /** Whether a person has acknowledged this event, on any channel. @param {string} id @returns {Promise<{acknowledged: boolean}>} */
  acknowledgement(id) {
    return this.#of("GET", `events/${encodeURIComponent(id)}/ack`);
  }

  /** Events after a cursor. Without a cursor, the newest events. @param {{after?: string|null, limit?: number, panel?: string}} query */
  events(query) {
    return this.#of("GET", "events", query);
  }

  /**
   * Pauses the store: for `minutes`, or until the time `until`, which may be "tomorrow".
   * @param {{minutes?: number, until?: string, by?: string, reason?: string}} span
   */
  setPause(span) {
    return this.#of("PUT", "pause", {}, span, CHANGE_DEADLINE_MS);
  }

  /** Ends the pause of the store. @param {string} [panel] the name of the person */
  endPause(panel) {
    return this.#of("DELETE", "pause", { panel }, undefined, CHANGE_DEADLINE_MS);
  }

  /** The items that are out of stock in the store. @returns {Promise<{items: {item: string, since: string, until?: string, by?: string}[]}>} */
  stopList() {
    return this.#of("GET", "stop-list");
  }

  /**
   * Puts an item on the stop list: for `minutes`, or until the time `until`, which may be "tomorrow". Without both,
   * the item stays on the list until a person takes it off.
   * @param {{item: string, minutes?: number, until?: string, by?: string}} stop
   */
  stopItem(stop) {
    return this.#of("PUT", "stop-list", {}, stop, CHANGE_DEADLINE_MS);
  }

  /** Takes an item off the stop list. @param {string} item @param {string} [panel] the name of the person */
  putItemBack(item, panel) {
    return this.#of("DELETE", "stop-list", { item, panel }, undefined, CHANGE_DEADLINE_MS);
  }

  /** Reports receipts and presence over HTTP, for a panel without a socket. @param {object} words */
  sendReceipts(words) {
    return this.#of("POST", "receipts", {}, words);
  }

  /** The receipts of each event. @param {{from?: string, to?: string, order?: string, before?: string, limit?: number}} query */
  receipts(query) {
    return this.#of("GET", "receipts", query);
  }

  /** The figures for a manager, for at most 31 days. @param {{from: string, to: string}} query */
  summary(query) {
    return this.#of("GET", "summary", query);
  }

  #of(method, path, query = {}, body = undefined, deadline = ANSWER_DEADLINE_MS) {
    return this.#ask(method, `/api/partner/stores/${this.#store}/${path}`, query, body, deadline);
  }

  async #ask(method, path, query = {}, body = undefined, deadline = ANSWER_DEADLINE_MS) {
    const url = new URL(path, this.#base);
    for (const [key, value] of Object.entries(query)) {
      if (value !== undefined && value !== null && value !== "") url.searchParams.set(key, String(value));
    }
    const headers = { Authorization: `Bearer ${this.#token}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(url, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(deadline),
    });
    const clock = Date.parse(answer.headers.get("Date") ?? "");
    if (clock) this.clockAhead = clock - Date.now();
    if (answer.status === 204) return null;
    const parsed = await answer.json().catch(() => null);
    if (!answer.ok) throw new ApiError(answer.status, parsed);
    return parsed;
  }
}

/** The most messages that the client sends at once. The server allows 500 at once and 50 a second, and closes a socket that sends more. */
const WORDS_AT_ONCE = 100;
const WORD_EACH_MS = 25;
const REPORT_GATHER_MS = 300;
const WORD_RETRY_MS = 5_000;
/** The client asks this long after a receipt whether it has arrived. One ping covers all receipts before it. */
const CONFIRM_MS = 1_000;
/** The most receipts in one report over HTTP. */
const REPORT_IDS = 500;
/** The most receipts that wait. If there are more, the client drops the oldest one to save memory. */
const WAITING_WORDS = 20_000;

/** @typedef {{type: "rendered"|"sounded"|"ack", id: string}} Word */

/**
 * Sends the receipts of a panel (rendered, sounded, acknowledged), and whether the panel can ring. If an event came
 * over a WebSocket, its receipts are sent over the WebSocket, at a limited rate. The receipts of other events are
 * sent over HTTP. After a failure, receipts are sent again.
 */
class ReceiptReporter {
  /** @type {WebSocket|null} */
  #socket = null;
  /** Receipts that wait for the socket. @type {Word[]} */
  #waiting = [];
  /** Receipts that were sent over the socket, but may be lost: the socket may die before they arrive. @type {Word[]} */
  #unsure = [];
  /** For each ping that the server has not answered: how many receipts of `#unsure` were sent before it. @type {number[]} */
  #pings = [];
  /** Receipts that wait for a report over HTTP. @type {(Word & {channel: Channel})[]} */
  #reports = [];
  #rings;
  #allowance = WORDS_AT_ONCE;
  #refilledAt = Date.now();
  #timer = 0;
  #pingTimer = 0;
  #postTimer = 0;
  #posting = false;

  /** @param {Api} api @param {string} panel @param {boolean|null} rings */
  constructor(api, panel, rings) {
    this.api = api;
    this.panel = panel;
    this.#rings = rings;
  }

  /** Sends receipts over this socket from now on. @param {WebSocket|null} socket a socket that has received `connected` */
  attach(socket) {
    this.#socket = socket;
    this.#allowance = WORDS_AT_ONCE;
    this.#sayRings();
    this.#flush();
  }

  detach() {
    this.#socket = null;
    this.#waiting.unshift(...this.#unsure);
    this.#unsure = [];
    this.#pings = [];
  }

  /** Sends a ping. Its answer proves that all receipts before the ping have arrived. */
  ping() {
    this.#pings.push(this.#unsure.length);
    this.#socket?.send(JSON.stringify({ type: "ping" }));
  }

  /** Handles the answer to the oldest ping: the receipts before it have arrived. */
  answered() {
    const arrived = this.#pings.shift() ?? 0;
    this.#unsure.splice(0, arrived);
    this.#pings = this.#pings.map((sent) => sent - arrived);
    if (this.#unsure.length) this.#confirm();
  }

  /** Sends a ping soon, if there are receipts that may be lost and no ping is on its way. */
  #confirm() {
    this.#pingTimer ||= setTimeout(() => {
      this.#pingTimer = 0;
      if (this.#unsure.length && !this.#pings.length) this.ping();
    }, CONFIRM_MS);
  }

  /** Drops all receipts, because their ids may belong to other events now. */
  forget() {
    this.#waiting = [];
    this.#unsure = [];
    this.#reports = [];
    this.#pings = this.#pings.map(() => 0);
  }

  close() {
    this.detach();
    [this.#timer, this.#pingTimer, this.#postTimer].forEach(clearTimeout);
  }

  /** Reports to the server whether the page can ring, if this has changed. @param {boolean} rings */
  setRings(rings) {
    if (rings === this.#rings) return;
    this.#rings = rings;
    this.#sayRings();
    if (!this.#socket) this.#postSoon(0);
  }

  #sayRings() {
    if (this.#rings !== null) this.#socket?.send(JSON.stringify({ type: "panel", rings: this.#rings }));
  }

  /**
   * Queues a receipt. The channel of its event decides whether it is sent over the socket or over HTTP.
   * @param {Word["type"]} type
   * @param {string} id
   * @param {Channel|undefined} channel
   */
  report(type, id, channel) {
    const isReported = channel === "polling" || channel === "sse";
    const queue = isReported ? this.#reports : this.#waiting;
    queue.push({ type, id, ...(isReported ? { channel } : {}) });
    if (queue.length > WAITING_WORDS) queue.shift();
    if (isReported) this.#postSoon(REPORT_GATHER_MS);
    else if (type === "ack" && !this.#socket) this.#ackByPost(this.#waiting.pop());
    else this.#flush();
  }

  /** Sends an acknowledgement again, because the server could not save it. @param {{code: string, id?: string}} error */
  refused(error) {
    if (error.code !== "ack_not_saved" || !error.id) return;
    this.#waiting.push({ type: "ack", id: error.id });
    this.#later(WORD_RETRY_MS);
  }

  #flush() {
    const now = Date.now();
    this.#allowance = Math.min(WORDS_AT_ONCE, this.#allowance + (now - this.#refilledAt) / WORD_EACH_MS);
    this.#refilledAt = now;
    while (this.#waiting.length && this.#allowance >= 1 && this.#socket?.readyState === WebSocket.OPEN) {
      const word = this.#waiting.shift();
      this.#socket.send(JSON.stringify(word));
      this.#unsure.push(word);
      this.#allowance -= 1;
    }
    if (this.#unsure.length) this.#confirm();
    if (this.#waiting.length && this.#socket) this.#later(WORD_EACH_MS * 10);
  }

  #later(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#flush(), wait);
  }

  /** Sends an acknowledgement over HTTP. After a failure, the acknowledgement waits for the socket. @param {Word|undefined} word */
  #ackByPost(word) {
    if (!word) return;
    this.api.ack(word.id, this.panel).catch(() => this.#waiting.push(word));
  }

  #postSoon(wait) {
    clearTimeout(this.#postTimer);
    this.#postTimer = setTimeout(() => this.post(), wait);
  }

  /** Reports over HTTP the waiting receipts, and that this panel is present. */
  async post() {
    if (this.#posting || (this.#socket && !this.#reports.length)) return;
    this.#posting = true;
    const channel = this.#reports[0]?.channel ?? "polling";
    const others = this.#reports.findIndex((word) => word.channel !== channel);
    const said = this.#reports.splice(0, Math.min(REPORT_IDS, others < 0 ? REPORT_IDS : others));
    const ids = (type) => said.filter((word) => word.type === type).map((word) => word.id);
    try {
      await this.api.sendReceipts({
        panel: this.panel,
        channel,
        rendered: ids("rendered"),
        sounded: ids("sounded"),
        ...(this.#rings === null || this.#socket ? {} : { rings: this.#rings }),
      });
      ids("ack").forEach((id) => this.#ackByPost({ type: "ack", id }));
      if (this.#reports.length) this.#postSoon(0);
    } catch (error) {
      // The server always refuses a token that may only read, so drop these receipts.
      if (!(error instanceof ApiError && error.status === 403)) {
        this.#reports.unshift(...said);
        this.#postSoon(WORD_RETRY_MS);
      }
    }
    this.#posting = false;
  }
}
