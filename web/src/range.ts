/** The choice of the time range: live, quick picks, exact moments. */

import { fill, h, icon, ICONS } from './dom.ts';
import { duration } from './format.ts';
import { bounds, LIVE_SPAN, type State, type Store } from './state.ts';
import { DAY, HOUR, local, localBrief, localDate, localTime, MINUTE, now, readMoment, utc, zone } from './time.ts';

const PICKS: readonly [string, number][] = [
  ['30 min', 30 * MINUTE],
  ['1 hour', HOUR],
  ['3 hours', 3 * HOUR],
  ['6 hours', 6 * HOUR],
  ['12 hours', 12 * HOUR],
  ['24 hours', DAY],
  ['2 days', 2 * DAY],
  ['7 days', 7 * DAY],
];

function momentInput(name: string): HTMLInputElement {
  return h('input', { type: 'text', name, required: true, spellcheck: 'false', autocomplete: 'off', class: 'mono' });
}

export class RangeControl {
  readonly element: HTMLElement;
  readonly #store: Store;
  readonly #live: HTMLButtonElement;
  readonly #summary = h('summary', { class: 'button range-summary', title: 'Choose a time range (t)' });
  readonly #details: HTMLDetailsElement;
  readonly #from = momentInput('from');
  readonly #to = momentInput('to');
  readonly #utc = h('p', { class: 'muted mono range-utc' });
  readonly #error = h('p', { class: 'bad', role: 'alert' });

  constructor(store: Store) {
    this.#store = store;
    this.#live = h('button', { class: 'button live-button', type: 'button', onclick: () => this.toggleLive() });
    const form = h(
      'form',
      { class: 'range-form', onsubmit: (event: SubmitEvent) => this.#submit(event) },
      h('label', {}, h('span', {}, 'From, local time'), this.#from),
      h('label', {}, h('span', {}, 'To, local time'), this.#to),
      this.#utc,
      this.#error,
      h('button', { class: 'button primary', type: 'submit' }, 'Show this range'),
    );
    const picks = PICKS.map(([label, span]) =>
      h('button', { class: 'pick', type: 'button', onclick: () => this.#pick(span) }, `Last ${label}`),
    );
    this.#details = h(
      'details',
      { class: 'range' },
      this.#summary,
      h(
        'div',
        { class: 'popover' },
        h(
          'div',
          { class: 'picks' },
          h('button', { class: 'pick', type: 'button', onclick: () => this.#goLive() }, 'Live, 10 min'),
          ...picks,
        ),
        form,
      ),
    );
    this.#details.addEventListener('toggle', () => this.#details.open && this.#fillForm());
    this.#details.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !this.#details.open) return;
      event.stopPropagation();
      this.#details.open = false;
      this.#summary.focus();
    });
    addEventListener('pointerdown', (event) => {
      if (this.#details.open && !this.#details.contains(event.target as Node)) this.#details.open = false;
    });
    for (const input of [this.#from, this.#to]) input.addEventListener('input', () => this.#showUtc());
    this.element = h(
      'div',
      { class: 'range-control', role: 'group', 'aria-label': 'Time range' },
      this.#live,
      this.#step(-1, ICONS.left, 'Earlier'),
      this.#details,
      this.#step(1, ICONS.right, 'Later'),
    );
    store.listen((state) => this.#render(state));
    this.#render(store.state);
  }

  /** Opens the choice. */
  open(): void {
    this.#details.open = true;
    this.#details.querySelector<HTMLElement>('.pick')?.focus();
  }

  /** Pauses the live view where it is, or goes back to it. */
  toggleLive(): void {
    if (this.#store.state.range) this.#goLive();
    else this.#store.set({ range: bounds(this.#store.state) });
  }

  #goLive(): void {
    this.#details.open = false;
    this.#store.set({ range: null, at: null });
  }

  #pick(span: number): void {
    const to = Math.ceil(now() / 5000) * 5000;
    this.#details.open = false;
    this.#store.set({ range: { from: to - span, to }, at: null });
  }

  #step(direction: number, path: string, label: string): HTMLElement {
    return h(
      'button',
      {
        class: 'icon-button',
        type: 'button',
        'aria-label': label,
        title: label,
        onclick: () => {
          const { from, to } = bounds(this.#store.state);
          const shift = (direction * (to - from)) / 2;
          if (direction > 0 && from + shift > now()) this.#goLive();
          else this.#store.set({ range: { from: from + shift, to: to + shift }, at: null });
        },
      },
      icon(path),
    );
  }

  #submit(event: SubmitEvent): void {
    event.preventDefault();
    const from = readMoment(this.#from.value);
    const to = readMoment(this.#to.value);
    if (from === null || to === null || to <= from) {
      this.#error.textContent =
        from === null || to === null
          ? 'Write a time as 2026-01-31 14:05:00, or 14:05.'
          : 'The range must end after it begins.';
      return;
    }
    this.#details.open = false;
    this.#store.set({ range: { from, to }, at: null });
  }

  #fillForm(): void {
    const { from, to } = bounds(this.#store.state);
    this.#from.value = local(from);
    this.#to.value = local(to);
    this.#showUtc();
  }

  #showUtc(): void {
    const word = (time: number | null): string => (time === null ? 'not a time' : utc(time));
    const from = readMoment(this.#from.value);
    const to = readMoment(this.#to.value);
    this.#error.textContent = '';
    this.#utc.textContent = `${word(from)}\n${word(to)}`;
  }

  #render(state: State): void {
    const live = state.range === null;
    fill(this.#live, icon(live ? ICONS.pause : ICONS.play), live ? 'Pause' : 'Live');
    this.#live.title = live ? 'Stop here (space)' : 'Back to the last 10 minutes, live (space)';
    this.element.classList.toggle('is-live', live);
    if (!state.range) {
      fill(
        this.#summary,
        h('span', { class: 'live-dot', 'aria-hidden': 'true' }),
        `Live · last ${LIVE_SPAN / MINUTE} min`,
      );
      return;
    }
    const { from, to } = state.range;
    const sameDay = localDate(from) === localDate(to);
    fill(
      this.#summary,
      h(
        'span',
        { class: 'tabular', title: `${utc(from)} – ${utc(to)}` },
        `${localBrief(from)} – ${sameDay ? localTime(to) : local(to)}`,
      ),
      h('span', { class: 'muted' }, `${duration((to - from) * 1e6)}, ${zone(from)}`),
    );
  }
}
