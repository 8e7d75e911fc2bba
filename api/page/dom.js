// Small helpers to build and change elements. Nothing is ever set as HTML.

/** Return a new element; `children` are elements or text, null is left out. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((each) => each !== null && each !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Set an element's text, if it differs: setting the same text costs a layout too. */
export function setText(element, text) {
  const value = String(text);
  if (element.textContent !== value) element.textContent = value;
}

export function setAttribute(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

export function setHidden(element, hidden) {
  if (element.hidden !== hidden) element.hidden = hidden;
}

/** Return the row of a table's body that has the focus, or null. */
export const focusedRow = (body) => (body.contains(document.activeElement) ? document.activeElement.closest("tr") : null);

/**
 * Put children in this order, moving as few as possible. `kept` is never moved or removed, so that
 * it keeps the focus: it must be one of the children; the others are moved around it.
 */
export function arrange(parent, children, kept = null) {
  let next = parent.firstChild;
  for (const child of children) {
    while (child === kept && next !== kept) {
      const following = next.nextSibling;
      next.remove();
      next = following;
    }
    if (child === next) next = next.nextSibling;
    else parent.insertBefore(child, next);
  }
  while (next) {
    const following = next.nextSibling;
    next.remove();
    next = following;
  }
}

/** Return a horizontal bar of a share; parts are [class, share] from the left. */
export function meter(...parts) {
  return make("span", { class: "meter", "aria-hidden": "true" }, parts.map(([kind, share]) => {
    const part = make("span", { class: kind });
    part.style.width = `${Math.min(100, Math.max(0, share * 100))}%`;
    return part;
  }));
}

/** Call `onChange` with each element that comes into view or leaves it; `root` scrolls. */
export function watchVisible(onChange, root = null) {
  return new IntersectionObserver(
    (entries) => onChange(entries.map((each) => [each.target, each.isIntersecting])),
    { root, rootMargin: "300px" },
  );
}

let toastTimer = 0;

/** Show a message for some seconds; it is read out as well. */
export function toast(text, kind = "") {
  const toasts = byId("toasts");
  toasts.replaceChildren(make("p", { class: `toast ${kind}` }, text));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => toasts.replaceChildren(), kind === "bad" ? 9000 : 5000);
}
