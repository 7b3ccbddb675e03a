/** The status page: whether hitscope itself is well. */

import * as api from '../api.ts';
import { fill, h } from '../dom.ts';
import { failure, prose } from '../empty.ts';
import { bytes, count, duration, percent, plural } from '../format.ts';
import { ago, local, now } from '../time.ts';
import { alertsSection } from './alerts.ts';
import { explain } from './losses.ts';
import type { Page, Shared } from './page.ts';

const PERIOD = 2000;

interface Sample {
  pid: number;
  cpu: number;
  time: number;
}

export class StatusPage implements Page {
  readonly element = h('main', { class: 'page status-page' });
  readonly #shared: Shared;
  #timer: number | undefined;
  #request: AbortController | null = null;
  #collector: Sample[] = [];
  #server: Sample[] = [];
  #drawn = '';

  constructor(shared: Shared) {
    this.#shared = shared;
  }

  enter(): void {
    void this.#load();
    this.#timer = window.setInterval(() => void this.#load(), PERIOD);
  }

  leave(): void {
    clearInterval(this.#timer);
    this.#request?.abort();
  }

  changed(): void {}
  statusChanged(): void {}
  focusFilter(): void {}
  escape(): void {}

  async #load(): Promise<void> {
    this.#request?.abort();
    const { signal } = (this.#request = new AbortController());
    try {
      const [status, cubes, alerts] = await Promise.all([api.status(signal), api.cubes(signal), api.alerts(signal)]);
      this.#show(status, cubes, alerts);
    } catch (error) {
      if (api.isAbort(error)) return;
      this.#drawn = '';
      fill(
        this.element,
        failure('The status', error, () => void this.#load()),
      );
    }
  }

  #show(status: api.Status, cubes: api.Cubes, alerts: api.Alerts): void {
    const { collector, server } = status;
    const time = now();
    if (collector)
      note(this.#collector, { pid: collector.pid, cpu: collector.cpu_ns, time: collector.updated_ns / 1e6 });
    note(this.#server, { pid: server.pid, cpu: server.cpu_ns, time });
    // Text that someone is selecting must not vanish under the pointer.
    if (getSelection()?.toString() && this.#drawn) return;
    const focused = document.activeElement?.id;
    fill(
      this.element,
      h(
        'div',
        { class: 'cards' },
        this.#collectorCard(status, time),
        card(
          'Server',
          h('span', { class: 'state good' }, 'answering'),
          fact('CPU', cpuWords(this.#server)),
          fact('Memory', `${bytes(server.rss_bytes)}, peak ${bytes(server.peak_rss_bytes)}`),
          fact('Queries', `${count(server.queries)}, ${plural(server.query_failures, 'failure')}`),
          fact('Running since', `${local(server.started_ns / 1e6)} (${duration(time * 1e6 - server.started_ns)})`),
          fact('Process', `${server.pid}, version ${server.version}`),
        ),
        historyCard(cubes),
      ),
      notes([...(collector?.notes ?? []), ...server.notes, ...status.alerts.troubles]),
      probesSection(collector),
      lossesSection(collector),
      alertsSection(alerts, status.alerts),
      countersSection(collector),
      tablesSection(cubes),
    );
    if (focused) document.getElementById(focused)?.focus();
    this.#drawn = 'yes';
    this.#shared.say('');
  }

  #collectorCard(status: api.Status, time: number): HTMLElement {
    const { collector } = status;
    if (!collector) {
      return card(
        'Collector',
        h('span', { class: 'state bad' }, '✕ never ran'),
        h(
          'p',
          {},
          prose(
            'No collector has written to this folder. Start it with `sudo hitscope run`; `hitscope check` says what this host supports.',
          ),
        ),
      );
    }
    const updated = collector.updated_ns / 1e6;
    const runs = status.data === 'live';
    return card(
      'Collector',
      runs
        ? h('span', { class: 'state good' }, 'running')
        : h('span', { class: 'state bad' }, `✕ not running; last heard of ${ago(updated, time)}`),
      fact('CPU', cpuWords(this.#collector, collector.started_ns / 1e6)),
      fact('Memory', `${bytes(collector.rss_bytes)}, peak ${bytes(collector.peak_rss_bytes)}`),
      fact('Host', collector.host),
      fact(
        runs ? 'Running since' : 'Ran from',
        `${local(collector.started_ns / 1e6)} (${duration(collector.updated_ns - collector.started_ns)})`,
      ),
      fact('Process', `${collector.pid}, version ${collector.version}`),
    );
  }
}

/** Keeps the samples of the last minute of one process. */
function note(samples: Sample[], sample: Sample): void {
  if (samples[0] && samples[0].pid !== sample.pid) samples.length = 0;
  if (samples[samples.length - 1]?.time !== sample.time) samples.push(sample);
  while (samples.length > 2 && sample.time - samples[0]!.time > 60_000) samples.shift();
}

/** CPU of the time looked at, and since the start where that is known; of one CPU. */
function cpuWords(samples: Sample[], started?: number): string {
  const first = samples[0];
  const last = samples[samples.length - 1];
  const words = [];
  if (first && last && last.time > first.time) {
    words.push(`${percent((last.cpu - first.cpu) / 1e6 / (last.time - first.time))} of one CPU now`);
  }
  if (last && started !== undefined && last.time > started)
    words.push(`${percent(last.cpu / 1e6 / (last.time - started))} on average`);
  if (last) words.push(`${duration(last.cpu)} in all`);
  return words.join(', ');
}

function fact(name: string, value: string): HTMLElement {
  return h('div', { class: 'fact' }, h('dt', {}, name), h('dd', {}, value));
}

function card(title: string, state: HTMLElement, ...facts: HTMLElement[]): HTMLElement {
  const list = facts.some((item) => item.tagName === 'P')
    ? h('div', {}, ...facts)
    : h('dl', { class: 'facts' }, ...facts);
  return h('section', { class: 'panel card' }, h('header', { class: 'panel-head' }, h('h2', {}, title), state), list);
}

function historyCard(cubes: api.Cubes): HTMLElement {
  const size = cubes.tables.reduce((total, table) => total + table.bytes, 0);
  const files = cubes.tables.reduce((total, table) => total + table.files, 0);
  const starts = cubes.tables.flatMap((table) => table.ranges.map(([from]) => from));
  const hosts = new Set(cubes.tables.map((table) => table.host));
  if (starts.length === 0)
    return card('History', h('span', { class: 'muted' }, 'empty'), h('p', {}, 'Nothing has been recorded yet.'));
  const begin = Math.min(...starts);
  return card(
    'History',
    h('span', { class: 'state' }, bytes(size)),
    fact('Begins', `${local(begin)} (${ago(begin)})`),
    fact('Files', `${count(files)}, each of ${duration(cubes.cube_ms * 1e6)} of one table`),
    fact('Tables', count(new Set(cubes.tables.map((table) => table.table)).size)),
    fact(hosts.size === 1 ? 'Host' : 'Hosts', [...hosts].join(', ')),
    fact('Gaps', gaps(cubes)),
  );
}

/** How often recording was interrupted, by the table of processes, which is written all the time. */
function gaps(cubes: api.Cubes): string {
  const ranges = cubes.tables.filter((table) => table.table === 'processes').map((table) => table.ranges.length - 1);
  const found = ranges.reduce((total, n) => total + Math.max(0, n), 0);
  return found === 0 ? 'none' : plural(found, 'gap');
}

function notes(all: string[]): HTMLElement | null {
  if (all.length === 0) return null;
  return h(
    'section',
    { class: 'panel notes' },
    h('h2', {}, 'To know'),
    h('ul', {}, ...all.map((text) => h('li', {}, prose(text)))),
  );
}

function section(title: string, note: string, ...content: HTMLElement[]): HTMLElement {
  return h(
    'section',
    { class: 'panel' },
    h('header', { class: 'panel-head' }, h('h2', {}, title), h('span', { class: 'muted' }, note)),
    ...content,
  );
}

function table(label: string, head: [string, boolean][], rows: (Node | string)[][]): HTMLElement {
  return h(
    'div',
    { class: 'table-box plain fit' },
    h(
      'table',
      { 'aria-label': label },
      h(
        'thead',
        {},
        h('tr', {}, ...head.map(([name, number]) => h('th', { scope: 'col', class: number ? 'number' : null }, name))),
      ),
      h(
        'tbody',
        {},
        ...rows.map((row) =>
          h('tr', {}, ...row.map((cell, i) => h('td', { class: head[i]?.[1] ? 'number' : null }, cell))),
        ),
      ),
    ),
  );
}

function probesSection(collector: api.CollectorStatus | null): HTMLElement {
  const probes = collector?.probes ?? [];
  if (probes.length === 0)
    return section('Probes', '', h('p', { class: 'panel-message' }, 'No collector has told of its probes yet.'));
  return section(
    'Probes',
    `${probes.filter((probe) => probe.running).length} of ${probes.length} running`,
    table(
      'Probes',
      [
        ['Probe', false],
        ['State', false],
        ['Note', false],
      ],
      probes.map((probe) => [
        h('b', {}, probe.name),
        probe.running ? h('span', { class: 'state good' }, 'running') : h('span', { class: 'state bad' }, '✕ off'),
        probe.reason ? prose(probe.reason) : h('span', { class: 'muted' }, probe.running ? '' : 'no reason given'),
      ]),
    ),
  );
}

function lossesSection(collector: api.CollectorStatus | null): HTMLElement {
  const lost = Object.entries(collector?.lost ?? {}).sort(([, a], [, b]) => b - a);
  const some = lost.filter(([, n]) => n > 0);
  if (!collector) return section('Losses', '', h('p', { class: 'panel-message' }, 'No collector has counted any yet.'));
  if (lost.length === 0)
    return section(
      'Losses',
      'since the collector started',
      h('p', { class: 'panel-message good' }, 'Nothing was lost.'),
    );
  return section(
    'Losses',
    some.length === 0 ? 'nothing was lost since the collector started' : 'since the collector started',
    table(
      'Losses',
      [
        ['Counter', false],
        ['Lost', true],
        ['What it means', false],
      ],
      lost.map(([reason, n]) => [
        h('code', {}, reason),
        n > 0 ? h('span', { class: 'bad' }, count(n)) : h('span', { class: 'muted' }, '0'),
        prose(explain(reason)),
      ]),
    ),
  );
}

function countersSection(collector: api.CollectorStatus | null): HTMLElement | null {
  const counters = Object.entries(collector?.counters ?? {});
  if (counters.length === 0) return null;
  return section(
    'Seen',
    'since the collector started',
    h(
      'dl',
      { class: 'facts counters' },
      ...counters.map(([name, n]) => fact(name.replaceAll('_', ' '), name.endsWith('bytes') ? bytes(n) : count(n))),
    ),
  );
}

function tablesSection(cubes: api.Cubes): HTMLElement | null {
  if (cubes.tables.length === 0) return null;
  return section(
    'Tables',
    'closed cubes are Parquet, open ones Arrow',
    table(
      'Tables of the history',
      [
        ['Table', false],
        ['Host', false],
        ['Files', true],
        ['Open', true],
        ['Size', true],
        ['From', false],
        ['To', false],
      ],
      cubes.tables.map((item) => [
        h('code', {}, item.table),
        item.host,
        count(item.files),
        count(item.open),
        bytes(item.bytes),
        item.ranges[0] ? local(item.ranges[0][0]) : '',
        item.ranges.length > 0 ? local(Math.min(item.ranges[item.ranges.length - 1]![1], now())) : '',
      ]),
    ),
  );
}
