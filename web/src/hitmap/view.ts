/** One map: canvas, selection by mouse and keyboard, read-out. */

import { h, perFrame, setText } from '../dom.ts';
import { count, percent, plural, short } from '../format.ts';
import type { Selection } from '../state.ts';
import { palette } from '../theme.ts';
import { local, localTime } from '../time.ts';
import { type Block, type Grid, grid, normalize, type Series, sum } from './bins.ts';
import { paint, plot, type Size } from './draw.ts';
import { latencyRange, rowAt, type Scale } from './scale.ts';

export interface Shown {
  series: Series;
  from: number;
  to: number;
  step: number;
  scale: Scale;
  errorsOnly: boolean;
  selection: Selection | null;
}

export interface Actions {
  /** `replace`: the next step of a selection that grows. */
  select(selection: Selection | null, replace?: boolean): void;
  /** Moves on to the list of hits. */
  list(): void;
  /** Says something to screen readers. */
  say(text: string): void;
}

/** The next of 1, 2, 5, 10, 20, … so that the colours of a live map rest. */
function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value)!;
}

export class HitmapView {
  readonly element: HTMLElement;
  readonly #title = h('h2', { class: 'map-title' });
  readonly #hits = h('span');
  readonly #errors = h('span');
  readonly #totals = h('span', { class: 'map-totals' }, this.#hits, this.#errors);
  readonly #legendMost = h('span');
  readonly #legend = h('canvas', { class: 'legend-ramp', 'aria-hidden': 'true' });
  readonly #canvas = h('canvas', { 'aria-hidden': 'true' });
  readonly #rectangle = h('div', { class: 'selection', hidden: true });
  readonly #cursorBox = h('div', { class: 'cell-cursor', hidden: true });
  readonly #tip = h('div', { class: 'tip', hidden: true });
  readonly #box: HTMLElement;
  readonly #actions: Actions;
  readonly #draw = perFrame(() => this.#paint());
  #shown: Shown | null = null;
  #grid: Grid | null = null;
  #size: Size = { width: 0, height: 0 };
  /** The cell under the pointer or the keyboard, by its time so that it moves with the map. */
  #cursor: { time: number; row: number } | null = null;
  /** Where a selection by drag or Shift began. */
  #anchor: { time: number; row: number } | null = null;
  #dragging = false;
  #block: Block | null = null;

  constructor(actions: Actions) {
    this.#actions = actions;
    this.#box = h(
      'div',
      { class: 'map-box', tabindex: 0, role: 'application', 'aria-roledescription': 'hitmap' },
      this.#canvas,
      this.#rectangle,
      this.#cursorBox,
      this.#tip,
    );
    const legend = h(
      'div',
      { class: 'legend' },
      h('span', {}, '1'),
      this.#legend,
      this.#legendMost,
      h('span', { class: 'legend-error', 'aria-hidden': 'true' }),
      h('span', {}, 'errors'),
    );
    this.element = h(
      'section',
      { class: 'map' },
      h('header', { class: 'map-head' }, this.#title, this.#totals, legend),
      this.#box,
    );
    this.#listen();
    new ResizeObserver(() => {
      const { clientWidth: width, clientHeight: height } = this.#box;
      this.#size = { width, height };
      this.#draw();
    }).observe(this.#box);
  }

  update(shown: Shown): void {
    const series = shown.series;
    const name = `${series.service} · ${series.protocol} · ${series.side}`;
    if (this.#title.dataset['name'] !== name) {
      this.#title.dataset['name'] = name;
      this.#title.replaceChildren(
        h('span', { class: 'service' }, series.service),
        h('span', { class: 'tag' }, series.protocol),
        h(
          'span',
          { class: 'tag', title: series.side === 'server' ? 'This process answered' : 'This process asked' },
          series.side,
        ),
      );
      this.#box.setAttribute(
        'aria-label',
        `Hitmap of ${name}. Arrow keys move, Shift and arrows select, Enter lists the hits.`,
      );
    }
    this.#shown = shown;
    this.#grid = grid(series, shown.from, shown.to, shown.step, shown.scale.edges);
    let hits = 0;
    let errors = 0;
    this.#grid.hits.forEach((n) => (hits += n));
    this.#grid.errors.forEach((n) => (errors += n));
    setText(this.#hits, `${plural(hits, 'hit')}, `);
    setText(this.#errors, errors > 0 ? `${plural(errors, 'error')} (${percent(errors / hits)})` : 'no errors');
    this.#errors.classList.toggle('bad', errors > 0);
    if (!this.#dragging) this.#block = this.#blockOf(shown.selection);
    this.#draw();
  }

  /** Paints again in the colours of the theme. */
  repaint(): void {
    this.#draw();
  }

  focus(): void {
    this.#box.focus();
  }

  #paint(): void {
    if (!this.#shown || !this.#grid || this.#size.width === 0) return;
    const colours = palette();
    const most = roundUp(this.#grid.most);
    paint(this.#canvas, this.#size, { ...this.#shown, grid: this.#grid, most }, colours);
    setText(this.#legendMost, `${short(most)} hits`);
    this.#paintLegend(colours.hits);
    this.#place();
  }

  #paintLegend(shades: string[]): void {
    const canvas = this.#legend;
    canvas.width = shades.length;
    canvas.height = 1;
    const context = canvas.getContext('2d')!;
    shades.forEach((colour, i) => {
      context.fillStyle = colour;
      context.fillRect(i, 0, 1, 1);
    });
  }

  /** Puts the rectangle, the cursor and the read-out where they belong. */
  #place(): void {
    if (!this.#grid || !this.#shown) return;
    const block = this.#block;
    this.#rectangle.hidden = block === null;
    if (block) this.#putBox(this.#rectangle, block);
    const cell = this.#cursorCell();
    this.#cursorBox.hidden = cell === null;
    this.#tip.hidden = cell === null;
    if (!cell) return;
    this.#putBox(this.#cursorBox, { column0: cell.column, column1: cell.column, row0: cell.row, row1: cell.row });
    this.#fillTip(cell);
  }

  #putBox(element: HTMLElement, block: Block): void {
    const { left, top, right, bottom } = this.#boxOf(block);
    const style = element.style;
    style.left = `${left}px`;
    style.top = `${top}px`;
    style.width = `${right - left}px`;
    style.height = `${bottom - top}px`;
  }

  #boxOf(block: Block): { left: number; top: number; right: number; bottom: number } {
    const area = plot(this.#size);
    const columns = this.#grid!.columns;
    const positions = this.#shown!.scale.positions;
    return {
      left: area.left + (area.width * block.column0) / columns,
      right: area.left + (area.width * (block.column1 + 1)) / columns,
      top: area.top + area.height * (1 - positions[block.row1 + 1]!),
      bottom: area.top + area.height * (1 - positions[block.row0]!),
    };
  }

  #fillTip(cell: { column: number; row: number }): void {
    const block =
      this.#dragging && this.#block
        ? this.#block
        : { column0: cell.column, column1: cell.column, row0: cell.row, row1: cell.row };
    const { hits, errors } = sum(this.#grid!, block);
    const { time, latency } = this.#words(block);
    this.#tip.replaceChildren(
      h('div', { class: 'tip-count' }, plural(hits, 'hit')),
      ...(errors > 0
        ? [h('div', { class: 'tip-errors' }, `${plural(errors, 'error')} (${percent(errors / hits)})`)]
        : []),
      h('div', {}, latency),
      h('div', { class: 'muted' }, time),
    );
    const { left, right, top } = this.#boxOf(block);
    const width = this.#tip.offsetWidth;
    const height = this.#tip.offsetHeight;
    const x = right + 10 + width <= this.#size.width ? right + 10 : Math.max(0, left - 10 - width);
    this.#tip.style.left = `${x}px`;
    this.#tip.style.top = `${Math.min(Math.max(0, top - 6), Math.max(0, this.#size.height - height))}px`;
  }

  #words(block: Block): { time: string; latency: string } {
    const range = this.#selectionOf(block);
    const fine = range.to - range.from < 86_400_000;
    return {
      time: `${local(range.from)} – ${fine ? localTime(range.to) : local(range.to)}`,
      latency: latencyRange(range.low, range.high),
    };
  }

  #selectionOf(block: Block): Selection {
    const { series, scale } = this.#shown!;
    const { from, step } = this.#grid!;
    return {
      from: from + block.column0 * step,
      to: from + (block.column1 + 1) * step,
      low: scale.edges[block.row0]!,
      high: scale.edges[block.row1 + 1]!,
      service: series.service,
      protocol: series.protocol,
      side: series.side,
    };
  }

  /** The cells that a selection covers now, or `null` where it is another map's or out of sight. */
  #blockOf(selection: Selection | null): Block | null {
    if (!selection || !this.#shown || !this.#grid) return null;
    const { series, scale } = this.#shown;
    for (const name of ['service', 'protocol', 'side'] as const) {
      if (selection[name] && selection[name] !== series[name]) return null;
    }
    const { from, step, columns } = this.#grid;
    const column0 = Math.floor((selection.from - from) / step);
    const column1 = Math.ceil((selection.to - from) / step) - 1;
    if (column1 < 0 || column0 >= columns) return null;
    const row0 = rowAt(scale, scale.at(selection.low) + 1e-9);
    const high = scale.at(selection.high);
    const row1 = rowAt(scale, high - 1e-6);
    return normalize({ column0, column1, row0, row1 }, this.#grid);
  }

  #cursorCell(): { column: number; row: number } | null {
    if (!this.#cursor || !this.#grid) return null;
    const column = Math.floor((this.#cursor.time - this.#grid.from) / this.#grid.step);
    if (column < 0 || column >= this.#grid.columns) return null;
    return { column, row: Math.min(this.#cursor.row, this.#grid.rows - 1) };
  }

  #cellAt(event: PointerEvent, clamp: boolean): { time: number; row: number } | null {
    if (!this.#grid || !this.#shown) return null;
    const box = this.#box.getBoundingClientRect();
    const area = plot(this.#size);
    const x = (event.clientX - box.left - this.#box.clientLeft - area.left) / area.width;
    const y = 1 - (event.clientY - box.top - this.#box.clientTop - area.top) / area.height;
    if (!clamp && (x < 0 || x >= 1 || y < 0 || y > 1)) return null;
    const column = Math.min(Math.max(Math.floor(x * this.#grid.columns), 0), this.#grid.columns - 1);
    return { time: this.#timeOf(column), row: rowAt(this.#shown.scale, y) };
  }

  #timeOf(column: number): number {
    return this.#grid!.from + column * this.#grid!.step;
  }

  #spanned(): Block | null {
    const cell = this.#cursorCell();
    if (!cell || !this.#anchor || !this.#grid) return null;
    const column = Math.floor((this.#anchor.time - this.#grid.from) / this.#grid.step);
    return normalize({ column0: column, column1: cell.column, row0: this.#anchor.row, row1: cell.row }, this.#grid);
  }

  #listen(): void {
    const box = this.#box;
    box.addEventListener('pointermove', (event) => {
      this.#cursor = this.#cellAt(event, this.#dragging);
      if (this.#dragging) this.#block = this.#spanned();
      this.#place();
    });
    box.addEventListener('pointerleave', () => {
      if (this.#dragging) return;
      this.#cursor = null;
      this.#place();
    });
    box.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      const cell = this.#cellAt(event, false);
      if (!cell) return;
      box.setPointerCapture(event.pointerId);
      this.#cursor = cell;
      this.#anchor = cell;
      this.#dragging = true;
      this.#block = this.#spanned();
      this.#place();
    });
    box.addEventListener('pointerup', () => {
      if (!this.#dragging) return;
      this.#dragging = false;
      // The read-out gives way to the list, which says the same of the selection.
      this.#cursor = null;
      this.#finish();
      this.#place();
    });
    box.addEventListener('pointercancel', () => this.#clear());
    box.addEventListener('blur', () => {
      this.#cursor = null;
      this.#place();
    });
    box.addEventListener('keydown', (event) => this.#key(event));
  }

  /** Takes the drawn block as the selection; one empty cell clears it instead. */
  #finish(): void {
    const block = this.#block;
    if (!block || !this.#grid) return;
    const single = block.column0 === block.column1 && block.row0 === block.row1;
    if (single && sum(this.#grid, block).hits === 0) this.#clear();
    else this.#actions.select(this.#selectionOf(block));
  }

  #clear(): void {
    this.#dragging = false;
    this.#anchor = null;
    this.#block = null;
    this.#actions.select(null);
    this.#place();
  }

  #key(event: KeyboardEvent): void {
    if (!this.#grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, 1],
      ArrowDown: [0, -1],
      PageUp: [0, 8],
      PageDown: [0, -8],
      Home: [-this.#grid.columns, 0],
      End: [this.#grid.columns, 0],
    };
    const move = moves[event.key];
    if (move) this.#step(move, event.shiftKey);
    else if (event.key === 'Enter') this.#enter();
    else if (event.key === 'Escape' && (this.#block || this.#cursor)) {
      this.#cursor = null;
      this.#clear();
    } else if (event.key === 'e') this.#nextError();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #step([columns, rows]: [number, number], extend: boolean): void {
    const map = this.#grid!;
    const cell = this.#cursorCell();
    if (!cell) {
      this.#cursor = this.#firstCursor();
    } else {
      if (extend && !this.#anchor) this.#anchor = this.#cursor;
      const column = Math.min(Math.max(cell.column + columns, 0), map.columns - 1);
      const row = Math.min(Math.max(cell.row + rows, 0), map.rows - 1);
      this.#cursor = { time: this.#timeOf(column), row };
    }
    if (extend) {
      const growing = this.#block !== null;
      this.#anchor ??= this.#cursor;
      this.#block = this.#spanned();
      if (this.#block) this.#actions.select(this.#selectionOf(this.#block), growing);
    } else {
      this.#anchor = null;
    }
    this.#place();
    this.#speak();
  }

  /** The keyboard begins at the newest column with hits, in its slowest cell. */
  #firstCursor(): { time: number; row: number } {
    const map = this.#grid!;
    for (let column = map.columns - 1; column >= 0; column -= 1) {
      for (let row = map.rows - 1; row >= 0; row -= 1) {
        if (map.hits[column * map.rows + row]! > 0) return { time: this.#timeOf(column), row };
      }
    }
    return { time: this.#timeOf(map.columns - 1), row: 0 };
  }

  /** Moves to the next cell with errors, going back in time and round again. */
  #nextError(): void {
    const map = this.#grid!;
    const cell = this.#cursorCell();
    const size = map.columns * map.rows;
    const start = cell ? cell.column * map.rows + cell.row : size;
    for (let i = 1; i <= size; i += 1) {
      const at = (start - i + size) % size;
      if (map.errors[at]! > 0) {
        this.#cursor = { time: this.#timeOf(Math.floor(at / map.rows)), row: at % map.rows };
        this.#anchor = null;
        this.#place();
        this.#speak();
        return;
      }
    }
    this.#actions.say('No errors in this range');
  }

  #enter(): void {
    const cell = this.#cursorCell();
    if (cell && !this.#anchor) {
      this.#anchor = this.#cursor;
      this.#block = this.#spanned();
      this.#actions.select(this.#selectionOf(this.#block!));
      this.#anchor = null;
    }
    this.#actions.list();
  }

  #speak(): void {
    const cell = this.#cursorCell();
    if (!cell) return;
    const block =
      this.#anchor && this.#block
        ? this.#block
        : { column0: cell.column, column1: cell.column, row0: cell.row, row1: cell.row };
    const { hits, errors } = sum(this.#grid!, block);
    const { time, latency } = this.#words(block);
    this.#actions.say(`${count(hits)} hits, ${count(errors)} errors, ${latency}, ${time}`);
  }
}
