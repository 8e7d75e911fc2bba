// The substations, one dense row each.

import { askWithKey } from "./api.js";
import { arrange, byId, focusedRow, make, meter, setAttribute, setHidden, setText, toast, watchVisible } from "./dom.js";
import { NONE, byName, count, duration, figure, percent, seconds, time } from "./format.js";
import { CONDITIONS } from "./model.js";
import { head } from "./table.js";

const COLUMNS = [
  { name: "condition", title: "State", sort: true },
  { name: "id", title: "Substation", sort: true },
  { name: "load", title: "Sessions", kind: "number", sort: true, help: "Sessions in progress by its own gauge, and its connectors" },
  { name: "outstanding", title: "In flight", kind: "number wide", sort: true, help: "Sent there, and in no reading yet" },
  { name: "limit", title: "Limit", kind: "number wide", sort: true, help: "The maximum number of sessions that an operator allows" },
  { name: "utilisation", title: "Utilisation", kind: "bar", sort: true, help: "The larger of sessions by connectors and power by rating" },
  { name: "power", title: "Power, kW", kind: "bar", sort: true, help: "What all consumers there draw, other consumers included, of the transformer’s rating" },
  { name: "age", title: "Gauge age", kind: "number wide", sort: true },
  { name: "sent", title: "Sent/min", kind: "number wide", sort: true, help: "Jobs assigned to it in the last minute" },
  { name: "done", title: "Done/min", kind: "number", sort: true, help: "Sessions completed in the last minute" },
  { name: "energy", title: "kWh today", kind: "number wide", sort: true, help: "Delivered by its sessions since midnight UTC" },
  { name: "reason", title: "Reason", kind: "reason wide" },
  { name: "actions", title: "Actions", kind: "actions wide", hideTitle: true },
];
const ORDER = Object.keys(CONDITIONS);

export class Substations {
  #model;
  #rows = new Map();
  #groups = new Map();
  #sort = { name: "id", descending: false };
  #shown = new Set();
  #markSort;
  #legend;
  #open = null; // the substation in the dialog
  #busy = new Set();
  #watch;
  #visible = new Set(); // rows that are seen, or nearly

  constructor(model, redraw) {
    this.#model = model;
    this.#markSort = head(byId("rows"), "Substations", COLUMNS, (name) => {
      const { name: before, descending } = this.#sort;
      const figures = !["id", "condition"].includes(name);
      this.#sort = { name, descending: name === before ? !descending : figures };
      redraw();
    });
    this.#legend = new Map(ORDER.map((kind) => [kind, this.#legendButton(kind, redraw)]));
    byId("legend").append(...[...this.#legend.values()].map((each) => each.button));
    byId("row-filter").addEventListener("input", redraw);
    byId("row-group").addEventListener("change", redraw);
    // of hundreds of rows some twenty are seen: only these are written
    this.#watch = watchVisible((changed) => {
      for (const [element, isVisible] of changed) {
        if (isVisible) this.#visible.add(element);
        else this.#visible.delete(element);
      }
      if (changed.some(([, isVisible]) => isVisible)) redraw();
    }, byId("rows").parentElement);
    byId("row-dialog").addEventListener("close", () => { this.#open = null; });
  }

  #legendButton(kind, redraw) {
    const number = make("span", { class: "number" }, "0");
    const button = make("button", { type: "button", "data-kind": kind, "aria-pressed": "false", onclick: () => {
      if (!this.#shown.delete(kind)) this.#shown.add(kind);
      setAttribute(button, "aria-pressed", String(this.#shown.has(kind)));
      redraw();
    } }, make("span", { class: "swatch", "aria-hidden": "true" }), `${CONDITIONS[kind]} `, number);
    return { button, number };
  }

  /** Show the rows of one condition, or all. */
  show(wanted) {
    this.#shown = new Set(wanted ? [wanted] : []);
    for (const [kind, { button }] of this.#legend) setAttribute(button, "aria-pressed", String(this.#shown.has(kind)));
    byId("row-filter").value = "";
    byId("substations").scrollIntoView({ behavior: "smooth" });
  }

  draw() {
    const { rows } = this.#model;
    const minute = this.#model.status?.last_minute ?? {};
    const energy = this.#model.status?.energy_today_kwh ?? {};
    const counts = Object.fromEntries(ORDER.map((kind) => [kind, 0]));
    const found = [...rows.values()].map((row) => {
      const { kind, word } = this.#model.condition(row);
      counts[kind] += 1;
      const [sent, done] = minute[row.id] ?? [0, 0];
      return { row, kind, word, sent, done, energy: energy[row.id] ?? 0 };
    });
    for (const [kind, { button, number }] of this.#legend) {
      setText(number, counts[kind]);
      setHidden(button, kind === "unknown" && !counts.unknown && !this.#shown.has(kind));
    }
    const most = Math.max(1, ...found.map((each) => each.sent));
    for (const each of found) this.#fill(each, most);
    for (const id of [...this.#rows.keys()]) if (!rows.has(id)) this.#remove(id);
    this.#arrange(found);
    this.#drawDialog();
  }

  #remove(id) {
    const { element } = this.#rows.get(id);
    this.#watch.unobserve(element);
    this.#visible.delete(element);
    this.#rows.delete(id);
  }

  #arrange(found) {
    const words = byId("row-filter").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = found.filter(({ row, kind, word }) => {
      if (this.#shown.size && !this.#shown.has(kind)) return false;
      const text = `${row.id} ${word} ${row.reason ?? ""}`.toLowerCase();
      return words.every((each) => text.includes(each));
    });
    const body = byId("rows").tBodies[0];
    const group = byId("row-group").value;
    wanted.sort((one, other) => this.#compare(one, other));
    const elements = this.#withGroups(wanted, group);
    let focused = focusedRow(body);
    if (focused && !elements.includes(focused)) {
      // one that matches no more keeps the focus, below the others; one that is gone does not
      if ([...this.#rows.values()].some(({ element }) => element === focused)) elements.push(focused);
      else focused = null;
    }
    arrange(body, elements, focused);
    this.#markSort(this.#sort.name, this.#sort.descending);
    const empty = byId("no-rows");
    setHidden(empty, wanted.length > 0);
    setHidden(byId("rows"), wanted.length === 0);
    if (!wanted.length) setText(empty, found.length ? "No substation matches." : "No substation is known yet.");
  }

  #withGroups(wanted, group) {
    const elements = (list) => list.map(({ row }) => this.#rows.get(row.id).element);
    if (!group) return elements(wanted);
    const of = group === "condition" ? (each) => CONDITIONS[each.kind] : (each) => prefix(each.row.id);
    const groups = Map.groupBy ? Map.groupBy(wanted, of) : groupBy(wanted, of);
    const names = [...groups.keys()].sort(group === "condition"
      ? (one, other) => Object.values(CONDITIONS).indexOf(one) - Object.values(CONDITIONS).indexOf(other) : byName);
    return names.flatMap((name) => {
      const list = groups.get(name);
      const cell = make("th", { scope: "rowgroup", colspan: COLUMNS.length });
      const title = this.#groups.get(name) ?? make("tr", { class: "group" }, cell);
      this.#groups.set(name, title);
      const sessions = list.reduce((sum, each) => sum + each.row.gauge, 0);
      const connectors = list.reduce((sum, each) => sum + each.row.connectors, 0);
      setText(title.firstChild, `${name}: ${list.length === 1 ? "1 substation" : `${list.length} substations`}, ${count(sessions)} of ${count(connectors)} connectors in use`);
      return [title, ...elements(list)];
    });
  }

  #compare(one, other) {
    const { name, descending } = this.#sort;
    const value = {
      id: () => 0,
      condition: (each) => ORDER.indexOf(each.kind),
      load: (each) => each.row.gauge,
      outstanding: (each) => each.row.outstanding,
      limit: (each) => each.row.limit ?? -1,
      utilisation: (each) => each.row.utilisation,
      power: (each) => each.row.power_kw ?? -1,
      age: (each) => each.row.gauge_age_seconds ?? Infinity,
      sent: (each) => each.sent,
      done: (each) => each.done,
      energy: (each) => each.energy,
    }[name];
    const order = value(one) - value(other) || byName(one.row.id, other.row.id);
    return descending ? -order : order;
  }

  #fill({ row, kind, word, sent, done, energy }, most) {
    const isNew = !this.#rows.has(row.id);
    const known = isNew ? this.#newRow(row.id) : this.#rows.get(row.id);
    const { cells, parts } = known;
    if (!isNew && !this.#visible.has(known.element)) return;
    setAttribute(known.element, "data-kind", kind);
    setText(parts.word, word);
    setText(parts.note, kind === "available" ? "" : inWords(word, row.reason));
    setText(cells.load, count(row.gauge));
    setText(parts.of, ` / ${count(row.connectors)}`);
    setText(parts.sessions, count(row.gauge));
    setText(cells.outstanding, row.outstanding ? figure(row.outstanding) : NONE);
    setText(cells.limit, row.limit ?? NONE);
    setText(parts.share, percent(row.utilisation));
    setWidth(parts.shareBar, row.utilisation);
    const mostKw = mostPower(row);
    setText(parts.power, mostKw === null ? count(row.power_kw) : `${count(row.power_kw)} / ${count(mostKw)}`);
    setHidden(parts.powerMeter, !mostKw);
    if (mostKw) {
      const background = row.background_power_kw ?? 0;
      setWidth(parts.backgroundBar, background / mostKw);
      setWidth(parts.powerBar, (row.power_kw - background) / mostKw);
    }
    const age = row.gauge_age_seconds === null ? null : row.gauge_age_seconds + Math.max(0, this.#model.isStale ? this.#model.now() - this.#model.asOf : 0);
    setText(cells.age, duration(age));
    setText(parts.sent, count(sent));
    setWidth(parts.sentBar, sent / most);
    setText(cells.done, count(done));
    setText(cells.energy, energy ? count(energy) : NONE);
    const reason = row.reason && row.reason !== word ? row.reason : row.power_limit;
    setText(cells.reason, [reason, promised(row)].filter(Boolean).join("; "));
    const drained = row.state === "draining";
    setText(parts.drain, drained ? "Resume" : "Drain");
    setAttribute(parts.drain, "aria-label", `${drained ? "Resume" : "Drain"} ${row.id}`);
  }

  #newRow(id) {
    const parts = {
      word: make("span", { class: "word" }),
      note: make("span", { class: "small-note" }),
      of: make("span", { class: "of" }),
      sessions: make("span"),
      share: make("span", { class: "text" }),
      power: make("span", { class: "text" }),
      sent: make("span"),
      drain: make("button", { type: "button", class: "quiet", onclick: () => this.#toggle(id) }),
    };
    const share = meter(["used", 0]);
    parts.shareBar = share.firstChild;
    parts.powerMeter = meter(["background", 0], ["power", 0]);
    [parts.backgroundBar, parts.powerBar] = parts.powerMeter.children;
    const sent = meter(["sent", 0]);
    parts.sentBar = sent.firstChild;
    const open = make("button", { type: "button", class: "name", onclick: () => this.#show(id) }, id);
    const limit = make("button", { type: "button", class: "quiet", "aria-label": `Limit ${id}`, onclick: () => this.#show(id, true) }, "Limit");
    const contents = {
      condition: [make("span", { class: "swatch", "aria-hidden": "true" }), parts.word],
      id: [open, parts.note],
      load: [parts.sessions, parts.of],
      utilisation: [parts.share, share],
      power: [parts.power, parts.powerMeter],
      sent: [parts.sent, sent],
      actions: [parts.drain, limit],
    };
    const cells = {};
    const element = make("tr", {}, COLUMNS.map(({ name, kind }) => {
      const cell = make(name === "id" ? "th" : "td", { class: kind ?? name, scope: name === "id" ? "row" : null, "data-column": name }, contents[name] ?? []);
      cells[name] = contents[name] ? null : cell;
      return cell;
    }));
    cells.load = parts.sessions;
    const made = { element, cells, parts };
    this.#watch.observe(element);
    this.#rows.set(id, made);
    return made;
  }

  async #change(id, change, done) {
    if (this.#busy.has(id)) return false;
    this.#busy.add(id);
    try {
      const now = await askWithKey("PATCH", `/substations/${encodeURIComponent(id)}`, change);
      toast(done(now));
      return true;
    } catch (error) {
      toast(`${id}: ${error.message}`, "bad");
      return false;
    } finally {
      this.#busy.delete(id);
    }
  }

  #toggle(id) {
    const drained = this.#model.rows.get(id)?.state === "draining";
    return this.#change(id, { state: drained ? "available" : "draining" },
      () => (drained ? `${id} is available again.` : `${id} is drained: it finishes what it has, and gets nothing more.`));
  }

  // --- one substation, with all that can be done: on a phone this is the only place for it

  #show(id, focusLimit = false) {
    const dialog = byId("row-dialog");
    const limit = make("input", { type: "number", min: 1, max: 1000000, inputmode: "numeric", id: "row-limit", value: this.#model.rows.get(id)?.limit ?? "" });
    const facts = make("dl", { class: "facts" });
    const drain = make("button", { type: "button", onclick: () => this.#toggle(id) });
    const set = async (event) => {
      event.preventDefault();
      const value = limit.value.trim();
      await this.#change(id, { limit: value ? Number(value) : null }, () => (value ? `${id} has at most ${value} sessions at once.` : `${id} has no limit.`));
    };
    dialog.replaceChildren(
      make("div", { class: "dialog-head" }, make("h2", { id: "row-dialog-title" }, id),
        make("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => dialog.close() }, "✕")),
      make("p", { class: "row-state" }, make("span", { class: "swatch", "aria-hidden": "true" }), make("span", { class: "row-state-text" })),
      facts,
      make("form", { class: "controls", onsubmit: set },
        make("label", { class: "field" }, "Sessions at most ", limit),
        make("button", { type: "submit" }, "Set limit"), drain,
        make("button", { type: "button", class: "quiet", onclick: () => {
          dialog.close();
          byId("job-substation").value = id;
          byId("job-substation").dispatchEvent(new Event("change"));
          byId("jobs-title").scrollIntoView({ behavior: "smooth" });
        } }, "Its jobs")),
    );
    this.#open = { id, facts, drain, dialog };
    this.#drawDialog();
    dialog.showModal();
    if (focusLimit) limit.focus();
  }

  #drawDialog() {
    if (!this.#open) return;
    const { id, facts, drain, dialog } = this.#open;
    const row = this.#model.rows.get(id);
    if (!row) return;
    const { kind, word } = this.#model.condition(row);
    setAttribute(dialog, "data-kind", kind);
    setText(dialog.querySelector(".row-state-text"), inWords(word, row.reason));
    setText(drain, row.state === "draining" ? "Resume" : "Drain");
    const [sent, done] = this.#model.status?.last_minute[id] ?? [0, 0];
    const lines = [
      ["Sessions", `${count(row.gauge)} of ${count(row.connectors)} connectors`],
      ["In flight", figure(row.outstanding)],
      ["Limit", row.limit === null ? "none" : `${count(row.limit)} sessions`],
      ["Utilisation", percent(row.utilisation)],
      ["Power", `${figure(row.power_kw)} kW${row.rated_power_kw ? ` of ${figure(row.rated_power_kw)} kW` : ""}`],
      ["Power limit", [row.power_limit, row.next_power_limit].filter(Boolean).map((each) => each.replace("limited to ", "")).join("; ") || "none"],
      ["Promised", promised(row) || "no start"],
      ["Other consumers", row.background_power_kw === null ? NONE : `${figure(row.background_power_kw)} kW of it`],
      ["Gauge read", row.gauge_age_seconds === null ? "never" : `${duration(row.gauge_age_seconds)} before`],
      ["Last minute", `${count(sent)} sent, ${count(done)} completed`],
      ["Delivered today", `${figure(this.#model.status?.energy_today_kwh[id] ?? 0)} kWh`],
    ];
    lines.forEach(([name, value], number) => {
      if (!facts.children[2 * number]) facts.append(make("dt", {}, name), make("dd"));
      setText(facts.children[2 * number + 1], value);
    });
  }
}

/** Return what a substation may draw in kW: its rated power, or a lower limit; null if unknown. */
function mostPower(row) {
  const known = [row.rated_power_kw || null, row.power_limit_kw ?? null].filter((kw) => kw !== null);
  return known.length ? Math.min(...known) : null;
}

/** Return the starts that are promised at a substation, in words; empty if none is. */
function promised(row) {
  if (!row.promised) return "";
  const next = row.next_promised_start;
  const starts = row.promised === 1 ? "1 start promised" : `${count(row.promised)} starts promised`;
  return next ? `${starts}, ${row.promised === 1 ? "at" : "the next at"} ${time(seconds(next))}` : starts;
}

function setWidth(element, share) {
  const width = `${Math.round(Math.min(1, Math.max(0, share || 0)) * 1000) / 10}%`;
  if (element.style.width !== width) element.style.width = width;
  if (!element.classList.contains("sent")) setAttribute(element, "data-high", share > 0.95 ? "yes" : null);
}

/** Return a condition and its reason, which may begin with the same word. */
function inWords(word, reason) {
  if (!reason) return word;
  return reason.startsWith(word) ? reason : `${word}: ${reason}`;
}

/** Return what the names of a group have in common: "depot-north-12" belongs to "depot-north". */
function prefix(id) {
  return id.replace(/[-_]?\d+$/, "") || id;
}

function groupBy(list, of) {
  const groups = new Map();
  for (const each of list) {
    const name = of(each);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(each);
  }
  return groups;
}

