/** What every page is, and what it gets. */

import type { Status } from '../api.ts';
import type { State, Store } from '../state.ts';

export interface Shared {
  readonly store: Store;
  /** The newest status; `null` before the first answer. */
  readonly status: Status | null;
  /** Start of the oldest cube in ms; `null`: there is none, or it is not known yet. */
  readonly historyStart: number | null;
  /** Tells screen readers something. */
  say(text: string): void;
}

export interface Page {
  readonly element: HTMLElement;
  enter(state: State): void;
  leave(): void;
  changed(state: State, before: State): void;
  statusChanged(): void;
  focusFilter(): void;
  escape(): void;
}
