# SPDX-License-Identifier: Apache-2.0
"""The command line against a real relay (interface, section 10)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.relay_process import PROGRAM, Program, RelayProcess, eventually, run
from tests.acceptance.waiting import DEADLINE_SECONDS, free_port, refused, until

KEY = "flk_" + "k" * 32
NOWHERE = "http://127.0.0.1:9/hook"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    with RelayProcess(tmp_path_factory.mktemp("relay")) as process:
        yield process


def send(relay: RelayProcess, source: str, subject: str, number: int) -> None:
    data = json.dumps({"n": number})
    done = relay.run("send", "--source", source, "--subject", subject, "--type", "t", "--data", data)
    assert done.code == 0, done


# -- serve ---------------------------------------------------------------------------------------------------


def test_the_ready_line_is_exact_and_the_first_line_of_standard_output(relay: RelayProcess) -> None:
    assert relay.out[0] == f"fairlead ready at {relay.url} (store sqlite:///fairlead.db, 0 subscriptions)"
    assert len(relay.out) == 1


def test_the_banner_says_how_to_send_and_receive(relay: RelayProcess) -> None:
    relay.expect(r"receive:.*listen --subscribe demo")
    relay.expect(r"send:.*send --source /demo")


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_is_graceful_and_ends_0(name: signal.Signals, tmp_path: Path) -> None:
    relay = RelayProcess(tmp_path).ready()
    assert relay.end(name) == 0
    assert not (tmp_path / "fairlead.db-wal").exists() or (tmp_path / "fairlead.db-wal").stat().st_size == 0


def test_a_terminal_that_closes_ends_no_relay_that_was_started_with_nohup(tmp_path: Path) -> None:
    port = free_port()
    command = ["nohup", PROGRAM, "serve", "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: process.poll() is not None or not refused(port), "it listens or ends")
    process.send_signal(signal.SIGHUP)
    assert run("subscriptions", "list", folder=tmp_path, FAIRLEAD_URL=f"http://127.0.0.1:{port}").code == 0
    process.terminate()
    assert process.wait(DEADLINE_SECONDS) == 0


def full_pipe() -> tuple[int, int]:
    """The two ends of a pipe that takes nothing until somebody reads it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b".")
    os.set_blocking(writing, True)
    return reading, writing


@pytest.mark.parametrize("ever_read", [True, False])
def test_a_ready_line_that_nobody_reads_yet_stops_nothing(ever_read: bool, tmp_path: Path) -> None:
    port = free_port()
    reading, writing = full_pipe()
    relay = RelayProcess(tmp_path, "--listen", f"127.0.0.1:{port}", stdout=writing)
    os.close(writing)
    relay.expect("INFO node started")
    relay.url = f"http://127.0.0.1:{port}"
    assert relay.run("subscriptions", "add", "s", "--sink", NOWHERE).code == 0
    with os.fdopen(reading) as reader:
        if ever_read:
            assert reader.readline().lstrip(".").startswith("fairlead ready at ")
        assert relay.end() == 0


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    reading, writing = full_pipe()
    relay = RelayProcess(tmp_path, FAIRLEAD_LOG_LEVEL="debug", stderr=writing).ready()
    assert relay.run("subscriptions", "add", "s", "--sink", NOWHERE).code == 0
    send(relay, "/a", "k", 1)
    assert relay.end() == 0
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("gone", ["full disk", "closed pipe"])
def test_a_start_that_cannot_say_anything_is_a_start(gone: str, tmp_path: Path) -> None:
    port = free_port()
    if gone == "full disk":
        out = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, out = os.pipe()
        os.close(reading)
    relay = RelayProcess(tmp_path, "--listen", f"127.0.0.1:{port}", stdout=out, stderr=out)
    os.close(out)
    until(lambda: relay.process.poll() is not None or not refused(port), "it listens or ends")
    relay.url = f"http://127.0.0.1:{port}"
    assert relay.run("subscriptions", "list").code == 0
    assert relay.end() == 0


def test_a_ready_line_that_cannot_be_written_is_in_the_log(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        relay = RelayProcess(tmp_path, stdout=full.fileno())
    relay.expect(r'WARNING standard output: No space left on device unsaid="fairlead ready at ')
    assert relay.end() == 0


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_stop_nothing(closing: str, tmp_path: Path) -> None:
    port = free_port()
    command = [PROGRAM, "serve", "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(["sh", "-c", f'exec "$@" {closing}', "sh", *command], cwd=tmp_path)
    until(lambda: process.poll() is not None or not refused(port), "it listens or ends")
    assert run("subscriptions", "list", folder=tmp_path, FAIRLEAD_URL=f"http://127.0.0.1:{port}").code == 0
    process.terminate()
    assert process.wait(DEADLINE_SECONDS) == 0


def test_what_was_accepted_survives_a_kill(tmp_path: Path) -> None:
    with RelayProcess(tmp_path) as first:
        assert first.run("subscriptions", "add", "s", "--sink", NOWHERE).code == 0
        send(first, "/a", "k", 1)
    with RelayProcess(tmp_path) as second:
        assert second.out[0].endswith("(store sqlite:///fairlead.db, 1 subscriptions)")
        (item,) = second.document("events", "--source", "/a")["items"]
        assert item["event"]["data"] == {"n": 1}


def test_a_bad_configuration_ends_5_with_file_line_key_and_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "fairlead.toml").write_text('[limits]\nevent_byte = "1MiB"\n')
    done = run("serve", folder=tmp_path)
    assert done.code == 5
    assert done.err == "fairlead.toml:2: [limits] event_byte: unknown key; did you mean event_bytes?\n"
    assert not (tmp_path / "fairlead.db").exists()


def test_other_addresses_than_loopback_need_a_login(tmp_path: Path) -> None:
    done = run("serve", "--listen", "0.0.0.0:0", folder=tmp_path)
    assert done.code == 5
    assert "bootstrap_key" in done.err
    with RelayProcess(tmp_path, "--listen", "0.0.0.0:0", FAIRLEAD_AUTH_BOOTSTRAP_KEY=KEY) as relay:
        assert relay.url.startswith("http://0.0.0.0:")


def test_a_store_that_is_open_already_ends_6(relay: RelayProcess) -> None:
    done = run("serve", "--listen", "127.0.0.1:0", folder=relay.folder)
    assert done.code == 6
    assert "fairlead.db" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_foreign_store_ends_6_and_is_not_touched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    before = (tmp_path / "other.db").read_bytes()
    done = run("serve", "--store", "sqlite:///other.db", "--listen", "127.0.0.1:0", folder=tmp_path)
    assert done.code == 6
    assert (tmp_path / "other.db").read_bytes() == before


def test_a_taken_port_ends_7(relay: RelayProcess, tmp_path: Path) -> None:
    done = run("serve", "--listen", relay.url.removeprefix("http://"), folder=tmp_path)
    assert done.code == 7
    assert "in use" in done.err


def test_a_variable_that_names_no_key_is_a_warning(tmp_path: Path) -> None:
    with RelayProcess(tmp_path, FAIRLEAD_LIMITS_EVENT_BYTE="1") as relay:
        relay.expect("did you mean FAIRLEAD_LIMITS_EVENT_BYTES")


def test_absolute_store_urls_have_four_slashes(tmp_path: Path) -> None:
    with RelayProcess(tmp_path, "--store", f"sqlite:///{tmp_path}/deep.db"):
        assert (tmp_path / "deep.db").exists()


# -- ends ----------------------------------------------------------------------------------------------------


def test_no_relay_ends_3(tmp_path: Path) -> None:
    done = run("status", "--url", "http://127.0.0.1:9", folder=tmp_path)
    assert (done.code, done.out) == (3, "")
    assert "no relay answers at http://127.0.0.1:9" in done.err
    assert "fairlead serve" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["send"],
        ["send", "--source"],
        ["replay", "x"],
        ["lanes", "skip", "x"],
        ["keys", "add", "x"],
        ["subscriptions", "set", "x"],
    ],
)
def test_wrong_usage_ends_2(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, folder=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fairlead")
    assert len(done.err.splitlines()) == 1
    assert "--help" in done.err


@pytest.mark.parametrize("arguments", [[], ["lanes"], ["keys"]])
def test_a_command_that_needs_another_shows_which_there_are_and_ends_2(
    arguments: list[str], tmp_path: Path
) -> None:
    done = run(*arguments, folder=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "Commands:" in done.err


def test_a_refusal_ends_1_and_says_what_where_and_what_to_do(relay: RelayProcess) -> None:
    done = relay.run("subscriptions", "add", "Bad_Name", "--sink", NOWHERE)
    assert (done.code, done.out) == (1, "")
    assert "refused" in done.err
    assert done.err.count("/id") == 1, "nothing is said twice"


def test_following_ends_130_when_interrupted(relay: RelayProcess) -> None:
    follower = Program(["events", "--follow", "--url", relay.url], relay.folder)
    send(relay, "/followed", "k", 1)
    send_more = 1

    def seen() -> bool:
        nonlocal send_more
        send_more += 1
        send(relay, "/followed", "k", send_more)
        return any("/followed" in line for line in follower.out)

    eventually(seen)
    assert follower.end(signal.SIGINT) == 130


def test_nothing_is_coloured_where_nobody_looks(relay: RelayProcess) -> None:
    done = relay.run("doctor", NO_COLOR="")
    assert "\x1b" not in done.out + done.err


# -- send and events -----------------------------------------------------------------------------------------


def test_one_event_is_sent_with_its_data_as_given(relay: RelayProcess) -> None:
    number = "1.50000000000000000001e+2"
    done = relay.run("send", "--source", "/one", "--type", "t", "--data", number, "--id", "1", "--json")
    assert done.document["accepted"][0]["duplicate"] is False
    listed = relay.run("events", "--source", "/one", "--id", "1", "--json")
    assert f'"data":{number}' in listed.out
    again = relay.run("send", "--source", "/one", "--type", "t", "--data", number, "--id", "1")
    assert "had it already" in again.out


def test_data_comes_from_a_file(relay: RelayProcess) -> None:
    (relay.folder / "data.json").write_text('{"big": true}')
    assert relay.run("send", "--source", "/file", "--type", "t", "--data", "@data.json").code == 0
    (item,) = relay.document("events", "--source", "/file")["items"]
    assert item["event"]["data"] == {"big": True}
    assert relay.run("send", "--source", "/file", "--type", "t", "--data", "@none.json").code == 2
    assert relay.run("send", "--source", "/file", "--type", "t", "--data", "{").code == 2


def test_ndjson_from_standard_input_is_sent_in_order(relay: RelayProcess) -> None:
    lines = "\n".join(json.dumps({"id": str(n), "subject": "k", "data": n}) for n in range(1200))
    done = relay.run("send", "-", "--source", "/nd", "--type", "t", stdin=lines)
    assert (done.code, done.out) == (0, "accepted 1200 events (0 of them the relay had already)\n")
    items = relay.document("events", "--key", "/nd k", "--limit", "1200")["items"]
    assert [item["event"]["data"] for item in items] == list(range(1200))
    again = relay.run("send", "-", "--source", "/nd", "--type", "t", stdin=lines)
    assert "1200 of them" in again.out


@pytest.mark.parametrize("form", ["array", "one", "lines"])
def test_a_file_holds_one_event_an_array_or_one_a_line(form: str, relay: RelayProcess) -> None:
    events = [{"id": f"{form}{n}", "source": f"/{form}", "type": "t"} for n in range(3)]
    text = {
        "array": json.dumps(events, indent=1),
        "one": json.dumps(events[0], indent=2),
        "lines": "\n".join(map(json.dumps, events)) + "\n\n",
    }[form]
    (relay.folder / "events.json").write_text(text)
    accepted = relay.document("send", "events.json")["accepted"]
    assert len(accepted) == (1 if form == "one" else 3)


def test_a_bad_line_is_named(relay: RelayProcess) -> None:
    lines = '{"id":"1","source":"/x","type":"t"}\n{"id":"2","source":"/x","type":7}\n'
    done = relay.run("send", "-", stdin=lines)
    assert done.code == 1
    assert "line 2" in done.err
    done = relay.run("send", "-", stdin='{"id":"1","source":"/x","type":"t"}\n{"id"\n')
    assert done.code == 1
    assert "standard input:2" in done.err


# -- subscriptions -------------------------------------------------------------------------------------------


def test_a_subscription_s_life(relay: RelayProcess) -> None:
    added = relay.run("subscriptions", "add", "life", "--sink", NOWHERE, "--source", "/life", "--type", "t")
    assert added.code == 0
    assert "secret: whsec_" in added.out
    taken = relay.run("subscriptions", "add", "life", "--sink", NOWHERE)
    assert taken.code == 1
    assert "fairlead subscriptions set life" in taken.err
    shown = relay.document("subscriptions", "show", "life")
    assert (shown["source"], shown["types"]) == ("/life", ["t"])
    assert "secret" not in shown["config"]
    (line,) = [one for one in relay.run("subscriptions", "list").out.splitlines() if one.startswith("life")]
    assert line.split() == ["life", "active", NOWHERE, "/life", "t", "-"], "no filter"
    assert relay.run("subscriptions", "set", "life", "--config", '{"timeout":"3s"}').code == 0
    changed = relay.document("subscriptions", "show", "life")
    assert (changed["config"]["timeout"], changed["source"]) == ("3s", "/life")
    assert "paused" in relay.run("subscriptions", "pause", "life").out
    assert [one["id"] for one in relay.document("subscriptions", "list", "--state", "paused")["items"]] == [
        "life"
    ]
    assert "active" in relay.run("subscriptions", "resume", "life").out
    assert relay.run("subscriptions", "list", "--state", "stopped").err == "no subscription is stopped\n"
    assert relay.document("subscriptions", "secret", "life")["secret"].startswith("whsec_")
    assert "the one before signs too until 2" in relay.run("subscriptions", "secret", "life").out
    assert relay.run("subscriptions", "set", "life", "--config", '{"secret_overlap":"0s"}').code == 0
    assert relay.run("subscriptions", "secret", "life").out.endswith("\nno earlier one signs any more\n")
    assert "life" in relay.run("status").out
    assert {one["id"] for one in relay.document("status")["items"]} >= {"life"}
    assert relay.run("subscriptions", "remove", "life").out == "removed life\n"
    assert relay.run("subscriptions", "show", "life").code == 1


def test_a_sink_s_scheme_says_its_protocol(relay: RelayProcess, tmp_path: Path) -> None:
    bus, login = "amqp://127.0.0.1:9/", tmp_path / "login"
    login.write_text("relay:sesame:open\n")
    more = ("--login-file", str(login), "--settings", '{"shards":4}', "--config", '{"settles":"confirm"}')
    assert relay.run("subscriptions", "add", "bus", "--sink", bus, *more).code == 0
    shown = relay.document("subscriptions", "show", "bus")
    assert (shown["protocol"], shown["protocolsettings"]["shards"]) == ("AMQP", 4)
    assert shown["sinkcredential"] == {"credentialtype": "PLAIN", "identifier": "relay"}
    assert relay.run("subscriptions", "set", "bus", "--settings", '{"exchange":"e"}').code == 0
    settings = relay.document("subscriptions", "show", "bus")["protocolsettings"]
    assert (settings["exchange"], settings["shards"]) == ("e", 4)
    relay.run("subscriptions", "remove", "bus")

    assert relay.run("subscriptions", "add", "bus", "--sink", bus).code == 0
    back = f'{{"route":[{{"sink":"{bus}","protocol":"AMQP"}}]}}'
    assert relay.run("subscriptions", "set", "bus", "--sink", NOWHERE, "--config", back).code == 0
    assert relay.document("subscriptions", "show", "bus")["protocol"] == "HTTP"
    assert "user:password" in relay.run("subscriptions", "set", "bus", "--login-file", "/dev/null").err
    nowhere = relay.run("subscriptions", "set", "bus", "--login-file", "nowhere")
    assert "--login-file: nowhere: No such file or directory (" in nowhere.err
    assert relay.run("subscriptions", "add", "b", "--sink", bus, "--protocol", "HTTP").code == 1
    relay.run("subscriptions", "remove", "bus")


def test_json_is_exactly_what_the_api_answers(relay: RelayProcess) -> None:
    from urllib.request import urlopen

    relay.run("subscriptions", "add", "exact", "--sink", NOWHERE)
    with urlopen(f"{relay.url}/subscriptions/exact") as answer:
        body = answer.read().decode()
    assert relay.run("subscriptions", "show", "exact", "--json").out == body + "\n"
    relay.run("subscriptions", "remove", "exact")


def test_a_parked_lane_is_seen_and_settled(relay: RelayProcess) -> None:
    config = '{"retry":{"max_attempts":1,"first":"1ms"}}'
    relay.run("subscriptions", "add", "lanes", "--sink", NOWHERE, "--source", "/lanes", "--config", config)
    for number in range(3):
        send(relay, "/lanes", "k", number)
    page = eventually(lambda: relay.document("lanes", "lanes", "--state", "parked")["counts"]["parked"] == 1)
    assert page
    (lane,) = relay.document("lanes", "lanes")["items"]
    head = lane["head"]["position"]
    assert "/lanes k" in relay.run("lanes", "lanes").out
    doctor = relay.run("doctor")
    assert doctor.code == 1
    assert "fairlead lanes release lanes --state parked" in doctor.out
    assert relay.run("lanes", "skip", "lanes", "--key", "/lanes k", "--position", str(head + 1)).code == 1
    assert relay.run("lanes", "skip", "lanes", "--key", "/lanes k", "--position", "head").code == 2
    place = f"{lane['partition']}:{head}"  # as it is shown
    assert relay.run("lanes", "skip", "lanes", "--key", "/lanes k", "--position", place).code == 0
    eventually(lambda: relay.document("lanes", "lanes", "--state", "parked")["counts"]["parked"] == 1)
    assert relay.run("lanes", "lanes", "release", "--state", "parked").code == 0
    eventually(lambda: relay.document("lanes", "lanes", "--state", "parked")["counts"]["parked"] == 1)
    assert relay.run("lanes", "retry", "lanes", "--key", "/lanes k").code == 0
    assert relay.run("lanes", "retry", "lanes", "--key", "none").code == 1
    assert relay.run("subscriptions", "remove", "lanes").code == 0


# -- listen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [False, True])
def test_listening_gets_every_event_in_order_whatever_fails(library: bool, relay: RelayProcess) -> None:
    name = "heard-library" if library else "heard-plain"
    source = f"/{name}"
    arguments = ["listen", "--port", "0", "--subscribe", name, "--source", source, "--fail", "0.2", "--json"]
    relay.run(
        "subscriptions",
        "add",
        name,
        "--sink",
        "http://127.0.0.1:1/",
        "--source",
        source,
        "--config",
        json.dumps({"retry": {"first": "5ms", "max": "20ms"}, "receiver": "library" if library else "plain"}),
    )
    listener = Program([*arguments, "--url", relay.url, *(["--library"] if library else [])], relay.folder)
    listener.expect("listening at")
    lines = "\n".join(json.dumps({"id": str(n), "subject": f"k{n % 3}", "data": n}) for n in range(30))
    assert relay.run("send", "-", "--source", source, "--type", "t", stdin=lines).code == 0
    eventually(lambda: len({json.loads(line)["id"] for line in list(listener.out)}) == 30)
    assert listener.end(signal.SIGINT) == 0
    assert any("order kept" in line for line in listener.err)
    for key in range(3):
        numbers = [
            event["data"] for line in listener.out if (event := json.loads(line))["subject"] == f"k{key}"
        ]
        first_time = list(dict.fromkeys(numbers))
        assert first_time == list(range(key, 30, 3))
    relay.run("subscriptions", "remove", name)


@pytest.mark.parametrize("how", [["--json"], [], ["--library"]])
def test_listening_ends_where_nobody_reads_what_comes(how: list[str], relay: RelayProcess) -> None:
    name = "unread" + "".join(how)
    arguments = ["listen", "--port", "0", "--subscribe", name, "--source", "/unread", *how]
    reading, writing = os.pipe()
    listener = Program([*arguments, "--url", relay.url], relay.folder, stdout=writing)
    os.close(writing)
    listener.expect("listening at")
    os.close(reading)
    send(relay, "/unread", "k", 1)
    assert listener.wait() == 0
    assert listener.err[1:] == [], "no traceback"
    relay.run("subscriptions", "remove", name)


def test_a_table_that_nobody_reads_on_is_done(relay: RelayProcess) -> None:
    send(relay, "/read", "k", 1)
    reading, writing = os.pipe()
    os.close(reading)
    events = Program(["events", "--url", relay.url], relay.folder, stdout=writing)
    os.close(writing)
    assert (events.wait(), events.err) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["send", "events", "--url", "http://127.0.0.1:9"], 3),
        (["status", "--url", "http://127.0.0.1:9"], 3),
        (["store", "check", "--store", "sqlite:///none.db"], 6),
        (["nonsense"], 2),
    ],
    ids=["send", "status", "store", "usage"],
)
def test_a_command_whose_notes_nobody_reads_ends_as_it_does(
    arguments: list[str], code: int, tmp_path: Path
) -> None:
    (tmp_path / "events").write_text('{"source":"/s","type":"t"}')
    reading, writing = os.pipe()
    os.close(reading)
    command = Program(arguments, tmp_path, stderr=writing)
    os.close(writing)
    assert command.wait() == code


def test_listening_again_gets_what_came_meanwhile_and_replay_brings_it_back(relay: RelayProcess) -> None:
    def listen(count: int) -> Program:
        arguments = [
            "listen",
            "--port",
            "0",
            "--subscribe",
            "back",
            "--source",
            "/back",
            "--count",
            str(count),
        ]
        return Program([*arguments, "--json", "--url", relay.url], relay.folder)

    first = listen(1)
    first.expect("listening at")
    send(relay, "/back", "k", 1)
    assert first.wait() == 0
    send(relay, "/back", "k", 2)
    second = listen(1)
    second.expect("listening at")
    relay.run("lanes", "retry", "back", "--state", "held")
    assert second.wait() == 0
    assert json.loads(second.out[0])["data"] == {"n": 2}
    replayed = relay.document("replay", "back", "--event", "/back", json.loads(first.out[0])["id"])
    assert replayed["events"] == 2
    third = listen(2)
    assert third.wait() == 0
    assert [json.loads(line)["data"]["n"] for line in third.out] == [1, 2]
    relay.run("subscriptions", "remove", "back")


def test_listening_leaves_a_subscription_that_delivers_elsewhere_alone(tmp_path: Path) -> None:
    with RelayProcess(tmp_path, FAIRLEAD_EGRESS_ALLOW="10.0.0.0/8") as relay:
        assert relay.run("subscriptions", "add", "far", "--sink", "https://10.1.2.3/hook").code == 0
        done = relay.run("listen", "--port", "0", "--subscribe", "far")
        assert done.code == 1
        assert "delivers to https://10.1.2.3/hook" in done.err


SECRET = "whsec_" + "A" * 32


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--secret", "foo"), 2, "a secret begins with whsec_"),
        (("--secret", SECRET, "--secret", "whpk_Zm9v"), 2, "a whpk_ holds 32 bytes in base64, this one 3"),
        (("--source", "/heat"), 2, "give --subscribe NAME too"),
        (("--type", "a.b"), 2, "give --subscribe NAME too"),
        (("--secret", "foo", "--library"), 2, "a secret begins with whsec_"),
        (("--secret", f"whsk_{'A' * 43}=", "--library"), 2, "does not begin with whsec_ or whpk_"),
        (("--secret", SECRET, "--library", "--inbox", "nowhere/inbox.db"), 6, "nowhere/inbox.db cannot be"),
    ],
)
def test_listening_does_not_begin_with_what_no_delivery_could_be_taken_with(
    tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = run("listen", "--port", "0", *arguments, folder=tmp_path)
    assert (done.code, done.out) == (code, "")
    (line,) = done.err.splitlines()
    assert said in line
    assert "foo" not in line


# -- what cannot be sent or written --------------------------------------------------------------------------


def test_a_refusal_is_the_apis_document_with_json_and_words_beside_it(relay: RelayProcess) -> None:
    refused = relay.run("subscriptions", "show", "nobody", "--json")
    assert refused.code == 1
    assert refused.document["type"] == "urn:fairlead:problem:not-found"
    assert refused.err.startswith("refused:")


@pytest.mark.parametrize("variables", [{"FAIRLEAD_API_KEY": "flk_…"}, {"FAIRLEAD_API_KEY": f"{KEY}\nflk_x"}])
def test_what_is_no_key_is_one_line_without_it(relay: RelayProcess, variables: dict[str, str]) -> None:
    done = relay.run("status", **variables)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert "FAIRLEAD_API_KEY" in line
    assert "flk_" not in line


def test_a_key_from_a_file_with_the_line_ends_of_windows_is_a_key(relay: RelayProcess) -> None:
    assert relay.run("status", FAIRLEAD_API_KEY=f"{KEY}\r\n").code == relay.run("status").code


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("events", "--key", "\udcff"), 2, "not text in UTF-8"),
        (("--url", "http://127.0.0.1:9/…", "status"), 2, "is not a relay's URL"),
        (("status", "--url", "127.0.0.1:9"), 2, "is not a relay's URL"),
        (("status", "--url", "http://[::1"), 2, "is not a relay's URL"),
    ],
)
def test_text_that_cannot_be_sent_is_one_line(
    relay: RelayProcess, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = relay.run(*arguments)
    assert done.code == code
    (line,) = done.err.splitlines()
    assert said in line


def test_output_in_an_encoding_that_lacks_a_letter_is_one_line_and_1(relay: RelayProcess) -> None:
    assert relay.run("send", "--source", "/demo", "--type", "t", "--subject", "✓ done").code == 0
    done = relay.run("events", "--json", PYTHONIOENCODING="latin-1")
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert "cannot show '\\u2713' in its encoding, latin-1; set PYTHONIOENCODING=utf-8" in line


def test_output_that_cannot_be_written_is_one_line_and_1(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [PROGRAM, "config", "show"]
        pipe = subprocess.PIPE
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=pipe, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "fairlead: standard output: No space left on device\n")


# -- keys ----------------------------------------------------------------------------------------------------


def test_with_a_login_configured_calls_without_end_4(tmp_path: Path) -> None:
    with RelayProcess(tmp_path, FAIRLEAD_AUTH_BOOTSTRAP_KEY=KEY) as relay:
        relay.expect(r"every call needs an API key")
        assert not any("receive:" in line for line in relay.err), "what is refused is no example"
        without = relay.run("status")
        assert without.code == 4
        assert "--key-file FILE or FAIRLEAD_API_KEY" in without.err
        assert relay.run("status", FAIRLEAD_API_KEY="flk_" + "x" * 32).code == 4
        assert relay.run("status", FAIRLEAD_API_KEY=KEY).code == 0
        (tmp_path / "key").write_text(KEY + "\n")
        added = relay.run(
            "--key-file",
            "key",
            "keys",
            "add",
            "heat",
            "--may",
            "publish",
            "--source",
            "/heat*",
            "--expires",
            "90d",
        )
        assert added.code == 0
        assert "the first" not in added.err
        heat = added.out.strip()
        assert heat.startswith("flk_")
        sent = relay.run("send", "--source", "/heat", "--type", "t", FAIRLEAD_API_KEY=heat)
        assert sent.code == 0
        assert relay.run("send", "--source", "/nova", "--type", "t", FAIRLEAD_API_KEY=heat).code == 4
        (item,) = json.loads(relay.run("keys", "list", "--json", FAIRLEAD_API_KEY=KEY).out)["items"]
        assert item["name"] == "heat"
        assert "key" not in item
        assert relay.run("keys", "revoke", item["id"], FAIRLEAD_API_KEY=KEY).code == 0
        assert relay.run("send", "--source", "/heat", "--type", "t", FAIRLEAD_API_KEY=heat).code == 4
        assert KEY not in "\n".join((*relay.out, *relay.err))


def test_the_first_key_says_what_it_changes(tmp_path: Path) -> None:
    with RelayProcess(tmp_path) as relay:
        added = relay.run("keys", "add", "heat", "--may", "publish")
        assert "from now on every call needs one" in added.err
        assert "[auth] bootstrap_key" in added.err
        assert relay.run("status").code == 4


# -- what makes no call --------------------------------------------------------------------------------------


def test_the_configuration_is_shown_with_its_origins_and_checked(tmp_path: Path) -> None:
    (tmp_path / "fairlead.toml").write_text(f'[auth]\nbootstrap_key = "{KEY}"\n')
    shown = run("config", "show", folder=tmp_path, FAIRLEAD_LOG_LEVEL="debug")
    assert 'level = "debug"  # from FAIRLEAD_LOG_LEVEL' in shown.out
    assert KEY not in shown.out
    document = run("config", "show", "--json", folder=tmp_path).document
    assert {one["name"]: one["origin"] for one in document["settings"]}[
        "auth.bootstrap_key"
    ] == "fairlead.toml:2"
    assert run("config", "check", folder=tmp_path).code == 0
    (tmp_path / "fairlead.toml").write_text("[auth]\nbootstrap_key = 3\n")
    assert run("config", "check", folder=tmp_path).code == 5


def test_a_check_finds_the_login_that_serve_would_ask_for(tmp_path: Path) -> None:
    (tmp_path / "fairlead.toml").write_text('listen = "0.0.0.0:0"\n')

    def check(**variables: str) -> tuple[int, str]:
        done = run("config", "check", folder=tmp_path, **variables)
        return done.code, done.err

    refused = run("config", "check", folder=tmp_path)
    assert (refused.code, refused.out) == (5, "")
    assert "no authentication is configured" in refused.err
    assert not (tmp_path / "fairlead.db").exists()
    assert run("serve", folder=tmp_path).err == refused.err
    assert check()[0] == 5, "a store without a key"
    assert check(FAIRLEAD_AUTH_BOOTSTRAP_KEY=KEY) == (0, "")
    with RelayProcess(tmp_path) as relay:
        assert relay.run("keys", "add", "mine", "--may", "read").code == 0
        assert check() == (0, ""), "while it runs"
    assert check() == (0, "")
    (tmp_path / "fairlead.db").write_text("not a store")
    code, said = check()
    assert (code, len(said.splitlines())) == (0, 1)
    assert "whether the store has a key cannot be told" in said


def test_the_store_is_checked_compacted_and_brought_back(tmp_path: Path) -> None:
    with RelayProcess(tmp_path) as relay:
        send(relay, "/a", "k", 1)
        relay.run("subscriptions", "add", "s", "--sink", NOWHERE)
        assert relay.run("store", "check").code == 0
        assert relay.run("store", "compact").code == 6
        before = relay.document("subscriptions", "show", "s")["status"]["generation"]
        relay.end()
    assert run("store", "check", "--json", folder=tmp_path).document["ok"] is True
    assert run("store", "compact", folder=tmp_path).code == 0
    assert run("store", "restored", "--json", folder=tmp_path).document["subscriptions"] == 1
    with RelayProcess(tmp_path) as relay:
        assert relay.document("subscriptions", "show", "s")["status"]["generation"] > before
        relay.end()
    assert run("store", "check", "--store", "sqlite:///none.db", folder=tmp_path).code == 6
    os.truncate(tmp_path / "fairlead.db", 5000)
    damaged = run("store", "check", "--json", folder=tmp_path)
    assert damaged.code == 1
    assert damaged.document["ok"] is False
    assert ["malformed" in line for line in damaged.document["damage"]] == [True]


def test_the_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    ill = run("doctor", "--json", "--url", "http://127.0.0.1:9", folder=tmp_path)
    assert ill.code == 1
    wrong = [one for one in ill.document["findings"] if one["state"] == "wrong"]
    assert [one["check"] for one in wrong] == ["relay"]
    assert "fairlead serve" in wrong[0]["remedy"]
    with RelayProcess(tmp_path) as relay:
        well = relay.run("doctor", "--json")
        assert (well.code, well.document["ok"]) == (0, True)
        relay.run("subscriptions", "add", "s", "--sink", NOWHERE)
        relay.run("subscriptions", "pause", "s")
        assert "fairlead subscriptions resume s" in relay.run("doctor").out


def test_the_doctor_sees_a_dead_target_and_every_mistake_of_a_configuration(tmp_path: Path) -> None:
    with RelayProcess(tmp_path, FAIRLEAD_BREAKER_FAILURES="1") as relay:
        relay.run("subscriptions", "add", "s", "--sink", NOWHERE)
        send(relay, "/dead", "k", 1)
        eventually(lambda: "the breaker is open on 1 partition" in relay.run("doctor").out)
        told = relay.run("doctor")
        assert told.code == 1
        assert NOWHERE in told.out
        assert "1 resource waiting for a retry" in told.out
    (tmp_path / "fairlead.toml").write_text('listen = "0.0.0.0:3247"\n')
    assert "is refused while no login" in run("doctor", "--url", "http://127.0.0.1:9", folder=tmp_path).out
    (tmp_path / "fairlead.toml").write_text('[limits]\nevent_byte = 1\n[log]\nlevel = "loud"\n')
    told = run("doctor", "--url", "http://127.0.0.1:9", folder=tmp_path)
    assert "fairlead.toml:2: " in told.out
    assert "fairlead.toml:4: " in told.out


def test_a_file_that_the_configuration_names_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "fairlead.toml").write_text('[egress]\nca_file = "none.pem"\n')
    for command in (["config", "check"], ["serve", "--listen", "127.0.0.1:0"]):
        done = run(*command, folder=tmp_path)
        assert done.code == 5
        assert "[egress] ca_file: none.pem" in done.err
    assert not (tmp_path / "fairlead.db").exists()


def test_the_benchmark_measures_and_keeps_order(tmp_path: Path) -> None:
    figures = run("bench", "--seconds", "0.3", "--json", folder=tmp_path).document
    assert figures["in_order"] is True
    assert figures["delivered_per_second"] > 0
    assert not list(tmp_path.iterdir())
