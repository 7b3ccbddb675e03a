/** The keys, and the page that lists them. */

import { h } from './dom.ts';

const KEYS: [string, [string, string][]][] = [
  [
    'Everywhere',
    [
      ['?', 'show these keys'],
      ['g h, g p, g s', 'hitmap, processes, status'],
      ['/', 'go to the filter'],
      ['t', 'choose a time range'],
      ['Space', 'pause, or back to live'],
      ['Esc', 'close, clear'],
    ],
  ],
  [
    'On a hitmap',
    [
      ['← → ↑ ↓', 'move over the cells'],
      ['Page ↑ ↓, Home, End', 'move far'],
      ['Shift + arrows', 'select cells'],
      ['Enter', 'list the hits behind them'],
      ['e', 'next cell with errors'],
      ['Drag', 'select cells'],
    ],
  ],
  [
    'In a table',
    [
      ['↑ ↓', 'move over the rows'],
      ['Enter', 'open the row'],
    ],
  ],
  [
    'Moment of the process page',
    [
      ['← →', '5 s earlier, later'],
      ['Page ↑ ↓', 'a minute later, earlier'],
      ['Home, End', 'ends of the range'],
    ],
  ],
];

export class Shortcuts {
  readonly element: HTMLDialogElement;

  constructor() {
    const groups = KEYS.map(([title, keys]) =>
      h(
        'section',
        {},
        h('h3', {}, title),
        h('dl', {}, ...keys.flatMap(([key, meaning]) => [h('dt', {}, h('kbd', {}, key)), h('dd', {}, meaning)])),
      ),
    );
    this.element = h(
      'dialog',
      { class: 'shortcuts', 'aria-label': 'Keyboard shortcuts' },
      h('h2', {}, 'Keyboard shortcuts'),
      h('div', { class: 'shortcut-groups' }, ...groups),
      h('form', { method: 'dialog' }, h('button', { class: 'button', type: 'submit' }, 'Close')),
    );
  }

  show(): void {
    if (!this.element.open) this.element.showModal();
  }
}

export interface Commands {
  shortcuts(): void;
  go(view: 'hitmap' | 'processes' | 'status'): void;
  filter(): void;
  range(): void;
  pause(): void;
  escape(): void;
}

/** Whether keys belong to what has the focus. */
function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName))
  );
}

/** Listens for the keys that work everywhere. */
export function listen(commands: Commands): void {
  let prefix = false;
  addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector('dialog[open]')) return;
    if (event.key === 'Escape') {
      if (isTyping(event.target)) (event.target as HTMLElement).blur();
      commands.escape();
      return;
    }
    if (isTyping(event.target)) return;
    const after = prefix;
    prefix = false;
    const views: Record<string, 'hitmap' | 'processes' | 'status'> = { h: 'hitmap', p: 'processes', s: 'status' };
    const view = views[event.key];
    if (after && view) commands.go(view);
    else if (event.key === 'g') prefix = true;
    else if (event.key === '?') commands.shortcuts();
    else if (event.key === '/') commands.filter();
    else if (event.key === 't') commands.range();
    else if (event.key === ' ' && !(event.target instanceof Element && event.target.closest('button, summary, a, tr')))
      commands.pause();
    else return;
    event.preventDefault();
  });
}
