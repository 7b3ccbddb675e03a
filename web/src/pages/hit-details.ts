/** Everything known of one hit, in a drawer. */

import { type HitRow, moment } from '../api.ts';
import { isMeasured, list } from '../breakdown.ts';
import { fill, h, icon, ICONS } from '../dom.ts';
import { bytes, count, duration } from '../format.ts';
import type { Store } from '../state.ts';
import { local, localTimeMs, now, zone } from '../time.ts';
import { outcome, remote } from './hits.ts';

export class HitDetails {
  readonly element = h('aside', { class: 'drawer', 'aria-label': 'Details of the hit', tabindex: -1, hidden: true });
  readonly #store: Store;
  readonly #closed: () => void;

  constructor(store: Store, closed: () => void) {
    this.#store = store;
    this.#closed = closed;
    this.element.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      this.close();
    });
  }

  get isOpen(): boolean {
    return !this.element.hidden;
  }

  close(): void {
    if (this.element.hidden) return;
    this.element.hidden = true;
    this.#closed();
  }

  open(hit: HitRow): void {
    const end = moment(hit.end_time);
    const start = end - hit.duration_ns / 1e6;
    const row = (name: string, value: Node | string | null, title?: string): HTMLElement =>
      h('div', {}, h('dt', { title }, name), h('dd', {}, value ?? h('span', { class: 'muted' }, '–')));
    fill(
      this.element,
      h(
        'header',
        { class: 'drawer-head' },
        h('h2', {}, duration(hit.duration_ns)),
        outcome(hit),
        h(
          'button',
          {
            class: 'icon-button',
            type: 'button',
            'aria-label': 'Close the details',
            title: 'Close (Esc)',
            onclick: () => this.close(),
          },
          icon(ICONS.close),
        ),
      ),
      h('pre', { class: 'code', tabindex: 0, 'aria-label': 'Operation' }, hit.operation),
      hit.error_message
        ? h('p', { class: 'error-box' }, hit.error_code ? `${hit.error_code}: ` : '', hit.error_message)
        : null,
      h('h3', {}, 'Where the time went'),
      isMeasured(hit)
        ? list(hit)
        : h(
            'p',
            { class: 'muted' },
            'Empty for this hit: its thread served other requests meanwhile, or several threads handled it, or the scheduler probe was off.',
          ),
      h('h3', {}, 'Hit'),
      h(
        'dl',
        { class: 'facts' },
        row('Began', `${local(start)}.${localTimeMs(start).slice(-3)}`),
        row('Ended', `${local(end)}.${localTimeMs(end).slice(-3)} ${zone(end)}`),
        row('In UTC', h('span', { class: 'mono' }, hit.end_time)),
        row(
          'Lay unread',
          hit.queued_ns === null ? 'not measured' : duration(hit.queued_ns),
          'How long the request lay in the socket before the process read it',
        ),
        row('Protocol', `${hit.protocol}, ${hit.side === 'server' ? 'this process answered' : 'this process asked'}`),
        row('Rows', hit.rows === null ? null : count(hit.rows)),
        row('Request', bytes(hit.request_bytes)),
        row('Answer', bytes(hit.response_bytes)),
        row('Stands for', hit.weight > 1 ? `${count(hit.weight)} hits (sampled)` : 'itself alone'),
        row('Operation id', h('span', { class: 'mono' }, String(hit.operation_id))),
      ),
      h('h3', {}, 'Process and connection'),
      h(
        'dl',
        { class: 'facts' },
        row('Service', hit.service),
        row(
          'Process',
          h('span', { class: 'mono' }, `${hit.pid}`, hit.thread_id === hit.pid ? '' : ` (thread ${hit.thread_id})`),
        ),
        hit.container ? row('Container', h('span', { class: 'mono' }, hit.container.slice(0, 12))) : null,
        hit.host ? row('Host', hit.host) : null,
        row('Remote', h('span', { class: 'mono' }, remote(hit))),
        row('Local port', hit.local_port === 0 ? null : h('span', { class: 'mono' }, String(hit.local_port))),
        row('Encrypted', hit.encrypted ? 'yes' : 'no'),
        hit.authority ? row('Addressed to', hit.authority, 'The Host header, or :authority') : null,
        hit.database ? row('Database', hit.database) : null,
        hit.user ? row('User', hit.user, 'Who the client logged in as') : null,
        hit.application ? row('Application', hit.application, 'What the client says it is') : null,
      ),
      hit.text ? h('h3', {}, 'Text') : null,
      hit.text ? h('pre', { class: 'code' }, hit.text) : null,
      h(
        'p',
        { class: 'drawer-actions' },
        h(
          'button',
          { class: 'button primary', type: 'button', onclick: () => this.#process(hit, start, end) },
          'Process at that moment',
        ),
        h(
          'button',
          { class: 'button', type: 'button', onclick: () => this.#store.set({ operation: String(hit.operation_id) }) },
          'Only this operation',
        ),
      ),
    );
    this.element.hidden = false;
    this.element.scrollTop = 0;
    this.element.focus({ preventScroll: true });
  }

  #process(hit: HitRow, start: number, end: number): void {
    const range = this.#store.state.range ?? {
      from: Math.min(start, end - 300_000),
      to: Math.max(end + 300_000, start),
    };
    const within = { from: range.from, to: Math.min(range.to, Math.max(now(), end + 5000)) };
    this.#store.set({
      view: 'processes',
      at: Math.floor(end / 1000) * 1000,
      pid: hit.pid,
      start: '',
      range: within,
      filter: '',
    });
  }
}
