/** What the page shows, kept in the address bar, so that every view can be linked to. */

import { floorWindow, MINUTE, now, parseTime, utc, WINDOW } from './time.ts';

export type View = 'hitmap' | 'processes' | 'status';
export const VIEWS: readonly View[] = ['hitmap', 'processes', 'status'];

/** How long the live range is. */
export const LIVE_SPAN = 10 * MINUTE;

/** `null` is live: the last ten minutes, moving. */
export type Range = { from: number; to: number } | null;

/** One map: what hits are grouped by. */
export interface Group {
  service: string;
  protocol: string;
  side: string;
}

/** A rectangle of cells of one map: moments in ms, latencies in ns; the upper ends are not included. */
export interface Selection extends Group {
  from: number;
  to: number;
  low: number;
  high: number;
}

/** Upper ends of the linear scale, in seconds. */
export const LINEAR_TOPS = [5, 10, 20, 40, 80] as const;

export interface State {
  view: View;
  /** Empty strings: all. */
  host: string;
  service: string;
  protocol: string;
  side: string;
  range: Range;
  /** 0: logarithmic; else the linear scale's upper end in seconds. */
  scale: number;
  errorsOnly: boolean;
  selection: Selection | null;
  /** Id of the operation whose hits are shown; empty: all. */
  operation: string;
  /** The process page's moment; `null` follows the newest. */
  at: number | null;
  /** The process whose charts are open: `pid` and, where known, its start time as the API gave it. */
  pid: number | null;
  start: string;
  sort: string;
  filter: string;
}

export const DEFAULTS: State = {
  view: 'hitmap',
  host: '',
  service: '',
  protocol: '',
  side: '',
  range: null,
  scale: 0,
  errorsOnly: false,
  selection: null,
  operation: '',
  at: null,
  pid: null,
  start: '',
  sort: 'cpu',
  filter: '',
};

const TEXTS = ['host', 'service', 'protocol', 'side', 'operation', 'start', 'sort', 'filter'] as const;

/** Reads a state from a query string; whatever is not understood keeps its default. */
export function parse(query: string): State {
  const params = new URLSearchParams(query);
  const state: State = { ...DEFAULTS };
  const view = params.get('view');
  state.view = VIEWS.find((known) => known === view) ?? DEFAULTS.view;
  for (const name of TEXTS) state[name] = params.get(name) ?? DEFAULTS[name];
  const from = parseTime(params.get('from'));
  const to = parseTime(params.get('to'));
  if (from !== null) {
    const end = to ?? from + LIVE_SPAN;
    state.range = end > from ? { from, to: end } : { from: end, to: from };
  }
  const scale = Number(params.get('scale'));
  state.scale = LINEAR_TOPS.find((top) => top === scale) ?? 0;
  state.errorsOnly = params.get('errors') === 'only';
  state.at = parseTime(params.get('at'));
  const pid = Number(params.get('pid'));
  state.pid = Number.isInteger(pid) && pid > 0 ? pid : null;
  state.selection = parseSelection(params, state);
  return state;
}

function parseSelection(params: URLSearchParams, state: State): Selection | null {
  const from = parseTime(params.get('sel_from'));
  const to = parseTime(params.get('sel_to'));
  if (from === null || to === null || to <= from) return null;
  const low = Number(params.get('sel_low') ?? 0);
  const high = params.has('sel_high') ? Number(params.get('sel_high')) : Infinity;
  if (!(low >= 0 && high > low)) return null;
  return {
    from,
    to,
    low,
    high,
    service: params.get('sel_service') ?? state.service,
    protocol: params.get('sel_protocol') ?? state.protocol,
    side: params.get('sel_side') ?? state.side,
  };
}

/** Writes a state as a query string: only what differs from the defaults, moments readable. */
export function serialize(state: State): string {
  const params = new URLSearchParams();
  const put = (name: string, value: string | number): void => params.set(name, String(value));
  if (state.view !== DEFAULTS.view) put('view', state.view);
  for (const name of TEXTS) if (state[name] !== DEFAULTS[name]) put(name, state[name]);
  if (state.range) {
    put('from', utc(state.range.from));
    put('to', utc(state.range.to));
  }
  if (state.scale) put('scale', state.scale);
  if (state.errorsOnly) put('errors', 'only');
  if (state.at !== null) put('at', utc(state.at));
  if (state.pid !== null) put('pid', state.pid);
  const selection = state.selection;
  if (selection) {
    put('sel_from', utc(selection.from));
    put('sel_to', utc(selection.to));
    if (selection.low > 0) put('sel_low', selection.low);
    if (Number.isFinite(selection.high)) put('sel_high', selection.high);
    for (const name of ['service', 'protocol', 'side'] as const) {
      if (selection[name] !== state[name]) put(`sel_${name}`, selection[name]);
    }
  }
  const text = params.toString().replaceAll('%3A', ':').replaceAll('%2F', '/');
  return text ? `?${text}` : '';
}

/** The range in ms that a state means now: whole windows, the one that is being filled included. */
export function bounds(state: State, at = now()): { from: number; to: number } {
  if (state.range) return state.range;
  const to = floorWindow(at) + WINDOW;
  return { from: to - LIVE_SPAN, to };
}

type Listener = (state: State, previous: State) => void;

/** Holds the state, writes it to the address bar, and tells who listens. */
export class Store {
  #state: State;
  readonly #listeners: Listener[] = [];

  constructor() {
    this.#state = parse(location.search);
    addEventListener('popstate', () => this.#become(parse(location.search)));
  }

  get state(): State {
    return this.#state;
  }

  listen(listener: Listener): void {
    this.#listeners.push(listener);
  }

  /** Changes the state. `replace` leaves no step in the browser's history, for what changes while one drags or types. */
  set(change: Partial<State>, replace = false): void {
    const next = { ...this.#state, ...change };
    const query = serialize(next);
    if (query !== serialize(this.#state)) {
      const address = location.pathname + query;
      if (replace) history.replaceState(null, '', address);
      else history.pushState(null, '', address);
    }
    this.#become(next);
  }

  #become(next: State): void {
    const previous = this.#state;
    this.#state = next;
    for (const listener of this.#listeners) listener(next, previous);
  }
}
