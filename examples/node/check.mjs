// SPDX-License-Identifier: Apache-2.0
// Checks a delivery with libraries that know nothing of Fairlead: `standardwebhooks` its signature,
// `cloudevents` its events. Reads {"secret", "headers", "body"} from standard input and prints the events.

import { readFileSync } from "node:fs";
import { HTTP } from "cloudevents";
import { Webhook } from "standardwebhooks";

const { secret, headers, body } = JSON.parse(readFileSync(0, "utf8"));
new Webhook(secret).verify(body, headers); // throws unless one signature is right and the time is near
const events = [HTTP.toEvent({ headers, body })].flat();
for (const event of events) event.validate();
console.log(JSON.stringify(events));
