// Numbers and times as people read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(number) {
  if (number === undefined || number === null) return "n/a";
  let at = 0;
  while (Math.abs(number) >= 1024 && at < UNITS.length - 1) { number /= 1024; at += 1; }
  return `${at === 0 || number >= 100 ? Math.round(number) : number.toFixed(1)}\u00a0${UNITS[at]}`;
}

export const rate = (number) => (number === undefined || number === null ? "n/a" : `${bytes(number)}/s`);
export const percent = (number) => (number === undefined || number === null ? "n/a" : `${number.toFixed(1)}\u00a0%`);

export function span(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

const seconds = (text) => Date.parse(text) / 1000;

// How long a job took, or takes so far.
export function took(start, end) {
  if (!start) return "";
  return span((end ? seconds(end) : Date.now() / 1000) - seconds(start));
}

export function ago(text) {
  return text ? `${span(Math.max(0, Date.now() / 1000 - seconds(text)))} ago` : "";
}

const two = (number) => String(number).padStart(2, "0");

// A moment on this machine's clock.
export function moment(text) {
  if (!text) return "";
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return text;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

// The time of day with milliseconds, for a line of output.
export function clock(text) {
  if (!text) return "";
  const date = new Date(text);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.` +
    String(date.getMilliseconds()).padStart(3, "0");
}

export const short = (id) => String(id).slice(0, 8);
export const isOver = (status) => ["COMPLETED", "FAILED", "STOPPED", "CANCELED"].includes(status);

// Words of a command line: blanks separate, quotes and backslashes keep together, as in a shell without expansions.
export function words(line) {
  const found = [];
  let word = null;
  let quote = "";
  for (let at = 0; at < line.length; at += 1) {
    const letter = line[at];
    if (quote) {
      if (letter === quote) quote = "";
      else if (letter === "\\" && quote === '"' && '"\\$`'.includes(line[at + 1] ?? " ")) { at += 1; word += line[at]; }
      else word += letter;
    } else if (letter === "'" || letter === '"') {
      quote = letter;
      word ??= "";
    } else if (letter === "\\" && at + 1 < line.length) {
      at += 1;
      word = (word ?? "") + line[at];
    } else if (/\s/.test(letter)) {
      if (word !== null) found.push(word);
      word = null;
    } else word = (word ?? "") + letter;
  }
  if (quote) throw new Error(`the quote ${quote} is not closed`);
  if (word !== null) found.push(word);
  return found;
}
