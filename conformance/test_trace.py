"""`trace AE`: association items and command sets of both gateways as DCMTK made them; no byte of a data set, no UID of an instance, and nothing kept waiting."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import time

import pytest

from harness import generate, senders
from harness.binaries import binary
from harness.destinations import Storescp, wait_for_arrivals
from harness.processes import HOST, run, wait_until
from harness.rawul import Requestor
from harness.stack import Stack


NUMBERS = itertools.count()


class Trace:
    """The command, running."""

    def __init__(self, stack: Stack, role: str, ae: str, *words: str) -> None:
        command = [binary(role), "trace", ae, *words, "--config", stack.config(role)]
        self._out = stack.config(role).parent / f"trace-{next(NUMBERS)}"
        with self._out.open("w") as out:
            self._process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=subprocess.PIPE, text=True)
        # Until somebody follows, nothing is looked at; the admin port counts him when he is served.
        time.sleep(0.7)
        assert self._process.poll() is None, self._process.communicate()

    def said(self) -> str:
        return self._out.read_text()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> str:
        _, errors = self._process.communicate(timeout=20)
        return errors

    def end(self) -> str:
        self.signal(signal.SIGINT)
        errors = self.wait()
        assert self._process.returncode == 0, errors
        return self.said()


@pytest.fixture
def path(make_stack, tmp_path):
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        with stack:
            yield stack, destination


def test_an_association_is_shown_from_its_request_to_its_release_on_both_sides(path, tmp_path):
    stack, destination = path
    study = generate.study(tmp_path / "study", 2, seed=3, side=64)
    sending, receiving = Trace(stack, "gateway-out", stack.ae), Trace(stack, "gateway-in", destination.ae)
    other = Trace(stack, "gateway-out", "SOMEBODY")
    run(["storescu", "-aet", "PACS1", "-aec", stack.ae, HOST, str(stack.listen), *[one.path for one in study]], 60)
    wait_for_arrivals(destination, study, 30, stack.logs)
    wait_until("both have seen the last of it", lambda: "connection closed" in sending.said() and receiving.said().count("C-STORE-RSP") == 2, 20, sending.said)
    sent, received = sending.end(), receiving.end()
    assert other.end() == ""
    for said in (sent, received):
        for what in (
            "A-ASSOCIATE-RQ", "A-ASSOCIATE-AC", "CT Image Storage (1.2.840.10008.5.1.4.1.1.2)", "in Explicit VR Little Endian (1.2.840.10008.1.2.1)",
            "maximum length ", "implementation ", "C-STORE-RQ on context ", "(0000,0110) Message ID: 1", "(0000,0800) Command Data Set Type:", "a data set follows",
            "data set of context ", "C-STORE-RSP on context ", "(0000,0900) Status: 0000H, success", "Affected SOP Instance UID: instance ",
        ):
            assert what in said, f"{what}\n{said}"
        # Length of the data set as it is in the file; nothing of what is in it.
        assert said.count("C-STORE-RQ on") == said.count("C-STORE-RSP on") == 2
        for one in study:
            assert f": {len(one.data_set())} bytes" in said
            assert one.sop_instance not in said
    assert f'calling "PACS1", called "{stack.ae}"' in sent and "OFFIS_DCMTK" in sent and "A-RELEASE-RQ" in sent and "A-RELEASE-RP" in sent
    assert "connection closed" in sent
    # The same instance has the same word in request and response, another one another.
    instances = [line.rsplit(" ", 1)[1] for line in sent.splitlines() if "Affected SOP Instance UID" in line]
    assert instances[0] == instances[1] != instances[2] == instances[3]


def test_rejections_aborts_and_refusals_are_shown(path, tmp_path):
    stack, _ = path
    with stack.edit("gateway-out") as sending:
        sending["route"][0]["calling"] = ["PACS1"]
    stack.command("gateway-out", "status")
    stack["gateway-out"].stop()
    stack.restart("gateway-out")
    stack.await_ready("gateway-out")
    trace = Trace(stack, "gateway-out", stack.ae, "--json")
    refused = run(["echoscu", "-aet", "NOBODY", "-aec", stack.ae, HOST, str(stack.listen)], 60, check=False)
    assert refused.returncode != 0
    link = Requestor(stack.listen, stack.ae, {1: (generate.CT_IMAGE, [generate.EXPLICIT])}, calling="PACS1")
    [one] = generate.study(tmp_path / "study", 1, seed=4, side=64)
    assert link.store(1, one.sop_class, one.sop_instance, one.data_set()[:-7]) >> 12 == 0xC
    link.abort()
    wait_until("the abort is shown", lambda: trace.said().count('"closed"') == 2, 20, trace.said)
    lines = [json.loads(line) for line in trace.end().splitlines()]
    whats = [line["what"] for line in lines]
    assert any(what == "A-ASSOCIATE-RJ result 1 (permanent), source 1, reason 3 (calling AE title not recognized)" for what in whats), whats
    assert any(what.startswith("A-ABORT source 0 (service user)") for what in whats), whats
    assert {line["way"] for line in lines} == {"received", "sent", "closed"} and len({line["association"] for line in lines}) == 2
    [answer] = [line for line in lines if line["what"].startswith("C-STORE-RSP")]
    assert any("(0000,0900) Status: C" in item for item in answer["items"]) and any("(0000,0902) Error Comment: " in item for item in answer["items"])


def test_who_looks_keeps_nobody_waiting_and_a_daemon_stops_under_him(path, tmp_path):
    """Five look, which is one too many; one of them reads nothing, and 200 instances pass all the same."""
    stack, destination = path
    study = generate.study(tmp_path / "study", 200, seed=6, side=64)
    lookers = [Trace(stack, "gateway-out", stack.ae, "--json") for _ in range(4)]
    refused = run([binary("gateway-out"), "trace", stack.ae, "--config", stack.config("gateway-out")], 30, check=False)
    assert refused.returncode == 1 and "others look already" in refused.stderr
    lookers[0].signal(signal.SIGSTOP)
    assert set(senders.pynetdicom_send(stack.listen, stack.ae, study).values()) == {0}
    wait_for_arrivals(destination, study, 60, stack.logs)
    lookers[0].signal(signal.SIGCONT)
    wait_until("it is shown", lambda: '"closed"' in lookers[1].said(), 20, stack.logs)
    shown = lookers[1].end()
    assert shown.count("C-STORE-RQ") == 200 or '"lost"' in shown
    stack["gateway-out"].stop()
    for looker in (lookers[0], *lookers[2:]):
        looker.wait()
    ended = run([binary("gateway-out"), "trace", stack.ae, "--for", "1s", "--config", stack.config("gateway-out")], 30, check=False)
    assert ended.returncode == 1 and "is the daemon running?" in ended.stderr
