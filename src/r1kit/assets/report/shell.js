/* What all parts of the page use: elements from text, unpacking, the theme, and where the reader is. */
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/* An element; children are elements or text. Text never becomes markup. */
function make(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

const dataOf = (id) => JSON.parse(document.getElementById(id).textContent);

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place++) bytes[place] = binary.charCodeAt(place);
  return bytes;
}

/* The text that was deflated into an element. */
async function unpack(id) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser cannot unpack the report's data: it is older than 2023");
  }
  const stream = new Blob([bytesOf(document.getElementById(id).textContent)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

const distinct = (values) => [...new Set(values)];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const runs = dataOf("runs-data");
const runColor = (run) => css(`--s${run % 7}`);
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}%`;

/* Light and dark: the system's wish until the reader has one. */
const themeListeners = [];
function setUpTheme() {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const changed = () => themeListeners.forEach((listener) => listener());
  $("#theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    changed();
  });
  dark.addEventListener("change", changed);
}

function paintSwatches() {
  for (const swatch of $$(".swatch[data-run]")) swatch.style.setProperty("--c", runColor(Number(swatch.dataset.run)));
}

/* The navigation marks the section that is at the top of the window. */
function followReader() {
  const links = new Map($$(".bar nav a").map((link) => [link.getAttribute("href").slice(1), link]));
  const sections = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  let here = null;
  const look = () => {
    const atEnd = window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 2;
    const passed = sections.filter((section) => section.getBoundingClientRect().top < 140);
    const now = atEnd && window.scrollY > 0 ? sections.at(-1) : passed.at(-1) || sections[0];
    if (!now || now === here) return;
    here = now;
    for (const [id, link] of links) link.classList.toggle("here", id === now.id);
    const [nav, link] = [$(".bar nav"), links.get(now.id)];
    nav.scrollLeft = link.offsetLeft - nav.offsetLeft - nav.clientWidth / 2 + link.clientWidth / 2;
  };
  let asked = false;
  window.addEventListener("scroll", () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; look(); });
  }, { passive: true });
  look();
}

setUpTheme();
followReader();
paintSwatches();
themeListeners.push(paintSwatches);
