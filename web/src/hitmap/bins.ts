/** From cells as stored to cells as drawn: rows of latency and columns of time. Pure. */

import type { Group } from '../state.ts';

/** Hits of one column in one stored bucket. */
export interface Cell {
  /** The bucket's lower bound in ns. */
  low: number;
  hits: number;
  errors: number;
}

/** The cells of one map, by the start of their column. */
export interface Series extends Group {
  key: string;
  columns: Map<number, Cell[]>;
}

/**
 * Lower bounds of every stored latency bucket in ns, ascending, and `Infinity` as the last one's end.
 * The same as `schemas/src/latency.rs`: 16 to the octave from 2^10 ns to 2^42 ns, one bucket below and one above.
 */
export const BUCKET_EDGES: readonly number[] = (() => {
  const edges = [0];
  for (let octave = 10; octave <= 41; octave += 1) {
    for (let within = 16; within < 32; within += 1) edges.push(within * 2 ** (octave - 4));
  }
  return [...edges, 2 ** 42, Infinity];
})();

/** The largest index whose element is at most `value`; `sorted[0]` must be. */
export function indexAtMost(sorted: readonly number[], value: number): number {
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (sorted[middle]! <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The bucket bound nearest to a latency. */
export function nearestEdge(ns: number): number {
  const index = indexAtMost(BUCKET_EDGES, Math.max(0, ns));
  const low = BUCKET_EDGES[index]!;
  const high = BUCKET_EDGES[index + 1] ?? Infinity;
  return ns - low <= high - ns ? low : high;
}

/**
 * Row bounds for wanted positions: each moved to the nearest bucket bound, so that a row is a whole number of buckets
 * and its count is exact; rows that would be empty are merged into their neighbour.
 */
export function snap(wanted: readonly number[]): number[] {
  const edges: number[] = [];
  for (const ns of wanted) {
    const edge = nearestEdge(ns);
    if (edges.length === 0 || edge > edges[edges.length - 1]!) edges.push(edge);
  }
  return edges;
}

/** Cells of one map, counted in a grid of rows (latency, from below) and columns (time). */
export interface Grid {
  from: number;
  step: number;
  columns: number;
  rows: number;
  /** By `column * rows + row`. */
  hits: Float64Array;
  errors: Float64Array;
  /** The largest count of a cell. */
  most: number;
}

/** Counts a map's cells by rows with the given bounds. Cells below the first bound or outside the range are left out. */
export function grid(series: Series, from: number, to: number, step: number, edges: readonly number[]): Grid {
  const start = Math.floor(from / step) * step;
  const columns = Math.max(1, Math.ceil((to - start) / step));
  const rows = Math.max(1, edges.length - 1);
  const hits = new Float64Array(columns * rows);
  const errors = new Float64Array(columns * rows);
  let most = 0;
  for (const [time, cells] of series.columns) {
    const column = Math.floor((time - start) / step);
    if (column < 0 || column >= columns) continue;
    for (const cell of cells) {
      if (cell.low < edges[0]!) continue;
      const row = Math.min(indexAtMost(edges, cell.low), rows - 1);
      const at = column * rows + row;
      hits[at]! += cell.hits;
      errors[at]! += cell.errors;
      most = Math.max(most, hits[at]!);
    }
  }
  return { from: start, step, columns, rows, hits, errors, most };
}

/** The least and greatest latency bounds that hold cells within a range, or `null` where there are none. */
export function extent(all: Iterable<Series>, from: number, to: number): { low: number; high: number } | null {
  let low = Infinity;
  let high = 0;
  for (const series of all) {
    for (const [time, cells] of series.columns) {
      if (time < from || time >= to) continue;
      for (const cell of cells) {
        low = Math.min(low, cell.low);
        high = Math.max(high, cell.low);
      }
    }
  }
  if (high < low) return null;
  return { low, high: BUCKET_EDGES[indexAtMost(BUCKET_EDGES, high) + 1] ?? Infinity };
}

/** A block of cells: columns and rows, both ends included. */
export interface Block {
  column0: number;
  column1: number;
  row0: number;
  row1: number;
}

/** Puts the ends in order and within the grid. */
export function normalize(block: Block, grid: Grid): Block {
  const clamp = (value: number, most: number): number => Math.min(Math.max(value, 0), most);
  const [c0, c1] = [block.column0, block.column1].map((c) => clamp(c, grid.columns - 1)) as [number, number];
  const [r0, r1] = [block.row0, block.row1].map((r) => clamp(r, grid.rows - 1)) as [number, number];
  return { column0: Math.min(c0, c1), column1: Math.max(c0, c1), row0: Math.min(r0, r1), row1: Math.max(r0, r1) };
}

/** Hits and errors in a block. */
export function sum(grid: Grid, block: Block): { hits: number; errors: number } {
  let hits = 0;
  let errors = 0;
  for (let column = block.column0; column <= block.column1; column += 1) {
    for (let row = block.row0; row <= block.row1; row += 1) {
      hits += grid.hits[column * grid.rows + row] ?? 0;
      errors += grid.errors[column * grid.rows + row] ?? 0;
    }
  }
  return { hits, errors };
}
