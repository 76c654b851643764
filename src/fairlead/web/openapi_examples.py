# SPDX-License-Identifier: Apache-2.0
"""Bodies to try the interface with."""

from __future__ import annotations

from typing import Any

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/heat",
    "type": "org.example.state",
    "subject": "k1",
    "data": {"n": 1},
}
SUBSCRIPTION: dict[str, Any] = {
    "source": "/heat",
    "types": ["org.example.state"],
    "filters": [{"prefix": {"subject": "stack-"}}],
    "sink": "https://console.example/hook",
    "protocol": "HTTP",
    "config": {"retry": {"first": "1s", "max": "5m"}, "on_exhausted": "park"},
}
IMAGE: dict[str, Any] = {
    "target_image": {
        "_type": "TargetImage",
        "id": "22222222-2222-4222-8222-222222222222",
        "status": "COMPLETE",
        "target": "ec2",
        "parameters": {"callbacks": ["http://relay.example/bridges/imagefactory/target_images//42"]},
    }
}
