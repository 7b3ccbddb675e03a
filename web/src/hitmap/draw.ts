/** Paints a grid of cells with its axes. */

import { type Palette, SHADES, shade } from '../theme.ts';
import { timeTicks } from '../time.ts';
import type { Grid } from './bins.ts';
import type { Scale } from './scale.ts';

/** Space around the cells in CSS pixels. */
export const MARGIN = { left: 62, right: 8, top: 6, bottom: 20 } as const;

export interface Picture {
  grid: Grid;
  scale: Scale;
  to: number;
  /** The count that has the ramp's last colour. */
  most: number;
  errorsOnly: boolean;
}

export interface Size {
  width: number;
  height: number;
}

/** Fits a canvas to its box in device pixels and hands out its context, scaled to CSS pixels. */
export function fit(canvas: HTMLCanvasElement, size: Size): CanvasRenderingContext2D {
  const ratio = devicePixelRatio || 1;
  const width = Math.round(size.width * ratio);
  const height = Math.round(size.height * ratio);
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext('2d')!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, size.width, size.height);
  return context;
}

export const FONT = '11px system-ui, "DejaVu Sans", sans-serif';

/** The part of the canvas that holds cells. */
export function plot(size: Size): { left: number; top: number; width: number; height: number } {
  return {
    left: MARGIN.left,
    top: MARGIN.top,
    width: Math.max(1, size.width - MARGIN.left - MARGIN.right),
    height: Math.max(1, size.height - MARGIN.top - MARGIN.bottom),
  };
}

export function paint(canvas: HTMLCanvasElement, size: Size, picture: Picture, palette: Palette): void {
  const context = fit(canvas, size);
  const area = plot(size);
  paintAxes(context, area, picture, palette);
  paintCells(context, area, picture, palette);
}

type Area = ReturnType<typeof plot>;

function paintAxes(context: CanvasRenderingContext2D, area: Area, { grid, scale }: Picture, palette: Palette): void {
  const end = grid.from + grid.columns * grid.step;
  context.font = FONT;
  context.textBaseline = 'middle';
  context.textAlign = 'right';
  let last = Infinity;
  for (const tick of scale.ticks) {
    const y = Math.round(area.top + area.height * (1 - tick.at)) + 0.5;
    context.fillStyle = tick.strong ? palette.gridStrong : palette.grid;
    context.fillRect(area.left, y - 0.5, area.width, 1);
    if (tick.label && last - y >= 13) {
      context.fillStyle = palette.text;
      context.fillText(tick.label, area.left - 7, Math.min(Math.max(y, 7), area.top + area.height - 2));
      last = y;
    }
  }
  context.textBaseline = 'alphabetic';
  for (const tick of timeTicks(grid.from, end, Math.max(2, Math.floor(area.width / 80)))) {
    const x = Math.round(area.left + (area.width * (tick.time - grid.from)) / (end - grid.from));
    context.fillStyle = palette.grid;
    context.fillRect(x, area.top, 1, area.height + 4);
    context.fillStyle = palette.text;
    context.textAlign = x > area.left + area.width - 18 ? 'right' : 'center';
    context.fillText(tick.label, x, area.top + area.height + 16);
  }
}

function paintCells(context: CanvasRenderingContext2D, area: Area, picture: Picture, palette: Palette): void {
  const { grid, scale, most, errorsOnly } = picture;
  const ratio = devicePixelRatio || 1;
  const device = (css: number): number => Math.round(css * ratio) / ratio;
  const xs = Array.from({ length: grid.columns + 1 }, (_, i) => device(area.left + (area.width * i) / grid.columns));
  const ys = scale.positions.map((at) => device(area.top + area.height * (1 - at)));
  const gapX = area.width / grid.columns >= 5 ? 1 : 0;
  for (let column = 0; column < grid.columns; column += 1) {
    const x = xs[column]!;
    const width = Math.max(1 / ratio, xs[column + 1]! - x - gapX);
    for (let row = 0; row < grid.rows; row += 1) {
      const hits = grid.hits[column * grid.rows + row]!;
      if (hits === 0) continue;
      const errors = grid.errors[column * grid.rows + row]!;
      const y = ys[row + 1]!;
      const tall = ys[row]! - y;
      const height = Math.max(1 / ratio, tall >= 5 ? tall - 1 : tall);
      context.globalAlpha = errorsOnly ? 0.18 : 1;
      context.fillStyle = palette.hits[shade(hits, most)]!;
      context.fillRect(x, y, width, height);
      if (errors > 0) {
        context.globalAlpha = 1;
        paintErrors(context, { x, y, width, height }, errors, hits, most, palette);
      }
    }
  }
  context.globalAlpha = 1;
}

interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Errors fill their share of the cell from the right, no less than two fifths of it, and carry a dot. */
function paintErrors(
  context: CanvasRenderingContext2D,
  cell: Box,
  errors: number,
  hits: number,
  most: number,
  palette: Palette,
): void {
  const part = Math.max(cell.width * Math.max(errors / hits, 0.4), Math.min(3, cell.width));
  const x = cell.x + cell.width - part;
  context.fillStyle = palette.errors[Math.min(SHADES - 1, shade(errors, most) + 6)]!;
  context.fillRect(x, cell.y, part, cell.height);
  if (part >= 3 && cell.height >= 4) {
    const size = part >= 6 && cell.height >= 8 ? 3 : 2;
    context.fillStyle = palette.mark;
    context.fillRect(Math.round(x + (part - size) / 2), Math.round(cell.y + (cell.height - size) / 2), size, size);
  }
}
