// Figures, times and ages as text.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const NONE = "–";

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

export const count = (value) => (known(value) ? whole.format(value) : NONE);
export const figure = (value) => (known(value) ? short.format(value) : NONE);
export const rate = (value) => (!known(value) ? NONE : value >= 100 ? whole.format(value) : tenths.format(value));
export const percent = (value) => (known(value) ? `${whole.format(value * 100)} %` : NONE);

/** Return a duration in seconds as text: "0.42 s", "12 s", "3 min 5 s", "2 h 10 min". */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  const value = Math.max(0, seconds);
  if (value < 1) return `${value.toFixed(2)} s`;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
  if (value < 48 * 3600) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} days`;
}

/** Return a time in Unix seconds as the time of day, with its date unless that is today. */
export function time(at, now = Date.now() / 1000) {
  if (!known(at)) return NONE;
  const date = new Date(at * 1000);
  const today = date.toDateString() === new Date(now * 1000).toDateString();
  return today ? clock.format(date) : `${day.format(date)} ${clock.format(date)}`;
}

/** Return the Unix seconds of a date as the api writes it, or null. */
export const seconds = (text) => (text ? Date.parse(text) / 1000 : null);

/** Compare names as people do: substation2 before substation10. */
export const byName = new Intl.Collator("en", { numeric: true }).compare;
