/** Moments: milliseconds since the epoch inside the page, RFC 3339 in UTC on the wire and in the address bar. */

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** How far the server's clock is ahead of the browser's; a little is only the way that an answer takes. */
let ahead = 0;

/** Takes the time that the server gave with an answer. */
export function setServerTime(server: number, browser = Date.now()): void {
  const found = server - browser;
  ahead = Math.abs(found) < 3 * SECOND ? 0 : found;
}

/** Now, by the clock of the server: that of a laptop may be off, and the history is not. */
export function now(): number {
  return Date.now() + ahead;
}

/** Length of a window of the hitmap. */
export const WINDOW = 5 * SECOND;

/** Reads a moment: RFC 3339, or a number of seconds, milliseconds, microseconds or nanoseconds since the epoch. */
export function parseTime(text: string | null | undefined): number | null {
  if (!text) return null;
  if (/^\d+(\.\d+)?$/.test(text)) {
    let value = Number(text);
    if (value < 1e11) return value * 1000;
    while (value > 1e14) value /= 1000;
    return Math.floor(value);
  }
  // Digits beyond the millisecond are dropped: not every engine reads nine of them.
  const value = Date.parse(text.replace(/(\.\d{3})\d+/, '$1').replace(/^(\d{4}-\d\d-\d\d) /, '$1T'));
  return Number.isNaN(value) ? null : value;
}

/** RFC 3339 in UTC, without milliseconds where there are none. */
export function utc(time: number): string {
  return new Date(time).toISOString().replace('.000Z', 'Z');
}

const two = (value: number): string => String(value).padStart(2, '0');

/** Local date: `2026-11-23`. */
export function localDate(time: number): string {
  const d = new Date(time);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
}

/** Local time of day: `14:05:30`. */
export function localTime(time: number): string {
  const d = new Date(time);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

/** Local time of day with milliseconds. */
export function localTimeMs(time: number): string {
  return `${localTime(time)}.${String(new Date(time).getMilliseconds()).padStart(3, '0')}`;
}

/** Local date and time. */
export function local(time: number): string {
  return `${localDate(time)} ${localTime(time)}`;
}

/** Local time, with the date only where the day is not today's. */
export function localBrief(time: number): string {
  return localDate(time) === localDate(now()) ? localTime(time) : local(time);
}

/** The zone's offset as people write it: `UTC`, `UTC+2`, `UTC−3:30`. */
export function zone(time: number): string {
  const minutes = -new Date(time).getTimezoneOffset();
  if (minutes === 0) return 'UTC';
  const size = Math.abs(minutes);
  const rest = size % 60;
  return `UTC${minutes < 0 ? '−' : '+'}${Math.floor(size / 60)}${rest ? `:${two(rest)}` : ''}`;
}

/**
 * Reads a moment as people type or paste it: local date and time, a time of today, RFC 3339 with its zone, or a number
 * since the epoch.
 */
export function readMoment(text: string, today = now()): number | null {
  const trimmed = text.trim();
  const clock = /^(\d{1,2}):(\d\d)(:\d\d)?$/.exec(trimmed);
  if (clock)
    return readMoment(`${localDate(today)} ${clock[1]!.padStart(2, '0')}:${clock[2]}${clock[3] ?? ':00'}`, today);
  const parts = /^(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?)?$/.exec(trimmed);
  if (!parts) return parseTime(trimmed);
  const [year, month, day, hour, minute, second] = parts.slice(1).map((part) => Number(part ?? 0)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const time = new Date(year, month - 1, day, hour, minute, second);
  // The 31st of February is no day.
  return time.getMonth() === month - 1 && time.getDate() === day ? time.getTime() : null;
}

/** Start of the window that holds a moment. */
export function floorWindow(time: number): number {
  return Math.floor(time / WINDOW) * WINDOW;
}

const STEPS = [1, 2, 3, 6, 12, 24, 60, 120, 180, 360, 720, 1440, 2880, 4320, 8640, 17280].map((n) => n * WINDOW);

/** The smallest round multiple of a window that needs no more than `columns` columns for a range. */
export function niceStep(range: number, columns: number): number {
  return STEPS.find((step) => range / step <= columns) ?? Math.ceil(range / columns / DAY) * DAY;
}

const TICKS = [
  ...[1, 2, 5, 10, 15, 30].map((n) => n * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR),
  ...[1, 2, 7, 14, 28].map((n) => n * DAY),
];

/** Round local moments within a range, at most `most` of them, with labels. */
export function timeTicks(from: number, to: number, most: number): { time: number; label: string }[] {
  const step = TICKS.find((tick) => (to - from) / tick <= most) ?? 28 * DAY;
  const offset = new Date(from).getTimezoneOffset() * MINUTE;
  const ticks = [];
  for (let time = Math.ceil((from - offset) / step) * step + offset; time <= to; time += step) {
    const midnight = new Date(time).getHours() === 0 && new Date(time).getMinutes() === 0 && step >= MINUTE;
    const label = step >= DAY || midnight ? localDate(time).slice(5) : localTime(time).slice(0, step < MINUTE ? 8 : 5);
    ticks.push({ time, label });
  }
  return ticks;
}

/** How long ago, in words: `just now`, `12 s ago`, `3 min ago`. */
export function ago(time: number, from = now()): string {
  const seconds = Math.round((from - time) / SECOND);
  if (seconds < 2) return 'just now';
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}
