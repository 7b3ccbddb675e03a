// A server of HTTP/2 in plain text; says its port, and serves until its input ends.
import { createServer } from "node:http2";

const server = createServer();
server.on("stream", (stream, headers) => {
  const path = headers[":path"].split("?")[0];
  stream.on("error", () => {});
  if (path === "/reset") {
    stream.close(2);
  } else if (path === "/large") {
    stream.respond({ ":status": 200, "content-type": "text/plain" });
    stream.end("x".repeat(300_000));
  } else if (path === "/upload") {
    let bytes = 0;
    stream.on("data", (data) => (bytes += data.length));
    stream.on("end", () => {
      stream.respond({ ":status": 201, "x-bytes": bytes });
      stream.end("done");
    });
  } else {
    const status = path.startsWith("/missing") ? 404 : path === "/broken" ? 503 : 200;
    stream.respond({ ":status": status, "x-path": path });
    stream.end("hello");
  }
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
process.stdin.on("end", () => process.exit(0)).resume();
