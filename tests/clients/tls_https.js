// A web server over TLS: Node.js has OpenSSL linked in, and moves the bytes itself.
// Arguments: certificate, key. Prints its port; ends with its standard input.
'use strict';
const fs = require('node:fs');
const https = require('node:https');

const [cert, key] = process.argv.slice(1).filter((name) => name.endsWith('.crt') || name.endsWith('.key'));
const server = https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, (request, response) => {
  response.end(`${request.url}\n`.repeat(1000));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
