/** What each loss counter means, in a plain sentence. */

const SENTENCES: Record<string, string> = {
  segment_ring_full:
    'The ring buffer between kernel and collector was full: parts of conversations did not arrive. A larger `probes.ring_buffer_bytes` helps.',
  event_ring_full:
    'The ring buffer was full: the start or end of a process or connection was not told at once. A larger `probes.ring_buffer_bytes` helps.',
  syscall_map_full: 'The kernel map of syscall counts was full: some counts are missing. Raise `probes.max_syscalls`.',
  process_map_full:
    'The kernel map of processes was full: exact times of some processes are missing. Raise `probes.max_processes`.',
  thread_map_full: 'The kernel map of threads was full: the times of some threads are missing.',
  thread_slot_taken: "A thread's entry was taken by another during a syscall: that syscall was not counted.",
  buffer_unreadable:
    "An application's buffer was paged out and could not be read: that part of a conversation is missing.",
  vector_too_long: 'One call moved more buffers or messages than are followed: the rest of that call was not read.',
  socket_map_full: 'The kernel map of sockets was full: some connections were not traced. Raise `probes.max_sockets`.',
  unexpected_message:
    'A connection said something that does not belong there, mostly after lost bytes: the decoder went on at the next message it knew.',
  statement_evicted:
    'A connection prepared more statements than are remembered: later uses of the oldest show as `<unresolved>`. Raise `collector.connection_bytes`.',
  portal_evicted:
    'A connection opened more portals than are remembered: their hits may show as `<unresolved>`. Raise `collector.connection_bytes`.',
  pipeline_full:
    'A connection had more requests on their way than are followed: the next ones were not timed. Raise `collector.connection_bytes`.',
  answer_missed: 'The answer to a request was not seen: there is no hit for it.',
  answer_incomplete: 'Part of an answer was not seen: the hit stands, but its rows or status may be missing.',
  request_missed: 'The request of an answer was not seen: there is no hit for it.',
  encrypted_unreadable:
    'Encrypted connections of processes whose TLS library cannot be looked into (Java, Go, rustls, …) were not read; the notes name the processes.',
  operations_over_limit:
    'More different operations came in one window than are kept apart: the others are counted together as `<other>`. Raise `collector.max_operations`.',
  process_events_over_limit:
    'More processes started or ended than are told one by one in the table `events`; their samples are complete. Raise `collector.events_per_second`.',
  connections_over_limit:
    'More connections were open than are decoded: the others were not read. Raise `collector.max_connections`.',
  samples_late: 'A sample of the processes came late, because the collector had no CPU: that interval is longer.',
};

export function explain(reason: string): string {
  const table = /^history_(.+)$/.exec(reason)?.[1];
  if (table) return `Rows of the table \`${table}\` could not be written: the disk was full or failed.`;
  return SENTENCES[reason] ?? 'Something was seen but not kept; the name tells where.';
}
