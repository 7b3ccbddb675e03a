/** The hitmap page: a map for each service, the hits behind the selected cells, the operations. */

import * as api from '../api.ts';
import { fill, h } from '../dom.ts';
import { draw, failure, moreMaps, whyNoHits } from '../empty.ts';
import { extent, type Series } from '../hitmap/bins.ts';
import { plot } from '../hitmap/draw.ts';
import { HitmapModel } from '../hitmap/model.ts';
import { linearScale, logBounds, logScale, type Scale } from '../hitmap/scale.ts';
import { HitmapView } from '../hitmap/view.ts';
import { bounds, LINEAR_TOPS, type State, type Store } from '../state.ts';
import { onTheme } from '../theme.ts';
import { niceStep, now, WINDOW } from '../time.ts';
import { HitDetails } from './hit-details.ts';
import { HitsPanel } from './hits.ts';
import { OperationsPanel } from './operations.ts';
import type { Page, Shared } from './page.ts';

/** More maps than this are offered, not drawn. */
const MOST_MAPS = 12;
/** Rows of a map, by its height in pixels. */
const ROW_HEIGHT = { log: 6, linear: 9 };
const MOST_ROWS = 50;
/** Least width of a column in pixels. */
const COLUMN_WIDTH = 5;

type Loaded = Pick<
  State,
  'host' | 'service' | 'protocol' | 'side' | 'range' | 'selection' | 'operation' | 'errorsOnly'
>;

export class HitmapPage implements Page {
  readonly element: HTMLElement;
  readonly #shared: Shared;
  readonly #store: Store;
  readonly #model = new HitmapModel();
  readonly #views = new Map<string, HitmapView>();
  readonly #filters: Record<'service' | 'protocol' | 'side', HTMLSelectElement>;
  readonly #scale = h('select', { 'aria-label': 'Latency scale' });
  readonly #errors = h('input', { type: 'checkbox' });
  readonly #maps = h('div', { class: 'maps' });
  readonly #notice = h('div');
  readonly #hits: HitsPanel;
  readonly #operations: OperationsPanel;
  readonly #details: HitDetails;
  readonly #below: HTMLElement;
  #request: AbortController | null = null;
  #stopLive: (() => void) | null = null;
  #timer: number | undefined;
  #extent: { low: number; high: number } | null = null;
  #error: unknown = null;
  #loading = false;
  #showAll = false;
  #step = WINDOW;
  #shownWindow = 0;
  #groups: { service: string; protocol: string; side: string }[] = [];

  constructor(shared: Shared) {
    this.#shared = shared;
    const store = shared.store;
    this.#store = store;
    const filter = (name: 'service' | 'protocol' | 'side'): HTMLSelectElement => {
      const select = h('select', { name });
      select.addEventListener('change', () => store.set({ [name]: select.value, selection: null }));
      return select;
    };
    this.#filters = { service: filter('service'), protocol: filter('protocol'), side: filter('side') };
    fill(
      this.#scale,
      h('option', { value: 0 }, 'logarithmic'),
      ...LINEAR_TOPS.map((top) => h('option', { value: top }, `linear, 0–${top} s`)),
    );
    this.#scale.addEventListener('change', () => store.set({ scale: Number(this.#scale.value) }));
    this.#errors.addEventListener('change', () => store.set({ errorsOnly: this.#errors.checked }));
    this.#details = new HitDetails(store, () => {
      this.#hits.release();
      this.#hits.focus();
    });
    this.#operations = new OperationsPanel(store);
    this.#hits = new HitsPanel(
      store,
      (hit) => this.#details.open(hit),
      (id) => this.#operations.name(id),
    );
    this.#below = h('div', { class: 'below' }, this.#hits.element, this.#operations.element);
    const field = (label: string, control: HTMLElement): HTMLElement =>
      h('label', { class: 'field' }, h('span', {}, label), control);
    this.element = h(
      'main',
      { class: 'page hitmap-page' },
      h(
        'div',
        { class: 'toolbar' },
        field('Service', this.#filters.service),
        field('Protocol', this.#filters.protocol),
        field('Side', this.#filters.side),
        h('span', { class: 'spring' }),
        field('Scale', this.#scale),
        h('label', { class: 'field check' }, this.#errors, h('span', {}, 'Errors only')),
      ),
      this.#notice,
      this.#maps,
      this.#details.element,
    );
    new ResizeObserver(() => this.#resized()).observe(this.#maps);
    onTheme(() => this.#views.forEach((view) => view.repaint()));
  }

  enter(state: State): void {
    this.#showControls(state);
    this.#load(state);
  }

  leave(): void {
    this.#request?.abort();
    this.#stopLive?.();
    this.#stopLive = null;
    clearInterval(this.#timer);
    this.#details.close();
  }

  changed(state: State, before: State): void {
    this.#showControls(state);
    const differs = (...names: (keyof Loaded)[]): boolean => names.some((name) => state[name] !== before[name]);
    if (differs('host', 'service', 'protocol', 'side', 'range')) this.#load(state);
    else this.#render();
    if (differs('selection', 'operation', 'errorsOnly')) {
      this.#details.close();
      this.#loadBelow();
    }
    this.#operations.mark();
  }

  /** `/`: the first of the selectors. */
  focusFilter(): void {
    this.#filters.service.focus();
  }

  escape(): void {
    if (this.#details.isOpen) this.#details.close();
    else if (this.#store.state.selection || this.#store.state.operation) {
      const selected = this.#selected(this.#store.state);
      const inLists = this.#below.contains(document.activeElement);
      this.#store.set({ selection: null, operation: '' });
      if (inLists && selected) this.#views.get(selected)?.focus();
    }
  }

  #filter(state: State): api.Filter {
    const { host, service, protocol, side } = state;
    return { host, service, protocol, side };
  }

  async #load(state: State): Promise<void> {
    this.#request?.abort();
    this.#stopLive?.();
    this.#stopLive = null;
    clearInterval(this.#timer);
    const request = (this.#request = new AbortController());
    const range = bounds(state);
    this.#step = state.range ? niceStep(range.to - range.from, this.#columns()) : WINDOW;
    this.#loading = true;
    this.element.classList.add('is-loading');
    this.#loadBelow();
    try {
      const [map] = await Promise.all([
        api.hitmap(range, this.#filter(state), this.#step, request.signal),
        this.#loadGroups(state, range, request.signal),
      ]);
      this.#error = null;
      this.#extent = null;
      this.#model.load(map);
    } catch (error) {
      if (api.isAbort(error)) return;
      this.#error = error;
      this.#model.clear();
    }
    this.#loading = false;
    this.element.classList.remove('is-loading');
    this.#render();
    if (!state.range) this.#follow(state);
  }

  /** What the selectors offer: everything that had hits in the range. */
  async #loadGroups(state: State, range: { from: number; to: number }, signal: AbortSignal): Promise<void> {
    const condition = api.where({ host: state.host }, api.between('window_start', range.from, range.to));
    this.#groups = await api.query<api.ServiceRow>(
      `select service, protocol, side, sum(hits) as hits, sum(errors) as errors from hitmap
where ${condition} group by service, protocol, side order by hits desc`,
      signal,
    );
    this.#showControls(this.#store.state);
  }

  #loadBelow(): void {
    const state = this.#store.state;
    const range = bounds(state);
    void this.#hits.load(state, range);
    void this.#operations.load(state, range);
  }

  /** Keeps the page at the present: cells by the stream, the clock by a timer, the lists at each new window. */
  #follow(state: State): void {
    this.#stopLive = api.live(
      this.#filter(state),
      (newest) => {
        this.#model.live(newest);
        for (const group of newest.series) {
          if (
            !this.#groups.some(
              (known) =>
                known.service === group.service && known.protocol === group.protocol && known.side === group.side,
            )
          ) {
            this.#groups.push(group);
            this.#showControls(this.#store.state);
          }
        }
        this.#error = null;
        this.#render();
      },
      (connected) => {
        const wasCut = this.element.classList.contains('is-cut');
        this.element.classList.toggle('is-cut', !connected);
        // What happened in between is in no message.
        if (connected && wasCut) this.#load(this.#store.state);
      },
    );
    this.#shownWindow = bounds(state).to;
    this.#timer = window.setInterval(() => {
      const { from, to } = bounds(this.#store.state);
      if (to === this.#shownWindow) return;
      this.#shownWindow = to;
      this.#model.forget(from);
      this.#render();
      const { selection } = this.#store.state;
      // A selection that has passed does not change any more, and what someone reads shall stay.
      if (this.#details.isOpen) return;
      if (!selection || selection.to > now() - 2 * WINDOW) this.#loadBelow();
    }, 1000);
  }

  #columns(): number {
    const width = this.#maps.clientWidth || this.element.clientWidth || 1200;
    return Math.max(60, Math.floor(plot({ width, height: 100 }).width / COLUMN_WIDTH));
  }

  #resized(): void {
    const { range } = this.#store.state;
    if (range && !this.#loading && niceStep(range.to - range.from, this.#columns()) !== this.#step)
      this.#load(this.#store.state);
  }

  #showControls(state: State): void {
    const names = (name: 'service' | 'protocol' | 'side'): string[] => {
      const found = new Set(this.#groups.map((group) => group[name]));
      if (state[name]) found.add(state[name]);
      return [...found].sort((a, b) => a.localeCompare(b));
    };
    for (const name of ['service', 'protocol', 'side'] as const) {
      const select = this.#filters[name];
      const options = names(name);
      if (
        [...select.options]
          .slice(1)
          .map((option) => option.value)
          .join('\n') !== options.join('\n') ||
        select.options.length === 0
      ) {
        fill(select, h('option', { value: '' }, 'all'), ...options.map((value) => h('option', { value }, value)));
      }
      select.value = state[name];
    }
    this.#scale.value = String(state.scale);
    this.#errors.checked = state.errorsOnly;
  }

  #render(): void {
    const state = this.#store.state;
    const range = bounds(state);
    const empty = this.#model.empty;
    if (this.#error || empty) {
      // Why it is empty is known only with the status.
      if (this.#loading || (!this.#error && !this.#shared.status)) return;
      this.#maps.replaceChildren();
      this.#views.clear();
      fill(
        this.#notice,
        this.#error
          ? failure('The hitmap', this.#error, () => this.#load(this.#store.state))
          : this.#emptyNotice(state, range),
      );
      return;
    }
    fill(this.#notice);
    const all = [...this.#model.series.values()];
    const shown = this.#showAll ? all : all.slice(0, MOST_MAPS);
    this.#arrange(
      shown.map((series) => series.key),
      this.#selected(state),
    );
    this.#maps.dataset['count'] = shown.length === 1 ? 'one' : shown.length === 2 ? 'two' : 'many';
    const found = extent(shown, range.from, range.to);
    if (found) {
      const before = this.#extent;
      this.#extent = before ? { low: Math.min(before.low, found.low), high: Math.max(before.high, found.high) } : found;
    }
    const scale = this.#scaleOf(state);
    for (const series of shown) {
      this.#views.get(series.key)!.update({
        ...range,
        series,
        step: this.#step,
        scale,
        errorsOnly: state.errorsOnly,
        selection: state.selection,
      });
    }
    if (shown.length < all.length) {
      const more = h('button', { class: 'button', type: 'button' }, moreMaps(all.length - shown.length));
      more.addEventListener('click', () => {
        this.#showAll = true;
        this.#render();
      });
      fill(this.#notice, more);
    }
  }

  #scaleOf(state: State): Scale {
    const height = this.#maps.querySelector('.map-box')?.clientHeight ?? 300;
    const fit = plot({ width: 100, height }).height / (state.scale ? ROW_HEIGHT.linear : ROW_HEIGHT.log);
    const rows = Math.round(Math.min(Math.max(fit, 12), MOST_ROWS));
    return state.scale ? linearScale(state.scale, rows) : logScale(logBounds(this.#extent), rows);
  }

  /** The key of the map that has the selection. */
  #selected(state: State): string | undefined {
    const { selection } = state;
    if (!selection) return undefined;
    const fits = (name: 'service' | 'protocol' | 'side', series: Series): boolean =>
      !selection[name] || selection[name] === series[name];
    const found = [...this.#model.series.values()].find(
      (series) => fits('service', series) && fits('protocol', series) && fits('side', series),
    );
    return found?.key;
  }

  /**
   * Makes, keeps and removes maps so that those with the given keys are there, in their order. The lists stand below
   * the map with the selection, so that they are in sight and nothing above them moves; else below all.
   */
  #arrange(keys: string[], selected: string | undefined): void {
    for (const [key, view] of this.#views) {
      if (keys.includes(key)) continue;
      view.element.remove();
      this.#views.delete(key);
    }
    const children: HTMLElement[] = [];
    for (const key of keys) {
      let view = this.#views.get(key);
      if (!view) {
        view = new HitmapView({
          select: (selection, replace) => this.#store.set({ selection }, replace),
          list: () => this.#hits.focus(),
          say: (text) => this.#shared.say(text),
        });
        this.#views.set(key, view);
      }
      children.push(view.element);
      if (key === selected) children.push(this.#below);
    }
    if (!children.includes(this.#below)) children.push(this.#below);
    // The lists are what moves; a map would lose the focus.
    const place = children.indexOf(this.#below);
    if (this.#maps.children[place] !== this.#below) this.#below.remove();
    children.forEach((child, i) => {
      if (this.#maps.children[i] !== child) this.#maps.insertBefore(child, this.#maps.children[i] ?? null);
    });
  }

  #emptyNotice(state: State, range: { from: number; to: number }): HTMLElement {
    const reason = whyNoHits({
      status: this.#shared.status,
      historyStart: this.#shared.historyStart,
      state,
      range,
      now: now(),
    });
    return draw(reason, (change) => this.#store.set(change));
  }

  /** The status or the history changed; what an empty page says depends on them. */
  statusChanged(): void {
    if (this.#model.empty && !this.#loading) this.#render();
  }
}
