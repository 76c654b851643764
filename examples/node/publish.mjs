// SPDX-License-Identifier: Apache-2.0
// Publishes one event with Node alone:
//
//     node publish.mjs http://127.0.0.1:3247 /heat org.example.state k1 '{"n":1}'
//
// A publish is safe to repeat: the relay knows source and id. So try again until it says 202; what it answers
// 400, 409 or 413 will never be taken.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const GONE_WRONG = new Set([400, 409, 413]);

async function attempt(url, request) {
  try {
    return await fetch(url, { ...request, redirect: "manual", signal: AbortSignal.timeout(35_000) });
  } catch (error) {
    console.error(`not reached: ${error.cause?.message ?? error.message}`);
    return null;
  }
}

async function publish(relay, event) {
  const headers = { "content-type": "application/cloudevents+json" };
  if (process.env.FAIRLEAD_API_KEY) headers.authorization = `Bearer ${process.env.FAIRLEAD_API_KEY}`;
  const request = { method: "POST", headers, body: JSON.stringify(event) };
  for (let pause = 500; ; pause = Math.min(pause * 2, 60_000)) {
    const answer = await attempt(`${relay}/events`, request);
    if (answer?.status === 202) return (await answer.json()).accepted[0];
    if (answer && GONE_WRONG.has(answer.status)) throw new Error(`refused: ${await answer.text()}`);
    if (answer) console.error(`answered ${answer.status}: ${await answer.text()}`);
    const wish = Number(answer?.headers.get("retry-after")) * 1000;
    await sleep(wish || pause * (0.5 + Math.random() / 2));
  }
}

const [relay, source, type, subject, data] = process.argv.slice(2);
if (data === undefined) {
  console.error("usage: node publish.mjs RELAY SOURCE TYPE SUBJECT DATA_JSON");
  process.exit(2);
}
const event = {
  specversion: "1.0", id: randomUUID(), source, type, subject,
  datacontenttype: "application/json", data: JSON.parse(data),
};
try {
  console.log(JSON.stringify(await publish(relay, event)));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
