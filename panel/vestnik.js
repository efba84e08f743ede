/**
 * The client of Vestnik, which needs no page: one stream of events that loses none, on any network.
 *
 *     import { connectWebSocket } from "/panel/vestnik.js";
 *     const connection = connectWebSocket({
 *       store: "7", token: "vst_...",
 *       onEvent: (event) => console.log(event.type, event.data),
 *       onState: (state) => console.log(state.name),
 *     });
 *
 * What the client does:
 * - continues after the newest event: the client keeps the newest cursor and sends that cursor when it reconnects;
 * - calls `onEvent` once for each event: the server may send an event twice, and then both have the same id;
 * - reconnects within the time that the server asked for, then after 0.5 s, and later up to 5 s, with a random part;
 *   it reconnects at once when the browser is online or visible again;
 * - treats a socket as dead after one and a half heartbeats of silence (45 s), or after 10 s with `watchClosely`;
 * - streams over HTTP (Server-Sent Events) if the network blocks WebSockets, and tries a WebSocket again every 5 minutes;
 * - polls every 30 s while neither a WebSocket nor a stream can be opened;
 * - stops with a reason when a reconnect cannot succeed, for example because the token was revoked;
 * - deletes all known ids when the database has another history (`resync_required` with `epoch` or `future`);
 * - calls `load` before the first connection, and again when the server cannot use the cursor (`resync_required`): load
 *   your lists there. Events that arrive meanwhile wait until the lists are loaded.
 *
 * docs/protocol.md describes the protocol. The token goes into headers and subprotocols only, never into a URL.
 *
 * @module vestnik
 */

/**
 * One event, as the journal has it.
 * @typedef {object} VestnikEvent
 * @property {"new_order"|"order_status_changed"|"order_cancelled"|"order_changed"|"order_removed"|"new_booking"|
 *   "booking_status_changed"|"booking_cancelled"|"booking_changed"|"booking_removed"|"order_unanswered"|"chat_disabled"|
 *   "store_paused"|"store_resumed"|"item_out_of_stock"|"item_in_stock"|
 *   string} type ignore types that you do not know
 * @property {string} id identifies the event
 * @property {string} cursor
 * @property {string} store_id
 * @property {string} at when the shop wrote its row, ISO 8601
 * @property {true} [replayed] the client missed this event, and the server sends it now
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
 * @property {string} [panel] a name of this panel, used if it has no session; at most 64 characters
 * @property {boolean|null} [rings] whether the page can ring; null for a client that nobody looks at
 * @property {number} [pollSeconds] seconds between two polls while there is no socket; the default is 30
 * @property {(event: VestnikEvent) => void} onEvent
 * @property {(state: State) => void} [onState]
 * @property {(why: string|null) => Promise<string>} [load] loads your lists; returns the cursor of the lists
 * @property {(seconds: number) => Promise<string|null>} [renew] called some seconds before the token expires; returns a new token
 */

const PROTOCOL = "vestnik.v1";
/** The shortest and the longest wait between two attempts to reconnect; the wait doubles. Up to half of it is added at random, so
  * that many panels do not reconnect in the same moment. */
const FIRST_RECONNECT_MS = 500;
const RECONNECT_MS = 5_000;
const CONNECT_DEADLINE_MS = 10_000;
/** A probe asks whether the server is there. If no message arrives within this time, the socket is dead. */
const PROBE_DEADLINE_MS = 4_000;
/** The idle connections that a browser keeps to one server. If the network fails without a signal, they are dead, and each one
  * costs a request its whole deadline. So the client uses them up when the network is back. */
const POOLED_CONNECTIONS = 6;
const POOL_DEADLINE_MS = 2_000;
const POLL_S = 30;
/** After this many heartbeats of silence, a socket is dead: 45 s with the server's usual 30. */
const SILENT_HEARTBEATS = 1.5;
/** With `watchClosely`, the client sends a probe after this silence, so that a dead socket is found within 10 s. */
const CLOSE_SILENCE_MS = 4_500;
const HEARTBEAT_S = 30;
/** After this close code or a higher one, a reconnect cannot succeed. */
const STOP_FROM = 4500;
/** The close code of a store that has its maximum of sessions, and the shortest wait before the next try: another session must end first. */
const TOO_MANY_SESSIONS = 4430;
const FULL_RECONNECT_MS = 15_000;
/** After this many failed handshakes in a row, while the server answers over HTTP, the client assumes that the network blocks WebSockets. */
const BLOCKED_AFTER = 2;
/** How often the client tries a WebSocket while events are streamed over HTTP. */
const UPGRADE_MS = 5 * 60_000;
/** Errors that a retry cannot fix. */
const REFUSED = [400, 401, 403, 404];
/** Reasons of `resync_required` after which an old id may belong to another event, or to no event. */
const OTHER_HISTORY = ["epoch", "future"];
/** How many ids the client keeps to recognize an event that is sent twice. */
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

/** An open stream. Made by {@link connectWebSocket}. */
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
  /** The channel of the current socket, or of the next one. @type {"websocket"|"sse"} */
  #channel = "websocket";
  /** Handshakes of a WebSocket in a row that failed while the server answered over HTTP. */
  #blocked = 0;
  #greeted = false;
  #heardAt = 0;
  #deadAfter = HEARTBEAT_S * SILENT_HEARTBEATS * 1000;
  #watchesClosely = false;
  #probing = false;
  /** Whether the last socket was given up because the server was silent, and not because either side closed the socket. */
  #fellSilent = false;
  /** Failed attempts in a row, including sockets that were lost soon. */
  #failures = 0;
  /** The time within which the server wants clients to reconnect, milliseconds. */
  #jitterMs = FIRST_RECONNECT_MS;
  #lostAt = new Date();
  /** The ids of the events that were delivered, and the channel of each. @type {Map<string, Channel>} */
  #told = new Map();
  /** Events that wait while lists are loaded; null at other times. @type {VestnikEvent[]|null} */
  #held = null;
  #loading = false;
  /** Whether the lists must be loaded once more after the current load. */
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
    // Start later, because the caller does not have this connection yet.
    queueMicrotask(() => this.retry());
  }

  /** Records that a person has seen this event. @param {string} id */
  ack(id) {
    this.#reporter.report("ack", id, this.#told.get(id));
  }

  /** Records that the screen shows this event. @param {string} id */
  rendered(id) {
    this.#reporter.report("rendered", id, this.#told.get(id));
  }

  /** Records that the sound of this event has played. @param {string} id */
  sounded(id) {
    this.#reporter.report("sounded", id, this.#told.get(id));
  }

  /** Reports whether the page can ring: the server treats a page without sound as absent. @param {boolean} rings */
  setRings(rings) {
    this.#reporter.setRings(rings);
  }

  /** Polls at once, if no socket brings events. */
  pollNow() {
    if (this.state.name === "live" || this.state.name === "stopped") return;
    this.#poll();
  }

  /** Chooses how soon a dead socket is found. @param {boolean} closely within 10 s, instead of 45 s */
  watchClosely(closely) {
    this.#watchesClosely = closely;
  }

  /** Checks after a failure whether the server responds: a dead socket is found within 4 s. */
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
   * Loads the lists again (`options.load`), until a load succeeds. Events wait meanwhile.
   * @param {string|null} why
   */
  async reload(why) {
    this.#held ??= [];
    clearTimeout(this.#timers.load);
    // Loads run one after the other: of two parallel loads, the older result could arrive last and win.
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

  /** Loads the lists until nobody has requested a further load. Returns the error, or null after a success. */
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

  /** Catches an exception of `onEvent`, so that the next event is still delivered. @param {VestnikEvent} event */
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

  /** @param {string} path the path of the stream */
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

  /** Tests whether the network lets a WebSocket through. If it does, the WebSocket replaces the stream over HTTP. */
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

  /** Handles a message of the current socket. @param {any} message */
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
    // The node cannot read the journal, so it may not report new events.
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

  /** Delivers an event, if it was not delivered before. @param {VestnikEvent} event @param {Channel} channel */
  #tell(event, channel) {
    if (this.#told.has(event.id)) return;
    this.#told.set(event.id, channel);
    if (this.#told.size > REMEMBERED_IDS) this.#told.delete(this.#told.keys().next().value);
    event.channel = channel;
    if (this.#held) this.#held.push(event);
    else this.#give(event);
  }

  /** Handles the loss of a socket: reconnects, or stops. @param {WebSocket|HttpStream} socket @param {number} code the close code; 0 without one */
  async #lost(socket, code) {
    if (socket !== this.#socket) return;
    const [greeted, channel] = [this.#greeted, this.#channel];
    this.#drop();
    this.#channel = "websocket";
    if (!this.#again) return;
    if (this.state.name !== "offline" && this.state.name !== "polling") this.#lostAt = new Date();
    if (this.state.name === "live" && Date.now() - this.state.since.getTime() > RECONNECT_MS) this.#failures = 0;
    this.#failures += 1;
    // If the first handshake fails, the network may block WebSockets. So ask the server before the state changes.
    const mayBeBlocked = !greeted && channel === "websocket" && this.state.name === "connecting";
    if (!mayBeBlocked) this.#enter(this.state.name === "polling" ? "polling" : "offline", this.#lostAt);
    // A browser does not say why a handshake was refused, and 4401 (an expired token) is below 4500. So ask the server.
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

  /** Checks over HTTP whether the server responds, and whether it refuses this client. `refusal` is the error code, or null. */
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
   * The wait before the next attempt, milliseconds. The first wait is random within the time that the server has sent,
   * so that the clients of a restarted server do not all return at once.
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

  /** Drops a socket that is silent for too long. With `watchClosely`, sends a probe earlier. */
  #watch() {
    if (!this.#socket || !this.#greeted) return;
    const silence = performance.now() - this.#heardAt;
    if (silence > this.#deadAfter) this.#fallSilent(this.#socket);
    else if (this.#watchesClosely && silence > CLOSE_SILENCE_MS) this.#wake();
  }

  /** Drops a silent socket. @param {WebSocket|HttpStream} socket */
  #fallSilent(socket) {
    if (socket === this.#socket) this.#fellSilent = true;
    this.#lost(socket, 0);
  }

  /** The browser reports a change of the network or of visibility: reconnect at once, or check the socket. */
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
    // A stream over HTTP cannot send a ping, so another request checks the network.
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
      // A socket that opened meanwhile continues from the same cursor. `#tell` skips events that both have brought.
      page.events.forEach((event) => this.#tell(event, "polling"));
      if (!this.#greeted) this.cursor = page.cursor;
      more = page.more;
    }
  }

  /** Deletes all known ids if the database has another history, because an id may name another event now. @param {string} reason */
  #forgetIfOther(reason) {
    if (!OTHER_HISTORY.includes(reason)) return;
    this.#told.clear();
    this.#reporter.forget();
    // Drop the held events: the database may have lost them, and the lists contain the other ones.
    if (this.#held) this.#held = [];
  }

  /** Continues from the cursor of an error response. Throws the error if it has no cursor. @param {ApiError} error */
  #resync(error) {
    const cursor = error.body?.error?.cursor;
    if (!cursor) throw error;
    this.#forgetIfOther(error.body.error.reason);
    if (this.#options.load) this.reload(error.code);
    return { events: [], cursor, more: false };
  }
}

/**
 * Server-Sent Events, read by `fetch`: a browser's EventSource cannot send a token. The class has the members of a
 * WebSocket that `Connection` uses.
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

  /** Passes each message to `onmessage`. @returns {Promise<number>} the close code; 0: the stream was cut off */
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
/** A person waits for the result of a change, so its deadline is shorter. */
const CHANGE_DEADLINE_MS = 5_000;

/** An error response of the server. All error responses have the same form. */
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

/** The routes of one store, over HTTP. The token is sent in the Authorization header only. */
export class Api {
  /** The store of these routes. @type {string} */
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

  /** Sets the token for later requests. @param {string} token */
  setToken(token) {
    this.#token = token;
  }

  /** Checks the token. A browser can read this response, but not the reason why the server refuses a socket. */
  session() {
    return this.#ask("GET", `/api/partner/session/${this.#store}`);
  }

  /** Uses up the browser's idle connections, because some of them may be dead. */
  useUpConnections() {
    const ask = () => this.#ask("GET", `/api/partner/session/${this.#store}`, {}, undefined, POOL_DEADLINE_MS).catch(() => null);
    for (let n = 0; n < POOLED_CONNECTIONS; n += 1) ask();
  }

  /** The description of the store: name, currency, time zone, Telegram. */
  store() {
    return this.#of("GET", "store");
  }

  /**
   * A list, and the cursor of the snapshot in which the list was read.
   * @param {"orders"|"bookings"} kind
   * @param {{status?: string, source?: string, limit?: number, before?: string, before_source?: string}} [query]
   */
  list(kind, query = {}) {
    return this.#of("GET", kind, query);
  }

  /**
   * Changes a status. Errors: 409 `status_conflict` if the status is not `from`; `status_not_reachable` if no step
   * leads to `status`.
   * @param {"orders"|"bookings"} kind
   * @param {string} id
   * @param {{source: string, status: string, from?: string, reason?: string, minutes?: number, by?: string}} change
   */
  setStatus(kind, id, change) {
    return this.#of("POST", `${kind}/${encodeURIComponent(id)}/status`, {}, change, CHANGE_DEADLINE_MS);
  }

  /** Records that a person has seen an event. @param {string} id of the event @param {string} [panel] */
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
   * Pauses the store: for `minutes`, or `until` a time or "tomorrow".
   * @param {{minutes?: number, until?: string, by?: string, reason?: string}} span
   */
  setPause(span) {
    return this.#of("PUT", "pause", {}, span, CHANGE_DEADLINE_MS);
  }

  /** Ends the pause of the store. @param {string} [panel] the person who ends it */
  endPause(panel) {
    return this.#of("DELETE", "pause", { panel }, undefined, CHANGE_DEADLINE_MS);
  }

  /** The items that the store is out of. @returns {Promise<{items: {item: string, since: string, until?: string, by?: string}[]}>} */
  stopList() {
    return this.#of("GET", "stop-list");
  }

  /**
   * Puts an item on the stop list: for `minutes`, `until` a time or "tomorrow", or until a person puts it back.
   * @param {{item: string, minutes?: number, until?: string, by?: string}} stop
   */
  stopItem(stop) {
    return this.#of("PUT", "stop-list", {}, stop, CHANGE_DEADLINE_MS);
  }

  /** Puts the item back in stock. @param {string} item @param {string} [panel] the person who does it */
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

/** The most messages in one burst. The server allows 500 at once and 50 a second, and closes a socket that sends more. */
const WORDS_AT_ONCE = 100;
const WORD_EACH_MS = 25;
const REPORT_GATHER_MS = 300;
const WORD_RETRY_MS = 5_000;
/** The most ids in one report. */
const REPORT_IDS = 500;
/** The most receipts that wait. Beyond it the oldest is dropped, because the memory of a tablet is more important. */
const WAITING_WORDS = 20_000;

/** @typedef {{type: "rendered"|"sounded"|"ack", id: string}} Word */

/**
 * Sends the receipts of a panel (rendered, sounded, acknowledged), and whether the panel can ring. Receipts of events
 * from a WebSocket are sent over it, at a limited rate. Other receipts are sent over HTTP. After a failure, they are
 * sent again.
 */
class ReceiptReporter {
  /** @type {WebSocket|null} */
  #socket = null;
  /** Receipts that wait for the socket. @type {Word[]} */
  #waiting = [];
  /** Receipts that were sent, but may be lost: a socket may die before they arrive. @type {Word[]} */
  #unsure = [];
  /** For each ping without an answer, how many receipts of `#unsure` were sent before it. @type {number[]} */
  #pings = [];
  /** Receipts that wait for a report over HTTP. @type {(Word & {channel: Channel})[]} */
  #reports = [];
  #rings;
  #allowance = WORDS_AT_ONCE;
  #refilledAt = Date.now();
  #timer = 0;
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

  /** Sends a ping. Its answer proves that everything that was sent before it has arrived. */
  ping() {
    this.#pings.push(this.#unsure.length);
    this.#socket?.send(JSON.stringify({ type: "ping" }));
  }

  /** Handles the answer to the oldest ping. */
  answered() {
    const arrived = this.#pings.shift() ?? 0;
    this.#unsure.splice(0, arrived);
    this.#pings = this.#pings.map((sent) => sent - arrived);
    if (this.#unsure.length && !this.#pings.length) this.ping();
  }

  /** Drops all receipts, because their ids may name other events now. */
  forget() {
    this.#waiting = [];
    this.#unsure = [];
    this.#reports = [];
    this.#pings = this.#pings.map(() => 0);
  }

  close() {
    this.detach();
    clearTimeout(this.#timer);
    clearTimeout(this.#postTimer);
  }

  /** Reports whether the page can ring, if this has changed. @param {boolean} rings */
  setRings(rings) {
    if (rings === this.#rings) return;
    this.#rings = rings;
    this.#sayRings();
    if (!this.#socket) this.#postSoon(0);
  }

  #sayRings() {
    if (this.#rings !== null) this.#socket?.send(JSON.stringify({ type: "panel", rings: this.#rings }));
  }

  /** Queues a receipt for the channel of its event. @param {Word["type"]} type @param {string} id @param {Channel|undefined} channel */
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
    if (this.#unsure.length && !this.#pings.length && this.#socket) this.ping();
    if (this.#waiting.length && this.#socket) this.#later(WORD_EACH_MS * 10);
  }

  #later(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#flush(), wait);
  }

  /** Sends an acknowledgement over HTTP. After a failure, it waits for the socket. @param {Word|undefined} word */
  #ackByPost(word) {
    if (!word) return;
    this.api.ack(word.id, this.panel).catch(() => this.#waiting.push(word));
  }

  #postSoon(wait) {
    clearTimeout(this.#postTimer);
    this.#postTimer = setTimeout(() => this.post(), wait);
  }

  /** Reports receipts over HTTP, and that this panel is present. */
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
      // A token that may only read is refused each time, so these receipts are dropped.
      if (!(error instanceof ApiError && error.status === 403)) {
        this.#reports.unshift(...said);
        this.#postSoon(WORD_RETRY_MS);
      }
    }
    this.#posting = false;
  }
}
