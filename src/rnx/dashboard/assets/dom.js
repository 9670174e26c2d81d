// Elements. Every text goes in as text: no markup is ever made of a string.

import { visible } from "./ansi.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name in element && name !== "list" && !(element instanceof SVGElement)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(String(child))));
  }
  return element;
}

// An element with attributes, listeners ("onclick") and children, which are nodes or texts.
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// The same in a picture.
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat(3).filter((child) => child));
  return element;
}

// A table with headings; rows are lists of cells.
export function table(caption, headings, rows) {
  const head = el("tr", {}, headings.map((heading) => el("th", { scope: "col" }, heading)));
  const body = rows.map((cells) => el("tr", {}, cells.map((cell) => el("td", {}, cell))));
  return el("div", { class: "scroll", tabIndex: 0, role: "region", ariaLabel: caption },
    el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, head), el("tbody", {}, body)));
}

// Names and values, one pair a line.
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return el("dl", { class: "facts" }, shown.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

// The word of a status, with its colour.
export function status(word) {
  return el("span", { class: `status ${String(word).toLowerCase().replace(/[^a-z]/g, "")}` }, word);
}

// A sentence that stays at the top until the next one.
export function notice(text) {
  document.getElementById("notice").textContent = text ?? "";
}

// Asks a question; the answer is true for yes.
export function ask(question, yes) {
  const dialog = document.getElementById("dialog");
  return new Promise((resolve) => {
    const answer = (value) => () => { dialog.close(); resolve(value); };
    dialog.replaceChildren(el("p", {}, question),
      el("div", { class: "buttons" },
        el("button", { class: "danger", onclick: answer(true) }, yes),
        el("button", { onclick: answer(false), autofocus: true }, "Back")));
    dialog.oncancel = () => resolve(false);
    dialog.showModal();
  });
}
