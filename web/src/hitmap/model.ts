/** The cells that the page holds: loaded for a range, kept up to date by the live stream. */

import type { Hitmap } from '../api.ts';
import type { Group } from '../state.ts';
import type { Cell, Series } from './bins.ts';

export function groupKey(group: Group): string {
  return `${group.service}\n${group.protocol}\n${group.side}`;
}

export class HitmapModel {
  /** In the order in which they came, so that live maps stay where they are. */
  readonly series = new Map<string, Series>();

  clear(): void {
    this.series.clear();
  }

  /** Takes the cells of a loaded range, those with most hits first, instead of what was there. */
  load(map: Hitmap): void {
    const before = [...this.series.keys()];
    this.series.clear();
    this.#add(map);
    const total = new Map<string, number>();
    for (const [key, series] of this.series) {
      let hits = 0;
      for (const cells of series.columns.values()) for (const cell of cells) hits += cell.hits;
      total.set(key, hits);
    }
    const place = (key: string): number => (before.includes(key) ? before.indexOf(key) : before.length);
    const order = [...this.series].sort(
      ([a], [b]) => place(a) - place(b) || (total.get(b) ?? 0) - (total.get(a) ?? 0) || a.localeCompare(b),
    );
    this.series.clear();
    for (const [key, series] of order) this.series.set(key, series);
  }

  /** Takes the newest windows as they are now, instead of what was known of them. */
  live(map: Hitmap): void {
    for (const series of this.series.values()) {
      for (const time of series.columns.keys()) if (time >= map.from && time < map.to) series.columns.delete(time);
    }
    this.#add(map);
  }

  /** Forgets what is older than the range, so that a page left open for days does not grow. */
  forget(before: number): void {
    for (const [key, series] of this.series) {
      for (const time of series.columns.keys()) if (time < before) series.columns.delete(time);
      if (series.columns.size === 0) this.series.delete(key);
    }
  }

  /** Whether there is any cell. */
  get empty(): boolean {
    return this.series.size === 0;
  }

  #seriesOf(group: Group): Series {
    const key = groupKey(group);
    let series = this.series.get(key);
    if (!series) {
      const { service, protocol, side } = group;
      series = { key, service, protocol, side, columns: new Map<number, Cell[]>() };
      this.series.set(key, series);
    }
    return series;
  }

  /** Adds cells; the same service on several hosts is one map. */
  #add({ from, step_ms, series: groups, buckets, cells }: Hitmap): void {
    const known: (Series | undefined)[] = [];
    cells.window.forEach((window, i) => {
      const index = cells.series[i]!;
      const series = (known[index] ??= this.#seriesOf(groups[index]!));
      const time = from + window * step_ms;
      const cell = { low: buckets[cells.bucket[i]!]![0], hits: cells.hits[i]!, errors: cells.errors[i]! };
      const column = series.columns.get(time);
      if (column) column.push(cell);
      else series.columns.set(time, [cell]);
    });
  }
}
