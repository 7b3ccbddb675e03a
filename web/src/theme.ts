/** Light and dark, and the colours that canvases need as values. */

export type Theme = 'light' | 'dark';
export type Choice = Theme | 'system';

const KEY = 'hitscope.theme';
const DARK = '(prefers-color-scheme: dark)';
const listeners: (() => void)[] = [];

/** What the user chose; follows the system until they did. */
export function choice(): Choice {
  const stored = localStorage.getItem(KEY);
  return stored === 'light' || stored === 'dark' ? stored : 'system';
}

export function theme(): Theme {
  const chosen = choice();
  return chosen === 'system' ? (matchMedia(DARK).matches ? 'dark' : 'light') : chosen;
}

export function choose(next: Choice): void {
  if (next === 'system') localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, next);
  apply();
}

/** Calls when light turns dark or back. */
export function onTheme(listener: () => void): void {
  listeners.push(listener);
}

function apply(): void {
  document.documentElement.dataset['theme'] = theme();
  for (const listener of listeners) listener();
}

/** Takes the theme, now and whenever the system changes it. */
export function start(): void {
  matchMedia(DARK).addEventListener('change', apply);
  apply();
}

type Oklch = readonly [lightness: number, chroma: number, hue: number];

/** OKLCH to sRGB (Björn Ottosson's matrices), clipped to the gamut. */
function rgb([lightness, chroma, hue]: Oklch): string {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  const channels = linear.map((value) => {
    const encoded = value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055;
    return Math.round(Math.min(Math.max(encoded, 0), 1) * 255);
  });
  return `rgb(${channels.join(' ')})`;
}

/** How many colours a ramp has. */
export const SHADES = 24;

/** Colours of even steps in perceived lightness from the first to the last anchor. */
function ramp(anchors: readonly Oklch[]): string[] {
  return Array.from({ length: SHADES }, (_, i) => {
    const place = (i / (SHADES - 1)) * (anchors.length - 1);
    const index = Math.min(Math.floor(place), anchors.length - 2);
    const from = anchors[index]!;
    const to = anchors[index + 1]!;
    const part = place - index;
    const mix = (n: 0 | 1 | 2): number => from[n] + (to[n] - from[n]) * part;
    return rgb([mix(0), mix(1), mix(2)]);
  });
}

export interface Palette {
  /** Hits, few to many. */
  hits: string[];
  /** Errors, few to many. */
  errors: string[];
  /** The mark on cells with errors. */
  mark: string;
  grid: string;
  gridStrong: string;
  text: string;
  /** Lines and areas of charts. */
  series: string[];
}

const PALETTES: Record<Theme, Palette> = {
  light: {
    hits: ramp([
      [0.81, 0.085, 225],
      [0.68, 0.13, 245],
      [0.5, 0.16, 260],
      [0.31, 0.12, 268],
    ]),
    errors: ramp([
      [0.76, 0.13, 25],
      [0.6, 0.21, 26],
      [0.46, 0.19, 27],
    ]),
    mark: '#ffffff',
    grid: 'rgb(20 30 50 / 6%)',
    gridStrong: 'rgb(20 30 50 / 12%)',
    text: '#5a6472',
    series: [rgb([0.55, 0.15, 250]), rgb([0.7, 0.13, 60]), rgb([0.6, 0.14, 150])],
  },
  dark: {
    hits: ramp([
      [0.48, 0.13, 260],
      [0.6, 0.14, 248],
      [0.74, 0.12, 220],
      [0.9, 0.09, 185],
    ]),
    errors: ramp([
      [0.5, 0.17, 25],
      [0.65, 0.21, 25],
      [0.8, 0.13, 30],
    ]),
    mark: '#ffffff',
    grid: 'rgb(255 255 255 / 5%)',
    gridStrong: 'rgb(255 255 255 / 11%)',
    text: '#98a2b0',
    series: [rgb([0.7, 0.13, 245]), rgb([0.78, 0.12, 70]), rgb([0.75, 0.13, 155])],
  },
};

export function palette(): Palette {
  return PALETTES[theme()];
}

/** The shade for a count, by its logarithm: one hit is the first, `most` the last. */
export function shade(value: number, most: number): number {
  if (value <= 1 || most <= 1) return 0;
  return Math.min(SHADES - 1, Math.round((Math.log(value) / Math.log(most)) * (SHADES - 1)));
}
