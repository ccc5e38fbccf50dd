/** Small helpers for building the page. Text only ever becomes text: nothing here reads markup. */

/** The element with this id. @param {string} id @returns {any} */
export function by(id) {
  return document.getElementById(id);
}

/**
 * A new element.
 * @param {string} tag
 * @param {Object<string, any>} [settings] attributes; `class`, `data-*`, `aria-*`; functions become listeners (`onclick`)
 * @param {...(Node|string|number|null)} children strings become text
 * @returns {HTMLElement}
 */
export function make(tag, settings = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((each) => each !== null).map((each) => (each instanceof Node ? each : String(each))));
  return element;
}

/** Replace what an element holds. @param {Element} parent @param {...(Node|string)} children */
export function fill(parent, ...children) {
  parent.replaceChildren(...children);
}

/** Fill a select, and keep its choice if it is still there. @param {HTMLSelectElement} select @param {Array<[string, string]>} options value and name */
export function choices(select, options) {
  const before = select.value;
  fill(select, ...options.map(([value, name]) => make("option", { value }, name)));
  if (options.some(([value]) => value === before)) select.value = before;
}

/** Names and values as <dt> and <dd>. @param {Element} list @param {Array<[string, string]>} pairs */
export function describe(list, pairs) {
  fill(list, ...pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/**
 * One tab stop for a group of elements; arrow keys move inside it.
 * @param {Element} group
 * @param {string} selector of its members
 * @param {() => number} [columns] members in a row; up and down move by so many
 */
export function rove(group, selector, columns = () => 1) {
  const members = () => /** @type {HTMLElement[]} */ ([...group.querySelectorAll(selector)]);
  group.addEventListener("focusin", (event) => {
    const all = members();
    const at = all.indexOf(/** @type {HTMLElement} */ (event.target.closest(selector)));
    if (at >= 0) all.forEach((each, index) => (each.tabIndex = index === at ? 0 : -1));
  });
  group.addEventListener("keydown", (event) => {
    const all = members();
    const at = all.indexOf(/** @type {HTMLElement} */ (event.target.closest(selector)));
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns(), Home: -at, End: all.length - 1 - at };
    const to = at + (steps[event.key] ?? 0);
    if (at < 0 || !(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    all[Math.max(0, Math.min(all.length - 1, to))].focus();
  });
}

/** Let only the first member of a group (or the marked one) be a tab stop. @param {HTMLElement[]} members @param {number} [at] */
export function oneStop(members, at = 0) {
  members.forEach((each, index) => (each.tabIndex = index === at ? 0 : -1));
}

/** Run something at most once a frame. @param {() => void} work @returns {() => void} */
export function onceAFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

/** What was kept under a key in this browser, or null. @param {string} key */
export function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // a private window
  }
}

/** Keep something in this browser. @param {string} key @param {string} value */
export function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    /* a private window: it lasts as long as the page */
  }
}
