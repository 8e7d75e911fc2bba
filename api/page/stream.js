// GET /events, read with fetch: the browser's own EventSource cannot send a key.

import { askForKey, headers, problem } from "./api.js";

const QUIET_SECONDS = 4; // the api writes each second
const RETRY_SECONDS = [0.5, 1, 2, 4];

/**
 * Follow the stream for ever: `on.event(name, data)` for each event, `on.state(state, text)` when
 * the connection changes. After a break it continues with the event that was read last.
 */
export async function follow(on) {
  let last = null;
  let failures = 0;
  for (;;) {
    const aborter = new AbortController();
    let timer = setTimeout(() => aborter.abort(), QUIET_SECONDS * 1000);
    try {
      const more = { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) };
      const answer = await fetch("/events", { headers: headers(more), signal: aborter.signal, cache: "no-store" });
      if (!answer.ok) throw await problem(answer);
      await read(answer.body, (name, data, id) => {
        failures = 0;
        if (id) last = id;
        on.event(name, data);
      }, () => {
        clearTimeout(timer);
        timer = setTimeout(() => aborter.abort(), QUIET_SECONDS * 1000);
        on.state("live");
      });
      on.state("lost", "the api closed the connection");
    } catch (error) {
      if (error.status === 401 || error.status === 403) {
        on.state("locked", error.message);
        if (await askForKey(error.message)) continue;
        await new Promise((resolve) => document.addEventListener("key-changed", resolve, { once: true }));
        continue;
      }
      const refused = error.status > 0;
      if (error.code === "not-caught-up") failures = Math.min(failures, 1); // its progress is shown
      on.state(!refused ? "lost" : error.code === "not-caught-up" ? "starting" : "refused",
        refused ? error.message.replace(/\. Try again after .*$/, "") : "the api does not answer");
    } finally {
      clearTimeout(timer);
      aborter.abort();
    }
    const pause = RETRY_SECONDS[Math.min(failures, RETRY_SECONDS.length - 1)];
    failures += 1;
    await new Promise((resolve) => setTimeout(resolve, pause * 1000));
  }
}

async function read(body, onEvent, onBytes) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onBytes();
    text += value;
    let end;
    let start = 0;
    while ((end = text.indexOf("\n\n", start)) >= 0) {
      parse(text.slice(start, end), onEvent);
      start = end + 2;
    }
    text = text.slice(start);
  }
}

function parse(block, onEvent) {
  let name = "message";
  let id = "";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("id: ")) id = line.slice(4);
    else if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  if (data.length) onEvent(name, JSON.parse(data.join("\n")), id);
}
