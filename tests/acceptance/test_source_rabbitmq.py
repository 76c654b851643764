# SPDX-License-Identifier: Apache-2.0
"""Events from RabbitMQ's queues through a real relay: nothing lost, in order, whatever dies in between."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.api import Api, event
from tests.acceptance.queues import (
    Sender,
    events,
    properties,
    source,
    states,
    structured,
    taken,
    taking,
    until_listed,
    until_state,
    until_taken,
)
from tests.acceptance.relay_process import environment, run
from tests.acceptance.waiting import free_port, until
from tests.servers.mute_cable import MuteCable
from tests.servers.rabbitmq import RabbitNode, RabbitNodes, settled_declares


@pytest.fixture
def sender(rabbitmq: RabbitNode) -> Sender:
    """A virtual host of the test's own with a queue `in`."""
    sender = Sender(rabbitmq, rabbitmq.add_vhost())
    sender.declare("in")
    return sender


def ids(count: int, key: str = "k1") -> list[str]:
    return [f"{key}-{number}" for number in range(count)]


def rejects(api: Api, name: str = "in") -> list[dict[str, Any]]:
    return list(api.items("/rejects", source=name))


def test_every_mode_becomes_events_in_the_order_of_the_queue(
    rabbitmq: RabbitNode, sender: Sender, tmp_path: Path
) -> None:
    binary = {"cloudEvents_specversion": "1.0", "cloudEvents_id": "k1-1", "cloudEvents_source": "/heat",
              "cloudEvents_type": "t", "cloudEvents_subject": "k1", "cloudEvents:count": 7}  # fmt: skip
    sender.send(
        "in",
        structured(event(0)),
        (b'{"n": 1.50}', properties("application/json", headers=binary)),
        (json.dumps([event(2), event(3)]).encode(), properties("application/cloudevents-batch+json")),
        (json.dumps(event(4)).encode(), properties()),
    )
    with taking(tmp_path, source(rabbitmq.url(sender.vhost), "in")) as relay:
        assert until_taken(relay.api, 5) == ids(5)
        one = next(item["event"] for item in relay.api.items("/events", source="/heat", id="k1-1"))
        assert (one["count"], one["datacontenttype"]) == (7, "application/json")
        assert until_state(relay.api, "up")["accepted"] == 5
        metrics = relay.api.call("GET", "/metrics").body.decode()
        assert 'fairlead_source_accepted_total{source="in"} 5' in metrics
        sender.send("in", *events(100, 5))
        assert until_taken(relay.api, 105) == ids(105)
        assert relay.stop() == 0
    assert sender.waiting("in") == 0


def test_plain_json_is_mapped_and_a_mended_mapping_takes_the_rejects(
    rabbitmq: RabbitNode, sender: Sender, tmp_path: Path
) -> None:
    bodies = [{"instance": {"id": "i-7"}, "no": number, "what": "made"} for number in range(3)]
    sender.send("in", *((json.dumps(body).encode(), properties("application/json")) for body in bodies))
    keys = {"format": "json", "source": "/legacy", "type": "/what", "id": "/no"}
    url = rabbitmq.url(sender.vhost)
    with taking(tmp_path, source(url, "in", subject="/instance/uuid", **keys)) as relay:
        kept = until_listed(lambda: rejects(relay.api), 3)
        assert [json.loads(base64.b64decode(one["body_base64"])) for one in kept] == bodies
        assert 'at "/instance/uuid" there is nothing' in kept[0]["reason"]
        assert kept[0]["headers"][":content-type"] == "application/json"
        where = f"/rejects/{kept[0]['id']}/replay"
        assert "there is nothing" in relay.api.call("POST", where).must(422)["detail"]
    with taking(tmp_path, source(url, "in", subject="/instance/id", **keys)) as relay:
        for one in kept[:2]:
            answer = relay.api.call("POST", f"/rejects/{one['id']}/replay").must(202)
            assert answer["accepted"][0]["source"] == "/legacy"
        relay.api.call("DELETE", f"/rejects/{kept[2]['id']}").must(204)
        assert rejects(relay.api) == []
        assert taken(relay.api, "/legacy i-7") == ["0", "1"]


def test_poison_in_the_middle_is_kept_and_its_neighbours_pass(
    rabbitmq: RabbitNode, sender: Sender, tmp_path: Path
) -> None:
    attributes = {"cloudEvents_specversion": "1.0", "cloudEvents_id": "x", "cloudEvents_source": "/heat"}
    sender.send(
        "in",
        *events(2),
        (b"", properties()),
        (b"\xff\x00", properties("application/cloudevents+json")),
        (b"hello", properties("text/plain")),
        (b"", properties(headers={**attributes, "cloudEvents_type": {"a": [1, None]}})),
        structured(event(1, data={"other": "content"})),
        (b'{"big": "' + b"x" * 50 * 1024 * 1024 + b'"}', properties("application/cloudevents+json")),
        *events(2, 2),
    )
    with taking(tmp_path, source(rabbitmq.url(sender.vhost), "in")) as relay:
        assert until_taken(relay.api, 4) == ids(4)
        kept = until_listed(lambda: rejects(relay.api), 6)
        found = [one["reason"].partition(":")[0] for one in kept]
        assert found == [
            "malformed-json", "malformed-json", "unsupported-media-type", "invalid-event", "event-conflict",
            "too-large",
        ]  # fmt: skip
        large = kept[found.index("too-large")]
        assert large["size_bytes"] == 50 * 1024 * 1024 + 11
        assert len(base64.b64decode(large["body_base64"])) == 1024 * 1024
        assert "only the first 1048576 of its" in large["reason"]
        for one in kept:
            relay.api.call("POST", f"/rejects/{one['id']}/replay").must(422)
        assert len(rejects(relay.api)) == 6
        until(lambda: sender.waiting("in") == 0, "the queue is empty")


def test_a_kill_between_accept_and_acknowledgement_loses_nothing_and_repeats_nothing(
    rabbitmq: RabbitNode, sender: Sender, tmp_path: Path
) -> None:
    with MuteCable(rabbitmq.port) as cable:
        url = f"amqp://127.0.0.1:{cable.port}/{sender.vhost}"
        with taking(tmp_path, source(url, "in", prefetch=50)) as relay:
            until_state(relay.api, "up")
            cable.mute()  # acknowledgements are lost from now on
            sender.send("in", *events(120))
            assert until_taken(relay.api, 50) == ids(50)  # prefetch: no more until they are acknowledged
            relay.kill()
    with taking(tmp_path, source(rabbitmq.url(sender.vhost), "in")) as relay:
        assert until_taken(relay.api, 120) == ids(120)
        until(lambda: sender.waiting("in") == 0, "the queue is empty")
        state = states(relay.api)["in"]
        assert (state["accepted"], state["duplicates"]) == (70, 50)
        assert rejects(relay.api) == []


def test_a_stop_does_not_wait_for_a_broker_that_hears_nothing(
    rabbitmq: RabbitNode, sender: Sender, tmp_path: Path
) -> None:
    with MuteCable(rabbitmq.port) as cable:
        url = f"amqp://127.0.0.1:{cable.port}/{sender.vhost}"
        with taking(tmp_path, source(url, "in")) as relay:
            until_state(relay.api, "up")
            cable.mute()
            sender.send("in", *events(10))
            assert until_taken(relay.api, 10) == ids(10)
            assert relay.stop() == 0


def test_kills_in_the_middle_lose_nothing(rabbitmq: RabbitNode, sender: Sender, tmp_path: Path) -> None:
    total = 4000
    sender.send("in", *events(total))
    with taking(tmp_path, source(rabbitmq.url(sender.vhost), "in", prefetch=20)) as relay:
        for _ in range(6):
            until(lambda: states(relay.api)["in"]["accepted"] >= 100, "some are taken")
            relay.kill()
            assert sender.waiting("in") > 0, "it was killed too late to show anything"
            relay.start()
        assert until_taken(relay.api, total) == ids(total)
        until(lambda: sender.waiting("in") == 0, "the queue is empty")


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(
    rabbitmq_nodes: RabbitNodes, tmp_path: Path
) -> None:
    node = rabbitmq_nodes.node()
    sender = Sender(node, node.add_vhost())
    # As Fairlead makes it. A killed broker serves the next consumer of any other queue before it has put back
    # what the last one had: a prefetch of later messages comes first.
    sender.declare("in", single_active=True)
    settled_declares()
    sender.send("in", *events(300))
    with taking(tmp_path, source(node.url(sender.vhost), "in", prefetch=10)) as relay:
        until(lambda: len(taken(relay.api)) >= 50, "some are taken")
        node.kill()
        down = until_state(relay.api, "down")
        assert down["detail"]
        node.start()
        sender.send("in", *events(100, 300))
        assert until_taken(relay.api, 400) == ids(400)
        until_state(relay.api, "up")


def test_while_the_store_is_full_the_queue_keeps_everything(
    rabbitmq: RabbitNode, sender: Sender, tmp_path: Path
) -> None:
    sender.send("in", *events(3), (b"poison", properties("text/plain")), *events(3, 3))
    one = source(rabbitmq.url(sender.vhost), "in", prefetch=2)
    with taking(tmp_path, one, config='[store_options]\ndisk_reserve = "1000TiB"\n') as relay:
        waiting = until_state(relay.api, "waiting")
        assert waiting["detail"].startswith("store-full: ")
        assert taken(relay.api) == []
        assert relay.stop() == 0  # it does not wait for room
    with taking(tmp_path, one) as relay:
        assert until_taken(relay.api, 6) == ids(6)
        assert len(until_listed(lambda: rejects(relay.api), 1)) == 1


def test_what_is_wrong_with_the_broker_is_said_and_tried_again(
    rabbitmq: RabbitNode, sender: Sender, tmp_path: Path
) -> None:
    (tmp_path / "login").write_text("relay:pass-w0rd\n")
    (tmp_path / "login").chmod(0o600)
    here, nowhere = rabbitmq.url(sender.vhost), "amqp://127.0.0.1:1/"
    with taking(
        tmp_path,
        source(here, "later", "missing"),
        source(here, "in", "login", credential_file="login"),
        source(rabbitmq.url("no-such-host"), "in", "vhost"),
        source(nowhere, "in", "refused"),
        source(here, "made", "made", declare=True),
    ) as relay:
        api = relay.api
        until_state(api, "up", "made")
        causes = {"missing": "404 NOT_FOUND", "login": "login", "vhost": "no-such-host", "refused": "refused"}

        def said() -> bool:
            seen = states(api)
            return all(
                seen[name]["state"] == "down" and words in seen[name]["detail"]
                for name, words in causes.items()
            )

        until(said, lambda: f"each says what is wrong: {states(api)}")
        assert "pass-w0rd" not in str(states(api)) + relay.said
        rabbitmq.add_user("relay", "pass-w0rd", sender.vhost)
        rabbitmq.add_vhost("no-such-host")
        Sender(rabbitmq, "no-such-host").declare("in")
        sender.declare("later")
        for name in ("missing", "login", "vhost"):
            until_state(api, "up", name)
        sender.send("made", *events(1))
        assert until_taken(api, 1) == ids(1)
        assert states(api)["refused"]["state"] == "down"


def test_doctor_names_the_source_that_is_down(rabbitmq: RabbitNode, sender: Sender, tmp_path: Path) -> None:
    sender.send("in", *events(2), (b"poison", properties("text/plain")))
    here = rabbitmq.url(sender.vhost)
    with taking(tmp_path, source(here, "in"), source(here, "none", "missing")) as relay:
        until_taken(relay.api, 2)
        until_listed(lambda: rejects(relay.api), 1)
        until(lambda: "404" in states(relay.api)["missing"]["detail"], "it is known to be missing")
        done = run("doctor", "--url", f"http://127.0.0.1:{relay.port}", "--json", folder=tmp_path)
        found = {(one["check"], one["state"]): one["detail"] for one in done.document["findings"]}
        assert done.code == 1
        assert found["source in", "ok"] == "up, 2 events taken, 1 rejected"
        assert "404" in found["source missing", "wrong"]
        assert ("source in", "warning") in found


def test_without_the_library_everything_else_works_and_a_source_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "fairlead.toml").write_text(source("amqp://127.0.0.1/", "in"))
    without = "import sys; sys.modules['pika'] = None; from fairlead.cli import main; main()"
    for command in ("serve", "config check"):
        done = subprocess.run(
            [sys.executable, "-c", without, *command.split()],
            cwd=tmp_path,
            env=environment({"FAIRLEAD_LISTEN": f"127.0.0.1:{free_port()}"}),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 5, done
        assert "pip install 'fairlead[amqp]'" in done.stderr
        assert "Traceback" not in done.stderr
    nothing = "import sys, fairlead.wiring, fairlead.cli; sys.exit('pika' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", nothing], check=False).returncode == 0


def test_a_credential_that_others_may_read_is_allowed_but_not_silently(tmp_path: Path) -> None:
    (tmp_path / "fairlead.toml").write_text(source("amqp://127.0.0.1/", "in", credential_file="login"))
    done = run("config", "check", folder=tmp_path)
    assert done.code == 5
    assert "[[source]] in: credential_file: login cannot be read: No such file or directory" in done.err
    (tmp_path / "login").write_text("sesame")
    assert "sesame" not in run("config", "check", folder=tmp_path).err
    (tmp_path / "login").write_text("relay:sesame")
    (tmp_path / "login").chmod(0o644)
    done = run("config", "check", folder=tmp_path)
    assert (done.code, "may read login: chmod 600 login" in done.err, "sesame" in done.err) == (
        0,
        True,
        False,
    )
