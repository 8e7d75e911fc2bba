// What a program does with the types made of the document: it compiles, and works with a running api.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

const api = createClient<paths>({ baseUrl: process.argv[2] ?? "" });
const accepted = await api.POST("/charge", {
  body: { vehicle_id: "bus 12", priority: 9 },
  params: { header: { "idempotency-key": "tour-7", prefer: "respond-async" } },
});
if (accepted.error) throw new Error(accepted.error.detail);
const job: components["schemas"]["Charge"] = accepted.data;
const routedTo: string | null = job.details.routed_to;
const since: string | undefined = job.times.queued;

const query = { vehicle_id: "bus 12", order: "desc", limit: 5 } as const;
const listed = await api.GET("/charges", { params: { query } });
const shown = await api.GET("/charge/{id}", { params: { path: { id: job.id } } });
const wrong = await api.GET("/charge/{id}", { params: { path: { id: "nobody" } } });
const rows = await api.GET("/substations", {});

// the events of GET /events, which a program reads line by line
type Snapshot = components["schemas"]["StreamSnapshot"];
const events = await fetch(new URL("/events?vehicle=bus%2012", process.argv[2]));
let text = "";
for await (const part of events.body!.pipeThrough(new TextDecoderStream())) {
  text += part;
  if (text.includes("\n\n")) break;
}
const data = text.split("\n").find((line) => line.startsWith("data: "))!.slice(6);
const snapshot: Snapshot = JSON.parse(data);

console.log(
  JSON.stringify({
    id: job.id,
    status: job.status,
    routedTo,
    since,
    listed: listed.data?.charges.map((each) => each.id),
    vehicle: shown.data?.request.vehicle_id,
    followed: snapshot.jobs.map((each) => each.status),
    wrong: wrong.error?.code,
    rows: rows.data?.substations.map((each) => each.status),
  }),
);
