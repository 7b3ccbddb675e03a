/** One process over time, in a drawer. */

import { isAbort, moment, processHistory, type ProcessHistory, type ProcessRow } from '../api.ts';
import { Chart, type ChartData, type Line } from '../chart.ts';
import { fill, h, icon, ICONS } from '../dom.ts';
import { bytes, duration, short } from '../format.ts';
import type { Store } from '../state.ts';
import { local } from '../time.ts';
import { exit } from './process-rows.ts';

interface Plan {
  label: string;
  binary: boolean;
  stacked: boolean;
  least: number;
  /** Names and columns. */
  lines: [string, string][];
  /** Divides by the length of the step: values per second, or parts of the time. */
  per: 'second' | 'time' | null;
  format(value: number): string;
}

const percent = (value: number): string => `${value >= 10 || value === 0 ? value.toFixed(0) : value.toFixed(1)} %`;
const size = (value: number): string => bytes(value);
const flow = (value: number): string => `${bytes(value)}/s`;
const number = (value: number): string => short(value);
const often = (value: number): string => `${short(value)}/s`;

const PLANS: Plan[] = [
  {
    label: 'CPU',
    binary: false,
    stacked: true,
    least: 10,
    per: 'time',
    format: percent,
    lines: [
      ['user', 'cpu_user_ns'],
      ['system', 'cpu_system_ns'],
    ],
  },
  {
    label: 'Waiting for a CPU',
    binary: false,
    stacked: true,
    least: 1,
    per: 'time',
    format: percent,
    lines: [['run queue', 'runqueue_ns']],
  },
  {
    label: 'Memory',
    binary: true,
    stacked: false,
    least: 1,
    per: null,
    format: size,
    lines: [
      ['resident', 'rss_bytes'],
      ['proportional', 'pss_bytes'],
      ['swap', 'swap_bytes'],
    ],
  },
  {
    label: 'Disk',
    binary: true,
    stacked: false,
    least: 1024,
    per: 'second',
    format: flow,
    lines: [
      ['read', 'read_bytes'],
      ['written', 'written_bytes'],
    ],
  },
  {
    label: 'Network',
    binary: true,
    stacked: false,
    least: 1024,
    per: 'second',
    format: flow,
    lines: [
      ['received', 'received_bytes'],
      ['sent', 'sent_bytes'],
    ],
  },
  {
    label: 'Threads and files',
    binary: false,
    stacked: false,
    least: 2,
    per: null,
    format: number,
    lines: [
      ['threads', 'threads'],
      ['open files', 'open_files'],
    ],
  },
  {
    label: 'Page faults',
    binary: false,
    stacked: false,
    least: 1,
    per: 'second',
    format: often,
    lines: [
      ['minor', 'minor_faults'],
      ['major', 'major_faults'],
    ],
  },
  {
    label: 'Context switches',
    binary: false,
    stacked: false,
    least: 1,
    per: 'second',
    format: often,
    lines: [
      ['voluntary', 'voluntary_switches'],
      ['involuntary', 'involuntary_switches'],
    ],
  },
];

/** A plan's chart for a history. Pure. */
export function chartOf(
  plan: Pick<Plan, 'lines' | 'per' | 'stacked' | 'least' | 'format'>,
  history: ProcessHistory,
): ChartData {
  const times = (history.columns['time'] ?? []).map(Number);
  const intervals = history.columns['interval_ns'] ?? [];
  const lines: Line[] = plan.lines
    .map(([name, column]) => {
      const values = (history.columns[column] ?? []).map((value, i) => {
        const interval = intervals[i] ?? null;
        if (value === null || plan.per === null) return value;
        if (!interval) return null;
        return plan.per === 'time' ? (100 * value) / interval : (value * 1e9) / interval;
      });
      return { name, values };
    })
    // What was never measured has no line, unless nothing is left.
    .filter((line, i) => i === 0 || line.values.some((value) => value !== null));
  return {
    from: history.from,
    to: history.to,
    step: history.step_ms,
    times,
    lines,
    stacked: plan.stacked,
    least: plan.least,
    format: plan.format,
  };
}

export class ProcessDetails {
  readonly element = h('aside', { class: 'drawer wide', 'aria-label': 'Process', tabindex: -1, hidden: true });
  readonly #store: Store;
  readonly #pick: (time: number) => void;
  readonly #head = h('div');
  readonly #message = h('p', { class: 'muted' });
  readonly #charts = PLANS.map((plan) => ({
    plan,
    chart: new Chart({ label: plan.label, height: 92, pick: (time) => this.#pick(time) }, plan.binary),
  }));
  #key = '';
  #request: AbortController | null = null;
  #history: ProcessHistory | null = null;

  /** `pick` is told the moment that was clicked in a chart. */
  constructor(store: Store, pick: (time: number) => void) {
    this.#store = store;
    this.#pick = pick;
    fill(
      this.element,
      this.#head,
      this.#message,
      h('div', { class: 'charts' }, ...this.#charts.map(({ chart }) => chart.element)),
    );
    this.element.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      this.#close();
    });
  }

  hide(): void {
    this.element.hidden = true;
    this.#key = '';
    this.#request?.abort();
  }

  #close(): void {
    this.#store.set({ pid: null, start: '' });
  }

  /** Shows a process as its row says, and loads its charts where range or process changed. */
  show(row: ProcessRow, range: { from: number; to: number }, at: number | null, reload: boolean): void {
    const opening = this.element.hidden;
    this.element.hidden = false;
    this.#describe(row);
    const key = `${row.host ?? ''} ${row.pid} ${row.start_time} ${range.from} ${range.to}`;
    if (key !== this.#key || reload) {
      const same = key === this.#key;
      this.#key = key;
      void this.#load(row, range, at, same);
    } else this.#draw(at);
    if (opening) this.element.scrollTop = 0;
  }

  /** Moves the focus here, after a row was opened by hand. */
  focus(): void {
    this.element.focus({ preventScroll: true });
  }

  #describe(row: ProcessRow): void {
    const started = moment(row.start_time);
    const fact = (name: string, value: Node | string): HTMLElement =>
      h('div', {}, h('dt', {}, name), h('dd', {}, value));
    const close = this.#head.querySelector('button.icon-button');
    const hadFocus = close !== null && close === document.activeElement;
    const button = h(
      'button',
      {
        class: 'icon-button',
        type: 'button',
        'aria-label': 'Close the process',
        title: 'Close (Esc)',
        onclick: () => this.#close(),
      },
      icon(ICONS.close),
    );
    fill(
      this.#head,
      h(
        'header',
        { class: 'drawer-head' },
        h('h2', {}, row.command, h('span', { class: 'muted mono' }, ` ${row.pid}`)),
        row.exited ? h('span', { class: row.exit_code === 0 ? 'ended' : 'ended bad' }, exit(row.exit_code)) : null,
        button,
      ),
      row.arguments ? h('pre', { class: 'code', tabindex: 0, 'aria-label': 'Arguments' }, row.arguments) : null,
      h(
        'dl',
        { class: 'facts' },
        fact('Started', local(started)),
        fact(row.exited ? 'Lived' : 'Running for', duration(Math.max(0, moment(row.time) - started) * 1e6)),
        fact('User', row.user),
        fact('Service', row.service),
        row.container ? fact('Container', h('span', { class: 'mono' }, row.container.slice(0, 12))) : h('span'),
        fact(
          'Parent',
          row.parent_pid
            ? h(
                'button',
                {
                  class: 'link mono',
                  type: 'button',
                  title: 'Open the parent process',
                  onclick: () => this.#store.set({ pid: row.parent_pid, start: '' }),
                },
                String(row.parent_pid),
              )
            : '–',
        ),
        row.host ? fact('Host', row.host) : h('span'),
      ),
    );
    if (hadFocus) button.focus();
  }

  async #load(row: ProcessRow, range: { from: number; to: number }, at: number | null, same: boolean): Promise<void> {
    this.#request?.abort();
    this.#request = new AbortController();
    if (!same) this.#message.textContent = 'Reading its history…';
    try {
      this.#history = await processHistory(row, range, this.#request.signal);
      const some = (this.#history.columns['time'] ?? []).length > 0;
      this.#message.textContent = some ? '' : 'It was not sampled in this range.';
      this.#draw(at);
    } catch (error) {
      if (!isAbort(error)) this.#message.textContent = `Its history could not be read: ${(error as Error).message}`;
    }
  }

  #draw(at: number | null): void {
    if (!this.#history) return;
    for (const { plan, chart } of this.#charts) chart.update(chartOf(plan, this.#history), at);
  }
}
