/** The table of processes: its columns, and what it makes of a row. */

import type { ProcessRow } from '../api.ts';
import { h } from '../dom.ts';
import { bytes, count, duration } from '../format.ts';
import type { Column } from '../table.ts';

export function processKey(row: ProcessRow): string {
  return `${row.host ?? ''} ${row.pid} ${row.start_time}${row.exited ? ' end' : ''}`;
}

/** CPU time of the interval in ns. */
export const cpu = (row: ProcessRow): number => row.cpu_user_ns + row.cpu_system_ns;

/** Bytes read from and sent to storage in the interval; `null` where not measured. */
export function disk(row: ProcessRow): number | null {
  return row.read_bytes === null && row.written_bytes === null
    ? null
    : (row.read_bytes ?? 0) + (row.written_bytes ?? 0);
}

/** Bytes received and sent over sockets in the interval; `null` where not measured. */
export function network(row: ProcessRow): number | null {
  return row.received_bytes === null && row.sent_bytes === null
    ? null
    : (row.received_bytes ?? 0) + (row.sent_bytes ?? 0);
}

const absent = (): HTMLElement => h('span', { class: 'muted', title: 'not measured' }, '–');
const zero = (text: string, value: number): Node | string => (value === 0 ? h('span', { class: 'faint' }, text) : text);

/** A percentage of one CPU. */
function share(ns: number, interval: number): string {
  const value = (ns / interval) * 100;
  return value === 0 ? '0' : value < 0.1 ? '<0.1' : value < 9.95 ? value.toFixed(1) : value.toFixed(0);
}

function rate(value: number | null, interval: number, title: string): Node | string {
  if (value === null) return absent();
  if (value === 0) return h('span', { class: 'faint' }, '0');
  return h('span', { title }, `${bytes((value * 1e9) / interval)}/s`);
}

/** Exit code as people read it: 0, a code, or the signal behind 128 and more. */
export function exit(code: number | null): string {
  if (code === null) return 'ended';
  const signals: Record<number, string> = {
    1: 'HUP',
    2: 'INT',
    3: 'QUIT',
    6: 'ABRT',
    7: 'BUS',
    8: 'FPE',
    9: 'KILL',
    11: 'SEGV',
    13: 'PIPE',
    14: 'ALRM',
    15: 'TERM',
    24: 'XCPU',
    31: 'SYS',
  };
  const signal = signals[code - 128];
  return signal ? `ended ${code} (SIG${signal})` : `ended ${code}`;
}

/** Columns for an interval of so many ns. */
export function columns(interval: number, mostCpu: number, severalHosts: boolean): Column<ProcessRow>[] {
  return [
    { id: 'pid', label: 'PID', number: true, class: 'mono', cell: (row) => String(row.pid), value: (row) => row.pid },
    {
      id: 'command',
      label: 'Process',
      class: 'grow',
      cell: (row) =>
        h(
          'span',
          { class: 'clip', title: row.arguments || row.command },
          h('b', {}, row.command),
          ' ',
          h('span', { class: 'muted mono' }, row.arguments),
        ),
      value: (row) => row.command,
    },
    { id: 'user', label: 'User', class: 'nowrap wide-only', cell: (row) => row.user, value: (row) => row.user },
    {
      id: 'service',
      label: 'Service',
      class: 'nowrap service-cell wider-only',
      cell: (row) => h('span', { class: 'clip', title: row.service }, severalHosts ? `${row.host}: ` : '', row.service),
      value: (row) => row.service,
    },
    {
      id: 'state',
      label: 'State',
      class: 'nowrap',
      cell: (row) =>
        row.exited
          ? h(
              'span',
              {
                class: row.exit_code === 0 ? 'ended' : 'ended bad',
                title: `lived ${duration(row.interval_ns)} of this interval`,
              },
              exit(row.exit_code),
            )
          : h('span', { class: row.state === 'running' ? '' : 'muted' }, row.state),
      value: (row) => (row.exited ? exit(row.exit_code) : row.state),
    },
    {
      id: 'cpu',
      label: 'CPU %',
      title: 'Of one CPU, user and kernel mode together, over the interval',
      number: true,
      class: 'meter-cell',
      cell: (row) => {
        const fill = h('span', { class: 'meter-fill' });
        fill.style.width = `${Math.min(100, (cpu(row) / Math.max(mostCpu, interval / 100)) * 100)}%`;
        return h(
          'span',
          { class: 'meter', title: `user ${duration(row.cpu_user_ns)}, system ${duration(row.cpu_system_ns)}` },
          h('span', { class: 'meter-bar' }, fill),
          zero(share(cpu(row), interval), cpu(row)),
        );
      },
      value: cpu,
    },
    {
      id: 'runqueue',
      label: 'Run queue %',
      title: 'Time that its threads waited for a CPU, of the interval',
      number: true,
      class: 'wide-only',
      cell: (row) => (row.runqueue_ns === null ? absent() : zero(share(row.runqueue_ns, interval), row.runqueue_ns)),
      value: (row) => row.runqueue_ns ?? -1,
    },
    {
      id: 'memory',
      label: 'Memory',
      title: 'Resident memory; of an ended process the largest of its life',
      number: true,
      class: 'nowrap',
      cell: (row) => {
        const extra = [
          row.pss_bytes === null ? '' : `proportional ${bytes(row.pss_bytes)}`,
          row.swap_bytes ? `swapped ${bytes(row.swap_bytes)}` : '',
        ];
        return h(
          'span',
          { title: extra.filter(Boolean).join(', ') || null },
          zero(bytes(row.rss_bytes), row.rss_bytes),
        );
      },
      value: (row) => row.rss_bytes,
    },
    {
      id: 'threads',
      label: 'Threads',
      number: true,
      class: 'wider-only',
      cell: (row) => count(row.threads),
      value: (row) => row.threads,
    },
    {
      id: 'io',
      label: 'Disk I/O',
      title: 'Read from and written to storage',
      number: true,
      class: 'nowrap',
      cell: (row) =>
        rate(disk(row), interval, `read ${bytes(row.read_bytes ?? 0)}, written ${bytes(row.written_bytes ?? 0)}`),
      value: (row) => disk(row) ?? -1,
    },
    {
      id: 'network',
      label: 'Network',
      title: 'Received and sent over sockets',
      number: true,
      class: 'nowrap wide-only',
      cell: (row) =>
        rate(network(row), interval, `received ${bytes(row.received_bytes ?? 0)}, sent ${bytes(row.sent_bytes ?? 0)}`),
      value: (row) => network(row) ?? -1,
    },
    {
      id: 'faults',
      label: 'Faults',
      title: 'Page faults with I/O',
      number: true,
      class: 'wider-only',
      cell: (row) => zero(count(row.major_faults), row.major_faults),
      value: (row) => row.major_faults,
    },
  ];
}

/** Whether a row matches the words of a filter: each must be in its pid, names or arguments. */
export function matches(row: ProcessRow, filter: string): boolean {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const hay =
    `${row.pid} ${row.command} ${row.arguments} ${row.user} ${row.service} ${row.exited ? exit(row.exit_code) : row.state}`.toLowerCase();
  return words.every((word) => hay.includes(word));
}
