# SPDX-License-Identifier: Apache-2.0
"""Standard Webhooks on the wire: what a whole relay sends, and what it makes of answers (conformance.md)."""

from __future__ import annotations

import base64
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.contract.api_scene import event, play, relay
from tests.contract.wire_scene import TAKEN, Hook, answer, receiver, shows, soon, subscribe

AT = "/subscriptions/s"


# -- headers and signatures ---------------------------------------------------------------------------------


def test_a_delivery_has_the_three_headers_once_and_its_bytes_are_those_signed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            secret = (await subscribe(api, sink.url))["config"]["secret"]
            before = int(time.time())
            await api.publish(event(data={"text": 'ä \u2028 "q"', "n": 1.50}))
            (hook,) = await sink.until(1)
            names = [line.partition(":")[0].lower() for line in hook.lines]
            for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
                assert names.count(name) == 1
            assert hook.headers["webhook-timestamp"].isdigit()
            assert before <= int(hook.headers["webhook-timestamp"]) <= time.time()
            assert "." not in hook.headers["webhook-id"]
            assert hook.signed_by(secret)

    play(scene())


def test_a_secret_made_here_is_whsec_and_base64_of_24_to_64_bytes(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            secret = (await subscribe(api, sink.url))["config"]["secret"]
            assert secret.startswith("whsec_")
            assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64

    play(scene())


def test_an_asymmetric_signature_is_ed25519_with_keys_whsk_and_whpk(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            made = await subscribe(api, sink.url, config={"signature": "v1a"})
            assert made["config"]["secret"].startswith("whsk_")
            assert made["config"]["answer_secret"].startswith("whsec_")
            public = made["status"]["public_key"]
            assert public.startswith("whpk_")
            await api.publish(event())
            (hook,) = await sink.until(1)
            version, _, signature = hook.headers["webhook-signature"].partition(",")
            assert version == "v1a"
            named = hook.headers
            content = f"{named['webhook-id']}.{named['webhook-timestamp']}.".encode() + hook.body
            key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
            key.verify(base64.b64decode(signature), content)

    play(scene())


def test_every_subscription_has_a_secret_of_its_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink, receiver() as other:
            ours = (await subscribe(api, sink.url, "a"))["config"]["secret"]
            theirs = (await subscribe(api, other.url, "b"))["config"]["secret"]
            assert ours != theirs
            await api.publish(event())
            (to_us,), (to_them,) = await sink.until(1), await other.until(1)
            assert (to_us.signed_by(ours), to_us.signed_by(theirs)) == (True, False)
            assert (to_them.signed_by(theirs), to_them.signed_by(ours)) == (True, False)

    play(scene())


def test_a_rotation_signs_with_both_secrets_until_the_overlap_ends(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            old = (await subscribe(api, sink.url))["config"]["secret"]
            rotated = (await api.post(f"{AT}/secret", {"secret": None})).json
            until = datetime.fromisoformat(rotated["previous_until"]).timestamp()
            assert abs(until - time.time() - 86_400) < 600
            await api.publish(event("a"))
            (hook,) = await sink.until(1)
            assert len(hook.headers["webhook-signature"].split(" ")) == 2
            assert hook.signed_by(old)
            assert hook.signed_by(rotated["secret"])
            now = api.server._clock.now
            api.server._clock.now = lambda: now() + 86_401
            await api.publish(event("b"))
            later = (await sink.until(2))[1]
            assert (later.signed_by(old), later.signed_by(rotated["secret"])) == (False, True)

    play(scene())


def test_a_retry_has_the_same_id_and_a_timestamp_of_its_own(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver(answer(500), TAKEN) as sink:
            made = await subscribe(api, sink.url, config={"retry": {"first": "1h", "max": "1h"}})
            await api.publish(event())
            await sink.until(1)
            await shows(api, f"{AT}/lanes", lambda page: page["counts"]["held"] == 1)
            now = api.server._clock.now
            api.server._clock.now = lambda: now() + 100
            assert (await api.post(f"{AT}/lanes/retry", {"key": "/heat k1"})).json == {"affected": 1}
            first, again = await sink.until(2)
            assert first.headers["webhook-id"] == again.headers["webhook-id"]
            gone_by = int(again.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"])
            assert 100 <= gone_by < 200
            assert again.signed_by(made["config"]["secret"])
            assert first.body == again.body

    play(scene())


# -- answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success_and_nothing_comes_again(tmp_path: Path, status: int) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver(answer(status)) as sink:
            await subscribe(api, sink.url, config=soon())
            await api.publish(event("a"), event("b"))
            assert [hook.event["id"] for hook in await sink.until(2)] == ["a", "b"]
            await shows(api, AT, lambda one: one["status"]["lag_events"] == 0)
            assert len(sink.got) == 2

    play(scene())


@pytest.mark.parametrize("status", [300, 304, 401, 403, 404, 409, 425, 500, 502, 504])
def test_nothing_but_2xx_is_success_and_the_event_comes_again(tmp_path: Path, status: int) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver(answer(status), TAKEN) as sink:
            await subscribe(api, sink.url, config=soon())
            await api.publish(event("a"), event("b"))
            assert [hook.event["id"] for hook in await sink.until(3)] == ["a", "a", "b"]
            page = await shows(api, f"{AT}/attempts", lambda page: len(page["items"]) == 3)
            first = min(page["items"], key=lambda one: (one["position"], one["attempt"]))
            assert (first["outcome"], first["status"]) == ("unavailable", status)

    play(scene())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(tmp_path: Path, status: int) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as elsewhere, receiver() as sink:
            sink.answers(answer(status, location=elsewhere.url), TAKEN)
            await subscribe(api, sink.url, config=soon())
            await api.publish(event())
            assert [hook.target for hook in await sink.until(2)] == ["/hook", "/hook"]
            assert elsewhere.got == []

    play(scene())


def test_410_disables_the_subscription_and_keeps_its_events(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver(answer(410), TAKEN) as sink:
            await subscribe(api, sink.url, config=soon())
            await api.publish(event("a"))
            shown = await shows(api, AT, lambda one: one["status"]["state"] == "disabled")
            assert shown["status"]["reason"]
            shown = await shows(api, AT, lambda one: one["status"]["last_error"])
            assert shown["status"]["last_error"]["outcome"] == "gone"
            await api.publish(event("b"))
            shown = (await api.get(AT)).json
            assert (shown["status"]["state"], shown["status"]["lag_events"]) == ("disabled", 2)
            assert len(sink.got) == 1
            resumed = await api.post(f"{AT}/resume")
            assert resumed.json["status"]["state"] == "active"
            assert [hook.event["id"] for hook in (await sink.until(3))[1:]] == ["a", "b"]

    play(scene())


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed_in_full_and_costs_no_attempt(tmp_path: Path, status: int) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver(answer(status, retry_after="7200")) as sink:
            await subscribe(api, sink.url, config=soon(on_exhausted="park"))
            before = time.time()
            await api.publish(event("a"))
            page = await shows(api, f"{AT}/lanes", lambda page: page["items"])
            (lane,) = page["items"]
            assert lane["last_outcome"]["outcome"] == "throttled"
            assert lane["attempt"] == 0
            ready_at = datetime.fromisoformat(lane["ready_at"]).timestamp()
            assert before + 7200 <= ready_at <= time.time() + 7200 + 1

    play(scene())


def test_retry_after_is_obeyed_up_to_the_subscriptions_limit_also_as_a_date(tmp_path: Path) -> None:
    async def scene() -> None:
        for n, wait in enumerate(("999999999", "Fri, 01 Jan 2100 00:00:00 GMT")):
            (folder := tmp_path / str(n)).mkdir()
            async with relay(folder) as api, receiver(answer(503, retry_after=wait)) as sink:
                await subscribe(api, sink.url, config={"retry": {"max_retry_after": "1h"}})
                before = time.time()
                await api.publish(event())
                page = await shows(api, f"{AT}/lanes", lambda page: page["items"])
                ready_at = datetime.fromisoformat(page["items"][0]["ready_at"]).timestamp()
                assert before + 3600 <= ready_at <= time.time() + 3601

    play(scene())


def test_after_429_nothing_is_sent_before_the_time_that_was_asked_for(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver(answer(429, retry_after="1"), TAKEN) as sink:
            await subscribe(api, sink.url, config=soon(concurrency=1))
            await api.publish(event("a", subject="k1"), *(event(f"b{n}", subject=f"o{n}") for n in range(5)))
            first, *later = await sink.until(7)
            assert all(hook.at - first.at >= 0.9 for hook in later)  # of every resource: the sink said so

    play(scene())


def test_a_challenge_is_not_answered(tmp_path: Path) -> None:
    async def scene() -> None:
        refused = answer(401, www_authenticate='Digest realm="x", nonce="y", Negotiate')
        async with relay(tmp_path) as api, receiver(refused, refused, TAKEN) as sink:
            credential = {"credentialtype": "ACCESSTOKEN", "accesstoken": "t0k"}
            await subscribe(api, sink.url, config=soon(), sinkcredential=credential)
            await api.publish(event())
            hooks = await sink.until(3)
            assert {hook.headers["authorization"] for hook in hooks} == {"Bearer t0k"}

    play(scene())


# -- finding what failed, and sending it again --------------------------------------------------------------


def test_failures_are_listed_and_replayed_by_range(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            rejects = {"b"}

            def behave(hook: Hook) -> bytes:
                return answer(400) if hook.event["id"] in rejects else TAKEN

            sink.behave = behave
            await subscribe(api, sink.url, config=soon(on_exhausted="skip"))
            await api.publish(*(event(id) for id in "abc"))
            await shows(api, AT, lambda one: one["status"]["lag_events"] == 0)
            failed = await shows(api, f"{AT}/attempts", lambda page: page["items"], outcome="rejected")
            ((place,),) = [{(one["partition"], one["position"]) for one in failed["items"]}]
            (skip,) = (await api.get(f"{AT}/skips")).json["items"]
            assert (skip["id"], skip["reason"]) == ("b", "exhausted")
            assert (skip["partition"], skip["position"]) == place
            rejects.clear()
            seen = len(sink.posts)
            replay = {"position": {"partition": place[0], "position": place[1]}}
            assert (await api.post(f"{AT}/replay", replay)).json["events"] == 2
            assert [hook.event["id"] for hook in (await sink.until(seen + 2))[seen:]] == ["b", "c"]

    play(scene())


def test_long_failure_is_shown_and_stops_when_asked_to(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver(answer(500)) as sink:
            config = soon(on_exhausted="stop")
            config["retry"]["max_attempts"] = 3
            await subscribe(api, sink.url, config=config)
            await api.publish(event())
            shown = await shows(api, AT, lambda one: one["status"]["state"] == "stopped")
            assert shown["status"]["reason"]
            assert len(sink.got) == 3
            metrics = (await api.get("/metrics")).body.decode()
            assert 'fairlead_deliveries_total{subscription="s",outcome="unavailable"} 3' in metrics

    play(scene())


def test_the_default_timeout_and_schedule_are_those_that_are_advised(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink:
            config: dict[str, Any] = (await subscribe(api, sink.url))["config"]
            assert config["timeout"] == "15s"  # advised: 15 s to 30 s
            assert config["retry"]["jitter"] == "full"
            assert config["retry"]["give_up_after"] == "3d"  # advised: several days

    play(scene())


def test_many_receivers_each_get_every_event(tmp_path: Path) -> None:
    async def scene() -> None:
        async with relay(tmp_path) as api, receiver() as sink, receiver() as other:
            await subscribe(api, sink.url, "a")
            await subscribe(api, other.url, "b")
            await api.publish(event("1"), event("2"))
            for one in (sink, other):
                assert [hook.event["id"] for hook in await one.until(2)] == ["1", "2"]

    play(scene())
