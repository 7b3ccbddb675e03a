/** A small chart over time: areas or lines, one unit, a marked moment, a read-out under the pointer. */

import { h, perFrame } from './dom.ts';
import { fit, FONT } from './hitmap/draw.ts';
import { onTheme, palette } from './theme.ts';
import { local, timeTicks } from './time.ts';

export interface Line {
  name: string;
  values: (number | null)[];
}

export interface ChartData {
  from: number;
  to: number;
  /** Length of a step in ms; a longer gap breaks the line. */
  step: number;
  /** Starts of the steps that have values. */
  times: number[];
  lines: Line[];
  /** Piles the lines up as areas. */
  stacked: boolean;
  /** The axis reaches at least so far. */
  least: number;
  /** The axis ends here, whatever the values. */
  most?: number;
  format(value: number): string;
}

export interface ChartOptions {
  label: string;
  height: number;
  /** Called with the moment that was clicked or dragged to. */
  pick?(time: number): void;
}

const LEFT = 62;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 18;

/** A round number at or above a value: 1, 2, 2.5, 5 × 10^n; in binary steps where the unit is bytes. */
export function roundTop(value: number, binary = false): number {
  if (value <= 0) return 1;
  if (binary && value >= 1024) {
    const unit = 1024 ** Math.floor(Math.log2(value) / 10);
    const top = roundTop(value / unit);
    return (top >= 1000 ? 1024 : top) * unit;
  }
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= value * 0.9999) ?? 10 * power;
}

/** The index of the step that holds a moment, or -1. */
export function indexAt(data: Pick<ChartData, 'times' | 'step'>, time: number): number {
  for (let i = data.times.length - 1; i >= 0; i -= 1) {
    const start = data.times[i]!;
    if (time >= start) return time < start + data.step * 1.5 ? i : -1;
  }
  return -1;
}

export class Chart {
  readonly element: HTMLElement;
  readonly canvas: HTMLElement;
  readonly #canvas = h('canvas', { 'aria-hidden': 'true' });
  readonly #readout = h('span', { class: 'chart-values' });
  readonly #options: ChartOptions;
  readonly #binary: boolean;
  readonly #draw = perFrame(() => this.#paint());
  #data: ChartData | null = null;
  #at: number | null = null;
  #hover: number | null = null;

  constructor(options: ChartOptions, binary = false) {
    this.#options = options;
    this.#binary = binary;
    this.canvas = h('div', { class: options.pick ? 'chart-box pickable' : 'chart-box' }, this.#canvas);
    this.canvas.style.height = `${options.height}px`;
    this.element = h(
      'figure',
      { class: 'chart' },
      h('figcaption', {}, h('span', { class: 'chart-name' }, options.label), this.#readout),
      this.canvas,
    );
    this.#listen();
    new ResizeObserver(this.#draw).observe(this.canvas);
    onTheme(this.#draw);
  }

  /** Shows data; `at` is the marked moment. */
  update(data: ChartData, at: number | null): void {
    this.#data = data;
    this.#at = at;
    this.#draw();
  }

  /** Moves the mark. */
  mark(at: number | null): void {
    if (at === this.#at) return;
    this.#at = at;
    this.#draw();
  }

  /** The values at a moment, in words. */
  valuesAt(time: number): string {
    if (!this.#data) return '';
    const i = indexAt(this.#data, time);
    if (i < 0) return 'no sample';
    const data = this.#data;
    return data.lines
      .map(
        (line) =>
          `${line.name} ${line.values[i] === null || line.values[i] === undefined ? 'not measured' : data.format(line.values[i]!)}`,
      )
      .join(', ');
  }

  #listen(): void {
    const timeAt = (event: PointerEvent): number | null => {
      if (!this.#data) return null;
      const box = this.canvas.getBoundingClientRect();
      const part = (event.clientX - box.left - LEFT) / Math.max(1, box.width - LEFT - RIGHT);
      return this.#data.from + Math.min(Math.max(part, 0), 1) * (this.#data.to - this.#data.from);
    };
    this.canvas.addEventListener('pointermove', (event) => {
      this.#hover = timeAt(event);
      if (this.#options.pick && event.buttons === 1 && this.#hover !== null) this.#options.pick(this.#hover);
      this.#draw();
    });
    this.canvas.addEventListener('pointerleave', () => {
      this.#hover = null;
      this.#draw();
    });
    this.canvas.addEventListener('pointerdown', (event) => {
      const time = timeAt(event);
      if (event.button !== 0 || time === null || !this.#options.pick) return;
      this.canvas.setPointerCapture(event.pointerId);
      this.#options.pick(time);
    });
  }

  #paint(): void {
    const data = this.#data;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (!data || width === 0) return;
    const context = fit(this.#canvas, { width, height });
    const colours = palette();
    const area = {
      left: LEFT,
      top: TOP,
      width: Math.max(1, width - LEFT - RIGHT),
      height: Math.max(1, height - TOP - BOTTOM),
    };
    const stacks = stack(data);
    const found = Math.max(data.least, ...stacks.flat().filter((value): value is number => value !== null));
    const most = data.most ?? roundTop(found, this.#binary);
    const x = (time: number): number => area.left + (area.width * (time - data.from)) / (data.to - data.from);
    const y = (value: number): number => area.top + area.height * (1 - value / most);

    context.font = FONT;
    context.textBaseline = 'middle';
    context.textAlign = 'right';
    for (const value of area.height >= 70 ? [0, most / 2, most] : [0, most]) {
      context.fillStyle = colours.gridStrong;
      context.fillRect(area.left, Math.round(y(value)), area.width, 1);
      context.fillStyle = colours.text;
      context.fillText(data.format(value), area.left - 7, Math.min(Math.max(y(value), 6), area.top + area.height - 1));
    }
    context.textBaseline = 'alphabetic';
    for (const tick of timeTicks(data.from, data.to, Math.max(2, Math.floor(area.width / 80)))) {
      context.fillStyle = colours.grid;
      context.fillRect(Math.round(x(tick.time)), area.top, 1, area.height);
      context.fillStyle = colours.text;
      const place = x(tick.time);
      context.textAlign = place > width - 26 ? 'right' : 'center';
      context.fillText(tick.label, place, height - 4);
    }
    context.save();
    context.beginPath();
    context.rect(area.left, area.top - 2, area.width, area.height + 3);
    context.clip();
    // The topmost layer of a stack is the farthest back.
    for (let n = stacks.length - 1; n >= 0; n -= 1) {
      const colour = colours.series[n % colours.series.length]!;
      for (const run of runs(data, stacks[n]!)) {
        context.beginPath();
        for (const [i, value] of run) {
          context.lineTo(x(data.times[i]!), y(value));
          context.lineTo(x(data.times[i]! + data.step), y(value));
        }
        context.strokeStyle = colour;
        context.lineWidth = 1.5;
        if (data.stacked) {
          const first = run[0]![0];
          const last = run[run.length - 1]![0];
          context.lineTo(x(data.times[last]! + data.step), y(0));
          context.lineTo(x(data.times[first]!), y(0));
          context.fillStyle = colour;
          context.fill();
        } else context.stroke();
      }
    }
    context.restore();
    this.#marks(context, area, x, colours.text);
    this.#words(colours.series);
  }

  #marks(
    context: CanvasRenderingContext2D,
    area: { left: number; top: number; width: number; height: number },
    x: (time: number) => number,
    colour: string,
  ): void {
    const line = (time: number | null, strong: boolean): void => {
      if (time === null || x(time) < area.left - 1 || x(time) > area.left + area.width + 1) return;
      context.fillStyle = colour;
      context.globalAlpha = strong ? 1 : 0.45;
      context.fillRect(Math.round(x(time)) - (strong ? 1 : 0), area.top - 4, strong ? 2 : 1, area.height + 4);
      if (strong) context.fillRect(Math.round(x(time)) - 4, area.top - 6, 8, 5);
      context.globalAlpha = 1;
    };
    line(this.#hover, false);
    line(this.#at, true);
  }

  /** Names, colours and values at the pointer, or else at the marked moment, or else the newest. */
  #words(colours: string[]): void {
    const data = this.#data!;
    const time = this.#hover ?? this.#at;
    const i = time === null ? data.times.length - 1 : indexAt(data, time);
    const pieces = data.lines.map((line, n) => {
      const swatch = h('span', { class: 'swatch' });
      swatch.style.background = colours[n % colours.length]!;
      const value = line.values[i];
      return h(
        'span',
        {},
        swatch,
        `${line.name} `,
        h('b', {}, value === null || value === undefined ? '–' : data.format(value)),
      );
    });
    const when = this.#hover === null ? [] : [h('span', { class: 'muted' }, local(this.#hover))];
    this.#readout.replaceChildren(...when, ...pieces);
  }
}

/** The lines as they are drawn: summed from the first on where they are stacked. */
function stack(data: ChartData): (number | null)[][] {
  if (!data.stacked) return data.lines.map((line) => line.values);
  const sums: number[] = data.times.map(() => 0);
  return data.lines.map((line) =>
    line.values.map((value, i) => {
      if (value === null) return null;
      sums[i]! += value;
      return sums[i]!;
    }),
  );
}

/** Values that follow each other without a gap. */
function runs(data: ChartData, values: (number | null)[]): [number, number][][] {
  const all: [number, number][][] = [];
  let run: [number, number][] = [];
  values.forEach((value, i) => {
    const gap = i > 0 && data.times[i]! - data.times[i - 1]! > data.step * 1.6;
    if ((gap || value === null) && run.length > 0) {
      all.push(run);
      run = [];
    }
    if (value !== null) run.push([i, value]);
  });
  if (run.length > 0) all.push(run);
  return all;
}
