// One job: its timeline, and the decision candidate by candidate.

import { ask, askWithKey } from "./api.js";
import { settleParked } from "./bulk.js";
import { byId, make, meter, toast } from "./dom.js";
import { NONE, count, duration, figure, percent, seconds, time } from "./format.js";

const STEPS = ["queued", "assigned", "charging", "completed", "cancelled", "expired", "parked"];
const WORDS = {
  queued: "Accepted", assigned: "Sent", charging: "Charging began", completed: "Completed",
  cancelled: "Cancelled", expired: "Expired", parked: "Parked",
};
const SURE = 700; // milliseconds after a press: the second one of a double click is no answer
const OPEN = new Set(["queued", "assigned", "charging"]);

export class JobDialog {
  #model;
  #id = null;
  #abilities = {};
  #cancelling = new Set(); // jobs that were cancelled here, and have not ended yet
  #discarding = null; // the job that a press of the button discards, and from when on
  #reading = false;
  #readAgain = false;

  constructor(model) {
    this.#model = model;
    const dialog = byId("job-dialog");
    dialog.addEventListener("close", () => {
      this.#id = this.#discarding = null;
      if (location.hash.startsWith("#job=")) history.replaceState(null, "", location.pathname);
    });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }

  set abilities(value) {
    this.#abilities = value;
    if (this.#id) this.#read(); // it may be open by the page's address
  }

  async open(id) {
    this.#id = id;
    history.replaceState(null, "", `#job=${encodeURIComponent(id)}`);
    const dialog = byId("job-dialog");
    if (!dialog.open) {
      dialog.replaceChildren(...this.#head(id), make("p", { class: "note" }, "Reading"));
      dialog.showModal();
    }
    await this.#read();
  }

  /** Read the job again if it is open: it has changed. */
  changed(ids) {
    if (this.#id && ids.has(this.#id)) this.#read();
  }

  async #read() {
    if (this.#reading) {
      this.#readAgain = true;
      return;
    }
    this.#reading = true;
    const id = this.#id;
    try {
      const job = await ask("GET", `/charge/${encodeURIComponent(id)}`);
      if (this.#id === id) this.#draw(job);
    } catch (error) {
      if (this.#id === id) byId("job-dialog").replaceChildren(...this.#head(id), make("p", { class: "empty" }, error.message));
    } finally {
      this.#reading = false;
    }
    if (this.#readAgain && this.#id) {
      this.#readAgain = false;
      this.#read();
    }
  }

  #head(id) {
    return [make("div", { class: "dialog-head" },
      make("h2", { id: "job-dialog-title" }, "Job ", make("span", { class: "mono" }, id)),
      make("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => byId("job-dialog").close() }, "✕"))];
  }

  #draw(job) {
    const dialog = byId("job-dialog");
    const focused = dialog.contains(document.activeElement) ? document.activeElement.dataset.action : undefined;
    dialog.replaceChildren(
      ...this.#head(job.id),
      make("p", { class: "job-state", "data-state": job.status }, make("span", { class: "pill" }, job.status),
        job.substation ? ` at ${job.substation}` : "", job.energy_kwh ? `, ${figure(job.energy_kwh)} kWh delivered` : "", job.reason ? ` – ${job.reason}` : ""),
      this.#actions(job),
      waits(job),
      reservation(job),
      readiness(job),
      make("h3", {}, "Timeline"), timeline(job),
      make("h3", {}, "Request"), request(job),
      make("h3", {}, "Decision"), ...decision(job),
    );
    if (focused) dialog.querySelector(`[data-action="${focused}"]`)?.focus();
  }

  #actions(job) {
    const actions = [];
    if (!OPEN.has(job.status)) this.#cancelling.delete(job.id);
    if (this.#cancelling.has(job.id)) {
      actions.push(make("p", { class: "note" }, "It is cancelled: it ends as soon as a service has read that."));
    } else if (this.#abilities.cancel && OPEN.has(job.status)) {
      actions.push(make("button", { type: "button", "data-action": "cancel", onclick: () => this.#cancel(job.id) }, "Cancel this job"));
    }
    const settle = (action, label, more = {}) => make("button", { type: "button", "data-action": action, ...more, onclick: () => this.#settle(action, job.id) }, label);
    if (job.status === "parked" && this.#abilities.replay) {
      const asked = this.#discarding?.id === job.id;
      actions.push(settle("replay", "Replay this job"), asked ? settle("discard", "Discard it for good", { "aria-disabled": this.#isTooSoon() ? "true" : null }) : settle("discard", "Discard it"));
    } else if (job.status === "parked") {
      actions.push(make("p", { class: "note" }, "When the cause is fixed: ",
        make("code", {}, `make parked ARGS="replay ${job.id}"`), ". To give it up: ", make("code", {}, `make parked ARGS="discard ${job.id} --yes"`), "."));
    }
    return make("div", { class: "actions" }, actions);
  }

  async #settle(action, id) {
    if (action === "discard" && (this.#discarding?.id !== id || this.#isTooSoon())) { // there is no way back: it takes a second press
      this.#discarding = { id, from: performance.now() + SURE };
      setTimeout(() => { if (this.#discarding?.id === id && !this.#isTooSoon()) this.#read(); }, SURE + 1);
      await this.#read();
      return;
    }
    this.#discarding = null;
    try {
      toast(await settleParked(action, [id]));
      this.#read();
    } catch (error) {
      toast(error.message, "bad");
    }
  }

  #isTooSoon() {
    return performance.now() < this.#discarding.from;
  }

  async #cancel(id) {
    try {
      const { status } = await askWithKey("DELETE", `/charge/${encodeURIComponent(id)}`);
      if (status !== "cancelled") this.#cancelling.add(id);
      toast(status === "cancelled" ? "The job is cancelled." : "It will be cancelled as soon as a service has it.");
      this.#read();
    } catch (error) {
      toast(error.message, "bad");
    }
  }
}

function timeline(job) {
  const steps = STEPS.filter((each) => job.times[each]).map((each) => [each, seconds(job.times[each])]).sort((one, other) => one[1] - other[1]);
  return make("ol", { class: "timeline" }, steps.map(([state, at], number) => make("li", { "data-state": state },
    make("span", { class: "when" }, time(at)),
    make("span", { class: "what" }, WORDS[state], state === "assigned" || state === "charging" || state === "completed" ? where(job, state) : ""),
    make("span", { class: "after" }, number ? `+ ${duration(at - steps[number - 1][1])}` : ""))));
}

/** Return where a job stands that waits. */
function waits(job) {
  if (job.status !== "queued" || !job.place) return "";
  const start = seconds(job.expected_start);
  return make("p", { class: "note" }, `It is number ${job.place} of those that wait.`, start ? ` It is expected to start at ${time(start)}.` : "");
}

/** Return the start that a job is promised, or that it has none. */
function reservation(job) {
  const told = job.reservation;
  if (!told) return "";
  const start = told.substation ? `${time(seconds(told.start))} at ${told.substation}` : "none";
  if (!told.granted && OPEN.has(job.status)) return make("p", { class: "note" }, "It is promised another start as soon as there is one.");
  return make("p", { class: "note" }, told.granted ? `Its promised start: ${start}.` : `It could not have the start that it asked for. The nearest that was free: ${start}.`);
}

/** Return whether its vehicle will be ready, of a job that may still be. */
function readiness(job) {
  if (job.will_be_ready === null) return "";
  return make("p", { class: "note" }, job.will_be_ready ? "It will be ready when it leaves."
    : `It will not be ready when it leaves: ${figure(job.expected_energy_kwh)} of ${figure(job.request.requested_energy_kwh)} kWh.`);
}

const where = (job, state) => (job.substation ? `${state === "assigned" ? " to" : " at"} ${job.substation}${state === "assigned" && job.attempt > 1 ? `, attempt ${job.attempt}` : ""}` : "");

function request(job) {
  const names = {
    vehicle_id: "Vehicle", requested_energy_kwh: "Energy", requested_power_kw: "Power", departure_time: "Departs",
    priority: "Priority", eligible_substations: "Only at", tenant: "Tenant", max_wait_seconds: "Waits at most",
    earliest_start: "Begins at the earliest", reserve: "Asked for a promised start",
  };
  const shown = {
    requested_energy_kwh: (value) => `${figure(value)} kWh`, requested_power_kw: (value) => `${figure(value)} kW`,
    departure_time: (value) => time(seconds(value)), eligible_substations: (value) => value.join(", "),
    max_wait_seconds: (value) => duration(value), earliest_start: (value) => time(seconds(value)), reserve: (value) => (value ? "yes" : "no"),
  };
  const lines = Object.entries(job.request).filter(([, value]) => value !== null);
  if (!lines.length && job.status === "parked") {
    return make("p", { class: "note" }, "The event log does not have it. This prints the message: ", make("code", {}, `make parked ARGS="show ${job.id}"`));
  }
  if (!lines.length) return make("p", { class: "note" }, "Nothing was asked for in particular.");
  return make("dl", { class: "facts" }, lines.flatMap(([name, value]) => [make("dt", {}, names[name] ?? name), make("dd", {}, String((shown[name] ?? String)(value)))]));
}

function decision(job) {
  const record = job.decision;
  const undecided = job.reservation?.granted ? "Not sent yet: it is sent to its substation at its promised start." : "Not decided yet: it waits for a substation.";
  if (!record) return [make("p", { class: "note" }, job.status === "queued" ? undecided
    : job.times.assigned ? "The event log does not have it any more." : "There is none: it was sent to no substation.")];
  const rows = (record.candidates ?? []).map((each) => {
    const chosen = each.substation === job.substation;
    return make("tr", { "data-chosen": chosen ? "yes" : null },
      make("th", { scope: "row" }, each.substation),
      make("td", { class: "number" }, `${figure(each.load)} / ${count(each.connectors)}`),
      make("td", { class: "bar" }, make("span", { class: "text" }, percent(each.utilisation)), meter(["used", each.utilisation])),
      make("td", { class: "number" }, each.gauge_age_seconds === null ? NONE : `${figure(each.gauge)} · ${duration(each.gauge_age_seconds)}`),
      make("td", { class: "number" }, figure(each.outstanding)),
      make("td", { class: "number" }, each.rated_power_kw ? `${figure(each.power_kw)} / ${figure(each.rated_power_kw)}` : figure(each.power_kw)),
      make("td", { class: "reason" }, chosen ? make("strong", {}, "chosen") : each.reason ?? "could take it"));
  });
  const why = record.reason ? `Sent to ${job.substation ?? NONE}: ${record.reason}` : "";
  return [
    make("p", {}, why, record.policy ? make("span", { class: "note" }, ` (policy ${record.policy})`) : ""),
    rows.length ? make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Candidates" },
      make("table", { class: "rows candidates" }, make("caption", { class: "hidden" }, "Candidates of the decision, the least utilised first"),
        make("thead", {}, make("tr", {}, ["Candidate", "Load", "Utilisation", "Gauge · age", "In flight", "kW", "Verdict"].map((each, number) =>
          make("th", { scope: "col", class: [1, 2, 3, 4, 5].includes(number) ? "number" : "" }, each)))),
        make("tbody", {}, rows))) : "",
  ];
}
