// Requests of HTTP/2 on one connection: each line of input is a list of method, path, how often and how many at a time;
// answered with the answers counted by method, path and status.
import { connect } from "node:http2";
import { createInterface } from "node:readline";

const session = connect(process.argv[2]);
session.on("error", () => {});

function request(method, path) {
  return new Promise((resolve) => {
    const stream = session.request({ ":method": method, ":path": path, authorization: "Bearer secret" });
    let status = "reset";
    stream.on("response", (headers) => (status = headers[":status"]));
    stream.on("error", () => (status = "reset"));
    stream.on("close", () => resolve(`${method} ${path.split("?")[0]} ${status}`));
    stream.resume();
    stream.end(method === "POST" ? "y".repeat(100_000) : undefined);
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const counts = {};
  for (const [method, path, times, atOnce] of JSON.parse(line)) {
    for (let first = 0; first < times; first += atOnce) {
      const together = Math.min(atOnce, times - first);
      const keys = await Promise.all(Array.from({ length: together }, (_, n) => request(method, `${path}?n=${n}`)));
      keys.forEach((key) => (counts[key] = (counts[key] ?? 0) + 1));
    }
  }
  console.log(JSON.stringify(counts));
}
session.close();
