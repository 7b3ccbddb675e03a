// An HTTP server that counts its answers; `GET /counts` tells them and is not counted.
import { createServer } from 'node:http';

const counts = {};

const server = createServer((request, response) => {
  const [path] = request.url.split('?');
  if (path === '/counts') return response.end(JSON.stringify(counts));
  request.resume();
  request.on('end', () => {
    const status = path.startsWith('/broken') ? 500 : path.startsWith('/users/') ? 200 : path === '/upload' ? 201 : 404;
    const template = path.replace(/\/\d+/g, '/{id}');
    const key = `${request.method} ${template} ${status < 400 ? 'ok' : status}`;
    counts[key] = (counts[key] ?? 0) + 1;
    response.statusCode = status;
    if (path.endsWith('/chunked')) {
      response.write('a'.repeat(3000));
      response.write('b'.repeat(3000));
    }
    response.end('done\n');
  });
});

server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'));
