import assert from 'node:assert/strict';
import { test } from 'node:test';

import { bounds, DEFAULTS, LIVE_SPAN, parse, serialize, type State } from '../src/state.ts';

test('a default state has an empty address', () => {
  assert.equal(serialize(DEFAULTS), '');
  assert.deepEqual(parse(''), DEFAULTS);
});

test('every state comes back from its address', () => {
  const from = Date.UTC(2026, 10, 23, 3, 12);
  const state: State = {
    ...DEFAULTS,
    view: 'processes',
    host: 'db 1',
    service: 'a/b & c.service',
    range: { from, to: from + 3_600_000 },
    scale: 20,
    errorsOnly: true,
    selection: {
      from,
      to: from + 5000,
      low: 1024,
      high: Infinity,
      service: 'a/b & c.service',
      protocol: 'postgres',
      side: 'server',
    },
    operation: '15237129073000000000',
    at: from + 1500,
    pid: 4711,
    start: '2026-11-23T03:00:00.123456789Z',
    sort: '-memory',
    filter: 'java -jar',
  };
  assert.deepEqual(parse(serialize(state)), state);
});

test("a link with a range and a service, as an alert's message has it, opens", () => {
  const state = parse('?from=2026-11-23T03:10:00Z&to=1795403700000&service=postgresql.service');
  assert.deepEqual(state.range, { from: Date.UTC(2026, 10, 23, 3, 10), to: 1795403700000 });
  assert.equal(state.service, 'postgresql.service');
});

test('nonsense in an address is ignored', () => {
  const state = parse('?view=nothing&from=yesterday&scale=7&at=x&pid=-3&sel_from=1&sel_to=0&unknown=1');
  assert.deepEqual(state, DEFAULTS);
  const swapped = parse('?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z').range;
  assert.ok(swapped && swapped.from < swapped.to);
});

test('live is whole windows up to the one that is being filled', () => {
  const now = Date.UTC(2026, 0, 1) + 12_345;
  const { from, to } = bounds(DEFAULTS, now);
  assert.equal(to, Date.UTC(2026, 0, 1) + 15_000);
  assert.equal(to - from, LIVE_SPAN);
});
