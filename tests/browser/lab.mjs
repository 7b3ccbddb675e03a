// What the browser tests look at: a collector, a server and a PostgreSQL of their own, in a temporary folder, on free
// ports. Everything started here is ended here, by its process id.

import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const POSTGRES_BIN = process.env.HITSCOPE_POSTGRES_BIN ?? '/usr/lib/postgresql/15/bin';
const PORT = '5432';

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `check` gives something true; what it throws meanwhile is told only when the time is up. */
export async function until(what, check, timeout = 30_000) {
  const end = Date.now() + timeout;
  for (;;) {
    let cause;
    try {
      const found = await check();
      if (found) return found;
    } catch (error) {
      cause = error;
    }
    if (Date.now() > end) throw new Error(`waited ${timeout / 1000} s for ${what}`, { cause });
    await sleep(150);
  }
}

async function answers(url) {
  try {
    return (await fetch(`${url}/healthz`)).ok;
  } catch {
    return false;
  }
}

/** Asks the server's SQL. */
export async function query(url, sql) {
  const response = await fetch(`${url}/api/v1/query`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ sql }),
  });
  if (!response.ok) throw new Error(`${sql}: ${await response.text()}`);
  return response.json();
}

export class Lab {
  #folder = mkdtempSync(join(tmpdir(), 'hitscope-browser-'));
  #processes = [];
  #postgres;

  constructor() {
    // PostgreSQL and the server run as other users.
    chmodSync(this.#folder, 0o755);
  }

  #start(name, program, args, options = {}) {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], ...options });
    let said = '';
    child.stderr.on('data', (data) => (said = (said + data).slice(-4000)));
    child.on('exit', (code, signal) => {
      if (!child.ending) console.error(`${name} ended (${code ?? signal}): ${said}`);
    });
    this.#processes.unshift(child);
    return child;
  }

  #hitscope(...args) {
    const binary = process.env.HITSCOPE_BINARY;
    if (!binary) throw new Error('set HITSCOPE_BINARY, or HITSCOPE_URL to a server that runs');
    return this.#start(`hitscope ${args[0]}`, binary, args);
  }

  /** A server over a folder in which nothing was ever recorded. */
  async empty() {
    const folder = join(this.#folder, 'empty');
    mkdirSync(folder);
    return this.#serve(folder);
  }

  async #serve(folder) {
    const listen = `127.0.0.1:${await freePort()}`;
    this.#hitscope('serve', '--data-dir', folder, '--listen', listen);
    await until('the server', () => answers(`http://${listen}`));
    return `http://${listen}`;
  }

  /** A collector and a server that watch this host. */
  async watch() {
    const folder = join(this.#folder, 'data');
    mkdirSync(folder);
    this.#hitscope('run', '--no-serve', '--data-dir', folder);
    await until("the collector's status", () => existsSync(join(folder, 'status.json')));
    return this.#serve(folder);
  }

  /** A PostgreSQL that nobody touched. */
  async postgres() {
    const id = (flag) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
    const user = { uid: id('-u'), gid: id('-g'), cwd: '/' };
    const folder = join(this.#folder, 'postgres');
    execFileSync('install', ['-d', '-o', 'postgres', '-g', 'postgres', '-m', '700', folder]);
    const data = join(folder, 'data');
    execFileSync(join(POSTGRES_BIN, 'initdb'), ['-D', data, '-A', 'trust', '-U', 'postgres', '--no-sync'], {
      ...user,
      stdio: 'pipe',
    });
    const options = [
      '-D',
      data,
      '-c',
      `unix_socket_directories=${folder}`,
      '-c',
      'listen_addresses=',
      '-c',
      `port=${PORT}`,
      '-c',
      'fsync=off',
    ];
    this.#start('postgres', join(POSTGRES_BIN, 'postgres'), options, user);
    this.#postgres = { folder, user };
    await until('PostgreSQL', () => this.sql('select 1'));
  }

  /** Runs statements by psql over the Unix socket; a failing one fails only itself. */
  sql(...statements) {
    const args = ['-X', '-q', '-h', this.#postgres.folder, '-p', PORT, '-U', 'postgres', '-d', 'postgres'];
    for (const statement of statements) args.push('-c', statement);
    return execFileSync(join(POSTGRES_BIN, 'psql'), args, {
      ...this.#postgres.user,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  async end() {
    for (const child of this.#processes) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.ending = true;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await ended;
      clearTimeout(timer);
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
