/** Where a hit's time went, as a bar and as a list. */

import type { HitRow } from './api.ts';
import { h } from './dom.ts';
import { duration, percent } from './format.ts';

const PARTS = [
  { key: 'cpu_ns', name: 'CPU', class: 'part-cpu' },
  { key: 'runqueue_ns', name: 'run queue', class: 'part-runqueue' },
  { key: 'disk_ns', name: 'disk', class: 'part-disk' },
  { key: 'lock_ns', name: 'lock', class: 'part-lock' },
  { key: 'network_ns', name: 'network', class: 'part-network' },
] as const;

export interface Part {
  name: string;
  class: string;
  /** `null`: not measured. */
  ns: number | null;
}

/** The parts of a hit's time; the last is what none of the measured parts explains. */
export function parts(hit: HitRow): Part[] {
  const measured: Part[] = PARTS.map(({ key, name, class: kind }) => ({ name, class: kind, ns: hit[key] }));
  const known = measured.reduce((total, part) => total + (part.ns ?? 0), 0);
  const complete = measured.every((part) => part.ns !== null);
  return [
    ...measured,
    {
      name: complete ? 'other' : 'other, or not measured',
      class: complete ? 'part-other' : 'part-unknown',
      ns: Math.max(0, hit.duration_ns - known),
    },
  ];
}

/** Whether anything of a hit's time was measured. */
export function isMeasured(hit: HitRow): boolean {
  return PARTS.some(({ key }) => hit[key] !== null);
}

/** The bar for a row of the list. */
export function bar(hit: HitRow): HTMLElement {
  if (!isMeasured(hit)) return h('span', { class: 'muted' }, 'not measured');
  const all = parts(hit).filter((part) => part.ns !== null && part.ns > 0);
  const total = Math.max(
    hit.duration_ns,
    all.reduce((sum, part) => sum + (part.ns ?? 0), 0),
    1,
  );
  const words = all.map((part) => `${part.name} ${duration(part.ns ?? 0)}`).join(', ');
  const element = h('span', { class: 'breakdown', role: 'img', 'aria-label': words, title: words });
  for (const part of all) {
    const piece = h('span', { class: part.class });
    piece.style.width = `${((part.ns ?? 0) / total) * 100}%`;
    element.append(piece);
  }
  return element;
}

/** The list for the details of a hit. */
export function list(hit: HitRow): HTMLElement {
  const rows = parts(hit).map((part) =>
    h(
      'tr',
      {},
      h('td', {}, h('span', { class: `swatch ${part.class}` })),
      h('td', {}, part.name),
      h(
        'td',
        { class: 'number' },
        part.ns === null ? h('span', { class: 'muted' }, 'not measured') : duration(part.ns),
      ),
      h('td', { class: 'number muted' }, part.ns === null ? '' : percent(part.ns / Math.max(1, hit.duration_ns))),
    ),
  );
  return h('table', { class: 'parts' }, h('tbody', {}, ...rows));
}

/** The key to the bar's colours. */
export function legend(): HTMLElement {
  const names = [
    ...PARTS.map(({ name, class: kind }) => ({ name, class: kind })),
    { name: 'other', class: 'part-other' },
  ];
  return h(
    'span',
    { class: 'part-legend', 'aria-hidden': 'true' },
    ...names.map((part) => h('span', {}, h('span', { class: `swatch ${part.class}` }), part.name)),
  );
}
