/** What the page says when there is nothing to show: why, and what to do. */

import type { Status } from './api.ts';
import { h } from './dom.ts';
import { plural } from './format.ts';
import type { State } from './state.ts';
import { ago, local } from './time.ts';

/** No word from the collector for this long means that it does not run. */
export const STALE = 15_000;

export interface Reason {
  title: string;
  /** Sentences; `code` in backquotes. */
  text: string[];
  /** A way out within the page. */
  action?: { label: string; change: Partial<State> };
}

export interface Known {
  status: Status | null;
  /** Start of the oldest cube, in ms. */
  historyStart: number | null;
  state: State;
  range: { from: number; to: number };
  now: number;
}

/** Why the hitmap is empty. Pure. */
export function whyNoHits({ status, historyStart, state, range, now }: Known): Reason {
  const collector = status?.collector ?? null;
  const updated = collector ? collector.updated_ns / 1e6 : 0;
  const filtered = Boolean(state.service || state.protocol || state.side || state.host);
  if (!collector && historyStart === null) {
    return {
      title: 'No data yet: the collector has not run',
      text: [
        'This folder holds no history, and no collector has written its status to it.',
        'Start it with `sudo hitscope run`; `hitscope check` says what this host supports. If it runs already, its data_dir is another one than this server reads.',
      ],
    };
  }
  if (state.range && historyStart !== null && range.to <= historyStart) {
    return {
      title: 'This range lies before the history',
      text: [
        `The history begins at ${local(historyStart)}. What was before was not recorded, or was evicted to keep within the configured size.`,
      ],
      action: {
        label: 'Go to the start of the history',
        change: { range: { from: historyStart, to: historyStart + 600_000 } },
      },
    };
  }
  if (state.range && range.from > now) {
    return {
      title: 'This range lies in the future',
      text: [],
      action: { label: 'Show the last 10 minutes', change: { range: null } },
    };
  }
  if (filtered) {
    const what = [state.service, state.protocol, state.side, state.host].filter(Boolean).join(' · ');
    return {
      title: `No hits of ${what} in this range`,
      text: ['Other services may have some.'],
      action: { label: 'Show all services', change: { service: '', protocol: '', side: '', host: '' } },
    };
  }
  if (!state.range && now - updated > STALE) {
    return {
      title: 'The collector is not running',
      text: [
        collector ? `It last wrote ${ago(updated, now)} (${local(updated)}).` : 'It has written no status.',
        'Start it with `sudo hitscope run`. What it recorded before is still here: choose a past range.',
      ],
    };
  }
  const sockets = collector?.probes.find((probe) => probe.name === 'sockets');
  if (!state.range && sockets && !sockets.running) {
    return {
      title: 'No hits: the sockets probe is off',
      text: [
        `It gives this reason: ${sockets.reason ?? 'none'}.`,
        'Without it hitscope sees processes, but not what they say to each other. `hitscope check` tells the mend.',
      ],
    };
  }
  if (state.range) {
    return {
      title: 'No hits in this range',
      text: ['Nothing that hitscope decodes was said between these moments, or the collector was not running then.'],
      action: { label: 'Show the last 10 minutes', change: { range: null } },
    };
  }
  return {
    title: 'Listening; nothing decoded yet',
    text: [
      `The collector runs${collector ? ` since ${local(collector.started_ns / 1e6)}` : ''}, but no service has exchanged a request and an answer in a protocol that hitscope decodes (PostgreSQL) in the last 10 minutes.`,
      'Try `psql -c "select 1"`: it shows here within a second or two.',
    ],
  };
}

/** Why a process list is empty. Pure. */
export function whyNoProcesses({ status, historyStart, state, now }: Known): Reason {
  const collector = status?.collector ?? null;
  if (!collector && historyStart === null) {
    return {
      title: 'No data yet: the collector has not run',
      text: ['Start it with `sudo hitscope run`. It takes its first sample of all processes within five seconds.'],
    };
  }
  if (state.at !== null && historyStart !== null && state.at < historyStart) {
    return {
      title: 'This moment lies before the history',
      text: [`The history begins at ${local(historyStart)}.`],
      action: { label: 'Go to the start of the history', change: { at: historyStart + 10_000 } },
    };
  }
  if (state.at === null && collector && now - collector.updated_ns / 1e6 > STALE) {
    return {
      title: 'The collector is not running',
      text: [`It last wrote ${ago(collector.updated_ns / 1e6, now)}.`, 'Start it with `sudo hitscope run`.'],
      action: { label: 'Go to its last moment', change: { at: Math.floor(collector.updated_ns / 1e9) * 1000 - 5000 } },
    };
  }
  return {
    title: 'No sample at this moment',
    text: [
      'Processes are sampled every 5 s while the collector runs. It was not running then, or began only just now.',
    ],
    ...(state.at === null ? {} : { action: { label: 'Go to the newest', change: { at: null } } }),
  };
}

/** Text with `code` in backquotes, as nodes. */
export function prose(text: string): DocumentFragment {
  const fragment = document.createDocumentFragment();
  text.split('`').forEach((piece, i) => fragment.append(i % 2 ? h('code', {}, piece) : piece));
  return fragment;
}

/** Draws a reason. */
export function draw(reason: Reason, act: (change: Partial<State>) => void): HTMLElement {
  const { action } = reason;
  return h(
    'div',
    { class: 'empty', role: 'status' },
    h('h2', {}, reason.title),
    ...reason.text.map((text) => h('p', {}, prose(text))),
    action
      ? h('button', { class: 'button primary', type: 'button', onclick: () => act(action.change) }, action.label)
      : null,
  );
}

/** Draws a failure to read something. */
export function failure(what: string, error: unknown, retry: () => void): HTMLElement {
  return h(
    'div',
    { class: 'empty', role: 'alert' },
    h('h2', {}, `${what} could not be read`),
    h('p', {}, error instanceof Error ? error.message : String(error)),
    h('button', { class: 'button', type: 'button', onclick: retry }, 'Try again'),
  );
}

/** For the header of a map list that leaves some out. */
export const moreMaps = (n: number): string => `${plural(n, 'more map')} with fewer hits`;
