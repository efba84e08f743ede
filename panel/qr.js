/**
 * Makes the QR code of a short text (ISO/IEC 18004). The code has byte mode and the lowest level of error correction,
 * because a camera reads a clean screen easily.
 *
 * @module qr
 */

/** For each version of a QR code, beginning with version 1: the bytes of error correction in each block, and the number of blocks. */
const CORRECTION = [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28];
const BLOCKS = [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8];
const MASKS = [
  (x, y) => (x + y) % 2,
  (x, y) => y % 2,
  (x) => x % 3,
  (x, y) => (x + y) % 3,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2,
  (x, y) => ((x * y) % 2) + ((x * y) % 3),
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];

/** The rows of modules; true is a dark module. Null if the text is longer than 858 bytes. @param {string} text @returns {boolean[][]|null} */
export function qr(text) {
  const bytes = [...new TextEncoder().encode(text)];
  const version = CORRECTION.findIndex((_, index) => bytes.length + (index < 9 ? 2 : 3) <= dataBytes(index + 1)) + 1;
  if (!version) return null;
  const code = new Code(version, interleaved(version, padded(version, bytes)));
  return code.best();
}

/** The number of modules that carry data or error correction. @param {number} version */
function rawModules(version) {
  const marks = Math.floor(version / 7) + 2;
  const most = (16 * version + 128) * version + 64;
  return most - (version < 2 ? 0 : (25 * marks - 10) * marks - 55) - (version < 7 ? 0 : 36);
}

/** The number of bytes that carry data. @param {number} version */
const dataBytes = (version) => Math.floor(rawModules(version) / 8) - CORRECTION[version - 1] * BLOCKS[version - 1];

/** Adds the header to the data, and pads the data to the capacity of the version. @param {number} version @param {number[]} bytes */
function padded(version, bytes) {
  const head = `0100${bytes.length.toString(2).padStart(version < 10 ? 8 : 16, "0")}`;
  const bits = `${head}${bytes.map((byte) => byte.toString(2).padStart(8, "0")).join("")}0000`;
  const made = (bits.match(/.{1,8}/g) ?? []).map((byte) => parseInt(byte.padEnd(8, "0"), 2)).slice(0, dataBytes(version));
  for (let fill = 0xec; made.length < dataBytes(version); fill ^= 0xec ^ 0x11) made.push(fill);
  return made;
}

/** Multiplies in the Galois field of 256 elements. @param {number} a @param {number} b */
function times(a, b) {
  let product = 0;
  for (let bit = 7; bit >= 0; bit -= 1) product = (product << 1) ^ ((product >>> 7) * 0x11d) ^ (((b >>> bit) & 1) * a);
  return product;
}

/** The Reed-Solomon generator polynomial, without its leading coefficient. @param {number} degree */
function divisor(degree) {
  const made = [...new Array(degree - 1).fill(0), 1];
  for (let step = 0, root = 1; step < degree; step += 1, root = times(root, 2)) {
    for (let at = 0; at < degree; at += 1) made[at] = times(made[at], root) ^ (made[at + 1] ?? 0);
  }
  return made;
}

/** The Reed-Solomon remainder of the data. @param {number[]} data @param {number[]} by */
function remainder(data, by) {
  let left = new Array(by.length).fill(0);
  for (const byte of data) {
    const factor = byte ^ left[0];
    left = [...left.slice(1), 0].map((value, at) => value ^ times(by[at], factor));
  }
  return left;
}

/**
 * Splits the data into blocks, adds the error correction to each block, and interleaves the blocks byte by byte.
 * @param {number} version
 * @param {number[]} data
 */
function interleaved(version, data) {
  const [count, degree] = [BLOCKS[version - 1], CORRECTION[version - 1]];
  const short = Math.floor(data.length / count);
  const long = data.length % count;
  const by = divisor(degree);
  const blocks = [];
  for (let block = 0, at = 0; block < count; block += 1) {
    const length = short + (block >= count - long ? 1 : 0);
    blocks.push(data.slice(at, at + length));
    at += length;
  }
  const checks = blocks.map((block) => remainder(block, by));
  const inTurn = (parts, length) => Array.from({ length }, (_, at) => parts.flatMap((part) => (at < part.length ? [part[at]] : []))).flat();
  return [...inTurn(blocks, short + 1), ...inTurn(checks, degree)];
}

class Code {
  #size;
  #version;
  /** Whether each module is dark, by row. @type {boolean[][]} */
  #dark;
  /** Whether each module belongs to a fixed pattern, which carries no data. @type {boolean[][]} */
  #fixed;

  /** @param {number} version @param {number[]} words */
  constructor(version, words) {
    this.#version = version;
    this.#size = version * 4 + 17;
    const grid = () => Array.from({ length: this.#size }, () => new Array(this.#size).fill(false));
    [this.#dark, this.#fixed] = [grid(), grid()];
    this.#drawFixed();
    this.#drawWords(words);
  }

  /** The rows of modules, with the mask that has the lowest penalty. */
  best() {
    const tried = MASKS.map((_, mask) => {
      this.#mask(mask);
      const [rows, cost] = [this.#dark.map((row) => [...row]), this.#cost()];
      this.#mask(mask, false);
      return { rows, cost };
    });
    return tried.reduce((one, other) => (other.cost < one.cost ? other : one)).rows;
  }

  #set(x, y, dark) {
    this.#dark[y][x] = Boolean(dark);
    this.#fixed[y][x] = true;
  }

  #drawFixed() {
    const end = this.#size - 7;
    for (let at = 0; at < this.#size; at += 1) {
      this.#set(6, at, at % 2 === 0);
      this.#set(at, 6, at % 2 === 0);
    }
    for (const [x, y] of [[3, 3], [this.#size - 4, 3], [3, this.#size - 4]]) this.#ring(x, y, 4, [0, 1, 3]);
    const marks = this.#version < 2 ? 0 : Math.floor(this.#version / 7) + 2;
    const step = Math.ceil((this.#size - 13) / (marks * 2 - 2)) * 2;
    const places = Array.from({ length: marks }, (_, at) => (at ? end - (marks - 1 - at) * step : 6));
    for (const x of places) for (const y of places) if (!((x === 6 && (y === 6 || y === end)) || (x === end && y === 6))) this.#ring(x, y, 2, [0, 2]);
    this.#drawFormat(0);
    if (this.#version < 7) return;
    let rest = this.#version;
    for (let step = 0; step < 12; step += 1) rest = (rest << 1) ^ ((rest >>> 11) * 0x1f25);
    const bits = (this.#version << 12) | rest;
    for (let bit = 0; bit < 18; bit += 1) {
      const [a, b] = [this.#size - 11 + (bit % 3), Math.floor(bit / 3)];
      this.#set(a, b, (bits >>> bit) & 1);
      this.#set(b, a, (bits >>> bit) & 1);
    }
  }

  /** Draws concentric squares around the centre (`x`, `y`), out to the distance `reach`. `dark` lists the distances whose squares are dark. */
  #ring(x, y, reach, dark) {
    for (let dy = -reach; dy <= reach; dy += 1) {
      for (let dx = -reach; dx <= reach; dx += 1) {
        const [a, b] = [x + dx, y + dy];
        if (a >= 0 && b >= 0 && a < this.#size && b < this.#size) this.#set(a, b, dark.includes(Math.max(Math.abs(dx), Math.abs(dy))));
      }
    }
  }

  #drawFormat(mask) {
    const data = (1 << 3) | mask;
    let rest = data;
    for (let step = 0; step < 10; step += 1) rest = (rest << 1) ^ ((rest >>> 9) * 0x537);
    const bits = ((data << 10) | rest) ^ 0x5412;
    const bit = (at) => (bits >>> at) & 1;
    for (let at = 0; at < 6; at += 1) this.#set(8, at, bit(at));
    this.#set(8, 7, bit(6));
    this.#set(8, 8, bit(7));
    this.#set(7, 8, bit(8));
    for (let at = 9; at < 15; at += 1) this.#set(14 - at, 8, bit(at));
    for (let at = 0; at < 8; at += 1) this.#set(this.#size - 1 - at, 8, bit(at));
    for (let at = 8; at < 15; at += 1) this.#set(8, this.#size - 15 + at, bit(at));
    this.#set(8, this.#size - 8, 1);
  }

  #drawWords(words) {
    let bit = 0;
    for (let right = this.#size - 1; right >= 1; right -= 2) {
      if (right === 6) right = 5;
      for (let step = 0; step < this.#size; step += 1) {
        for (const x of [right, right - 1]) {
          const y = ((right + 1) & 2) === 0 ? this.#size - 1 - step : step;
          if (this.#fixed[y][x] || bit >= words.length * 8) continue;
          this.#dark[y][x] = Boolean((words[bit >>> 3] >>> (7 - (bit & 7))) & 1);
          bit += 1;
        }
      }
    }
  }

  #mask(mask, draws = true) {
    if (draws) this.#drawFormat(mask);
    this.#dark.forEach((row, y) => row.forEach((_, x) => (this.#dark[y][x] = this.#dark[y][x] !== (!this.#fixed[y][x] && MASKS[mask](x, y) === 0))));
  }

  /** The penalty of a mask. Four things raise it: long runs of one colour, blocks of one colour, patterns that look like a finder pattern, and too much of one colour. */
  #cost() {
    const lines = [...this.#dark, ...this.#dark.map((_, x) => this.#dark.map((row) => row[x]))].map((line) => line.map(Number).join(""));
    const runs = lines.flatMap((line) => line.match(/0{5,}|1{5,}/g) ?? []).reduce((sum, run) => sum + run.length - 2, 0);
    const finders = lines.reduce((sum, line) => sum + (line.match(/(?=00001011101|10111010000)/g) ?? []).length * 40, 0);
    let blocks = 0;
    for (let y = 1; y < this.#size; y += 1) {
      for (let x = 1; x < this.#size; x += 1) {
        const [a, b] = [this.#dark[y - 1], this.#dark[y]];
        if (b[x] === b[x - 1] && b[x] === a[x] && b[x] === a[x - 1]) blocks += 3;
      }
    }
    const dark = this.#dark.flat().filter(Boolean).length;
    return runs + finders + blocks + Math.floor(Math.abs(dark / this.#size ** 2 - 0.5) * 20) * 10;
  }
}
