import assert from 'node:assert/strict';
import { test } from 'node:test';

import { bytes, count, duration, percent, plural, short } from '../src/format.ts';
import { niceStep, parseTime, timeTicks, utc } from '../src/time.ts';

test('durations have the unit that suits them', () => {
  const cases: [number, string][] = [
    [0, '0 ns'],
    [999, '999 ns'],
    [1500, '1.5 µs'],
    [999_600, '1 ms'],
    [12_345_678, '12.3 ms'],
    [3_012_000_000, '3.01 s'],
    [99_960_000_000, '1 min 40 s'],
    [119_600_000_000, '2 min'],
    [7_260_000_000_000, '2 h 1 min'],
    [Infinity, '∞'],
  ];
  for (const [ns, text] of cases) assert.equal(duration(ns), text, String(ns));
});

test('sizes, counts and parts', () => {
  assert.equal(bytes(0), '0 B');
  assert.equal(bytes(1023.9), '1 KiB');
  assert.equal(bytes(5 * 2 ** 30), '5 GiB');
  assert.equal(count(1234567), '1\u202f234\u202f567');
  assert.equal(short(1_250_000), '1.25M');
  assert.equal(percent(0.0001), '<0.1 %');
  assert.equal(percent(0.123), '12 %');
  assert.equal(plural(1, 'hit'), '1 hit');
  assert.equal(plural(2, 'process', 'processes'), '2 processes');
});

test('moments are read in every form that an address may have', () => {
  const time = Date.UTC(2026, 10, 23, 11, 5, 30);
  for (const text of [
    '2026-11-23T11:05:30Z',
    '2026-11-23T11:05:30.000000000Z',
    `${time}`,
    `${time / 1000}`,
    `${time}000000`,
    `${time}000`,
  ]) {
    assert.equal(parseTime(text), time, text);
  }
  assert.equal(parseTime('soon'), null);
  assert.equal(parseTime(''), null);
  assert.equal(utc(time), '2026-11-23T11:05:30Z');
});

test('steps are round and few enough', () => {
  for (const range of [6e5, 36e5, 864e5, 30 * 864e5]) {
    const step = niceStep(range, 240);
    assert.equal(step % 5000, 0);
    assert.ok(range / step <= 240);
  }
});

test('ticks lie within the range', () => {
  for (const range of [6e5, 36e5, 864e5, 30 * 864e5]) {
    const from = Date.UTC(2026, 0, 1, 3, 7);
    const ticks = timeTicks(from, from + range, 10);
    assert.ok(ticks.length >= 2 && ticks.length <= 11, String(ticks.length));
    assert.ok(ticks.every((tick) => tick.time >= from && tick.time <= from + range));
  }
});
