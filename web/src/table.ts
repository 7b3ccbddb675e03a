/** A table whose rows open something: sorted by its headers, walked with the arrow keys, kept calm through updates. */

import { fill, h } from './dom.ts';

export interface Column<T> {
  id: string;
  label: string;
  /** What the column means, shown on hover. */
  title?: string;
  /** Right-aligned. */
  number?: boolean;
  class?: string;
  cell(row: T): Node | string;
  /** What to sort by; without it the header is no button. */
  value?(row: T): number | string;
}

export interface TableOptions<T> {
  label: string;
  class?: string;
  columns: Column<T>[];
  key(row: T): string;
  open?(row: T): void;
  /** Called with the new order: a column's id, with `-` before it for ascending. */
  sort?(order: string): void;
  rowClass?(row: T): string;
}

/** Rows in the given order; unknown columns leave them as they are. */
export function sorted<T>(rows: readonly T[], columns: readonly Column<T>[], order: string): T[] {
  const ascending = order.startsWith('-');
  const value = columns.find((column) => column.id === order.replace('-', ''))?.value;
  if (!value) return [...rows];
  const sign = ascending ? 1 : -1;
  return rows
    .map((row) => ({ row, by: value(row) }))
    .sort((a, b) => {
      if (typeof a.by === 'string' || typeof b.by === 'string') {
        // Text reads from A to Z first.
        return -sign * String(a.by).localeCompare(String(b.by));
      }
      return sign * (a.by - b.by);
    })
    .map(({ row }) => row);
}

export class Table<T> {
  readonly element: HTMLElement;
  readonly #options: TableOptions<T>;
  readonly #head = h('tr');
  readonly #body = h('tbody');
  #order = '';
  #rows: T[] = [];
  #current = '';
  #focused = '';

  constructor(options: TableOptions<T>) {
    this.#options = options;
    this.element = h(
      'div',
      { class: `table-box ${options.class ?? ''}` },
      h('table', { 'aria-label': options.label }, h('thead', {}, this.#head), this.#body),
    );
    this.#header();
    if (options.open) this.#listen();
  }

  /** Other columns, from the next update on. */
  setColumns(columns: Column<T>[]): void {
    this.#options.columns = columns;
    this.#header();
  }

  /** Shows rows in the order given; `current` is the key of the one that is open. */
  update(rows: T[], order = '', current = ''): void {
    const { key, columns, open, rowClass } = this.#options;
    if (order !== this.#order) {
      this.#order = order;
      this.#header();
    }
    this.#rows = rows;
    this.#current = current;
    const hadFocus = this.#body.contains(document.activeElement);
    if (!rows.some((row) => key(row) === this.#focused)) this.#focused = current;
    if (!rows.some((row) => key(row) === this.#focused)) this.#focused = rows[0] ? key(rows[0]) : '';
    const lines = rows.map((row) => {
      const id = key(row);
      const line = h('tr', {
        class: rowClass?.(row) || null,
        'data-key': id,
        tabindex: open ? (id === this.#focused ? 0 : -1) : null,
        'aria-current': id === current ? 'true' : null,
      });
      for (const column of columns) line.append(h('td', { class: cellClass(column) }, column.cell(row)));
      return line;
    });
    this.#body.replaceChildren(...lines);
    if (hadFocus) this.focus();
  }

  /** Puts the focus on the row that last had it, or the first. */
  focus(): void {
    this.#line(this.#focused)?.focus({ preventScroll: true });
  }

  #line(key: string): HTMLElement | undefined {
    return [...this.#body.rows].find((line) => line.dataset['key'] === key);
  }

  #header(): void {
    const focused = this.#head.contains(document.activeElement)
      ? (document.activeElement as HTMLElement).dataset['column']
      : undefined;
    const ascending = this.#order.startsWith('-');
    const by = this.#order.replace('-', '');
    const cells = this.#options.columns.map((column) => {
      const sorts = column.value && this.#options.sort;
      const active = by === column.id;
      const text = typeof column.value === 'function' && active;
      const label = sorts
        ? h(
            'button',
            {
              class: 'sort',
              type: 'button',
              'data-column': column.id,
              onclick: () => this.#options.sort?.(active && !ascending ? `-${column.id}` : column.id),
            },
            column.label,
            h('span', { class: 'sort-mark', 'aria-hidden': 'true' }, text ? (ascending ? '▴' : '▾') : ''),
          )
        : column.label;
      return h(
        'th',
        {
          scope: 'col',
          class: cellClass(column),
          title: column.title,
          'aria-sort': active ? (ascending ? 'ascending' : 'descending') : null,
        },
        label,
      );
    });
    fill(this.#head, ...cells);
    if (focused) this.#head.querySelector<HTMLElement>(`[data-column="${focused}"]`)?.focus();
  }

  #listen(): void {
    const rowOf = (event: Event): T | undefined => {
      const line = (event.target as Element).closest('tr');
      return this.#rows.find((row) => this.#options.key(row) === line?.dataset['key']);
    };
    this.#body.addEventListener('click', (event) => {
      if ((event.target as Element).closest('a, button')) return;
      const row = rowOf(event);
      if (!row || getSelection()?.toString()) return;
      this.#focus(this.#options.key(row));
      this.#options.open?.(row);
    });
    this.#body.addEventListener('focusin', (event) => {
      const line = (event.target as Element).closest('tr');
      if (line) this.#mark(line.dataset['key'] ?? '');
    });
    this.#body.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const lines = [...this.#body.rows];
      const at = lines.findIndex((line) => line.dataset['key'] === this.#focused);
      const steps: Record<string, number> = {
        ArrowDown: 1,
        ArrowUp: -1,
        PageDown: 12,
        PageUp: -12,
        Home: -1e9,
        End: 1e9,
      };
      const step = steps[event.key];
      if (step !== undefined) {
        const next = lines[Math.min(Math.max(at + step, 0), lines.length - 1)];
        next?.focus();
        next?.scrollIntoView({ block: 'nearest' });
      } else if ((event.key === 'Enter' || event.key === ' ') && event.target instanceof HTMLTableRowElement) {
        const row = rowOf(event);
        if (row) this.#options.open?.(row);
      } else return;
      event.preventDefault();
    });
  }

  #focus(key: string): void {
    this.#mark(key);
    this.focus();
  }

  #mark(key: string): void {
    this.#line(this.#focused)?.setAttribute('tabindex', '-1');
    this.#focused = key;
    this.#line(key)?.setAttribute('tabindex', '0');
  }

  /** The key of the open row. */
  get current(): string {
    return this.#current;
  }
}

function cellClass<T>(column: Column<T>): string | null {
  return [column.number ? 'number' : '', column.class ?? ''].filter(Boolean).join(' ') || null;
}
