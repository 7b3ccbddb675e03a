// The page in a real browser.
//
//   cd tests/browser && npm ci && HITSCOPE_BINARY=… node --test
//
// Without HITSCOPE_URL the tests start what they need (see lab.mjs) and must be root: a PostgreSQL 15 of Debian, the
// collector and the server of HITSCOPE_BINARY, and a second server over an empty folder. With HITSCOPE_URL they look at a
// server that runs, and assume of it: its collector is live; within the last ten minutes a PostgreSQL whose processes are
// named `postgres` answered `select pg_sleep(3)`, several fast statements and one that failed, and nothing between 2.5
// and 5 s but the sleep. HITSCOPE_EMPTY_URL is then a server over an empty folder; without it, that test has no subject
// and starts one by HITSCOPE_BINARY.
//
// HITSCOPE_CHROMIUM is the browser (/usr/bin/chromium); HITSCOPE_SCREENSHOTS a folder for pictures to look at.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { chromium } from 'playwright-core';

import { Lab, query, sleep, until } from './lab.mjs';

const SCREENSHOTS = process.env.HITSCOPE_SCREENSHOTS;
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const SERVER = '?protocol=postgres&side=server';

let lab;
let browser;
let url;
let emptyUrl;

before(async () => {
  lab = new Lab();
  url = process.env.HITSCOPE_URL;
  emptyUrl = process.env.HITSCOPE_EMPTY_URL ?? (await lab.empty());
  if (!url) {
    url = await lab.watch();
    await lab.postgres();
    const fast = Array.from({ length: 40 }, (_, i) => `select ${i} + 1`);
    lab.sql(...fast);
    try {
      lab.sql('select nothing from nowhere');
    } catch {
      // It is meant to fail.
    }
    lab.sql('select pg_sleep(3)');
    await until(
      'the slow hit',
      async () => (await query(url, "select 1 as n from hits where operation like '%pg_sleep%'")).length > 0,
    );
    await until(
      'a sample of the processes',
      async () => (await query(url, "select 1 as n from processes where command = 'postgres' limit 1")).length > 0,
    );
  }
  browser = await chromium.launch({
    executablePath: process.env.HITSCOPE_CHROMIUM ?? '/usr/bin/chromium',
    args: FLAGS,
  });
});

after(async () => {
  await browser?.close();
  await lab?.end();
});

/** Opens an address in a fresh profile, runs the steps, and insists on a clean console and on no request elsewhere. */
async function open(address, steps, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(address).origin) complaints.push(`asked ${request.url()}`);
  });
  try {
    await page.goto(address);
    await steps(page);
    assert.deepEqual(complaints, []);
  } finally {
    await context.close();
  }
}

async function picture(page, name) {
  if (!SCREENSHOTS) return;
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

/** How many different colours a canvas has. */
function colours(canvas) {
  return canvas.evaluate((element) => {
    const { data } = element.getContext('2d').getImageData(0, 0, element.width, element.height);
    const found = new Set();
    for (let i = 0; i < data.length; i += 4)
      if (data[i + 3] > 200) found.add((data[i] << 16) | (data[i + 1] << 8) | data[i + 2]);
    return found.size;
  });
}

const map = (page) => page.locator('.map').first();

async function mapReady(page) {
  await map(page).waitFor();
  await page.waitForFunction(() => /[1-9].* hit/.test(document.querySelector('.map-totals')?.textContent ?? ''));
}

/** Drags over everything slower than 2.5 s on the linear scale, whose top is at 5 s, with 9 % of its height for the rest. */
async function dragSlow(page) {
  const box = await map(page).locator('.map-box').boundingBox();
  const [left, right, top, bottom] = [box.x + 64, box.x + box.width - 12, box.y + 8, box.y + box.height - 22];
  await page.mouse.move(left, top);
  await page.mouse.down();
  await page.mouse.move((left + right) / 2, top + 40, { steps: 4 });
  await page.mouse.move(right, bottom - (bottom - top) * 0.5, { steps: 4 });
  await page.mouse.up();
}

test('the hitmap has cells and says how many hits', async () => {
  await open(`${url}/${SERVER}`, async (page) => {
    await mapReady(page);
    assert.ok((await colours(map(page).locator('.map-box canvas'))) > 4);
    assert.match(await map(page).locator('.map-title').innerText(), /postgres[^]*server/);
    await page.locator('.operations tbody tr').first().waitFor();
    await picture(page, 'hitmap-light');
  });
});

test('a drag over the slow cells lists the slow query first, and its details', async () => {
  await open(`${url}/${SERVER}&scale=5`, async (page) => {
    await mapReady(page);
    await dragSlow(page);
    const first = page.locator('.hits tbody tr').first();
    await page.locator('.hits-panel h2', { hasText: 'in the selection' }).waitFor();
    await page.waitForFunction(() => /pg_sleep/.test(document.querySelector('.hits tbody tr')?.textContent ?? ''));
    assert.match(await first.innerText(), /3(\.\d+)? s/);
    const operation = page.locator('.operations tbody tr').first();
    await page.waitForFunction(() =>
      /pg_sleep/.test(document.querySelector('.operations tbody tr')?.textContent ?? ''),
    );
    await picture(page, 'selection-light');

    await operation.click();
    await page.locator('.chip', { hasText: 'pg_sleep' }).waitFor();

    await first.click();
    const drawer = page.locator('.drawer');
    assert.match(await drawer.locator('h2').first().innerText(), /^3(\.\d+)? s$/);
    assert.match(await drawer.innerText(), /pg_sleep[^]*Where the time went[^]*Service/);
    await picture(page, 'details-light');

    await page.getByRole('button', { name: 'Process at that moment' }).click();
    const row = page.locator('.processes tbody tr[aria-current]');
    await row.waitFor();
    assert.match(await row.innerText(), /postgres/);
    await page.waitForFunction(() => document.querySelectorAll('.charts canvas').length > 4);
    await until('the chart of its CPU', async () => (await colours(page.locator('.charts canvas').first())) > 2);
    await picture(page, 'process-light');
  });
});

test('the address holds the view: a link opens the same selection', async () => {
  await open(`${url}/${SERVER}&scale=5`, async (page) => {
    await mapReady(page);
    await dragSlow(page);
    await page.locator('.hits-panel h2', { hasText: 'in the selection' }).waitFor();
    const chip = await page.locator('.hits-panel .chip').first().innerText();
    await page.reload();
    await page.locator('.hits-panel .chip').first().waitFor();
    assert.equal(await page.locator('.hits-panel .chip').first().innerText(), chip);
    await page.waitForFunction(() => /pg_sleep/.test(document.querySelector('.hits tbody tr')?.textContent ?? ''));
    await page.goBack().catch(() => {});
  });
});

test(
  'a live map shows a new hit within seconds',
  { skip: process.env.HITSCOPE_URL ? 'needs a PostgreSQL of its own' : false },
  async () => {
    await open(`${url}/${SERVER}`, async (page) => {
      await mapReady(page);
      const hits = async () =>
        Number((await map(page).locator('.map-totals').innerText()).split('hit')[0].replace(/\D/g, ''));
      const before = await hits();
      lab.sql('select 4711');
      await until('the new hit', async () => (await hits()) > before, 10_000);
      await page.keyboard.press('Space');
      await page.locator('.live-button', { hasText: 'Live' }).waitFor();
      assert.match(page.url(), /from=.*to=/);
    });
  },
);

test('the process page tells what used the host at a moment', async () => {
  await open(`${url}/?view=processes`, async (page) => {
    await page.locator('.processes tbody tr').first().waitFor();
    assert.match(await page.locator('.summary').innerText(), /\d+ process/);
    await page.keyboard.press('/');
    await page.keyboard.type('postgres');
    await page.waitForFunction(() =>
      [...document.querySelectorAll('.processes tbody tr')].every((row) => /postgres/.test(row.textContent ?? '')),
    );
    const row = page.locator('.processes tbody tr', { hasText: 'postgres' }).first();
    await row.click();
    await page.locator('.drawer h2').first().waitFor();
    assert.match(await page.locator('.drawer').innerText(), /Started[^]*User[^]*CPU/);
    await until('the chart of its memory', async () => (await colours(page.locator('.charts canvas').nth(2))) > 2);
    await picture(page, 'processes-filtered-light');
    await page.keyboard.press('Escape');
    await page.locator('th', { hasText: 'Memory' }).getByRole('button').click();
    await page.locator('th[aria-sort=descending]', { hasText: 'Memory' }).waitFor();

    // Five seconds earlier is another moment, and the address says which.
    await page.getByRole('button', { name: '5 s earlier' }).click();
    await page.waitForURL(/at=\d{4}-/);
    await page.locator('.processes tbody tr').first().waitFor();
  });
});

test('the status page lists the probes, their use and the losses', async () => {
  await open(`${url}/?view=status`, async (page) => {
    const probes = page.getByRole('table', { name: 'Probes' });
    await probes.waitFor();
    for (const name of ['sched', 'sockets', 'syscalls']) assert.match(await probes.innerText(), new RegExp(`${name}`));
    const text = await page.locator('main').innerText();
    assert.match(text, /Collector[^]*running[^]*CPU[^]*Memory/);
    assert.match(text, /Losses/);
    await picture(page, 'status-light');
  });
});

test('the keyboard is enough', async () => {
  await open(`${url}/${SERVER}`, async (page) => {
    await mapReady(page);
    for (let i = 0; i < 30; i += 1) {
      await page.keyboard.press('Tab');
      if (await page.evaluate(() => document.activeElement?.classList.contains('map-box'))) break;
    }
    assert.ok(await page.evaluate(() => document.activeElement?.classList.contains('map-box')), 'Tab leads to the map');
    // The first arrow goes to the slowest cell of the newest column with hits.
    await page.keyboard.press('ArrowLeft');
    await map(page).locator('.tip').waitFor();
    assert.match(await page.locator('[aria-live]').first().innerText(), /\d+ hits?, \d+ errors/);
    await page.keyboard.press('Shift+ArrowDown');
    await page.keyboard.press('Shift+ArrowLeft');
    await map(page).locator('.selection').waitFor();
    await page.keyboard.press('Enter');
    await page.locator('.hits tbody tr').first().waitFor();
    await until('a row with the focus', async () => {
      await page.keyboard.press('Enter');
      return page.evaluate(
        () => document.activeElement?.tagName === 'TR' || document.activeElement?.classList.contains('drawer'),
      );
    });
    await page.locator('.drawer:not([hidden])').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('.drawer').waitFor({ state: 'hidden' });
    assert.equal(await page.evaluate(() => document.activeElement?.tagName), 'TR');
    await page.keyboard.press('Escape');
    await page.locator('.hits-panel h2', { hasText: 'in this range' }).waitFor();
    assert.ok(!page.url().includes('sel_'));

    await page.keyboard.press('?');
    await page.locator('dialog[open]').waitFor();
    await picture(page, 'shortcuts-light');
    await page.keyboard.press('Escape');
    await page.keyboard.press('/');
    assert.equal(await page.evaluate(() => document.activeElement?.getAttribute('name')), 'service');
    await page.keyboard.press('Escape');
    await page.keyboard.press('g');
    await page.keyboard.press('p');
    await page.locator('.processes tbody tr').first().waitFor();
  });
});

test('dark follows the system and can be chosen', async () => {
  const dark = { colorScheme: 'dark', viewport: { width: 1920, height: 1080 }, deviceScaleFactor: 1 };
  await open(
    `${url}/${SERVER}`,
    async (page) => {
      await mapReady(page);
      const back = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      const lightness = async () =>
        (await back())
          .match(/\d+/g)
          .slice(0, 3)
          .reduce((sum, n) => sum + Number(n), 0);
      assert.ok((await lightness()) < 150, await back());
      await picture(page, 'hitmap-dark');
      const toggle = page.getByRole('button', { name: /^Colours/ });
      await toggle.click();
      await toggle.click();
      assert.ok((await lightness()) > 600, await back());
      await page.reload();
      await mapReady(page);
      assert.ok((await lightness()) > 600, 'the choice is kept');
      await toggle.click();
      for (const view of ['processes', 'status']) {
        await page.goto(`${url}/?view=${view}`);
        await page.locator('tbody tr').first().waitFor();
        await sleep(300);
        await picture(page, `${view}-dark`);
      }
    },
    dark,
  );
});

test('an empty folder says that there is no data, why, and what to do', async () => {
  await open(`${emptyUrl}/`, async (page) => {
    await page.locator('.empty').waitFor();
    assert.match(await page.locator('.empty').innerText(), /No data yet[^]*hitscope run/);
    await picture(page, 'empty-light');
    await page.goto(`${emptyUrl}/?view=processes`);
    await page.locator('.empty').waitFor();
    assert.match(await page.locator('.empty').innerText(), /No data yet[^]*hitscope run/);
    await page.goto(`${emptyUrl}/?view=status`);
    await page.locator('.card').first().waitFor();
    assert.match(await page.locator('main').innerText(), /never ran/);
  });
});

test('a range before the history says so and leads to its start', async () => {
  await open(`${url}/?from=2001-01-01T00:00:00Z&to=2001-01-01T01:00:00Z`, async (page) => {
    await page.locator('.empty').waitFor();
    assert.match(await page.locator('.empty').innerText(), /before the history/);
    await page.getByRole('button', { name: 'Go to the start of the history' }).click();
    await page.waitForURL(/from=20[2-9]/);
  });
});
