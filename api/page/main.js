// The page: one snapshot, then one stream; what changed is drawn once per frame.

import { abilities, askForKey, key } from "./api.js";
import { BulkDialog } from "./bulk.js";
import { Charts } from "./charts.js";
import { byId, setAttribute, setText } from "./dom.js";
import { JobDialog } from "./job.js";
import { Jobs } from "./jobs.js";
import { Model } from "./model.js";
import { follow } from "./stream.js";
import { Substations } from "./substations.js";
import { Top, drawAsOf } from "./top.js";

const JOBS_INTERVAL = 400; // milliseconds: rows that change more often cannot be read
const CLOCK_INTERVAL = 500; // ages grow without events

const model = new Model();
const waiting = new Set();
const changedJobs = new Set();
let frame = 0;
let jobsDrawn = 0;
let hasLearned = false;

/** Draw some parts with the next frame. */
function redraw(...parts) {
  for (const each of parts) waiting.add(each);
  frame ||= requestAnimationFrame(draw);
}

const top = new Top(model);
const substations = new Substations(model, () => redraw("substations"));
const charts = new Charts(model);
const dialog = new JobDialog(model);
const bulk = new BulkDialog();
const jobs = new Jobs(model, (id) => dialog.open(id), bulk, () => { jobsDrawn = 0; redraw("jobs"); });

function draw(now) {
  frame = 0;
  const parts = new Set(waiting);
  waiting.clear();
  if (parts.has("top")) { top.draw(); drawAsOf(model); }
  if (parts.has("substations")) substations.draw();
  if (parts.has("charts")) charts.draw();
  if (changedJobs.size) { dialog.changed(changedJobs); changedJobs.clear(); }
  if (!parts.has("jobs")) return;
  if (now - jobsDrawn >= JOBS_INTERVAL) {
    jobsDrawn = now;
    jobs.draw();
  } else {
    setTimeout(() => redraw("jobs"), JOBS_INTERVAL - (now - jobsDrawn));
  }
}

const PARTS = {
  snapshot: ["top", "substations", "charts", "jobs"],
  jobs: ["jobs"],
  substations: ["substations", "top"],
  status: ["top", "substations", "charts"],
};

follow({
  event(name, data) {
    model.apply(name, data);
    if (name === "jobs") for (const each of data) changedJobs.add(each.id);
    redraw(...(PARTS[name] ?? []));
  },
  state(state, text = "") {
    if (state === model.connection.state && text === model.connection.text) return;
    const before = model.connection.state;
    model.connection = { state, text };
    redraw("top", "substations");
    // also after a first attempt that failed: an api that just started answers 503
    if (state === "live" && (before === "waiting" || before === "locked" || !hasLearned)) learn();
  },
});

/** Ask once, with the key if one is needed, what this api can do. */
async function learn() {
  hasLearned = true;
  const found = await abilities();
  jobs.abilities = found;
  dialog.abilities = found;
  bulk.abilities = found;
  redraw("jobs");
}

setInterval(() => redraw("top", "jobs", ...(model.isStale ? ["substations"] : [])), CLOCK_INTERVAL);

function drawKey() {
  setText(byId("key"), key() ? "Key in use" : "Key");
  setAttribute(byId("key"), "data-used", key() ? "yes" : null);
}
byId("key").addEventListener("click", () => askForKey());
document.addEventListener("key-changed", drawKey);
drawKey();

// "/" leads to the search, as on many pages
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    byId("job-search").focus();
  }
});

document.addEventListener("show", ({ detail }) => {
  if (detail.jobs) jobs.show(detail.jobs);
  else substations.show(detail.substations);
  redraw("substations", "jobs");
});

function openFromAddress() {
  const found = /^#job=(.+)$/.exec(location.hash);
  if (found) dialog.open(decodeURIComponent(found[1]));
}
addEventListener("hashchange", openFromAddress);
openFromAddress();
