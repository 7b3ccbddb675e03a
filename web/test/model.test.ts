import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Hitmap } from '../src/api.ts';
import { HitmapModel } from '../src/hitmap/model.ts';

function answer(from: number, cells: [window: number, series: number, hits: number][], hosts = ['db1', 'db1']): Hitmap {
  return {
    from,
    to: from + 15_000,
    step_ms: 5000,
    newest: null,
    series: hosts.map((host, i) => ({
      host,
      service: hosts[0] === hosts[1] ? `service${i}` : 'service',
      protocol: 'postgres',
      side: 'server',
    })),
    buckets: [[1024, 1088]],
    cells: {
      window: cells.map((cell) => cell[0]),
      series: cells.map((cell) => cell[1]),
      bucket: cells.map(() => 0),
      hits: cells.map((cell) => cell[2]),
      errors: cells.map(() => 0),
    },
  };
}

const hits = (model: HitmapModel): number[][] =>
  [...model.series.values()].map((series) => [...series.columns.values()].flat().map((cell) => cell.hits));

test('the map with most hits comes first and stays there', () => {
  const model = new HitmapModel();
  model.load(
    answer(0, [
      [0, 0, 1],
      [0, 1, 9],
    ]),
  );
  assert.deepEqual(
    [...model.series.values()].map((series) => series.service),
    ['service1', 'service0'],
  );
  model.load(
    answer(0, [
      [0, 0, 50],
      [0, 1, 9],
    ]),
  );
  assert.deepEqual(
    [...model.series.values()].map((series) => series.service),
    ['service1', 'service0'],
  );
});

test('a live message replaces its windows and leaves the others', () => {
  const model = new HitmapModel();
  model.load(
    answer(0, [
      [0, 0, 1],
      [1, 0, 2],
      [2, 0, 3],
    ]),
  );
  model.live(
    answer(5000, [
      [0, 0, 20],
      [2, 0, 40],
    ]),
  );
  assert.deepEqual(hits(model), [[1, 20, 40]]);
  model.forget(5000);
  assert.deepEqual(hits(model), [[20, 40]]);
  model.forget(1e6);
  assert.ok(model.empty);
});

test('one service on two hosts is one map', () => {
  const model = new HitmapModel();
  model.load(
    answer(
      0,
      [
        [0, 0, 1],
        [0, 1, 2],
      ],
      ['db1', 'db2'],
    ),
  );
  assert.deepEqual(hits(model), [[1, 2]]);
});
