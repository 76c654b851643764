# SPDX-License-Identifier: Apache-2.0
"""A service of OpenStack's kind: notifies by the real oslo.messaging, as its command line says.

python -m tests.acceptance.oslo_service '{"url":"rabbit://…","driver":"messagingv2","sends":[["info","compute.instance.create.start",{"instance_id":"i-1"}]]}'
"""

from __future__ import annotations

import json
import sys

import oslo_messaging
from oslo_config import cfg


def main(options: str) -> None:
    """Send every notification, one after the other."""
    wanted = json.loads(options)
    conf = cfg.ConfigOpts()
    conf([], project="service")
    transport = oslo_messaging.get_notification_transport(conf, url=wanted["url"])
    conf.set_override("amqp_durable_queues", True, group="oslo_messaging_rabbit")
    notifier = oslo_messaging.Notifier(
        transport, publisher_id="compute.node-1", driver=wanted["driver"], topics=["notifications"]
    )
    for priority, event_type, payload in wanted["sends"]:
        getattr(notifier, priority)({"request_id": "r-1", "auth_token": "s3cret"}, event_type, payload)
    transport.cleanup()
    print("sent")


if __name__ == "__main__":
    main(sys.argv[1])
