// One line of output as pieces with colours. Escape sequences other than colours are left out, and what is invisible or
// changes the direction of text is shown as a sign.

const COLOURS = /\u001b\[([0-9;:]*)m/y;
const OTHER = /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -/]*[0-~])/y;
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

// Text in which everything can be seen.
export function visible(text) {
  return text.replace(HIDDEN, (letter) => {
    const code = letter.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`;
  });
}

function colour(parts, at) {
  // 38;5;N or 38;2;R;G;B
  if (parts[at + 1] === 5) {
    const n = parts[at + 2] ?? 0;
    if (n < 16) return [2, n];
    if (n > 231) { const grey = 8 + (n - 232) * 10; return [2, `rgb(${grey},${grey},${grey})`]; }
    const level = (v) => (v === 0 ? 0 : 55 + v * 40);
    const cube = n - 16;
    return [2, `rgb(${level(Math.floor(cube / 36))},${level(Math.floor(cube / 6) % 6)},${level(cube % 6)})`];
  }
  if (parts[at + 1] === 2) {
    const [r, g, b] = parts.slice(at + 2, at + 5).map((v) => Math.min(255, v || 0));
    return [4, `rgb(${r ?? 0},${g ?? 0},${b ?? 0})`];
  }
  return [0, null];
}

function change(look, codes) {
  const parts = codes.split(/[;:]/).map(Number);
  for (let at = 0; at < parts.length; at += 1) {
    const code = parts[at];
    if (code === 0) look = {};
    else if (code === 1) look = { ...look, bold: true };
    else if (code === 2) look = { ...look, dim: true };
    else if (code === 3) look = { ...look, italic: true };
    else if (code === 4) look = { ...look, underline: true };
    else if (code === 7) look = { ...look, inverse: true };
    else if (code === 22) look = { ...look, bold: false, dim: false };
    else if (code === 23) look = { ...look, italic: false };
    else if (code === 24) look = { ...look, underline: false };
    else if (code === 27) look = { ...look, inverse: false };
    else if (code >= 30 && code <= 37) look = { ...look, front: code - 30 };
    else if (code >= 90 && code <= 97) look = { ...look, front: code - 82 };
    else if (code >= 40 && code <= 47) look = { ...look, back: code - 40 };
    else if (code >= 100 && code <= 107) look = { ...look, back: code - 92 };
    else if (code === 39) look = { ...look, front: undefined };
    else if (code === 49) look = { ...look, back: undefined };
    else if (code === 38 || code === 48) {
      const [used, value] = colour(parts, at);
      if (value !== null) look = { ...look, [code === 38 ? "front" : "back"]: value };
      at += used;
    }
  }
  return look;
}

// The pieces of a line: text and look. A carriage return begins the line anew, as a terminal shows a bar of progress.
export function pieces(line) {
  const again = line.replace(/\r+$/, "").lastIndexOf("\r");
  if (again >= 0) line = line.slice(again + 1);
  line = line.replace(/\r+$/, "");
  if (!line.includes("\u001b")) return [{ text: visible(line), look: {} }];
  const found = [];
  let look = {};
  let text = "";
  const put = () => { if (text) found.push({ text: visible(text), look }); text = ""; };
  for (let at = 0; at < line.length;) {
    if (line[at] !== "\u001b") {
      const next = line.indexOf("\u001b", at);
      text += next < 0 ? line.slice(at) : line.slice(at, next);
      at = next < 0 ? line.length : next;
      continue;
    }
    COLOURS.lastIndex = at;
    const colours = COLOURS.exec(line);
    if (colours) { put(); look = change(look, colours[1]); at = COLOURS.lastIndex; continue; }
    OTHER.lastIndex = at;
    if (OTHER.exec(line)) at = OTHER.lastIndex;
    else { text += line[at]; at += 1; }
  }
  put();
  return found;
}

// The element of a piece.
export function paint(element, look) {
  const names = ["bold", "dim", "italic", "underline", "inverse"].filter((name) => look[name]);
  for (const [side, value] of [["front", look.front], ["back", look.back]]) {
    if (typeof value === "number") names.push(`${side}${value}`);
    else if (value) element.style[side === "front" ? "color" : "backgroundColor"] = value;
  }
  element.className = names.join(" ");
}
