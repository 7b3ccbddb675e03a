/** The operations of a range or selection, those that cost most time first; one of them filters the hits. */

import { between, hitConditions, isAbort, type OperationRow, query, where } from '../api.ts';
import { h } from '../dom.ts';
import { count, duration, percent } from '../format.ts';
import type { State, Store } from '../state.ts';
import { type Column, sorted, Table } from '../table.ts';

const LIMIT = 100;

interface Line extends OperationRow {
  share: number;
}

const COLUMNS: Column<Line>[] = [
  {
    id: 'operation',
    label: 'Operation',
    class: 'mono grow',
    cell: (line) => h('span', { class: 'clip', title: line.operation }, line.operation),
    value: (line) => line.operation,
  },
  { id: 'calls', label: 'Calls', number: true, cell: (line) => count(line.calls), value: (line) => line.calls },
  {
    id: 'errors',
    label: 'Errors',
    number: true,
    cell: (line) =>
      line.errors > 0 ? h('span', { class: 'bad' }, `✕ ${count(line.errors)}`) : h('span', { class: 'muted' }, '0'),
    value: (line) => line.errors,
  },
  {
    id: 'total',
    label: 'Total',
    number: true,
    class: 'nowrap',
    cell: (line) => duration(line.total_ns),
    value: (line) => line.total_ns,
  },
  {
    id: 'mean',
    label: 'Mean',
    number: true,
    class: 'nowrap',
    cell: (line) => duration(line.total_ns / Math.max(1, line.calls)),
    value: (line) => line.total_ns / Math.max(1, line.calls),
  },
  {
    id: 'max',
    label: 'Max',
    number: true,
    class: 'nowrap',
    cell: (line) => duration(line.max_ns),
    value: (line) => line.max_ns,
  },
  {
    id: 'share',
    label: 'Share',
    title: "Part of all operations' time in this range",
    number: true,
    class: 'share-cell',
    cell: (line) => {
      const fill = h('span', { class: 'share-fill' });
      fill.style.width = `${line.share * 100}%`;
      return h(
        'span',
        { class: 'share' },
        h('span', { class: 'share-bar' }, fill),
        h('span', { class: 'share-text' }, percent(line.share)),
      );
    },
    value: (line) => line.share,
  },
];

export class OperationsPanel {
  readonly element: HTMLElement;
  readonly #store: Store;
  readonly #note = h('span', { class: 'muted' });
  readonly #message = h('p', { class: 'panel-message' });
  readonly #table: Table<Line>;
  #lines: Line[] = [];
  #order = 'total';
  #request: AbortController | null = null;

  constructor(store: Store) {
    this.#store = store;
    this.#table = new Table<Line>({
      label: 'Operations',
      class: 'operations',
      columns: COLUMNS,
      key: (line) => String(line.operation_id),
      open: (line) => {
        const id = String(line.operation_id);
        this.#store.set({ operation: id === this.#store.state.operation ? '' : id });
      },
      sort: (order) => {
        this.#order = order;
        this.#show();
      },
    });
    this.element = h(
      'section',
      { class: 'panel operations-panel', 'aria-label': 'Operations' },
      h('header', { class: 'panel-head' }, h('h2', {}, 'Operations'), this.#note),
      this.#message,
      this.#table.element,
    );
  }

  async load(state: State, range: { from: number; to: number }): Promise<void> {
    this.#request?.abort();
    this.#request = new AbortController();
    try {
      const rows = await query<OperationRow>(statement(state, range), this.#request.signal);
      const all = rows.reduce((total, row) => total + Number(row.total_ns), 0);
      this.#lines = rows.map((row) => ({
        operation: row.operation,
        operation_id: String(row.operation_id),
        calls: Number(row.calls),
        errors: Number(row.errors),
        total_ns: Number(row.total_ns),
        max_ns: Number(row.max_ns),
        share: Number(row.total_ns) / Math.max(1, all),
      }));
      const most = rows.length === LIMIT ? `the ${LIMIT} with most time, ` : '';
      this.#note.textContent =
        most + (state.selection ? 'of the selected cells, from the hits kept, by weight' : 'every call counted');
      this.#show();
    } catch (error) {
      if (isAbort(error)) return;
      this.#lines = [];
      this.#show(`The operations could not be read: ${(error as Error).message}`);
    }
  }

  /** The text of an operation, where it is in the list. */
  name(id: string): string | undefined {
    return this.#lines.find((line) => line.operation_id === id)?.operation;
  }

  /** Marks the operation that filters the hits. */
  mark(): void {
    this.#show();
  }

  #show(error = ''): void {
    const message = error || (this.#lines.length === 0 ? 'No operations in this range.' : '');
    this.#message.textContent = message;
    this.#message.hidden = message === '';
    this.#table.element.hidden = message !== '';
    this.#table.update(sorted(this.#lines, COLUMNS, this.#order), this.#order, this.#store.state.operation);
  }
}

/** Operations of the range are counted exactly; those of selected cells come from the hits kept there, by weight. */
function statement(state: State, range: { from: number; to: number }): string {
  const { selection, errorsOnly } = state;
  if (!selection) {
    return `select operation_id, min(operation) as operation, sum(calls) as calls, sum(errors) as errors, sum(total_ns) as total_ns, max(max_ns) as max_ns
from operations where ${where(state, between('window_start', range.from, range.to))}
group by operation_id ${errorsOnly ? 'having sum(errors) > 0 ' : ''}order by total_ns desc limit ${LIMIT}`;
  }
  const { host } = state;
  const conditions = hitConditions({ ...selection, host, operation: '', errorsOnly });
  return `select operation_id, min(operation) as operation, sum(weight) as calls, sum(case when status <> 'ok' then weight else 0 end) as errors,
sum(duration_ns * weight) as total_ns, max(duration_ns) as max_ns
from hits where ${conditions} group by operation_id order by total_ns desc limit ${LIMIT}`;
}
