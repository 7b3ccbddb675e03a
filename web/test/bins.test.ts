import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  BUCKET_EDGES,
  extent,
  grid,
  indexAtMost,
  nearestEdge,
  normalize,
  type Series,
  snap,
  sum,
} from '../src/hitmap/bins.ts';
import { latencyRange, linearScale, logBounds, logScale, rowAt } from '../src/hitmap/scale.ts';

function series(cells: [time: number, low: number, hits: number, errors: number][]): Series {
  const columns: Series['columns'] = new Map();
  for (const [time, low, hits, errors] of cells)
    columns.set(time, [...(columns.get(time) ?? []), { low, hits, errors }]);
  return { key: 'a', service: 'a', protocol: 'postgres', side: 'server', columns };
}

test('bucket edges are those of schemas/src/latency.rs', () => {
  // 514 buckets: one below 2^10 ns, 16 in each of 32 octaves, one above; each edge but the last begins one.
  assert.equal(BUCKET_EDGES.length, 515);
  assert.deepEqual(BUCKET_EDGES.slice(0, 3), [0, 1024, 1088]);
  assert.deepEqual(BUCKET_EDGES.slice(-2), [2 ** 42, Infinity]);
  for (let i = 2; i < 514; i += 1) {
    const low = BUCKET_EDGES[i - 1]!;
    assert.ok((BUCKET_EDGES[i]! - low) * 16 <= low, `bucket at ${low}`);
  }
});

test('rows are whole buckets', () => {
  const edges = snap([1e6, 1.01e6, 2e6, 4e6]);
  assert.equal(edges.length, 3, 'two wanted bounds in one bucket become one');
  assert.ok(edges.every((edge) => BUCKET_EDGES.includes(edge)));
  assert.equal(nearestEdge(1000), 1024);
  assert.equal(nearestEdge(1e30), 2 ** 42);
});

test('every hit is counted once, whatever the scale', () => {
  const cells: [number, number, number, number][] = BUCKET_EDGES.slice(0, -1).map((low, i) => [
    (i % 12) * 5000,
    low,
    i + 1,
    i % 3,
  ]);
  const all = series(cells);
  const hits = cells.reduce((total, cell) => total + cell[2], 0);
  const errors = cells.reduce((total, cell) => total + cell[3], 0);
  const scales = [5, 10, 20, 40, 80].map((top) => linearScale(top, 40));
  scales.push(logScale(logBounds(extent([all], 0, 60_000)), 40), logScale({ low: 500, high: 2e13 }, 25));
  for (const scale of scales) {
    const counted = grid(all, 0, 60_000, 5000, scale.edges);
    assert.deepEqual(sum(counted, { column0: 0, column1: 11, row0: 0, row1: counted.rows - 1 }), { hits, errors });
    assert.equal(scale.positions.length, scale.edges.length);
    assert.ok(
      scale.positions.every((at, i) => i === 0 || at > scale.positions[i - 1]!),
      'rows are in order',
    );
    for (let row = 0; row < counted.rows; row += 1) {
      const middle = (scale.positions[row]! + scale.positions[row + 1]!) / 2;
      assert.equal(rowAt(scale, middle), row);
    }
  }
});

test('columns are merged windows; what is outside the range is left out', () => {
  const some = series([
    [-5000, 1024, 100, 0],
    [0, 1024, 1, 0],
    [10_000, 1024, 2, 2],
    [15_000, 1024, 4, 0],
    [30_000, 1024, 100, 0],
  ]);
  const counted = grid(some, 0, 30_000, 15_000, [0, 2048]);
  assert.deepEqual([...counted.hits], [3, 4]);
  assert.deepEqual([...counted.errors], [2, 0]);
  assert.equal(counted.most, 4);
});

test('a selection has its corners in order and within the grid', () => {
  const counted = grid(series([]), 0, 50_000, 5000, [0, 1024, 2048, 4096]);
  assert.deepEqual(normalize({ column0: 99, column1: 2, row0: 2, row1: -4 }, counted), {
    column0: 2,
    column1: 9,
    row0: 0,
    row1: 2,
  });
});

test('an extent ends where its last bucket ends', () => {
  assert.equal(extent([series([])], 0, 5000), null);
  const found = extent(
    [
      series([
        [0, 1024, 1, 0],
        [0, 2048, 1, 0],
        [9000, 8192, 1, 0],
      ]),
    ],
    0,
    5000,
  );
  assert.deepEqual(found, { low: 1024, high: 2176 });
});

test('the log axis spans at least two decades and begins at round numbers', () => {
  const { low, high } = logBounds({ low: 2_883_584, high: 3_014_656 });
  assert.ok(low <= 2_883_584 && high >= 3_014_656 && high / low >= 100);
  const power = 10 ** Math.floor(Math.log10(low));
  assert.ok([1, 2, 5].includes(Math.round(low / power)));
});

test('a linear axis ends near its top and has one row for the rest', () => {
  for (const top of [5, 10, 20, 40, 80]) {
    const { edges, at, ticks } = linearScale(top, 40);
    assert.equal(edges.at(-1), Infinity);
    assert.ok(Math.abs(edges.at(-2)! / (top * 1e9) - 1) < 0.04);
    assert.equal(at(1e15), 1);
    assert.ok(ticks.some((tick) => tick.label === `${top} s`));
  }
});

test('latency ranges read well', () => {
  assert.equal(latencyRange(0, Infinity), 'all latencies');
  assert.equal(latencyRange(0, 1024), '< 1.02 µs');
  assert.equal(latencyRange(5.1e9, Infinity), '≥ 5.1 s');
  assert.equal(latencyRange(1e6, 2.5e6), '1 ms – 2.5 ms');
});

test('the last edge at or below a value is found', () => {
  assert.equal(indexAtMost([0, 10, 20], 0), 0);
  assert.equal(indexAtMost([0, 10, 20], 19.9), 1);
  assert.equal(indexAtMost([0, 10, 20], 1e9), 2);
});
