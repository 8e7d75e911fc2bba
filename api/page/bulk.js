// Cancelling, replaying and discarding all jobs that match a filter: counted before it happens.

import { ask, askWithKey } from "./api.js";
import { byId, make, setText, toast } from "./dom.js";
import { count } from "./format.js";

const PAGE = 1000; // jobs that the api lists at once
const MOST = 10_000; // jobs that one action may be about
const AT_ONCE = 6; // requests: a browser opens no more to one server
const BUSY = [429, 503]; // answers after which a request is sent again, by Retry-After
const MAX_PAUSES = 3; // without an answer in between
const MAX_PAUSE = 30; // seconds
const OPEN = ["queued", "assigned", "charging"];

/** Return the query of GET /charges for what a filter of the table matches. */
export function jobQuery({ text, status, substation }) {
  const given = Object.entries({ search: text, status, substation }).filter(([, value]) => value);
  return new URLSearchParams(given);
}

/** Replay or discard parked jobs; return a sentence about what became of them. */
export async function settleParked(action, ids) {
  const total = { done: 0, missing: 0, refused: [] };
  for (let start = 0; start < ids.length; start += PAGE) {
    let answer;
    try {
      answer = await askWithKey("POST", `/parked/${action}`, { ids: ids.slice(start, start + PAGE) });
    } catch (error) {
      if (start === 0) throw error;
      throw new Error(`${settled(action, total)} Stopped, ${count(ids.length - start)} left: ${error.message}`);
    }
    const { done, missing, refused } = answer;
    total.done += done.length;
    total.missing += missing.length;
    total.refused.push(...refused.map((each) => each.reason));
  }
  return settled(action, total);
}

function settled(action, total) {
  const parts = [`${jobs(total.done)} ${action === "replay" ? "replayed" : "discarded"}`];
  if (total.missing) parts.push(`${count(total.missing)} not parked any more`);
  if (total.refused.length) parts.push(`${count(total.refused.length)} refused: ${total.refused[0]}`);
  return `${parts.join(", ")}.`;
}

export class BulkDialog {
  #abilities = {};
  #dialog = byId("bulk-dialog");
  #busy = false;

  constructor() {
    this.#dialog.addEventListener("cancel", (event) => { if (this.#busy) event.preventDefault(); });
  }

  set abilities(value) {
    this.#abilities = value;
  }

  /** Return whether anything can be done with the jobs of a filter, which must not be empty. */
  canAct({ text, status, substation }) {
    const { cancel, search, replay, discard } = this.#abilities;
    if (!(text || status || substation) || (text && !search)) return false;
    return (cancel && (!status || OPEN.includes(status))) || ((replay || discard) && (!status || status === "parked"));
  }

  /** Count what matches, and offer what can be done with it. */
  async open(filter) {
    const words = [filter.status && `in state ${filter.status}`, filter.substation && `at ${filter.substation}`, filter.text && `with “${filter.text}” in id or vehicle`].filter(Boolean);
    const body = make("div", {}, make("p", { class: "note" }, "Counting"));
    this.#dialog.replaceChildren(
      make("h2", { id: "bulk-dialog-title" }, "All jobs ", words.join(", ")), body,
      make("div", { class: "buttons" }, make("button", { type: "button", onclick: () => { if (!this.#busy) this.#dialog.close(); } }, "Close")),
    );
    this.#dialog.showModal();
    try {
      const found = await this.#find(filter);
      body.replaceChildren(...this.#offers(found));
    } catch (error) {
      body.replaceChildren(make("p", { class: "empty" }, error.message));
    }
  }

  /** Find the jobs as the table does: by the same query, but all of them. */
  async #find(filter) {
    const found = { open: [], parked: [], isCut: false };
    const states = [...(this.#abilities.cancel ? OPEN : []), "parked"].filter((each) => !filter.status || each === filter.status);
    if (!states.length) return found; // without a state, the query would match every job
    const query = jobQuery({ ...filter, status: states.join(",") });
    query.set("limit", PAGE);
    let after = null;
    do {
      if (after) query.set("after", after);
      const page = await ask("GET", `/charges?${query}`);
      for (const job of page.charges) (job.status === "parked" ? found.parked : found.open).push(job.id);
      after = page.next;
      found.isCut = Boolean(after) && found.open.length + found.parked.length >= MOST;
    } while (after && !found.isCut);
    return found;
  }

  #offers({ open, parked, isCut }) {
    const offers = [];
    const offer = (ids, label, kind, act) => {
      if (ids.length) offers.push(make("button", { type: "button", class: kind, onclick: (event) => this.#act(event.target, act) }, `${label} ${jobs(ids.length)}`));
    };
    if (this.#abilities.cancel) offer(open, "Cancel", "danger", (progress) => cancelAll(open, progress));
    if (this.#abilities.replay) offer(parked, "Replay", "", () => settleParked("replay", parked));
    if (this.#abilities.discard) offer(parked, "Discard", "danger", () => settleParked("discard", parked));
    const said = `${jobs(open.length)} waiting or charging, ${count(parked.length)} parked.`;
    return [
      make("p", {}, offers.length ? said : `${said} Nothing can be done with them here.`),
      isCut ? make("p", { class: "note" }, `Only the first ${count(MOST)} are taken.`) : "",
      make("div", { class: "buttons offers" }, offers),
      make("p", { class: "note progress", role: "status" }),
    ];
  }

  async #act(button, act) {
    const buttons = [...this.#dialog.querySelectorAll("button")];
    const progress = this.#dialog.querySelector(".progress");
    this.#busy = true;
    for (const each of buttons) each.disabled = true;
    try {
      toast(await act((done, total) => setText(progress, `${count(done)} of ${count(total)}`)));
      this.#dialog.close();
    } catch (error) {
      setText(progress, error.message);
    } finally {
      this.#busy = false;
      for (const each of buttons) each.disabled = false;
    }
  }
}

async function cancelAll(ids, progress) {
  const left = [...ids];
  const outcome = { cancelled: 0, later: 0, ended: 0 };
  let pause = null; // over once the api wants requests again
  let pauses = 0; // since a request was answered
  let failure = null;
  const work = async () => {
    while (left.length && !failure) {
      if (pause) {
        await pause;
        continue;
      }
      const id = left.shift();
      try {
        const { status } = await askWithKey("DELETE", `/charge/${encodeURIComponent(id)}`);
        outcome[status === "cancelled" ? "cancelled" : "later"] += 1;
      } catch (error) {
        if (error.status !== 409 && error.status !== 404) {
          left.unshift(id);
          if (pause) continue;
          if (!BUSY.includes(error.status) || pauses === MAX_PAUSES) {
            failure ??= error;
            return;
          }
          pauses += 1;
          pause = sleep(Math.min(error.retryAfter, MAX_PAUSE)).then(() => { pause = null; });
          continue;
        }
        outcome.ended += 1;
      }
      pauses = 0;
      progress(outcome.cancelled + outcome.later + outcome.ended, ids.length);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const parts = [`${jobs(outcome.cancelled)} cancelled`];
  if (outcome.later) parts.push(`${count(outcome.later)} will be as soon as a service has them`);
  if (outcome.ended) parts.push(`${count(outcome.ended)} had ended`);
  if (failure) throw new Error(`${parts.join(", ")}, ${count(left.length)} left. Stopped: ${failure.message}`);
  return `${parts.join(", ")}.`;
}

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const jobs = (number) => (number === 1 ? "1 job" : `${count(number)} jobs`);
