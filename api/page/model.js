// What the page knows, from the snapshot and the stream that follows it.

import { byName, seconds, time } from "./format.js";

export const HISTORY_SECONDS = 300;
export const MAX_JOBS = 1000; // that are kept; GET /charges has all
const COLUMNS = ["at", "accepted", "assigned", "completed", "waiting", "spread", "p50", "p95"];

export const STATES = ["queued", "assigned", "charging", "completed", "cancelled", "expired", "parked"];

/** The conditions of a substation: what its colour means. */
export const CONDITIONS = {
  available: "Available",
  full: "Full",
  drained: "Drained",
  problem: "Not eligible",
  unknown: "Not known",
};

/** Return a job of a list as the page keeps it. */
export function listed(job) {
  const times = Object.fromEntries(Object.entries(job.times).map(([state, at]) => [state, seconds(at)]));
  return {
    id: job.id, status: job.status, substation: job.substation, reason: job.reason,
    vehicle: job.request.vehicle_id ?? null, times, at: Math.max(0, ...Object.values(times)),
    beginsAt: beginsAt({ reservation: job.reservation, earliest_start: job.request.earliest_start }),
    isPromised: job.reservation?.granted ?? false,
  };
}

/** Return when a job may begin: its promised start, or its earliest one; null if it may at once. */
function beginsAt({ reservation, earliest_start: earliest }) {
  return seconds(reservation?.granted ? reservation.start : earliest);
}

/** Return which start a change promises, in words; null if it does not. */
function promise({ event, reservation }) {
  if (event !== "booked" || !reservation?.granted) return null;
  return `its start at ${reservation.substation} is promised for ${time(seconds(reservation.start))}`;
}

export class Model {
  constructor() {
    this.connection = { state: "waiting", text: "" };
    this.status = null;
    this.rows = new Map();
    this.asOf = null;
    this.jobs = new Map(); // by id; the one that changed last is the last
    this.history = Object.fromEntries([...COLUMNS, "loads"].map((name) => [name, name === "loads" ? {} : []]));
    this.clockOffset = 0; // seconds by which the api's clock is ahead of this one
  }

  /** Return the api's time, in Unix seconds. */
  now() {
    return Date.now() / 1000 + this.clockOffset;
  }

  /** Whether what is shown of the substations is old. */
  get isStale() {
    return this.connection.state !== "live" || (this.status?.dispatcher.is_silent ?? false);
  }

  apply(name, data) {
    if (name === "snapshot") this.#snapshot(data);
    else if (name === "jobs") data.forEach((each) => this.#change(each));
    else if (name === "substations") this.#substations(data);
    else if (name === "status") this.#status(data);
  }

  #snapshot(data) {
    this.#substations(data);
    this.jobs.clear();
    const jobs = data.jobs.map(listed);
    for (const each of jobs.sort((one, other) => one.at - other.at)) this.jobs.set(each.id, each);
    this.history = data.history;
    this.status = data.status;
    this.clockOffset = data.status.at - Date.now() / 1000;
  }

  #substations(data) {
    this.asOf = seconds(data.as_of);
    const rows = data.substations.sort((one, other) => byName(one.id, other.id));
    this.rows = new Map(rows.map((each) => [each.id, each]));
  }

  #change(each) {
    const at = seconds(each.at);
    const before = this.jobs.get(each.id);
    const times = { ...before?.times };
    if (STATES.includes(each.event)) times[each.event] = at; // a start that is promised is none
    this.jobs.delete(each.id);
    this.jobs.set(each.id, {
      id: each.id, status: each.status, substation: each.substation,
      reason: each.reason ?? promise(each) ?? (each.status === before?.status ? before.reason : null),
      vehicle: each.vehicle_id ?? before?.vehicle ?? null, times, at,
      beginsAt: beginsAt(each), isPromised: each.reservation?.granted ?? false,
    });
    if (this.jobs.size > MAX_JOBS) this.jobs.delete(this.jobs.keys().next().value);
  }

  #status(data) {
    this.status = data;
    this.clockOffset = data.at - Date.now() / 1000;
    const { history } = this;
    if (!data.second || history.at.at(-1) >= data.at - 0.5) return;
    history.at.push(data.at);
    for (const name of ["accepted", "assigned", "completed", "spread", "p50", "p95"]) history[name].push(data.second[name]);
    history.waiting.push(data.waiting);
    const length = history.at.length;
    for (const [id, row] of this.rows) {
      history.loads[id] ??= new Array(length - 1).fill(null);
      history.loads[id].push(this.isStale ? null : row.load);
    }
    for (const [id, column] of Object.entries(history.loads)) {
      if (column.length < length) column.push(null);
      if (!this.rows.has(id) && column.every((each) => each === null)) delete history.loads[id];
    }
    const old = history.at.findIndex((at) => at > data.at - HISTORY_SECONDS);
    if (old > 0) for (const column of [...COLUMNS.map((name) => history[name]), ...Object.values(history.loads)]) column.splice(0, old);
  }

  /** Return a substation's condition, and the word for it. */
  condition(row) {
    if (this.isStale) return { kind: "unknown", word: "not known" };
    if (row.state === "draining") {
      return { kind: "drained", word: row.gauge > 0 || row.outstanding > 0 ? "draining" : "drained" };
    }
    if (row.status === "unknown") return { kind: "unknown", word: "not known" };
    if (row.reason === "full") return { kind: "full", word: "full" };
    if (/^not enough power/.test(row.reason ?? "")) return { kind: "full", word: "no power left" };
    if (/^reserved/.test(row.reason ?? "")) return { kind: "full", word: "reserved" };
    if (row.eligible) return { kind: "available", word: "available" };
    return { kind: "problem", word: /eject/.test(row.reason ?? "") ? "ejected" : "not eligible" };
  }
}
