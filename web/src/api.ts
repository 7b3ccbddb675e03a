/** Typed client of the HTTP API. Rows mirror the stored tables (docs/tables.md); `_ns` and `_bytes` are numbers. */

import { parseTime, setServerTime, utc } from './time.ts';

/** Hits counted by time and latency bucket, in columns: one element of each list of `cells` for each cell with hits. */
export interface Hitmap {
  /** Start of the first column and end of the last, in ms since the epoch. */
  from: number;
  to: number;
  step_ms: number;
  newest: number | null;
  series: { host: string; service: string; protocol: string; side: string }[];
  /** Bounds in ns; the last bucket of all has no upper one. */
  buckets: [number, number | null][];
  cells: {
    /** Steps after `from`. */
    window: number[];
    series: number[];
    bucket: number[];
    hits: number[];
    errors: number[];
  };
}

export interface HitRow {
  host?: string;
  end_time: string;
  duration_ns: number;
  protocol: string;
  side: string;
  service: string;
  pid: number;
  thread_id: number;
  container: string | null;
  remote_address: string;
  remote_port: number;
  local_port: number;
  encrypted: boolean;
  user?: string | null;
  database?: string | null;
  application?: string | null;
  authority?: string | null;
  operation: string;
  operation_id: number | string;
  status: string;
  error_code: string | null;
  error_message: string | null;
  rows: number | null;
  request_bytes: number;
  response_bytes: number;
  cpu_ns: number | null;
  runqueue_ns: number | null;
  disk_ns: number | null;
  lock_ns: number | null;
  network_ns: number | null;
  queued_ns: number | null;
  text: string | null;
  weight: number;
}

export interface OperationRow {
  operation: string;
  operation_id: number | string;
  calls: number;
  errors: number;
  total_ns: number;
  max_ns: number;
}

export interface ServiceRow {
  service: string;
  protocol: string;
  side: string;
  hits: number;
  errors: number;
}

export interface ProcessRow {
  host?: string;
  time: string;
  interval_ns: number;
  pid: number;
  start_time: string;
  parent_pid: number;
  command: string;
  arguments: string;
  user: string;
  service: string;
  container: string | null;
  state: string;
  cpu_user_ns: number;
  cpu_system_ns: number;
  runqueue_ns: number | null;
  rss_bytes: number;
  pss_bytes: number | null;
  swap_bytes: number | null;
  virtual_bytes: number | null;
  threads: number;
  open_files: number | null;
  read_bytes: number | null;
  written_bytes: number | null;
  received_bytes: number | null;
  sent_bytes: number | null;
  minor_faults: number;
  major_faults: number;
  voluntary_switches: number;
  involuntary_switches: number;
  exited: boolean;
  exit_code: number | null;
}

export interface HostRow {
  time: string;
  interval_ns: number;
  cpus: number;
  cpu_user_ns: number;
  cpu_system_ns: number;
  cpu_steal_ns: number;
  memory_total_bytes: number;
  memory_available_bytes: number;
}

export interface Probe {
  name: string;
  running: boolean;
  reason: string | null;
}

export interface CollectorStatus {
  version: string;
  host: string;
  pid: number;
  started_ns: number;
  updated_ns: number;
  cpu_ns: number;
  rss_bytes: number;
  peak_rss_bytes: number;
  probes: Probe[];
  lost: Record<string, number>;
  counters: Record<string, number>;
  notes: string[];
}

export interface ServerStatus {
  version: string;
  pid: number;
  started_ns: number;
  cpu_ns: number;
  rss_bytes: number;
  peak_rss_bytes: number;
  queries: number;
  query_failures: number;
  notes: string[];
}

export interface Status {
  /** Nothing was ever recorded; history but no collector; a collector is running. */
  data: 'none' | 'stale' | 'live';
  /** When the collector was last heard of, in ms since the epoch, where it is known. */
  stale_since: number | null;
  collector: CollectorStatus | null;
  server: ServerStatus;
  alerts: AlertsHealth;
}

/** Whether alerts are evaluated, recorded and delivered. */
export interface AlertsHealth {
  rules: number;
  failing: { rule: string; error: string }[];
  /** Whether this server tells people, and why it does not. */
  telling: boolean;
  why_not: string | null;
  /** `null`: Slack is not configured. */
  slack: { waiting: number; refused: number; folded: number; error: string | null } | null;
  troubles: string[];
}

/** What the folder holds of one table and host. */
export interface TableCubes {
  table: string;
  host: string;
  files: number;
  open: number;
  bytes: number;
  /** Times with cubes, from and to, in ms since the epoch. */
  ranges: [number, number][];
}

export interface Cubes {
  cube_ms: number;
  tables: TableCubes[];
}

/** All processes in the interval nearest to a moment. */
export interface Moment {
  at: number;
  /** End of the interval in ms since the epoch; none: there are no samples. */
  time: number | null;
  hosts: HostRow[];
  processes: ProcessRow[];
}

type Numbers = (number | null)[];

/** What one process used over time, one element of each list for each step. */
export interface ProcessHistory {
  from: number;
  to: number;
  step_ms: number;
  columns: Record<string, Numbers>;
}

export interface AlertRule {
  name: string;
  severity: string;
  interval: string;
  hold: string;
  sql: string;
  /** `ok`, `pending`, `firing`, `no_data` or `failed`. */
  state: string;
  built_in: boolean;
  since: string | null;
  error: string | null;
  /** `null`: it is built in. */
  evaluations: {
    last: string | null;
    last_ms: number;
    failed: number;
    missed: number;
    no_data: number;
  } | null;
}

export interface AlertChange {
  time: string;
  rule: string;
  severity: string;
  state: string;
  labels: string;
  value: number | null;
  message: string;
  delivery: string;
}

export interface Alerts {
  telling: boolean;
  why_not: string | null;
  rules: AlertRule[];
  changes: AlertChange[];
}

/** What a request was refused with. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const BASE = '/api/v1';

async function request<T>(path: string, init: RequestInit = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(BASE + path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(0, 'The server does not answer. Is `hitscope serve` running?');
  }
  const date = response.headers.get('date');
  if (date) setServerTime(Date.parse(date));
  if (!response.ok) {
    // Not, or no longer, logged in: the login page leads back here.
    if (response.status === 401)
      location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    let message = `${response.status} ${response.statusText}`;
    try {
      const body = (await response.json()) as { error?: string; hint?: string | null };
      if (body.error) message = body.hint ? `${body.error}; ${body.hint}` : body.error;
    } catch {
      // No JSON: the status line has to do.
    }
    throw new ApiError(response.status, message);
  }
  return (await response.json()) as T;
}

/** Whether an error only says that a newer request took the place of this one. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

/** An SQL text literal. */
export function text(value: string): string {
  return `'${value.replaceAll("'", "''")}'`;
}

export interface Filter {
  host: string;
  service: string;
  protocol: string;
  side: string;
}

/** SQL conditions of a filter; empty members are left out. */
export function where(filter: Partial<Filter>, ...more: string[]): string {
  const conditions = [];
  for (const name of ['host', 'service', 'protocol', 'side'] as const) {
    const value = filter[name];
    if (value) conditions.push(`${name} = ${text(value)}`);
  }
  return [...conditions, ...more.filter(Boolean)].join(' and ') || 'true';
}

/** SQL condition for a half-open range of moments. */
export function between(column: string, from: number, to: number): string {
  return `${column} >= ${text(utc(from))} and ${column} < ${text(utc(to))}`;
}

function parameters(values: Record<string, string | number | undefined>): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && value !== '') params.set(name, String(value));
  }
  return params.toString();
}

/** Rows of a read-only SQL query over the tables. */
export function query<T>(sql: string, signal?: AbortSignal): Promise<T[]> {
  return request<T[]>('/query', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ sql }),
    ...(signal ? { signal } : {}),
  });
}

/** Hitmap cells, their windows merged to columns of `step` ms. */
export function hitmap(
  range: { from: number; to: number },
  filter: Filter,
  step: number,
  signal: AbortSignal,
): Promise<Hitmap> {
  const params = parameters({ from: utc(range.from), to: utc(range.to), ...filter, step: `${step / 1000}s` });
  return request<Hitmap>(`/hitmap?${params}`, { signal });
}

export interface HitsQuery extends Filter {
  from: number;
  to: number;
  low: number;
  high: number;
  operation: string;
  errorsOnly: boolean;
  limit: number;
}

/** The conditions for the rows of `hits` in a range and latency range. */
export function hitConditions(wanted: Omit<HitsQuery, 'limit'>): string {
  return where(
    wanted,
    between('end_time', wanted.from, wanted.to),
    wanted.low > 0 ? `duration_ns >= ${wanted.low}` : '',
    Number.isFinite(wanted.high) ? `duration_ns < ${wanted.high}` : '',
    /^\d+$/.test(wanted.operation) ? `operation_id = ${wanted.operation}` : '',
    wanted.errorsOnly ? "status <> 'ok'" : '',
  );
}

/** Hits kept, slowest first. */
export function hits(wanted: HitsQuery, signal: AbortSignal): Promise<HitRow[]> {
  return query<HitRow>(
    `select * from hits where ${hitConditions(wanted)} order by duration_ns desc, end_time desc limit ${wanted.limit}`,
    signal,
  );
}

/** Every process of the interval that holds a moment. */
export function processes(at: number, host: string, signal: AbortSignal): Promise<Moment> {
  return request<Moment>(`/processes?${parameters({ at: utc(at), host })}`, { signal });
}

export const status = (signal?: AbortSignal): Promise<Status> => request('/status', signal ? { signal } : {});
export const cubes = (signal?: AbortSignal): Promise<Cubes> => request('/cubes', signal ? { signal } : {});
export const alerts = (signal?: AbortSignal): Promise<Alerts> => request('/alerts', signal ? { signal } : {});

/** Follows the live stream, whose messages hold the newest windows whole; the browser reconnects by itself. */
export function live(
  filter: Filter,
  message: (newest: Hitmap) => void,
  state: (connected: boolean) => void,
): () => void {
  const source = new EventSource(`${BASE}/live?${parameters({ ...filter })}`);
  source.onopen = () => state(true);
  source.onerror = () => state(false);
  source.onmessage = (event: MessageEvent<string>) => message(JSON.parse(event.data) as Hitmap);
  return () => source.close();
}

/** A moment of a row, in ms; 0 where it cannot be read. */
export function moment(value: string | number | null): number {
  return value === null ? 0 : (parseTime(String(value)) ?? 0);
}

/** One process over a range. */
export function processHistory(
  row: ProcessRow,
  range: { from: number; to: number },
  signal: AbortSignal,
): Promise<ProcessHistory> {
  const params = parameters({
    pid: row.pid,
    start_time: row.start_time,
    host: row.host,
    from: utc(range.from),
    to: utc(range.to),
  });
  return request<ProcessHistory>(`/processes/history?${params}`, { signal });
}
