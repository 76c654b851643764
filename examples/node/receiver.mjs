// SPDX-License-Identifier: Apache-2.0
// A correct receiver with Node alone:
//
//     FAIRLEAD_SECRET=whsec_… node receiver.mjs 8080
//
// It verifies each delivery (Standard Webhooks), ignores what is older than what it has, and says 204 only
// when what it did is on disk. Each event that it takes is printed as one line of JSON.

import { createHmac, timingSafeEqual } from "node:crypto";
import { existsSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { createServer } from "node:http";

const TOLERANCE_SECONDS = 300;
const MAX_BODY_BYTES = 8 * 1024 * 1024;
const secrets = process.env.FAIRLEAD_SECRET.split(/\s+/).map((secret) =>
  Buffer.from(secret.replace(/^whsec_/, ""), "base64"),
);

// What was taken: the newest [generation, position] of each subscription and key, a line of JSON each time.
const file = process.env.SEEN_FILE ?? "seen.jsonl";
const seen = new Map();
for (const line of existsSync(file) ? readFileSync(file, "utf8").split("\n") : []) {
  if (line.endsWith("]")) seen.set(...JSON.parse(line)); // the last line may have been cut by a crash
}
const journal = openSync(file, "a");

function genuine(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": time, "webhook-signature": signatures } = headers;
  if (!id || !/^\d+$/.test(time ?? "")) return false;
  if (Math.abs(Date.now() / 1000 - Number(time)) > TOLERANCE_SECONDS) return false;
  const given = (signatures ?? "").split(" ").filter((part) => part.startsWith("v1,"));
  return secrets.some((secret) => {
    const wanted = createHmac("sha256", secret).update(`${id}.${time}.`).update(body).digest();
    return given.some((part) => {
      const signature = Buffer.from(part.slice(3), "base64");
      return signature.length === wanted.length && timingSafeEqual(signature, wanted);
    });
  });
}

// The ordering key: what belongs to one resource.
const keyOf = ({ partitionkey, source, subject }) =>
  partitionkey ?? (subject === undefined ? source : `${source} ${subject}`);

function take(event) {
  console.log(JSON.stringify({ key: keyOf(event), position: event.flpos, data: event.data }));
}

function answer(method, headers, body) {
  if (method !== "POST") return 405;
  if (!genuine(headers, body)) return 401;
  if (!(headers["content-type"] ?? "").startsWith("application/cloudevents+json")) return 415;
  const event = JSON.parse(body);
  const place = `${event.flsubscription}\n${keyOf(event)}`;
  const [generation, position] = seen.get(place) ?? [0, 0];
  const mine = [Number(event.flgeneration), Number(event.flpos)];
  if (mine[0] < generation || (mine[0] === generation && mine[1] <= position)) return 204; // older: ignore it
  take(event);
  seen.set(place, mine);
  writeSync(journal, JSON.stringify([place, mine]) + "\n");
  fsyncSync(journal);
  return 204;
}

const server = createServer((request, response) => {
  const chunks = [];
  let size = 0;
  request.on("data", (chunk) => {
    size += chunk.length;
    if (size <= MAX_BODY_BYTES) chunks.push(chunk);
  });
  request.on("end", () => {
    let status = 413;
    try {
      if (size <= MAX_BODY_BYTES) status = answer(request.method, request.headers, Buffer.concat(chunks));
    } catch (error) {
      status = error instanceof SyntaxError ? 400 : 503; // 503: again, later
      console.error(error.message);
    }
    response.writeHead(status).end();
  });
});
server.listen(Number(process.argv[2] ?? 8080), "127.0.0.1", () => {
  console.error(`listening on http://127.0.0.1:${server.address().port}`);
});
