/** The hits behind a selection, slowest first. */

import { type HitRow, hits as fetchHits, isAbort, moment } from '../api.ts';
import { bar, legend } from '../breakdown.ts';
import { fill, h } from '../dom.ts';
import { bytes, count, duration, plural } from '../format.ts';
import { latencyRange } from '../hitmap/scale.ts';
import type { State, Store } from '../state.ts';
import { type Column, Table } from '../table.ts';
import { local, localDate, localTime, localTimeMs, now } from '../time.ts';

const LIMIT = 200;

/** What tells one hit from another. */
export function hitKey(hit: HitRow): string {
  return `${hit.host ?? ''} ${hit.end_time} ${hit.thread_id} ${hit.operation_id}`;
}

/** A hit's outcome: `ok`, or what went wrong. */
export function outcome(hit: HitRow): HTMLElement {
  if (hit.status === 'ok') return h('span', { class: 'ok' }, 'ok');
  const code = hit.error_code ? ` ${hit.error_code}` : '';
  return h('span', { class: 'bad', title: hit.error_message }, `✕ ${hit.status}${code}`);
}

/** The other end of a hit's connection. */
export function remote(hit: HitRow): string {
  if (hit.remote_address === 'unix') return 'unix socket';
  const address = hit.remote_address.includes(':') ? `[${hit.remote_address}]` : hit.remote_address;
  return `${address}:${hit.remote_port}`;
}

const COLUMNS: Column<HitRow>[] = [
  {
    id: 'time',
    label: 'Time',
    title: 'When the answer was complete, local time',
    class: 'mono nowrap',
    cell: (hit) => {
      const time = moment(hit.end_time);
      return h(
        'span',
        { title: local(time) },
        localDate(time) === localDate(now()) ? '' : `${localDate(time).slice(5)} `,
        localTimeMs(time),
      );
    },
  },
  {
    id: 'duration',
    label: 'Duration',
    number: true,
    class: 'strong nowrap',
    cell: (hit) => duration(hit.duration_ns),
  },
  {
    id: 'operation',
    label: 'Operation',
    class: 'mono grow',
    cell: (hit) => h('span', { class: 'clip', title: hit.operation }, hit.operation),
  },
  {
    id: 'weight',
    label: 'Weight',
    title: 'How many hits this row stands for: fast ones are sampled, slow and failed ones are all kept',
    number: true,
    class: 'muted wide-only',
    cell: (hit) => (hit.weight > 1 ? `×${count(hit.weight)}` : ''),
  },
  { id: 'status', label: 'Status', class: 'nowrap', cell: outcome },
  {
    id: 'process',
    label: 'Process',
    class: 'nowrap',
    cell: (hit) => h('span', {}, hit.service, h('span', { class: 'muted mono' }, ` ${hit.pid}`)),
  },
  { id: 'remote', label: 'Remote', class: 'mono nowrap wide-only', cell: remote },
  {
    id: 'rows',
    label: 'Rows',
    number: true,
    class: 'wide-only',
    cell: (hit) => (hit.rows === null ? '–' : count(hit.rows)),
  },
  {
    id: 'bytes',
    label: 'Bytes',
    title: 'Request and answer together',
    number: true,
    class: 'nowrap wide-only',
    cell: (hit) =>
      h(
        'span',
        { title: `request ${bytes(hit.request_bytes)}, answer ${bytes(hit.response_bytes)}` },
        bytes(hit.request_bytes + hit.response_bytes),
      ),
  },
  { id: 'breakdown', label: 'Where the time went', class: 'breakdown-cell', cell: bar },
];

export class HitsPanel {
  readonly element: HTMLElement;
  readonly #store: Store;
  readonly #heading = h('h2', {}, 'Slowest hits');
  readonly #note = h('span', { class: 'muted' });
  readonly #tools = h('span', { class: 'panel-tools' });
  readonly #message = h('p', { class: 'panel-message' });
  readonly #table: Table<HitRow>;
  readonly #open: (hit: HitRow) => void;
  readonly #operationName: (id: string) => string | undefined;
  #rows: HitRow[] = [];
  #current = '';
  #request: AbortController | null = null;

  constructor(store: Store, open: (hit: HitRow) => void, operationName: (id: string) => string | undefined) {
    this.#store = store;
    this.#operationName = operationName;
    this.#open = open;
    this.#table = new Table<HitRow>({
      label: 'Hits, slowest first',
      class: 'hits',
      columns: COLUMNS,
      key: hitKey,
      open: (hit) => {
        this.#current = hitKey(hit);
        this.#table.update(this.#rows, 'duration', this.#current);
        this.#open(hit);
      },
      rowClass: (hit) => (hit.status === 'ok' ? '' : 'row-bad'),
    });
    this.element = h(
      'section',
      { class: 'panel hits-panel', 'aria-label': 'Hits' },
      h('header', { class: 'panel-head' }, this.#heading, this.#note, this.#tools, legend()),
      this.#message,
      this.#table.element,
    );
  }

  /** Loads the hits of the selection, or of the whole range. */
  async load(state: State, range: { from: number; to: number }): Promise<void> {
    const selection = state.selection;
    this.#head(state);
    this.#request?.abort();
    this.#request = new AbortController();
    try {
      const rows = await fetchHits(
        {
          from: selection?.from ?? range.from,
          to: selection?.to ?? range.to,
          low: selection?.low ?? 0,
          high: selection?.high ?? Infinity,
          host: state.host,
          service: selection?.service ?? state.service,
          protocol: selection?.protocol ?? state.protocol,
          side: selection?.side ?? state.side,
          operation: state.operation,
          errorsOnly: state.errorsOnly,
          limit: LIMIT,
        },
        this.#request.signal,
      );
      this.#show(rows, selection !== null);
    } catch (error) {
      if (isAbort(error)) return;
      this.#rows = [];
      this.#table.update([]);
      this.#say(`The hits could not be read: ${(error as Error).message}`);
    }
  }

  focus(): void {
    this.#table.focus();
    this.element.scrollIntoView({ block: 'nearest' });
  }

  /** Forgets which hit is open. */
  release(): void {
    this.#current = '';
    this.#table.update(this.#rows, 'duration', '');
  }

  /** The text of an operation, from what was loaded. */
  #nameOf(id: string): string | undefined {
    return this.#operationName(id) ?? this.#rows.find((hit) => String(hit.operation_id) === id)?.operation;
  }

  #head(state: State): void {
    const selection = state.selection;
    this.#heading.textContent = selection ? 'Hits in the selection' : 'Slowest hits in this range';
    const clear = (label: string, change: Partial<State>): HTMLElement =>
      h(
        'button',
        { class: 'chip', type: 'button', onclick: () => this.#store.set(change), title: 'Remove this filter' },
        label,
        ' ✕',
      );
    const chips: HTMLElement[] = [];
    if (selection) {
      chips.push(
        clear(
          `${selection.service ? `${selection.service} · ` : ''}${localTime(selection.from)}–${localTime(selection.to)} · ${latencyRange(selection.low, selection.high)}`,
          { selection: null },
        ),
      );
      chips.push(
        h(
          'button',
          {
            class: 'chip',
            type: 'button',
            title: 'Make the selected time the range',
            onclick: () => this.#store.set({ range: { from: selection.from, to: selection.to }, selection: null }),
          },
          'Zoom in',
        ),
      );
    }
    if (state.operation) {
      const name = this.#nameOf(state.operation) ?? `operation ${state.operation}`;
      const short = name.length > 48 ? `${name.slice(0, 47)}…` : name;
      chips.push(clear(short, { operation: '' }));
    }
    if (state.errorsOnly) chips.push(clear('errors only', { errorsOnly: false }));
    fill(this.#tools, ...chips);
  }

  #show(rows: HitRow[], selected: boolean): void {
    this.#rows = rows;
    this.#table.update(rows, 'duration', this.#current);
    const stands = rows.reduce((total, hit) => total + hit.weight, 0);
    const kept = rows.length === LIMIT ? `the ${count(LIMIT)} slowest` : plural(rows.length, 'row');
    this.#note.textContent =
      rows.length === 0 ? '' : stands > rows.length ? `${kept}, standing for ${plural(stands, 'hit')}` : kept;
    this.#say(
      rows.length > 0
        ? ''
        : selected
          ? 'No hits are kept here. Fast hits are sampled: choose more cells, or look at the operations, which count every one.'
          : 'No hits in this range.',
    );
  }

  #say(text: string): void {
    this.#message.textContent = text;
    this.#message.hidden = text === '';
    this.#table.element.hidden = text !== '';
  }
}
