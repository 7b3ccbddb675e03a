// Speaks Redis with itself over TLS: Node.js has OpenSSL linked in, and moves the bytes itself.
// Arguments: certificate, key. Waits for a line, then opens 4 connections, 5 commands each; prints the server's port first.
'use strict';
const fs = require('node:fs');
const tls = require('node:tls');

const [cert, key] = process.argv.slice(1).filter((name) => name.endsWith('.crt') || name.endsWith('.key'));
const server = tls.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, (socket) => {
  socket.on('data', () => socket.write('$2\r\nhi\r\n'));
  socket.on('error', () => {});
});

function ask(port, left, done) {
  const name = 'tls_node:1234';
  const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
  const send = () => socket.write(`*2\r\n$3\r\nGET\r\n$${name.length}\r\n${name}\r\n`);
  send();
  socket.on('data', () => (--left > 0 ? send() : socket.end(done)));
}

server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  console.log(port);
  process.stdin.on('data', () => {
    let open = 4;
    const done = () => --open === 0 && console.log('done');
    for (let number = 0; number < 4; number++) ask(port, 5, done);
  });
  process.stdin.on('end', () => process.exit(0));
});
