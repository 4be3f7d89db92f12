"""Storage Commitment as SCP: event 1 only once the destination has the instances, event 2 with reasons otherwise; durable in between."""

from __future__ import annotations

import dataclasses
import json

import pytest
import tomlkit
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from harness import part10, senders
from harness.commitment import Asker, request
from harness.destinations import Absent, Orthanc, PynetdicomScp, Storescp
from harness.processes import HOST, free_ports, wait_until

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
# Longer than any test, so that what ends it is what the test did.
LONG = {"timeout": "10min", "arrival": "1min"}


def stack_for(make_stack, to: str, *askers: Asker, **options: object):
    """One route, and an entry for each asker."""
    stack = make_stack(to=to)
    stack.quick_retries()
    with stack.edit("gateway-out") as out:
        out["commitment"] = tomlkit.aot()
        for asker in askers:
            entry = tomlkit.table()
            entry.update({"ae": asker.ae, "address": f"{HOST}:{asker.port}", **LONG, **options})
            out["commitment"].append(entry)
    return stack


def transactions(stack, *words: str) -> list[dict]:
    return json.loads(stack.command("gateway-out", "commitments", "ls", "--json", *words).stdout)


def at(destination: Storescp) -> set[str]:
    """What storescp has answered with success; its files are whole then."""
    return {one.sop_instance for one in part10.find(destination.out)}


def send(stack, instances, calling: str = "MODALITY") -> None:
    answers = senders.pynetdicom_send(stack.listen, stack.ae, instances, calling=calling)
    assert set(answers.values()) == {0}


def test_on_the_association_that_asked_once_the_destination_has_all(make_stack, tmp_path, few):
    """Asked before the first C-STORE, with the relay killed and its bodies lost in between."""
    with Storescp(tmp_path) as destination, Asker(look=lambda: at(destination)) as asker:
        stack = stack_for(make_stack, destination.address, asker, on="same")
        with stack:
            association = asker.associate(stack.listen, stack.ae)
            transaction = generate_uid()
            assert request(association, transaction, few) == 0
            stack["gateway-in"].kill()
            send(stack, few)
            stack["relay"].kill()
            assert asker.reports == []
            assert [row["state"] for row in transactions(stack)] == ["open"]
            stack.start("relay", "gateway-in")
            report = asker.wait(transaction, stack.logs)
            assert (report.event_type, report.failed) == (1, {})
            assert report.committed == {one.sop_instance for one in few} == report.seen
            # Again, now that all is there: the same answer, on the same association.
            assert request(association, transaction, few) == 0
            assert asker.wait(transaction, stack.logs, count=2).event_type == 1
            wait_until("no open transaction", lambda: not transactions(stack), 10, stack.logs)
            association.release()
            why = stack.command("gateway-out", "why", few[0].sop_instance).stdout
            assert "asked by MODALITY" in why and "committed; the transaction is reported" in why


@pytest.mark.parametrize("role", [True, False], ids=["role selection", "without role selection"])
@pytest.mark.proves("out/outcome/report-done")
def test_on_a_new_association_whatever_is_killed_meanwhile(make_stack, tmp_path, few, role):
    with Storescp(tmp_path) as destination, Asker(listens=True, role=role) as asker:
        stack = stack_for(make_stack, destination.address, asker)
        with stack:
            stack["gateway-in"].kill()
            send(stack, few)
            transaction = asker.ask(stack.listen, stack.ae, few)
            stack["gateway-out"].kill()

            def killed_before_the_answer(report) -> int:
                if not asker.reports:
                    stack["gateway-out"].kill()
                return 0

            asker.on_report = killed_before_the_answer
            stack.start("gateway-out", "gateway-in")
            first = asker.wait(transaction, stack.logs)
            assert [row["state"] for row in transactions(stack)] == ["reporting"], "it was killed before it had the answer"
            stack.start("gateway-out")
            second = asker.wait(transaction, stack.logs, count=2)
            for report in (first, second):
                assert (report.event_type, report.committed) == (1, {one.sop_instance for one in few})
                assert report.calling == stack.ae, "it presents the title that was asked"
                assert (report.role, report.is_scu) == ((False, True), role)
            wait_until("no open transaction", lambda: not transactions(stack), 10, stack.logs)


@pytest.mark.proves("out/failure-reason/0110", "out/failure-reason/0112", "out/failure-reason/0119")
def test_what_is_not_committed_is_named_with_its_reason(make_stack, tmp_path, few):
    stored, refused, stranger, unknown, other = few
    other_class = dataclasses.replace(other, sop_class=MR)
    behave = lambda name, _seen: 0xC000 if name == refused.sop_instance else 0  # noqa: E731
    with PynetdicomScp(behave=behave) as destination, Asker(listens=True) as asker, Asker("OTHER", listens=True) as somebody:
        stack = stack_for(make_stack, destination.address, asker, somebody, arrival="0s")
        with stack:
            send(stack, [stored, refused, other])
            send(stack, [stranger], calling="OTHER")
            wait_until("the refusal", lambda: [row["state"] for row in stack.queue()] == ["parked"], 30, stack.logs)
            transaction = asker.ask(stack.listen, stack.ae, [stored, refused, stranger, unknown, other_class])
            report = asker.wait(transaction, stack.logs)
            assert report.event_type == 2
            assert report.committed == {stored.sop_instance}
            assert report.failed == {
                refused.sop_instance: 0x0110,
                stranger.sop_instance: 0x0112,
                unknown.sop_instance: 0x0112,
                other.sop_instance: 0x0119,
            }
            report = somebody.wait(somebody.ask(stack.listen, stack.ae, [stranger]), stack.logs)
            assert (report.event_type, report.committed) == (1, {stranger.sop_instance})
            # Discarded by an operator is a failure, too.
            [row] = stack.queue()
            stack.command("gateway-out", "queue", "discard", row["delivery"], "--reason", "not wanted there")
            report = asker.wait(asker.ask(stack.listen, stack.ae, [refused]), stack.logs)
            assert (report.event_type, report.failed) == (2, {refused.sop_instance: 0x0110})


@pytest.mark.proves("out/outcome/report-failed")
def test_in_time_or_not_at_all_and_until_the_peer_has_answered(make_stack, few):
    """The destination is off: event 2 at the time-out. The peer is off, refuses, and answers at last; an operator gives one up."""
    with Asker() as asker:
        stack = stack_for(make_stack, f"NOBODY@{HOST}:{free_ports()}", asker, timeout="2s", arrival="1s")
        with stack:
            send(stack, few)
            first, second = (asker.ask(stack.listen, stack.ae, few) for _ in range(2))
            wait_until(
                "reports that fail",
                lambda: [(row["state"], row["tries"] > 0) for row in transactions(stack)] == [("reporting", True)] * 2,
                20,
                lambda: f"{transactions(stack)}\n{stack.logs()}",
            )
            status = stack.status("gateway-out")["commitment"]
            assert (status["open"], status["reporting"], status["failing"]) == (0, 2, 2)
            given_up = transactions(stack)[1]["commitment"]
            assert stack.command("gateway-out", "commitments", "drop", given_up, check=False).returncode == 2, "no reason"
            stack.command("gateway-out", "commitments", "drop", given_up[:8], "--reason", "the modality is gone")
            asker.on_report = lambda _report: 0 if asker.reports else 0x0110
            asker.listen()
            [row] = transactions(stack)
            stack.command("gateway-out", "commitments", "retry", row["commitment"])
            report = asker.wait(first, stack.logs, count=2)
            assert (report.event_type, report.committed) == (2, set())
            assert set(report.failed.items()) == {(one.sop_instance, 0x0110) for one in few}
            wait_until("no open transaction", lambda: not transactions(stack), 10, stack.logs)
            assert asker.of(second) == []
            assert [row["state"] for row in transactions(stack, "--all")] == ["reported", "dropped"]
            assert "patient" not in stack.log_text("gateway-out") and first not in stack.log_text("gateway-out")


def test_requests_that_are_not_taken_have_their_status(make_stack, tmp_path, few):
    with Storescp(tmp_path) as destination, Asker() as asker, Asker("STRANGER") as stranger:
        stack = stack_for(make_stack, destination.address, asker, open_max=1, instances_max=4)
        with stack:
            association = asker.associate(stack.listen, stack.ae)
            transaction, nothing = generate_uid(), Dataset()
            nothing.TransactionUID = generate_uid()
            twice = [few[0], dataclasses.replace(few[0], sop_class=MR)]
            assert request(association, generate_uid(), few) == 0x0213, "more than instances_max"
            assert request(association, generate_uid(), few[:1], action=2) == 0x0123
            assert request(association, generate_uid(), [], data=nothing) == 0x0115
            assert request(association, generate_uid(), twice) == 0x0119
            assert transactions(stack, "--all") == []
            assert request(association, transaction, few[:3]) == 0
            assert request(association, transaction, few[:3][::-1]) == 0, "the same again"
            assert request(association, transaction, few[:2]) == 0x0115, "other instances"
            assert request(association, generate_uid(), few[:2]) == 0x0213, "more than open_max"
            assert [row["instances"] for row in transactions(stack)] == [3]
            association.release()
            with pytest.raises(AssertionError):
                stranger.associate(stack.listen, stack.ae).release()
            with stack.edit("gateway-out") as out:
                del out["commitment"][0]["address"]
                out["commitment"][0]["means"] = "outbox"
            checked = stack.command("gateway-out", "check", check=False)
            assert checked.returncode == 64 and "address" in checked.stderr and "N-EVENT-REPORT" in checked.stderr
            with stack.edit("gateway-out") as out:
                out["commitment"][0]["address"] = f"{HOST}:{asker.port}"
            assert "warning: commitment for MODALITY" in stack.command("gateway-out", "check").stdout


def test_orthanc_as_the_one_who_asks(make_stack, tmp_path, few):
    port = free_ports()
    try:
        archive = Orthanc(tmp_path, DicomModalities={"sluis": {"AET": "SLUIS", "Host": HOST, "Port": port, "AllowStorageCommitment": True}})
    except Absent as absent:
        pytest.skip(f"peer orthanc: {absent}")
    with Storescp(tmp_path) as destination, archive:
        asker = Asker(archive.ae, port=archive.port)
        stack = stack_for(make_stack, destination.address, asker)
        with stack.edit("gateway-out") as out:
            out["dicom"]["listen"] = f"{HOST}:{port}"
        with stack:
            held = [archive.post("/instances", one.path.read_bytes())["ID"] for one in few]
            stack["relay"].kill()
            sent = archive.post("/modalities/sluis/store", {"Resources": held, "StorageCommitment": True, "Synchronous": True})
            identifier = sent["StorageCommitmentTransactionUID"]
            state = lambda: archive.get(f"/storage-commitment/{identifier}")["Status"]  # noqa: E731
            assert state() == "Pending"
            stack.start("relay")
            wait_until("Orthanc to hear", lambda: state() != "Pending", 30, lambda: f"{archive.logs()}\n{stack.logs()}")
            assert state() == "Success"
            assert at(destination) == {one.sop_instance for one in few}
