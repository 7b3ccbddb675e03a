import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { CollectorStatus, HitRow, ProcessHistory, ProcessRow, Status } from '../src/api.ts';
import { isMeasured, parts } from '../src/breakdown.ts';
import { indexAt, roundTop } from '../src/chart.ts';
import { whyNoHits, whyNoProcesses } from '../src/empty.ts';
import { explain } from '../src/pages/losses.ts';
import { chartOf } from '../src/pages/process-details.ts';
import { columns, exit, matches } from '../src/pages/process-rows.ts';
import { DEFAULTS, type State } from '../src/state.ts';
import { sorted } from '../src/table.ts';

const NOW = Date.UTC(2026, 10, 23, 12);

function status(data: Status['data'], age: number, sockets: boolean): Status {
  const collector = {
    host: 'db1',
    started_ns: (NOW - 3_600_000) * 1e6,
    updated_ns: (NOW - age) * 1e6,
    probes: [{ name: 'sockets', running: sockets, reason: sockets ? null : 'no BTF' }],
  } as CollectorStatus;
  return {
    data,
    stale_since: null,
    collector: data === 'none' ? null : collector,
    server: {} as Status['server'],
    alerts: {} as Status['alerts'],
  };
}

function hits(change: Partial<State>, of: Status | null, historyStart: number | null): string {
  const state = { ...DEFAULTS, ...change };
  return whyNoHits({
    status: of,
    historyStart,
    state,
    range: state.range ?? { from: NOW - 600_000, to: NOW },
    now: NOW,
  }).title;
}

test('an empty hitmap says why', () => {
  const start = NOW - 7_200_000;
  assert.match(hits({}, status('none', 0, true), null), /has not run/);
  assert.match(hits({}, status('stale', 60_000, true), start), /not running/);
  assert.match(hits({}, status('live', 500, false), start), /sockets probe is off/);
  assert.match(hits({}, status('live', 500, true), start), /nothing decoded yet/);
  assert.match(hits({ service: 'x' }, status('live', 500, true), start), /No hits of x/);
  assert.match(
    hits({ range: { from: start - 2000, to: start - 1000 } }, status('live', 500, true), start),
    /before the history/,
  );
  assert.match(hits({ range: { from: NOW + 1000, to: NOW + 2000 } }, status('live', 500, true), start), /future/);
});

test('an empty process list says why', () => {
  const known = { historyStart: NOW - 1e6, range: { from: 0, to: 1 }, now: NOW };
  const title = (of: Status | null, at: number | null, historyStart: number | null = NOW - 1e6): string =>
    whyNoProcesses({ ...known, historyStart, status: of, state: { ...DEFAULTS, at } }).title;
  assert.match(title(status('none', 0, true), null, null), /has not run/);
  assert.match(title(status('stale', 60_000, true), null), /not running/);
  assert.match(title(status('live', 0, true), NOW - 2e6), /before the history/);
  assert.match(title(status('live', 0, true), NOW - 1000), /No sample/);
});

test("a hit's time is explained as far as it is known", () => {
  const hit = {
    duration_ns: 1000,
    cpu_ns: 300,
    runqueue_ns: 100,
    disk_ns: null,
    lock_ns: null,
    network_ns: null,
  } as HitRow;
  const all = parts(hit);
  assert.ok(isMeasured(hit));
  assert.equal(all.find((part) => part.name === 'disk')?.ns, null);
  assert.deepEqual(all.at(-1), { name: 'other, or not measured', class: 'part-unknown', ns: 600 });
  const whole = { ...hit, disk_ns: 0, lock_ns: 0, network_ns: 700 };
  assert.deepEqual(parts(whole).at(-1), { name: 'other', class: 'part-other', ns: 0 });
  assert.ok(!isMeasured({ ...hit, cpu_ns: null, runqueue_ns: null }));
});

const row = (change: Partial<ProcessRow>): ProcessRow =>
  ({
    pid: 1,
    command: 'postgres',
    arguments: 'postgres: writer',
    user: 'postgres',
    service: 'postgresql.service',
    state: 'sleeping',
    exited: false,
    cpu_user_ns: 0,
    cpu_system_ns: 0,
    rss_bytes: 0,
    ...change,
  }) as ProcessRow;

test('processes are sorted and filtered', () => {
  const rows = [
    row({ pid: 3, cpu_user_ns: 5 }),
    row({ pid: 1, cpu_system_ns: 9 }),
    row({ pid: 2, rss_bytes: 7, command: 'java' }),
  ];
  const list = columns(5e9, 9, false);
  const by = (order: string): number[] => sorted(rows, list, order).map((item) => item.pid);
  assert.deepEqual(by('cpu'), [1, 3, 2]);
  assert.deepEqual(by('-cpu'), [2, 3, 1]);
  assert.deepEqual(by('memory')[0], 2);
  assert.deepEqual(by('command')[0], 2, 'names go from A to Z first');
  assert.deepEqual(by('nothing'), [3, 1, 2]);
  assert.ok(matches(rows[2]!, 'JAVA postgresql'));
  assert.ok(!matches(rows[2]!, 'java redis'));
});

test('an exit code tells its signal', () => {
  assert.equal(exit(0), 'ended 0');
  assert.equal(exit(137), 'ended 137 (SIGKILL)');
  assert.equal(exit(null), 'ended');
});

test('a history becomes rates and parts of time', () => {
  const history: ProcessHistory = {
    from: 0,
    to: 10_000,
    step_ms: 5000,
    columns: {
      time: [0, 5000],
      interval_ns: [5e9, 5e9],
      cpu_user_ns: [5e9, 0],
      cpu_system_ns: [2.5e9, null],
      read_bytes: [10, 20],
      pss_bytes: [null, null],
    },
  };
  const format = String;
  const cpu = chartOf(
    {
      lines: [
        ['user', 'cpu_user_ns'],
        ['system', 'cpu_system_ns'],
      ],
      per: 'time',
      stacked: true,
      least: 1,
      format,
    },
    history,
  );
  assert.deepEqual(cpu.lines, [
    { name: 'user', values: [100, 0] },
    { name: 'system', values: [50, null] },
  ]);
  const disk = chartOf(
    {
      lines: [
        ['read', 'read_bytes'],
        ['proportional', 'pss_bytes'],
      ],
      per: 'second',
      stacked: false,
      least: 1,
      format,
    },
    history,
  );
  assert.deepEqual(disk.lines, [{ name: 'read', values: [2, 4] }], 'what was never measured has no line');
});

test('axes end at round numbers; steps are found by their moment', () => {
  assert.equal(roundTop(0), 1);
  assert.equal(roundTop(73), 100);
  assert.equal(roundTop(210), 250);
  assert.equal(roundTop(3 * 2 ** 20, true), 5 * 2 ** 20);
  const data = { times: [0, 5000, 20_000], step: 5000 };
  assert.equal(indexAt(data, 7000), 1);
  assert.equal(indexAt(data, 15_000), -1);
});

test('every loss has a sentence', () => {
  assert.match(explain('segment_ring_full'), /ring buffer/);
  assert.match(explain('history_hits'), /`hits`/);
  assert.match(explain('something_new'), /not kept/);
});
