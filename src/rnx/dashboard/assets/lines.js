// The lines of an output of any length in bounded memory. Lines are kept in blocks that begin with a chunk; of a block that
// is far from what is seen only its place remains, from which it is read again.

const ROWS = 1000;
const LETTERS = 1 << 17;
// Longest row; a longer line goes on in the next one.
export const LONGEST = 4096;
const KEPT = 60_000;
const KEPT_LETTERS = 24 << 20;

const index = (stream) => (stream === "stderr" ? 1 : 0);

// Makes rows of chunks, whose ends are anywhere.
class Splitter {
  constructor(carry) {
    this.carry = [...(carry ?? ["", ""])];
    this.decoders = [new TextDecoder(), new TextDecoder()];
  }

  push(chunk, rows) {
    const at = index(chunk.stream);
    if (chunk.lost_bytes) rows.push({ text: `${chunk.lost_bytes} bytes of output are lost here`, time: chunk.timestamp, stream: 2 });
    let text;
    if (chunk.data_base64 === undefined) text = this.decoders[at].decode() + chunk.data;
    else {
      const bytes = Uint8Array.from(atob(chunk.data_base64), (letter) => letter.charCodeAt(0));
      text = this.decoders[at].decode(bytes, { stream: true });
    }
    const put = (row) => rows.push({ text: row, time: chunk.timestamp, stream: at });
    let rest = this.carry[at] + text;
    let from = 0;
    for (;;) {
      let end = rest.indexOf("\n", from);
      const whole = end >= 0;
      if (!whole) end = rest.length;
      while (end - from > LONGEST) { put(rest.slice(from, from + LONGEST)); from += LONGEST; }
      if (!whole) break;
      put(rest.slice(from, end));
      from = end + 1;
    }
    this.carry[at] = rest.slice(from);
  }
}

export class Lines {
  constructor(load) {
    // Reads the chunks of a block again.
    this.load = load;
    this.blocks = [];
    this.total = 0;
    this.rows = 0;
    this.letters = 0;
    this.version = 0;
    this.splitter = new Splitter();
    this.time = "";
  }

  // Rows, with those of lines that have no end yet.
  get count() { return this.total + this.splitter.carry.filter((text) => text).length; }

  add(chunk) {
    let block = this.blocks.at(-1);
    if (!block || block.count >= ROWS || block.letters >= LETTERS) {
      block = { from: chunk.seq, start: this.total, count: 0, letters: 0, carry: [...this.splitter.carry], rows: [], used: 0 };
      this.blocks.push(block);
    }
    const before = block.rows.length;
    this.splitter.push(chunk, block.rows);
    block.next = chunk.seq + 1;
    let letters = 0;
    for (let at = before; at < block.rows.length; at += 1) letters += block.rows[at].text.length + 40;
    block.letters += letters;
    block.count = block.rows.length;
    this.total = block.start + block.count;
    this.rows += block.count - before;
    this.letters += letters;
    this.time = chunk.timestamp;
    this.version += 1;
    return block.count - before;
  }

  // The row, or null while it is read again.
  row(at) {
    if (at >= this.total) {
      const open = [0, 1].filter((stream) => this.splitter.carry[stream]);
      const stream = open[at - this.total];
      return stream === undefined ? null : { text: this.splitter.carry[stream], time: this.time, stream };
    }
    const block = this.blocks[this.find(at)];
    block.used = (this.clock = (this.clock ?? 0) + 1);
    if (block.rows) return block.rows[at - block.start] ?? null;
    this.read(block);
    return null;
  }

  find(at) {
    let [low, high] = [0, this.blocks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.blocks[middle].start <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  async read(block) {
    if (block.reading) return;
    block.reading = true;
    try {
      const chunks = await this.load(block.from, block.next);
      const splitter = new Splitter(block.carry);
      const rows = [];
      for (const chunk of chunks) splitter.push(chunk, rows);
      // The first chunk of a tail was cut, and comes whole now.
      block.rows = rows.slice(-block.count);
      while (block.rows.length < block.count) block.rows.unshift({ text: "", time: "", stream: 0 });
      this.rows += block.count;
      this.letters += block.letters;
      this.version += 1;
      this.changed?.();
    } finally {
      block.reading = false;
    }
  }

  // Forgets rows far from these.
  trim(first, end) {
    if (this.rows <= KEPT && this.letters <= KEPT_LETTERS) return;
    const middle = (first + end) / 2;
    const far = (block) => Math.abs(block.start + block.count / 2 - middle);
    const kept = this.blocks.slice(0, -1).filter((block) => block.rows && (block.start > end || block.start + block.count < first));
    kept.sort((a, b) => far(b) - far(a));
    for (const block of kept) {
      if (this.rows <= KEPT * 0.75 && this.letters <= KEPT_LETTERS * 0.75) break;
      block.rows = null;
      this.rows -= block.count;
      this.letters -= block.letters;
    }
  }
}
