/** Puts the page together. */

import './style/base.css';
import './style/controls.css';
import './style/hitmap.css';
import './style/panels.css';
import './style/pages.css';

import * as api from './api.ts';
import { h } from './dom.ts';
import { Header } from './header.ts';
import { HitmapPage } from './pages/hitmap.ts';
import type { Page, Shared } from './pages/page.ts';
import { ProcessesPage } from './pages/processes.ts';
import { StatusPage } from './pages/status.ts';
import { listen, Shortcuts } from './shortcuts.ts';
import { Store, type View } from './state.ts';
import * as theme from './theme.ts';
import { ago } from './time.ts';

const STATUS_PERIOD = 5000;

class Application implements Shared {
  readonly store = new Store();
  status: api.Status | null = null;
  historyStart: number | null = null;
  readonly #readout = h('div', { class: 'unseen', 'aria-live': 'polite', role: 'status' });
  readonly #shortcuts = new Shortcuts();
  readonly #header: Header;
  readonly #content = h('div', { class: 'content' });
  readonly #pages: Record<View, () => Page>;
  readonly #made = new Map<View, Page>();
  #page: Page | null = null;

  constructor() {
    theme.start();
    this.#pages = {
      hitmap: () => new HitmapPage(this),
      processes: () => new ProcessesPage(this),
      status: () => new StatusPage(this),
    };
    this.#header = new Header(this.store, () => this.#shortcuts.show());
    document.body.append(this.#header.element, this.#content, this.#readout, this.#shortcuts.element);
    this.store.listen((state, before) => {
      if (state.view !== before.view) this.#open(state.view);
      else this.#page?.changed(state, before);
    });
    listen({
      shortcuts: () => this.#shortcuts.show(),
      go: (view) => this.store.set({ view }),
      filter: () => this.#page?.focusFilter(),
      range: () => this.#header.range.open(),
      pause: () => this.#header.range.toggleLive(),
      escape: () => this.#page?.escape(),
    });
    this.#open(this.store.state.view);
    void this.#watch();
  }

  say(text: string): void {
    this.#readout.textContent = text;
  }

  #open(view: View): void {
    this.#page?.leave();
    document.body.classList.remove('has-drawer');
    let page = this.#made.get(view);
    if (!page) this.#made.set(view, (page = this.#pages[view]()));
    this.#page = page;
    this.#content.replaceChildren(page.element);
    page.enter(this.store.state);
    scrollTo(0, 0);
  }

  /** Asks again and again how the collector is. */
  async #watch(): Promise<void> {
    try {
      const [status, cubes] = await Promise.all([api.status(), api.cubes()]);
      this.status = status;
      const starts = cubes.tables.flatMap((table) => table.ranges.map(([from]) => from));
      this.historyStart = starts.length === 0 ? null : Math.min(...starts);
      this.#header.hosts([...new Set(cubes.tables.map((table) => table.host))].sort());
      this.#header.warn(warning(status));
    } catch (error) {
      this.#header.warn((error as Error).message);
    }
    this.#page?.statusChanged();
    setTimeout(() => void this.#watch(), STATUS_PERIOD);
  }
}

/** What the header says about the collector; empty while all is well. */
function warning(status: api.Status): string {
  if (status.data === 'none') return 'No data yet';
  if (status.data === 'stale')
    return status.stale_since === null
      ? 'Collector not running'
      : `Collector silent; last heard of ${ago(status.stale_since)}`;
  // What was turned off on purpose is no trouble.
  const off =
    status.collector?.probes.filter((probe) => !probe.running && !probe.reason?.startsWith('turned off')) ?? [];
  return off.length === 0 ? '' : `Probe off: ${off.map((probe) => probe.name).join(', ')}`;
}

new Application();
