/** The process page: what used CPU and memory at a moment. */

import * as api from '../api.ts';
import { Chart } from '../chart.ts';
import { fill, h, icon, ICONS } from '../dom.ts';
import { draw, failure, whyNoProcesses } from '../empty.ts';
import { bytes, percent, plural } from '../format.ts';
import { bounds, type State } from '../state.ts';
import { sorted, Table } from '../table.ts';
import { ago, local, MINUTE, niceStep, now, readMoment, SECOND, utc, WINDOW, zone } from '../time.ts';
import type { Page, Shared } from './page.ts';
import { ProcessDetails } from './process-details.ts';
import { columns, cpu, matches, processKey } from './process-rows.ts';

/** Rows that are drawn unless more are asked for. */
const MOST_ROWS = 250;

interface HostStep {
  step: string;
  cpu_user_ns: number;
  cpu_system_ns: number;
  cpu_steal_ns: number;
  capacity_ns: number;
}

export class ProcessesPage implements Page {
  readonly element: HTMLElement;
  readonly #shared: Shared;
  readonly #filter = h('input', {
    type: 'search',
    placeholder: 'Filter by name, arguments, user, service…',
    'aria-label': 'Filter processes',
  });
  readonly #moment = h('input', {
    type: 'text',
    class: 'mono',
    spellcheck: 'false',
    autocomplete: 'off',
    'aria-label': 'Moment, local time',
    title: 'A local time (14:05, 2026-01-31 14:05:00) or RFC 3339',
  });
  readonly #zone = h('span', { class: 'muted mono moment-utc' });
  readonly #newest: HTMLButtonElement;
  readonly #summary = h('p', { class: 'summary' });
  readonly #chart: Chart;
  readonly #notice = h('div');
  readonly #more = h('button', { class: 'button more', type: 'button', hidden: true });
  readonly #details: ProcessDetails;
  #table: Table<api.ProcessRow>;
  #tableFor = '';
  #rows: api.ProcessRow[] = [];
  #interval = 5e9;
  #time: number | null = null;
  #request: AbortController | null = null;
  #timer: number | undefined;
  #all = false;
  #loading = false;
  #error: unknown = null;
  #host: api.HostRow[] = [];
  #opened = false;
  /** The row of the open process, as it was last seen. */
  #last: api.ProcessRow | null = null;

  constructor(shared: Shared) {
    this.#shared = shared;
    const store = shared.store;
    this.#details = new ProcessDetails(store, (time) => this.#go(time, true));
    this.#chart = new Chart({ label: 'Host CPU', height: 96, pick: (time) => this.#go(time, true) });
    this.#table = this.#makeTable(1, false);
    this.#newest = h(
      'button',
      { class: 'button', type: 'button', onclick: () => store.set({ at: null, range: null }) },
      'Newest',
    );
    this.#filter.addEventListener('input', () => store.set({ filter: this.#filter.value }, true));
    this.#moment.addEventListener('change', () => {
      const time = readMoment(this.#moment.value);
      this.#moment.setAttribute('aria-invalid', String(time === null));
      if (time !== null) this.#go(time, false);
    });
    this.#more.addEventListener('click', () => {
      this.#all = true;
      this.#show();
    });
    const step = (label: string, path: string, by: number): HTMLElement =>
      h(
        'button',
        { class: 'icon-button', type: 'button', 'aria-label': label, title: label, onclick: () => this.#step(by) },
        icon(path),
      );
    const slider = this.#chart.canvas;
    for (const [name, value] of [
      ['tabindex', '0'],
      ['role', 'slider'],
      ['aria-label', 'Moment in the history'],
    ] as const)
      slider.setAttribute(name, value);
    slider.addEventListener('keydown', (event) => this.#key(event));
    this.element = h(
      'main',
      { class: 'page processes-page' },
      h(
        'div',
        { class: 'toolbar' },
        h(
          'div',
          { class: 'field moment' },
          h('span', {}, 'At'),
          step('5 s earlier', ICONS.left, -WINDOW),
          this.#moment,
          step('5 s later', ICONS.right, WINDOW),
          this.#newest,
          this.#zone,
        ),
        h('span', { class: 'spring' }),
        this.#filter,
      ),
      h('div', { class: 'panel scrubber' }, this.#chart.element),
      this.#summary,
      this.#notice,
      h('div', { class: 'panel process-list' }, this.#table.element),
      this.#more,
      this.#details.element,
    );
  }

  enter(state: State): void {
    this.#filter.value = state.filter;
    this.#load(state);
    this.#loadHost(state);
    this.#timer = window.setInterval(() => {
      const current = this.#shared.store.state;
      if (current.at !== null || current.range) return;
      this.#load(current);
      this.#loadHost(current);
    }, WINDOW);
  }

  leave(): void {
    clearInterval(this.#timer);
    this.#request?.abort();
    this.#details.hide();
  }

  changed(state: State, before: State): void {
    if (state.filter !== this.#filter.value) this.#filter.value = state.filter;
    if (state.range !== before.range || state.host !== before.host) this.#loadHost(state);
    if (state.at !== before.at || state.host !== before.host || state.range !== before.range) this.#load(state);
    else this.#show();
  }

  statusChanged(): void {
    if (this.#rows.length === 0 && !this.#loading) this.#show();
  }

  focusFilter(): void {
    this.#filter.focus();
    this.#filter.select();
  }

  escape(): void {
    const { pid, filter } = this.#shared.store.state;
    if (pid !== null) this.#shared.store.set({ pid: null, start: '' });
    else if (filter) this.#shared.store.set({ filter: '' });
  }

  /** The moment that is asked for: the chosen one, or the end of the range, or now. */
  #at(state: State): number {
    return state.at ?? (state.range ? Math.min(state.range.to, now()) : now());
  }

  #go(time: number, dragging: boolean): void {
    const { store } = this.#shared;
    const at = Math.floor(time / SECOND) * SECOND;
    const range = bounds(store.state);
    // A moment out of the range takes the range along; a live range stops, or the chart would run away from it.
    const kept = at >= range.from && at <= range.to ? range : { from: at - 10 * MINUTE, to: at + 10 * MINUTE };
    store.set({ at, range: kept }, dragging && store.state.at !== null);
  }

  #step(by: number): void {
    this.#go((this.#time ?? this.#at(this.#shared.store.state)) + by - 1, false);
  }

  #key(event: KeyboardEvent): void {
    const steps: Record<string, number> = {
      ArrowLeft: -WINDOW,
      ArrowRight: WINDOW,
      ArrowDown: -WINDOW,
      ArrowUp: WINDOW,
      PageDown: -MINUTE,
      PageUp: MINUTE,
    };
    const range = bounds(this.#shared.store.state);
    const step = steps[event.key];
    if (step !== undefined) this.#step(step);
    else if (event.key === 'Home') this.#go(range.from + WINDOW, false);
    else if (event.key === 'End') this.#go(Math.min(range.to, now()), false);
    else return;
    event.preventDefault();
  }

  async #load(state: State): Promise<void> {
    this.#request?.abort();
    const request = (this.#request = new AbortController());
    this.#loading = true;
    try {
      const found = await api.processes(this.#at(state), state.host, request.signal);
      this.#rows = found.processes;
      this.#host = found.hosts;
      this.#time = found.time;
      this.#error = null;
    } catch (error) {
      if (api.isAbort(error)) return;
      this.#rows = [];
      this.#error = error;
    }
    this.#loading = false;
    this.#interval = this.#rows.reduce((most, row) => (row.exited ? most : Math.max(most, row.interval_ns)), 0) || 5e9;
    this.#show(true);
  }

  async #loadHost(state: State): Promise<void> {
    const range = bounds(state);
    const step = niceStep(range.to - range.from, 400);
    const condition = api.where({ host: state.host }, api.between('time', range.from, range.to));
    try {
      const rows = await api.query<HostStep>(
        `select date_bin(interval '${step / SECOND} seconds', time) as step, sum(cpu_user_ns) as cpu_user_ns, sum(cpu_system_ns) as cpu_system_ns,
sum(cpu_steal_ns) as cpu_steal_ns, sum(interval_ns * cpus) as capacity_ns from hosts where ${condition} group by step order by step`,
      );
      const part = (name: 'cpu_user_ns' | 'cpu_system_ns' | 'cpu_steal_ns'): number[] =>
        rows.map((row) => (100 * Number(row[name])) / Math.max(1, Number(row.capacity_ns)));
      const lines = [
        { name: 'user', values: part('cpu_user_ns') },
        { name: 'system', values: part('cpu_system_ns') },
        { name: 'stolen', values: part('cpu_steal_ns') },
      ].filter((line) => line.name !== 'stolen' || line.values.some((value) => value > 0));
      const times = rows.map((row) => api.moment(row.step) - (step === WINDOW ? WINDOW : 0));
      this.#chart.update(
        {
          ...range,
          step,
          times,
          lines,
          stacked: true,
          least: 100,
          most: 100,
          format: (value) => `${value.toFixed(0)} %`,
        },
        this.#mark(),
      );
    } catch {
      // The table below says what is wrong; without the chart the moment can still be typed.
    }
  }

  /** Where the chart's mark stands: within the interval that is shown. */
  #mark(): number | null {
    const { at } = this.#shared.store.state;
    return at ?? (this.#time === null ? null : this.#time - WINDOW / 2);
  }

  #show(fresh = false): void {
    const state = this.#shared.store.state;
    const at = this.#at(state);
    if (document.activeElement !== this.#moment) this.#moment.value = local(state.at ?? this.#time ?? at);
    this.#zone.textContent = `${zone(at)} · ${utc(Math.floor((state.at ?? this.#time ?? at) / 1000) * 1000)}`;
    this.#chart.mark(this.#mark());
    this.#newest.hidden = state.at === null && state.range === null;
    this.#chart.canvas.setAttribute('aria-valuetext', `${local(at)}: ${this.#chart.valuesAt(this.#mark() ?? at)}`);
    this.#chart.canvas.setAttribute('aria-valuenow', String(Math.floor(at / 1000)));
    if (this.#error)
      fill(
        this.#notice,
        failure('The processes', this.#error, () => this.#load(this.#shared.store.state)),
      );
    else if (this.#rows.length === 0 && !this.#loading) {
      if (!this.#shared.status) return;
      const known = {
        status: this.#shared.status,
        historyStart: this.#shared.historyStart,
        state,
        range: bounds(state),
        now: now(),
      };
      fill(
        this.#notice,
        draw(whyNoProcesses(known), (change) => this.#shared.store.set(change)),
      );
    } else fill(this.#notice, this.#far(state));
    this.#showTable(state);
    this.#showDetails(state, fresh);
  }

  /** A word when the nearest sample is not that of the moment. */
  #far(state: State): HTMLElement | null {
    if (state.at === null || this.#time === null || Math.abs(this.#time - state.at) < 3 * WINDOW) return null;
    return h(
      'p',
      { class: 'hint' },
      `There is no sample at this moment; the nearest is of ${local(this.#time)}, and is shown.`,
    );
  }

  #showTable(state: State): void {
    const hosts = new Set(this.#rows.map((row) => row.host ?? '')).size;
    const most = this.#rows.reduce((top, row) => Math.max(top, cpu(row)), 0);
    const list = columns(this.#interval, most, hosts > 1);
    const key = `${this.#interval} ${most} ${hosts > 1}`;
    if (key !== this.#tableFor) {
      this.#tableFor = key;
      this.#table.setColumns(list);
    }
    const found = this.#rows.filter((row) => matches(row, state.filter));
    const ordered = sorted(found, list, state.sort);
    const shown = this.#all ? ordered : ordered.slice(0, MOST_ROWS);
    const current = this.#current(state);
    this.#table.element.parentElement!.hidden = this.#rows.length === 0;
    this.#table.update(shown, state.sort, current ? processKey(current) : '');
    this.#more.hidden = shown.length === ordered.length;
    this.#more.textContent = `Show all ${ordered.length} processes`;
    this.#summarize(found.length, state);
  }

  #summarize(found: number, state: State): void {
    const ended = this.#rows.filter((row) => row.exited).length;
    this.#summary.hidden = this.#rows.length === 0;
    if (this.#rows.length === 0 || this.#time === null) return;
    const host = this.#host[0];
    const pieces = [
      h('b', {}, `${local(this.#time - this.#interval / 1e6)} – ${local(this.#time).slice(11)}`),
      state.at === null && !state.range ? h('span', {}, ` · ${ago(this.#time)}`) : null,
      h('span', {}, ` · ${plural(this.#rows.length - ended, 'process', 'processes')}, ${ended} ended within it`),
      state.filter ? h('span', {}, ` · ${found} match`) : null,
      this.#host.length === 1 && host
        ? h(
            'span',
            {},
            ` · CPU ${percent((host.cpu_user_ns + host.cpu_system_ns) / Math.max(1, host.interval_ns * host.cpus))} of ${host.cpus}, memory ${bytes(host.memory_total_bytes - host.memory_available_bytes)} of ${bytes(host.memory_total_bytes)}`,
          )
        : null,
    ];
    fill(this.#summary, ...pieces);
  }

  #current(state: State): api.ProcessRow | undefined {
    if (state.pid === null) return undefined;
    const same = this.#rows.filter((row) => row.pid === state.pid && (!state.start || row.start_time === state.start));
    return same.find((row) => !row.exited) ?? same[0];
  }

  #showDetails(state: State, fresh: boolean): void {
    const current = this.#current(state);
    const known = this.#last?.pid === state.pid && (!state.start || this.#last.start_time === state.start);
    // While one goes through time, a process stays open before its start and after its end.
    const row = current ?? (known ? this.#last : null);
    this.#last = row;
    document.body.classList.toggle('has-drawer', row !== null);
    if (state.pid !== null && !current && !this.#loading && this.#rows.length > 0) {
      this.#notice.append(h('p', { class: 'hint' }, `Process ${state.pid} was not there at this moment.`));
    }
    if (state.pid === null || !row) {
      const hadFocus = this.#details.element.contains(document.activeElement);
      this.#details.hide();
      if (hadFocus) this.#table.focus();
      return;
    }
    const range = bounds(state);
    this.#details.show(row, range, this.#mark(), fresh && !state.range);
    if (this.#opened) this.#details.focus();
    this.#opened = false;
  }

  #makeTable(most: number, severalHosts: boolean): Table<api.ProcessRow> {
    const { store } = this.#shared;
    return new Table<api.ProcessRow>({
      label: 'Processes',
      class: 'processes',
      columns: columns(this.#interval, most, severalHosts),
      key: processKey,
      sort: (order) => store.set({ sort: order }),
      open: (row) => {
        this.#opened = true;
        store.set({ pid: row.pid, start: row.start_time });
      },
      rowClass: (row) => (row.exited ? 'row-ended' : ''),
    });
  }
}
