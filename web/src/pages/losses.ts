/** What each loss counter means, in a plain sentence. */

/** By the start of the counter's name, the longest first. */
const SENTENCES: [string, string][] = [
  ['ring', 'The ring buffer between kernel and collector was full, so events were dropped. A larger `probes.ring_buffer_bytes` or more CPU for the collector helps.'],
  ['sockets', 'The kernel map of traced sockets was full; some connections were not traced. Raise `probes.max_sockets`.'],
  ['processes', 'The kernel map of processes was full; times of some processes are missing. Raise `probes.max_processes`.'],
  ['syscalls', 'The kernel map of syscall statistics was full; some are missing. Raise `probes.max_syscalls`.'],
  ['bytes', 'Parts of a conversation did not arrive; the decoder went on at the next message it recognised.'],
  ['gap', 'Parts of a conversation did not arrive; the decoder went on at the next message it recognised.'],
  ['connection', 'A connection needed more memory than it may have; what it was in the middle of was given up.'],
  ['queue', 'A queue inside the collector was full; rows were dropped so that its memory stays bounded.'],
  ['disk', 'The disk was full or failed; rows could not be written.'],
  ['write', 'The disk was full or failed; rows could not be written.'],
];

export function explain(reason: string): string {
  const name = reason.toLowerCase();
  const found = SENTENCES.find(([start]) => name.startsWith(start)) ?? SENTENCES.find(([part]) => name.includes(part));
  return found?.[1] ?? 'Something was seen but not kept; the name tells where.';
}
