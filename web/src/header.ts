/** The top of every page: where one is, what is shown, when, and in which light. */

import { fill, h, icon, ICONS } from './dom.ts';
import { RangeControl } from './range.ts';
import { serialize, type State, type Store, type View, VIEWS } from './state.ts';
import { choice, choose, type Choice } from './theme.ts';

const NAMES: Record<View, string> = { hitmap: 'Hitmap', processes: 'Processes', status: 'Status' };
const NEXT: Record<Choice, Choice> = { system: 'dark', dark: 'light', light: 'system' };
const THEME_ICON: Record<Choice, string> = { system: ICONS.system, dark: ICONS.moon, light: ICONS.sun };
const THEME_NAME: Record<Choice, string> = { system: 'as the system', dark: 'dark', light: 'light' };

export class Header {
  readonly element: HTMLElement;
  readonly range: RangeControl;
  readonly #store: Store;
  readonly #nav = h('nav', { 'aria-label': 'Pages' });
  readonly #host = h('select', { 'aria-label': 'Host' });
  readonly #hostLabel = h('label', { class: 'field', hidden: true }, h('span', {}, 'Host'), this.#host);
  readonly #theme: HTMLButtonElement;
  readonly #warning = h('a', { class: 'header-warning', href: '?view=status', hidden: true });

  constructor(store: Store, showShortcuts: () => void) {
    this.#store = store;
    this.range = new RangeControl(store);
    this.#theme = h('button', {
      class: 'icon-button',
      type: 'button',
      onclick: () => {
        choose(NEXT[choice()]);
        this.#renderTheme();
      },
    });
    this.#host.addEventListener('change', () => store.set({ host: this.#host.value }));
    this.#warning.addEventListener('click', (event) => this.#go(event, 'status'));
    this.element = h(
      'header',
      { class: 'top' },
      h(
        'a',
        { class: 'brand', href: './', onclick: (event: MouseEvent) => this.#go(event, 'hitmap') },
        h('span', { class: 'brand-mark', 'aria-hidden': 'true' }),
        'hitscope',
      ),
      this.#nav,
      this.#warning,
      h('span', { class: 'spring' }),
      this.#hostLabel,
      this.range.element,
      this.#theme,
      h(
        'button',
        {
          class: 'icon-button',
          type: 'button',
          'aria-label': 'Keyboard shortcuts',
          title: 'Keyboard shortcuts (?)',
          onclick: showShortcuts,
        },
        '?',
      ),
    );
    store.listen((state) => this.#render(state));
    this.#render(store.state);
    this.#renderTheme();
  }

  /** Offers the hosts of the history, where there are several. */
  hosts(names: string[]): void {
    const state = this.#store.state;
    const all = state.host && !names.includes(state.host) ? [...names, state.host] : names;
    this.#hostLabel.hidden = all.length < 2;
    const known = [...this.#host.options].map((option) => option.value).join('\n');
    if (known !== ['', ...all].join('\n')) {
      fill(
        this.#host,
        h('option', { value: '' }, 'all hosts'),
        ...all.map((name) => h('option', { value: name }, name)),
      );
    }
    this.#host.value = state.host;
  }

  /** Says at the top of every page what is wrong with the collector; empty when nothing is. */
  warn(text: string): void {
    this.#warning.hidden = text === '';
    this.#warning.textContent = text;
  }

  #go(event: MouseEvent, view: View): void {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    this.#store.set({ view });
  }

  #render(state: State): void {
    fill(
      this.#nav,
      ...VIEWS.map((view) =>
        h(
          'a',
          {
            href: serialize({ ...state, view }) || './',
            'aria-current': state.view === view ? 'page' : null,
            onclick: (event: MouseEvent) => this.#go(event, view),
          },
          NAMES[view],
        ),
      ),
    );
    this.#host.value = state.host;
    this.range.element.hidden = state.view === 'status';
    document.title = `${state.service ? `${state.service} · ` : ''}${NAMES[state.view]} · hitscope`;
  }

  #renderTheme(): void {
    const now = choice();
    fill(this.#theme, icon(THEME_ICON[now]));
    const label = `Colours: ${THEME_NAME[now]}. Change to ${THEME_NAME[NEXT[now]]}.`;
    this.#theme.setAttribute('aria-label', label);
    this.#theme.title = label;
  }
}
