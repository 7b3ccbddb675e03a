/** Numbers for people: durations, sizes, counts. Every value says its unit. */

const NS = 1;
const US = 1e3;
const MS = 1e6;
const S = 1e9;
const MINUTE = 60 * S;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Three significant digits, without a trailing `.0`. */
function digits(value: number): string {
  const text = value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/** A duration given in ns, in its natural unit: `850 ns`, `1.25 ms`, `3.01 s`, `2 min 5 s`, `3 h 12 min`. */
export function duration(ns: number): string {
  if (!Number.isFinite(ns)) return '∞';
  if (ns < 0) return `−${duration(-ns)}`;
  if (ns < US) return `${Math.round(ns / NS)} ns`;
  if (ns < 999.5 * US) return `${digits(ns / US)} µs`;
  if (ns < 999.5 * MS) return `${digits(ns / MS)} ms`;
  if (ns < 99.95 * S) return `${digits(ns / S)} s`;
  if (ns < HOUR) return join(ns, MINUTE, 'min', S, 's');
  if (ns < DAY) return join(ns, HOUR, 'h', MINUTE, 'min');
  return join(ns, DAY, 'd', HOUR, 'h');
}

function join(ns: number, big: number, bigUnit: string, small: number, smallUnit: string): string {
  let whole = Math.floor(ns / big);
  let rest = Math.round((ns - whole * big) / small);
  if (rest * small >= big) {
    whole += 1;
    rest = 0;
  }
  return rest === 0 ? `${whole} ${bigUnit}` : `${whole} ${bigUnit} ${rest} ${smallUnit}`;
}

const SIZES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** A size in binary units: `512 B`, `3.2 MiB`. */
export function bytes(value: number): string {
  let size = value;
  let unit = 0;
  while (size >= 1023.5 && unit < SIZES.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${Math.round(size)} B` : `${digits(size)} ${SIZES[unit]}`;
}

/** A whole number with thin groups: `12 345`. */
export function count(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');
}

/** A number short enough for an axis or legend: `950`, `1.2k`, `34k`, `5.6M`. */
export function short(value: number): string {
  if (value < 1000) return digits(value);
  if (value < 999_500) return `${digits(value / 1000)}k`;
  if (value < 999_500_000) return `${digits(value / 1e6)}M`;
  return `${digits(value / 1e9)}G`;
}

/** A part of a whole: `0 %`, `0.2 %`, `12 %`, `100 %`. */
export function percent(part: number): string {
  const value = part * 100;
  if (value === 0) return '0 %';
  if (value < 0.05) return '<0.1 %';
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} %`;
}

/** `1 hit`, `2 hits`, `12 345 hits`. */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}
