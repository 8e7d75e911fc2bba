// The jobs: search and filters, the newest first, and buttons to send requests.

import { ask, askWithKey } from "./api.js";
import { jobQuery } from "./bulk.js";
import { arrange, byId, focusedRow, make, setAttribute, setHidden, setText, toast, watchVisible } from "./dom.js";
import { NONE, byName, duration, time } from "./format.js";
import { STATES, listed } from "./model.js";
import { head } from "./table.js";

const MOST_ROWS = 100;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const SEARCH_PAUSE = 250; // milliseconds after the last key
const COLUMNS = [
  { name: "at", title: "Changed", kind: "time" },
  { name: "status", title: "State", kind: "state" },
  { name: "id", title: "Job" },
  { name: "vehicle", title: "Vehicle", kind: "vehicle" },
  { name: "substation", title: "Substation" },
  { name: "wait", title: "Waited", kind: "number wide", help: "From the request, or the start that it asked for, to the start of its session" },
  { name: "reason", title: "Reason", kind: "reason wide" },
];

export class Jobs {
  #model;
  #rows = new Map();
  #found = null; // jobs that the api found beyond those here; null without a search
  #failure = ""; // why it could not be asked
  #searches = 0;
  #openJob;
  #bulk;
  #isVisible = true;
  #isDrawn = false;
  #abilities = { search: false, newestFirst: false };

  constructor(model, openJob, bulk, redraw) {
    this.#model = model;
    this.#bulk = bulk;
    byId("job-bulk").addEventListener("click", () => bulk.open(this.#filter()));
    this.#openJob = openJob;
    head(byId("jobs"), "Jobs, the one that changed last first", COLUMNS);
    byId("job-state").append(new Option("all", ""), ...STATES.map((each) => new Option(each, each)));
    byId("job-substation").append(new Option("all", ""));
    watchVisible((changed) => {
      this.#isVisible = changed.at(-1)[1];
      redraw();
    }).observe(byId("jobs").parentElement);
    let timer = 0;
    const search = () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#search().then(redraw), SEARCH_PAUSE);
      redraw();
    };
    byId("job-filter").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = byId("job-search").value.trim();
      // an ended job may be known by its id alone
      if (UUID.test(text) || this.#model.jobs.has(text) || this.#found?.some((each) => each.id === text)) openJob(text);
      else search();
    });
    for (const id of ["job-search", "job-state", "job-substation"]) byId(id).addEventListener(id === "job-search" ? "input" : "change", search);
    for (const button of document.querySelectorAll("[data-send]")) button.addEventListener("click", () => send(Number(button.dataset.send), button));
  }

  set abilities(value) {
    this.#abilities = value;
  }

  /** Show the jobs in one state. */
  show(state) {
    byId("job-search").value = "";
    byId("job-substation").value = "";
    byId("job-state").value = state;
    byId("job-state").dispatchEvent(new Event("change"));
    byId("jobs-title").scrollIntoView({ behavior: "smooth" });
  }

  #filter() {
    return { text: byId("job-search").value.trim(), status: byId("job-state").value, substation: byId("job-substation").value };
  }

  /** Ask the api for what the filter matches: it knows more jobs than the page. */
  async #search() {
    const { text, status, substation } = this.#filter();
    const number = (this.#searches += 1);
    if (!text && !status && !substation) {
      [this.#found, this.#failure] = [null, ""];
      return;
    }
    const query = jobQuery({ text, status, substation });
    query.set("limit", MOST_ROWS);
    if (this.#abilities.newestFirst) query.set("order", "desc");
    let found = [];
    let failure = "";
    try {
      if (!text || this.#abilities.search) found = (await ask("GET", `/charges?${query}`)).charges.map(listed);
    } catch (error) {
      failure = error.status === 401 ? "A key is needed to search: enter it with the button Key." : error.message;
      toast(failure, "bad");
    }
    if (number === this.#searches) [this.#found, this.#failure] = [found, failure];
  }

  draw() {
    if (!this.#model.status || (this.#isDrawn && !this.#isVisible)) return;
    this.#isDrawn = true;
    this.#drawOptions();
    const { text, status, substation } = this.#filter();
    const wanted = text.toLowerCase();
    const all = new Map([...(this.#found ?? []).map((each) => [each.id, each]), ...this.#model.jobs]);
    const matching = [];
    const jobs = this.#found ? [...all.values()].sort((one, other) => one.at - other.at) : [...this.#model.jobs.values()];
    for (let index = jobs.length - 1; index >= 0 && matching.length < MOST_ROWS; index -= 1) {
      const job = jobs[index];
      if (status && job.status !== status) continue;
      if (substation && job.substation !== substation) continue;
      if (wanted && !matches(job, wanted)) continue;
      matching.push(job);
    }
    const kept = new Map();
    const elements = matching.map((job) => {
      const row = this.#rows.get(job.id) ?? this.#newRow(job.id);
      kept.set(job.id, row);
      this.#fill(row, job);
      return row.element;
    });
    const body = byId("jobs").tBodies[0];
    const focused = focusedRow(body);
    if (focused && !elements.includes(focused)) this.#keep(focused, all, kept, elements);
    this.#rows = kept; // the others are forgotten: there is no end of jobs
    arrange(body, elements, focused);
    const filtered = Boolean(text || status || substation);
    setHidden(byId("job-bulk"), !this.#bulk.canAct({ text, status, substation }));
    setHidden(byId("no-jobs"), matching.length > 0);
    setHidden(byId("jobs"), matching.length === 0);
    setText(byId("no-jobs"), filtered ? this.#failure || "No job matches." : "No job yet. Send one with the buttons above, or with POST /charge.");
    setText(byId("jobs-note"), matching.length === MOST_ROWS ? `the last ${MOST_ROWS}${filtered ? " that match" : ""}` : filtered ? `${matching.length} match` : "");
  }

  #drawOptions() {
    const select = byId("job-substation");
    const names = [...this.#model.rows.keys()].sort(byName);
    const known = names.join("\n");
    if (select.dataset.names === known) return;
    select.dataset.names = known;
    const chosen = select.value;
    select.replaceChildren(new Option("all", ""), ...names.map((each) => new Option(each, each)));
    select.value = names.includes(chosen) ? chosen : "";
  }

  #newRow(id) {
    const parts = { state: make("span", { class: "pill" }) };
    const open = make("button", { type: "button", class: "name mono", title: id, "aria-label": `Job ${id}`, onclick: () => this.#openJob(id) }, shortId(id));
    const cells = {};
    const element = make("tr", {}, COLUMNS.map(({ name, kind }) => {
      const contents = { status: [parts.state], id: [open] }[name] ?? [];
      cells[name] = make(name === "id" ? "th" : "td", { class: kind ?? name, scope: name === "id" ? "row" : null }, contents);
      return cells[name];
    }));
    return { element, cells, parts };
  }

  /** Keep the row that has the focus, below those that are wanted. */
  #keep(focused, all, kept, elements) {
    const [id, row] = [...this.#rows].find(([, { element }]) => element === focused);
    kept.set(id, row);
    elements.push(focused);
    if (all.has(id)) this.#fill(row, all.get(id));
  }

  #fill({ element, cells, parts }, job) {
    setText(parts.state, job.status);
    setAttribute(element, "data-state", job.status);
    setText(cells.at, time(job.at, this.#model.now()));
    setText(cells.vehicle, job.vehicle ?? NONE);
    setText(cells.substation, job.substation ?? NONE);
    setText(cells.wait, waited(job, this.#model.now()));
    const isLate = job.status === "queued" && job.isPromised && job.beginsAt <= this.#model.now();
    setText(cells.reason, isLate ? `its promised start, ${time(job.beginsAt, this.#model.now())}, is late` : job.reason ?? "");
  }
}

const shortId = (id) => (/^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(id) ? id.slice(0, 8) : id);

/** Return how long a job waited, or waits: not before it may begin. */
function waited(job, now) {
  const { queued, charging } = job.times;
  const end = charging ?? (job.status === "queued" ? now : null);
  if (!queued || !end) return NONE;
  const since = Math.max(queued, job.beginsAt ?? 0);
  return !charging && since > end ? NONE : duration(end - since);
}

const matches = (job, wanted) => job.id.toLowerCase().includes(wanted) || (job.vehicle ?? "").toLowerCase().includes(wanted);

/** Send requests of invented vehicles, as a try. */
async function send(number, button) {
  button.disabled = true;
  const tag = Math.random().toString(36).slice(2, 6);
  const requests = Array.from({ length: number }, (_, index) => ({
    vehicle_id: `try-${tag}-${index + 1}`, requested_energy_kwh: 10 + Math.floor(Math.random() * 50),
  }));
  try {
    const { jobs } = await askWithKey("POST", "/charges", requests);
    toast(jobs.length === 1 ? `Accepted: job ${shortId(jobs[0].id)}.` : `${jobs.length} requests are accepted.`);
  } catch (error) {
    const isUnsure = error.status === 0 || error.status >= 500;
    toast(isUnsure ? `Not confirmed: ${error.message} They may be accepted all the same: look for try-${tag} before you send others.` : `Not sent: ${error.message}`, "bad");
  } finally {
    button.disabled = false;
    button.focus();
  }
}
