// The top of the page: what is wrong and what to do, and how requests go through.

import { arrange, byId, make, setAttribute, setHidden, setText } from "./dom.js";
import { NONE, count, duration, rate, time } from "./format.js";

const STAGES = [
  ["accepted", "Accepted"],
  ["waiting", "Waiting"],
  ["assigned", "Decided"],
  ["charging", "Charging"],
  ["completed", "Charged"],
  ["parked", "Parked"],
];

export class Top {
  #model;
  #stages;
  #alerts = new Map();
  #announced = null;

  constructor(model) {
    this.#model = model;
    this.#stages = new Map(STAGES.map(([name, title]) => [name, stage(title)]));
    byId("stages").append(...[...this.#stages.values()].map((each) => each.item));
  }

  draw() {
    this.#drawConnection();
    this.#drawAlerts();
    this.#drawStages();
  }

  #drawConnection() {
    const { state, text } = this.#model.connection;
    const element = byId("connection");
    const words = {
      waiting: "Connecting", live: "Live", starting: "Starting: the api reads its event log", refused: "Not connected",
      lost: `Not connected: ${text}`, locked: "A key is needed",
    };
    setAttribute(element, "data-state", state);
    setText(element.querySelector(".text"), words[state]);
    setAttribute(document.body, "data-stale", this.#model.isStale && this.#model.status ? "yes" : null);
    setAttribute(document.body, "data-lost", ["lost", "starting", "refused"].includes(state) ? "yes" : null);
  }

  #found() {
    const { status, connection } = this.#model;
    const old = status ? ". All that is shown is old" : "";
    switch (connection.state) {
      case "lost":
        return [{
          name: "ApiSilent", severity: "critical", summary: `The api does not answer${old}`,
          action: "Start it, or see its log (make status, make logs). This page connects again by itself.",
        }];
      case "starting":
        return [{
          name: "ApiStarting", severity: "warning", summary: `The api is starting: ${connection.text}${old}`,
          action: "This page connects by itself once all is read. If that takes long, see the api’s log (make logs).",
        }];
      case "refused":
        return [{
          name: "ApiRefuses", severity: "critical", summary: `The api does not serve this page: ${connection.text}${old}`,
          action: "This page tries again by itself.",
        }];
      default:
        return status?.alerts ?? [];
    }
  }

  #drawAlerts() {
    const found = this.#found();
    const elements = found.map((each) => {
      const element = this.#alerts.get(each.name) ?? alert(each);
      setAttribute(element, "data-severity", each.severity);
      setText(element.querySelector(".summary"), each.summary);
      setText(element.querySelector(".action"), each.action);
      drawRunbook(element.querySelector(".runbook"), each.runbook);
      const source = each.source === "prometheus" ? "Prometheus, " : "";
      setText(element.querySelector(".since"), each.since ? `${source}since ${time(each.since, this.#model.now())}` : "");
      this.#alerts.set(each.name, element);
      return element;
    });
    if (!elements.length && this.#model.status) {
      const fine = this.#alerts.get("") ?? make("p", { class: "fine" }, "Nothing needs attention.");
      this.#alerts.set("", fine);
      elements.push(fine);
    }
    for (const name of [...this.#alerts.keys()]) {
      if (name && !found.some((each) => each.name === name)) this.#alerts.delete(name);
    }
    arrange(byId("alerts"), elements);
    this.#announce(found);
    const number = found.length === 1 ? "1 alert" : `${found.length} alerts`;
    const badge = byId("alert-count");
    setHidden(badge, !found.length);
    setText(badge, number);
    setAttribute(badge, "data-severity", found[0]?.severity);
    const title = found.length ? `(${number}) Smart grid dispatcher` : "Smart grid dispatcher";
    if (document.title !== title) document.title = title;
  }

  /** Have a screen reader read an alert when it begins, not each time its figures change. */
  #announce(found) {
    const names = found.map((each) => each.name).join(" ");
    if (names === this.#announced) return;
    this.#announced = names;
    setText(byId("announcer"), found.map((each) => `${each.summary}. ${each.action}`).join(" ") || "Nothing needs attention.");
  }

  #drawStages() {
    const { status } = this.#model;
    if (!status) return;
    const { counts, rates, dispatcher } = status;
    const oldest = status.oldest_at === null ? null : this.#model.now() - status.oldest_at;
    const silent = dispatcher.is_silent;
    const critical = (...names) => status.alerts.some((each) => names.includes(each.name));
    const none = critical("NoSubstationEligible", "NoSubstation");
    const halted = critical("RabbitMQDiskAlarm", "RabbitMQMemoryAlarm", "BrokerConnectionLost");
    const fill = (name, value, unit, note, state) => {
      const one = this.#stages.get(name);
      setText(one.value, value);
      setText(one.unit, unit);
      setText(one.note, note);
      setAttribute(one.item, "data-state", state);
    };
    fill("accepted", rate(rates.accepted), "/s", status.accepts ? "requests are accepted" : "no request is accepted", status.accepts ? "good" : "bad");
    fill("waiting", count(status.waiting), "", status.waiting ? `oldest ${duration(oldest)}` : "nothing waits",
      status.waiting && oldest > 60 ? "warn" : "");
    fill("assigned", rate(rates.assigned), "/s",
      halted ? "RabbitMQ takes nothing" : silent ? "dispatcher is silent" : none ? "no substation" : "requests are decided",
      halted || silent || none ? "bad" : "good");
    fill("charging", count(counts.charging), "", `${count(counts.assigned)} in flight`, "");
    fill("completed", rate(rates.completed), "/s", `${count(counts.completed)} in the log`, "good");
    fill("parked", count(counts.parked), "", counts.parked === 1 ? "needs a decision" : counts.parked ? "need a decision" : "none", counts.parked ? "warn" : "");
  }
}

function stage(title) {
  const value = make("span", { class: "value" }, NONE);
  const unit = make("span", { class: "unit" });
  const note = make("span", { class: "stage-note" });
  const item = make("li", {}, make("span", { class: "title" }, title), make("span", { class: "figure" }, value, unit), note);
  return { item, value, unit, note };
}

// what an alert is about: the jobs in a state, or the substations in a condition
const SHOWN = {
  RequestsParked: { label: "Show them", jobs: "parked" },
  RequestsWaitLong: { label: "Show them", jobs: "queued" },
  SubstationIneligible: { label: "Show them", substations: "problem" },
  NoSubstationEligible: { label: "Show substations", substations: null },
};

function alert({ name }) {
  const shown = SHOWN[name];
  return make("div", { class: "alert", "data-alert": name },
    make("span", { class: "mark", "aria-hidden": "true" }, "!"),
    make("p", {}, make("strong", { class: "summary" }), " ", make("span", { class: "action" }), " ",
      make("span", { class: "runbook" })),
    shown ? make("button", { type: "button", class: "quiet", onclick: () => document.dispatchEvent(new CustomEvent("show", { detail: shown })) }, shown.label) : null,
    make("span", { class: "since" }));
}

/** Show where more is said: a link to an address of the web, and the name of any other place. */
function drawRunbook(element, place) {
  if (element.dataset.place === (place ?? "")) return;
  element.dataset.place = place ?? "";
  const own = /^docs\/runbook\.md(#[a-z0-9-]+)?$/.exec(place ?? ""); // the api serves it
  const address = own ? `/docs/runbook${own[1] ?? ""}` : /^https?:\/\//.test(place ?? "") ? place : null;
  element.replaceChildren(...(address ? [make("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, "Runbook")]
    : place ? ["See ", make("code", {}, place)] : []));
}

/** Show how old the substations' figures are. */
export function drawAsOf(model) {
  const note = byId("as-of");
  if (model.asOf === null) {
    setText(note, model.status ? "The dispatcher has not described any yet." : "");
    return;
  }
  const dispatcher = model.status?.dispatcher;
  setHidden(note, false);
  setText(note, model.isStale
    ? `Old: as the dispatcher saw them at ${time(model.asOf, model.now())}, ${duration(model.now() - model.asOf)} ago`
    : `${model.rows.size} · as of ${time(model.now() - (dispatcher?.silent_seconds ?? 0), model.now())}`);
}
