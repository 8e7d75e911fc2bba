// Requests to the api, with the key of this tab if there is one.

const STORED = "smart-grid-key";
let asking = null;

export const key = () => sessionStorage.getItem(STORED) ?? "";

/** Keep a key for this tab, or none. */
function store(value) {
  if (value) sessionStorage.setItem(STORED, value);
  else sessionStorage.removeItem(STORED);
  document.dispatchEvent(new Event("key-changed"));
}

/** Return the headers of a request. */
export function headers(more = {}) {
  return key() ? { ...more, Authorization: `Bearer ${key()}` } : more;
}

/** An answer of the api that is an error; its text says what is wrong and what to do. */
export class Problem extends Error {
  constructor(status, detail, retryAfter = 1, code = "") {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter; // seconds
    this.code = code;
  }
}

/** Send a request and return its JSON. Throw a Problem if the api refuses it. */
export async function ask(method, path, body) {
  const init = { method, headers: headers(body === undefined ? {} : { "Content-Type": "application/json" }) };
  if (body !== undefined) init.body = JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(path, init);
  } catch {
    throw new Problem(0, "The api does not answer.");
  }
  if (!answer.ok) throw await problem(answer);
  return answer.json();
}

/** Return the problem of an answer that is an error. */
export async function problem(answer) {
  const retryAfter = Number(answer.headers.get("Retry-After")) || 1;
  try {
    const { detail, code } = await answer.json();
    return new Problem(answer.status, detail, retryAfter, code);
  } catch {
    return new Problem(answer.status, `The api answered ${answer.status}.`);
  }
}

const wantsKey = (error) => error.status === 401 || error.status === 403;

/** As `ask`; if the api wants a key, or another one, ask the user for it and try once more. */
export async function askWithKey(method, path, body) {
  let kept = "";
  try {
    return await ask(method, path, body);
  } catch (error) {
    if (!wantsKey(error)) throw error;
    if (error.status === 403) kept = key(); // it is valid, and of use for something else
    if (!(await askForKey(key() ? error.message : ""))) throw error;
  }
  try {
    return await ask(method, path, body);
  } catch (error) {
    if (wantsKey(error)) store(kept); // the new one is of no use for this
    throw error;
  }
}

/** Show the dialog for the key; return whether one was entered. */
export function askForKey(why = "") {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("key-dialog");
    const input = document.getElementById("key-input");
    const text = document.getElementById("key-why");
    text.dataset.usual ??= text.textContent;
    text.textContent = why ? sentence(why) : text.dataset.usual;
    input.value = key();
    dialog.returnValue = "cancel";
    dialog.addEventListener("close", () => {
      asking = null;
      const entered = input.value.trim();
      input.value = "";
      store(dialog.returnValue === "use" && entered ? entered : dialog.returnValue === "forget" ? "" : key());
      resolve(dialog.returnValue === "use" && entered !== "");
    }, { once: true });
    dialog.showModal();
    input.focus();
  });
  return asking;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** Return what the api can do, by its own document: which parameters and operations there are. */
export async function abilities() {
  try {
    const { paths } = await ask("GET", "/openapi.json");
    const listed = new Set((paths["/charges"]?.get?.parameters ?? []).map((each) => each.name));
    return {
      cancel: Boolean(paths["/charge/{id}"]?.delete),
      search: listed.has("search"),
      newestFirst: listed.has("order"),
      replay: Boolean(paths["/parked/replay"]?.post),
      discard: Boolean(paths["/parked/discard"]?.post),
    };
  } catch {
    return {};
  }
}
