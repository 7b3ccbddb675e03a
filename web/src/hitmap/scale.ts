/** The latency axis: where a latency lies, what rows there are, what the axis says. Pure. */

import { duration } from '../format.ts';
import { BUCKET_EDGES, indexAtMost, snap } from './bins.ts';

export interface Scale {
  /** Row bounds in ns, ascending; the last may be `Infinity`. */
  edges: number[];
  /** Where each bound lies: 0 is the bottom of the map, 1 its top. */
  positions: number[];
  /** Where any latency lies. */
  at(ns: number): number;
  ticks: { at: number; label: string; strong: boolean }[];
}

/** Part of the height that the linear scale gives to everything beyond its upper end. */
const OVERFLOW = 0.09;
/** Where a logarithmic axis puts the bucket that begins at 0. */
const LOG_FLOOR = 512;
const HOUR = 3600e9;

/** Bounds for the logarithmic axis around an extent: whole 1-2-5 steps, and at least two decades. */
export function logBounds(extent: { low: number; high: number } | null): { low: number; high: number } {
  if (!extent) return { low: 1e4, high: 1e10 };
  let low = down(Math.max(extent.low, LOG_FLOOR));
  let high = up(Math.min(extent.high, 2 * HOUR));
  while (high / low < 100) {
    high = up(high * 1.5);
    if (high / low < 100) low = down(low / 1.5);
  }
  return { low, high };
}

function down(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value) + 1e-9);
  return [5, 2, 1].map((n) => n * power).find((step) => step <= value * 1.000001) ?? power;
}

function up(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value) + 1e-9);
  return [1, 2, 5, 10].map((n) => n * power).find((step) => step >= value * 0.999999) ?? 10 * power;
}

/** A logarithmic axis with about `rows` rows of equal height. */
export function logScale(bounds: { low: number; high: number }, rows: number): Scale {
  const first = Math.log(bounds.low);
  const last = Math.log(bounds.high);
  const wanted = Array.from({ length: rows + 1 }, (_, i) => Math.exp(first + ((last - first) * i) / rows));
  const edges = snap(wanted);
  // The outermost rows take the whole of the buckets that the bounds cut.
  edges[0] = bounds.low <= 1024 ? 0 : BUCKET_EDGES[indexAtMost(BUCKET_EDGES, bounds.low)]!;
  if (edges.length === 1) edges.push(Infinity);
  const bottom = Math.log(Math.max(edges[0], LOG_FLOOR));
  const top = Math.log(Math.min(edges[edges.length - 1]!, 2 * HOUR));
  const at = (ns: number): number => (Math.log(Math.min(Math.max(ns, LOG_FLOOR), 2 * HOUR)) - bottom) / (top - bottom);
  const ticks: Scale['ticks'] = [];
  const decades = Math.log10(bounds.high / bounds.low);
  for (let power = 1e3; power <= 1e13; power *= 10) {
    for (const factor of [1, 2, 5]) {
      const ns = power * factor;
      const place = at(ns);
      if (place < -0.001 || place > 1.001) continue;
      ticks.push({ at: place, label: factor === 1 || decades < 2.6 ? duration(ns) : '', strong: factor === 1 });
    }
  }
  return { edges, positions: edges.map(at), at, ticks };
}

/** A linear axis from 0 to `top` seconds with about `rows` rows, and one row for everything beyond. */
export function linearScale(top: number, rows: number): Scale {
  const wanted = Array.from({ length: rows + 1 }, (_, i) => (top * 1e9 * i) / rows);
  const edges = snap(wanted);
  const end = edges[edges.length - 1]!;
  const at = (ns: number): number => (ns > end ? 1 : (ns / end) * (1 - OVERFLOW));
  edges.push(Infinity);
  const step = top / 5;
  const ticks = Array.from({ length: 6 }, (_, i) => i * step)
    .filter((seconds) => seconds * 1e9 <= end * 1.02)
    .map((seconds) => ({ at: Math.min(at(seconds * 1e9), 1 - OVERFLOW), label: `${seconds} s`, strong: true }));
  ticks.push({ at: 1, label: 'more', strong: false });
  return { edges, positions: edges.map(at), at, ticks };
}

/** The row at a position (0 bottom, 1 top). */
export function rowAt(scale: Scale, position: number): number {
  return Math.min(Math.max(indexAtMost(scale.positions, Math.max(position, 0)), 0), scale.edges.length - 2);
}

/** A latency range in words: `2.01 s – 2.15 s`, `≥ 5.1 s`, `< 1.02 µs`. */
export function latencyRange(low: number, high: number): string {
  if (low <= 0 && !Number.isFinite(high)) return 'all latencies';
  if (!Number.isFinite(high)) return `≥ ${duration(low)}`;
  if (low <= 0) return `< ${duration(high)}`;
  return `${duration(low)} – ${duration(high)}`;
}
