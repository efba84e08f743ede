/**
 * Plays the sounds of the panel. The sounds are synthesised, so no sound file can fail to load. One loop rings for
 * all orders that wait, until the last of them is answered. The loop uses the audio clock, because a browser slows
 * down all other timers in a hidden tab.
 *
 * @module sound
 */

/** @typedef {"cancelled"|"urgent"|"order"|"changed"|"booking"|"offline"} Kind */
/** @typedef {[at: number, length: number, hz: number, wave: OscillatorType, loud: number]} Note at: from the start of the sound; at and length in seconds */

/** The kinds of sounds, from the most urgent to the least urgent. A round plays the kinds in this order. */
const KINDS = /** @type {Kind[]} */ (["cancelled", "urgent", "order", "changed", "booking", "offline"]);

/** The notes of each kind of sound. Times are in seconds, and tones in hertz. @type {Record<Kind, Note[]>} */
const SCORES = {
  // A bell with three rising strokes, twice. It is bright, so that people hear it over a kitchen hood.
  order: [0, 0.75].flatMap((at) => [
    [at, 0.22, 880, "triangle", 0.9], [at, 0.22, 1760, "sine", 0.4],
    [at + 0.18, 0.22, 1109, "triangle", 0.9], [at + 0.18, 0.22, 2217, "sine", 0.4],
    [at + 0.36, 0.36, 1319, "triangle", 1], [at + 0.36, 0.36, 2637, "sine", 0.5],
  ]),
  // A faster version of the sound `order`, because nobody has answered.
  urgent: [0, 0.4, 0.8, 1.2].flatMap((at) => [
    [at, 0.12, 1319, "square", 1], [at + 0.12, 0.12, 1661, "square", 1], [at + 0.24, 0.14, 1976, "square", 1],
  ]),
  // A horn with falling tones: the kitchen must stop.
  cancelled: [0, 0.6, 1.2].flatMap((at) => [
    [at, 0.28, 740, "sawtooth", 1.2], [at, 0.28, 748, "sawtooth", 1],
    [at + 0.28, 0.32, 554, "sawtooth", 1.2], [at + 0.28, 0.32, 560, "sawtooth", 1],
  ]),
  // Two short strokes: an order has changed.
  changed: [[0, 0.3, 1047, "sine", 0.8], [0.4, 0.3, 1047, "sine", 0.8]],
  // A door chime: two soft tones.
  booking: [[0, 0.5, 784, "sine", 0.7], [0.45, 0.7, 587, "sine", 0.7]],
  // Three short falling tones: the connection is lost. The tones are not lower, because a tablet's speaker plays
  // lower tones badly.
  offline: [[0, 0.16, 440, "triangle", 0.9], [0.22, 0.16, 392, "triangle", 0.9], [0.44, 0.3, 330, "triangle", 0.9]],
};

/** The shortest time between the starts of two rounds, seconds. */
const ROUND_S = 4;
/** The shortest time between the starts of two rounds if only the sound `offline` rings, seconds. */
const OFFLINE_ROUND_S = 20;
/** The pause between two kinds of sounds in a round, seconds. */
const GAP_S = 0.25;
/** The page checks whether a sound is audible this many seconds after its start, during the first notes. */
const LISTEN_AFTER_S = 0.2;
/** The amplitude below which a sound counts as silence. The highest possible amplitude is 1. */
const AUDIBLE = 0.01;

/** The length of a kind of sound, seconds. @param {Kind} kind */
export const lengthOf = (kind) => Math.max(...SCORES[kind].map(([at, length]) => at + length));

/**
 * Schedules the notes of a kind of sound. A test passes an OfflineAudioContext.
 * @param {BaseAudioContext} context
 * @param {AudioNode} into
 * @param {Kind} kind
 * @param {number} start seconds, by the clock of the context
 */
export function perform(context, into, kind, start) {
  for (const [at, length, hz, wave, loud] of SCORES[kind]) {
    const tone = context.createOscillator();
    const gain = context.createGain();
    tone.type = wave;
    tone.frequency.value = hz;
    gain.gain.setValueAtTime(0, start + at);
    gain.gain.linearRampToValueAtTime(loud * 0.6, start + at + 0.012);
    gain.gain.setValueAtTime(loud * 0.6, start + at + length * 0.5);
    gain.gain.linearRampToValueAtTime(0, start + at + length);
    tone.connect(gain).connect(into);
    tone.start(start + at);
    tone.stop(start + at + length);
  }
}

/** Rings in rounds while any key rings. A key names an order, a booking or another reason, such as `cancelled/orders/7/orders/1`. */
export class Ringer {
  /** @type {AudioContext|null} */
  context = null;
  /** All sounds go through this node. @type {GainNode|null} */
  master = null;
  /** The volume, 0 to 1, in addition to the volume of the device. */
  #volume = 1;
  /** The number of finished rounds. */
  rounds = 0;
  /** The keys that ring, each with its kind of sound. @type {Map<string, Kind>} */
  ringing = new Map();

  /** Measures the audible amplitude. @type {AnalyserNode|null} */
  #ear = null;
  /** The volume of the current sound. @type {GainNode|null} */
  #voice = null;
  /** The kind of sound that plays now. @type {Kind|null} */
  #sounding = null;
  /** The timer of the pause between two rounds. @type {AudioScheduledSourceNode|null} */
  #pause = null;
  #inRound = false;
  /** The keys whose sound was audible at least once. @type {Set<string>} */
  #sounded = new Set();
  #onRung;
  #onChange;

  /**
   * @param {(keys: string[], kind: Kind) => void} onRung called when the sound of these keys was audible
   * @param {() => void} onChange called when the permission for sound, or the set of ringing keys, has changed
   */
  constructor(onRung, onChange) {
    this.#onRung = onRung;
    this.#onChange = onChange;
  }

  /** @param {number} volume 0 to 1 */
  setVolume(volume) {
    this.#volume = volume;
    if (this.master) this.master.gain.value = volume;
  }

  /** Whether the browser plays sound now. */
  get sounds() {
    return this.context?.state === "running";
  }

  /** The browser's permission for sound. @returns {import("./device.js").Answer} */
  get answer() {
    if (!("AudioContext" in window)) return "missing";
    return this.sounds ? "granted" : "refused";
  }

  /** Asks the browser to allow sound. A browser does so only while it handles a press. Returns whether sound is allowed. */
  async unlock() {
    if (this.answer === "missing") return false;
    if (!this.context) this.#build();
    if (!this.context) return false;
    if (this.context.state !== "running") {
      // If the browser refuses sound, the promise of resume() stays pending, so wait for 700 ms only.
      const refused = new Promise((resolve) => setTimeout(resolve, 700));
      await Promise.race([this.context.resume().catch(() => {}), refused]);
    }
    this.#start();
    return this.sounds;
  }

  #build() {
    /** @type {AudioContext} */
    let context;
    try {
      context = new AudioContext({ latencyHint: "interactive" });
    } catch {
      // The browser has no free audio output, for example because too many pages are open. The page tries again at
      // the next press.
      return;
    }
    const [master, press, ear] = [context.createGain(), context.createDynamicsCompressor(), context.createAnalyser()];
    ear.fftSize = 32768;
    master.gain.value = this.#volume;
    master.connect(press).connect(ear).connect(context.destination);
    context.onstatechange = () => {
      this.#start();
      this.#onChange();
    };
    this.context = context;
    this.master = master;
    this.#ear = ear;
  }

  /**
   * Rings for a key until {@link silence}.
   * @param {string} key
   * @param {Kind} kind
   */
  ring(key, kind) {
    if (this.ringing.get(key) === kind) return;
    this.ringing.set(key, kind);
    this.#sounded.delete(key);
    this.#onChange();
    if (this.#pause) this.#endPause();
    else this.#start();
  }

  /** Stops the sound of a key. @param {string} key */
  silence(key) {
    const kind = this.ringing.get(key);
    if (!kind) return;
    this.ringing.delete(key);
    this.#sounded.delete(key);
    const stillWanted = [...this.ringing.values()].includes(kind);
    if (!stillWanted && this.#sounding === kind) this.#hush();
    if (!this.ringing.size && this.#pause) this.#endPause();
    this.#onChange();
  }

  /** Plays a test sound. Returns whether the sound was audible. @param {Kind} [kind] */
  async test(kind = "order") {
    if (!(await this.unlock())) return false;
    return new Promise((resolve) => this.#play(kind, () => resolve(true), () => resolve(false)));
  }

  #start() {
    if (this.#inRound || !this.sounds || !this.ringing.size) return;
    this.#inRound = true;
    const kinds = KINDS.filter((kind) => [...this.ringing.values()].includes(kind));
    this.#round(kinds, this.context.currentTime);
  }

  /** Plays the sounds of one round, one after the other. @param {Kind[]} kinds the kinds that this round has not played yet @param {number} began start of the round, seconds */
  #round(kinds, began) {
    const [kind, ...others] = kinds;
    if (!kind) return this.#rest(began);
    const keys = [...this.ringing].filter(([, its]) => its === kind).map(([key]) => key);
    if (!keys.length) return this.#round(others, began);
    const heard = () => {
      keys.forEach((key) => this.#sounded.add(key));
      this.#onRung(keys, kind);
    };
    this.#play(kind, heard, () => this.#round(others, began));
  }

  /** Plays one sound. @param {Kind} kind @param {() => void} heard called if the sound is audible @param {() => void} done called after the sound */
  #play(kind, heard, done) {
    const voice = this.context.createGain();
    voice.connect(this.master);
    this.#voice = voice;
    this.#sounding = kind;
    const start = this.context.currentTime + 0.03;
    perform(this.context, voice, kind, start);
    this.#after(start + LISTEN_AFTER_S, () => this.#hears() && heard());
    this.#after(start + lengthOf(kind) + GAP_S, () => {
      this.#sounding = null;
      voice.disconnect();
      done();
    });
  }

  #hears() {
    const samples = new Float32Array(this.#ear.fftSize);
    this.#ear.getFloatTimeDomainData(samples);
    return samples.some((sample) => Math.abs(sample) > AUDIBLE);
  }

  #rest(began) {
    this.rounds += 1;
    const waiting = [...this.ringing];
    if (!waiting.length || waiting.some(([key]) => !this.#sounded.has(key))) return this.#next();
    const onlyOffline = waiting.every(([, kind]) => kind === "offline");
    const until = began + (onlyOffline ? OFFLINE_ROUND_S : ROUND_S);
    this.#pause = this.#after(until, () => this.#next());
  }

  #next() {
    this.#pause = null;
    this.#inRound = false;
    this.#start();
  }

  #endPause() {
    const pause = this.#pause;
    if (!pause) return;
    pause.onended = null;
    pause.stop();
    this.#next();
  }

  #hush() {
    const now = this.context.currentTime;
    this.#voice?.gain.setTargetAtTime(0, now, 0.015);
  }

  /** Calls a function when the audio clock reaches a time. @param {number} when seconds @param {() => void} then */
  #after(when, then) {
    const clock = this.context.createConstantSource();
    clock.offset.value = 0;
    clock.connect(this.master);
    clock.onended = () => {
      clock.disconnect();
      then();
    };
    clock.start();
    clock.stop(Math.max(when, this.context.currentTime));
    return clock;
  }
}
