"""Storage Commitment as SCU: whoever asks the sending gateway hears "committed" only after the destination's own word."""

from __future__ import annotations

import json
import socket

import pytest
import tomlkit
from pydicom.uid import generate_uid
from pynetdicom.sop_class import StorageCommitmentPushModel

from harness import negotiate, senders
from harness.commitment import Asker
from harness.committing import CALLING, Committer, ask_destination, send_report
from harness.destinations import Absent, Orthanc
from harness.processes import HOST, free_ports, wait_until
from harness.rawul import Rejected, Requestor

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT, JPEG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.50"
MODALITY = {"timeout": "10min", "arrival": "1min"}


def stack_for(make_stack, destination, asker: Asker, listens: bool = True, means: str = "delivered", **options: object):
    """One route to a destination that is asked, and a modality that asks."""
    stack = make_stack(to=destination.address)
    stack.quick_retries()
    destination.report_port = ask_destination(stack, listens, **options)
    with stack.edit("gateway-out") as out:
        entry = tomlkit.table()
        entry.update({"ae": asker.ae, "address": f"{HOST}:{asker.port}", "means": means, **MODALITY})
        out["commitment"] = tomlkit.aot()
        out["commitment"].append(entry)
    return stack


def send(stack, instances, calling: str = "MODALITY") -> None:
    assert set(senders.pynetdicom_send(stack.listen, stack.ae, instances, calling=calling).values()) == {0}


def names(instances) -> set[str]:
    return {one.sop_instance for one in instances}


def transactions(stack) -> list[str]:
    return [row["state"] for row in json.loads(stack.command("gateway-out", "commitments", "ls", "--json").stdout)]


def wait_stored(stack, destination, instances) -> None:
    wait_until("all of them stored", lambda: set(destination.arrived()) == names(instances), 30, stack.logs)
    stack.wait_settled()


@pytest.mark.parametrize(
    ("on", "role", "means"),
    [("same", True, "delivered"), ("new", True, "committed"), ("new", False, "delivered")],
    ids=["the association that asked", "a new one with role selection", "a new one without"],
)
@pytest.mark.proves(
    "in/service/storage-commitment", "in/outcome/action-0000", "in/outcome/report-committed", "in/association/role-selection-accepted"
)
def test_nobody_is_told_before_the_destination_has_committed(make_stack, few, on, role, means):
    with Committer(on=on, role=role) as destination, Asker(listens=True) as asker:
        with stack_for(make_stack, destination, asker, listens=on == "new", means=means, stay="30s") as stack:
            send(stack, few)
            transaction = asker.ask(stack.listen, stack.ae, few)
            wait_stored(stack, destination, few)
            wait_until("the destination to be asked", lambda: destination.asked, 20, stack.logs)
            # Every receipt of level 1 is in; the destination has not said that it commits.
            assert [receipt["level"] for receipt in stack.receipts()] == [1] * len(few)
            assert (asker.reports, transactions(stack)) == ([], ["open"])
            destination.gate.set()
            report = asker.wait(transaction, stack.logs)
            assert (report.event_type, report.committed, report.failed) == (1, names(few), {})
            assert destination.answers == [0]
            if on == "new":
                assert destination.granted == ((False, True) if role else None)
            [asked] = destination.asked
            assert (set(asked.instances), asked.calling) == (names(few), CALLING), "a study is asked for in one N-ACTION"
            assert sorted(receipt["level"] for receipt in stack.receipts()) == [1] * len(few) + [2] * len(few)
            [row] = stack.why(few[0].sop_instance)
            assert "committed" in json.dumps(row["history"])
            checked = stack.verify_receipt(stack.receipt_file(row["delivery"]))
            assert checked.returncode == 0 and "2 (the destination committed)" in checked.stdout, checked.stdout
            wait_until("both gateways to have both signatures", lambda: stack.status("gateway-in")["commitment"] == {}, 20, stack.logs)
            at_the_receiver = stack.verify_receipt(stack.receipt_file(row["delivery"], "gateway-in"))
            assert at_the_receiver.returncode == 0 and "2 (the destination committed)" in at_the_receiver.stdout
            # Nothing that names an instance stays in the ledger or goes to a log.
            for file in (stack.directory / "ledger").rglob("*"):
                assert not file.is_file() or few[0].sop_instance.encode() not in file.read_bytes(), file
            assert few[0].sop_instance not in stack.log_text("gateway-in")


@pytest.mark.proves("in/outcome/report-failed", *(f"in/failure-reason/{code}" for code in ("0110", "0112", "0119", "0122")))
def test_what_the_destination_does_not_commit_to_is_named_with_its_reason(make_stack, few):
    reasons = dict(zip([one.sop_instance for one in few], [0, 0x0110, 0x0112, 0x0119, 0x0122], strict=True))
    with Committer(says=reasons.get) as destination, Asker(listens=True) as asker:
        destination.gate.set()
        with stack_for(make_stack, destination, asker) as stack:
            send(stack, few)
            report = asker.wait(asker.ask(stack.listen, stack.ae, few), stack.logs)
            assert (report.event_type, report.committed) == (2, {few[0].sop_instance})
            assert report.failed == {name: reason for name, reason in reasons.items() if reason}
            [row] = stack.why(few[2].sop_instance)
            assert "not-committed" in json.dumps(row) and "0112" in json.dumps(row), row
            # Custody had ended: the destination has stored it, and nothing is sent again.
            assert stack.queue() == [] and destination.attempts[few[2].sop_instance] == 1
            checked = stack.verify_receipt(stack.receipt_file(row["delivery"]))
            assert checked.returncode == 0 and "2 (the destination does not commit)" in checked.stdout, checked.stdout
            # Asked again, it says the same without asking the destination again.
            again = asker.wait(asker.ask(stack.listen, stack.ae, few[2:3]), stack.logs)
            assert (again.event_type, again.failed) == (2, {few[2].sop_instance: 0x0112})
            assert len(destination.asked) == 1


@pytest.mark.proves("in/failure/commitment-report", "in/failure/commitment-timeout")
def test_silence_is_asked_anew_and_ends_at_the_time_out(make_stack, few):
    with Committer(on="nobody") as destination, Asker(listens=True) as asker:
        with stack_for(make_stack, destination, asker, timeout="9s", report_timeout="3s", stay="1s") as stack:
            send(stack, few)
            transaction = asker.ask(stack.listen, stack.ae, few)
            report = asker.wait(transaction, stack.logs, 40)
            assert (report.event_type, report.committed) == (2, set())
            assert report.failed == dict.fromkeys(names(few), 0x0110)
            assert len(destination.asked) >= 2 and len({asked.transaction for asked in destination.asked}) == len(destination.asked)
            [row] = stack.why(few[0].sop_instance)
            checked = stack.verify_receipt(stack.receipt_file(row["delivery"]))
            assert "did not say in time whether it commits" in checked.stdout


@pytest.mark.proves("in/outcome/action-failure", "in/failure/commitment-not-accepted")
def test_a_destination_that_does_not_take_the_request_is_asked_again(make_stack, few):
    """At first it has no presentation context for it, then it is busy, then it commits."""
    busy = [0x0213, 0x0110]
    with Committer(on_ask=lambda _asked: busy.pop() if busy else 0) as destination, Asker(listens=True) as asker:
        destination.gate.set()
        with stack_for(make_stack, destination, asker) as stack:
            supported = destination._server.contexts
            destination._server.contexts = [one for one in supported if "1.20.1" not in str(one.abstract_syntax)]
            send(stack, few)
            refused = lambda: "does not accept storage commitment" in stack.log_text("gateway-in")  # noqa: E731
            wait_until("a request that is not accepted", refused, 20, stack.logs)
            destination._server.contexts = supported
            report = asker.wait(asker.ask(stack.listen, stack.ae, few), stack.logs, 40)
            assert (report.event_type, report.committed) == (1, names(few))
            assert [asked.transaction for asked in destination.asked] == [destination.asked[0].transaction] * 3, "the same question"


def test_whatever_is_killed_meanwhile(make_stack, few):
    """gateway-in before it has the N-ACTION's answer, before the report, and after it; the relay before the second receipt."""
    with Committer() as destination, Asker(listens=True) as asker:
        stack = stack_for(make_stack, destination, asker)

        def killed_before_the_answer(_asked) -> int:
            if not destination.asked:
                stack["gateway-in"].kill()
            return 0

        destination.on_ask = killed_before_the_answer
        with stack:
            send(stack, few)
            transaction = asker.ask(stack.listen, stack.ae, few)
            wait_until("the kill", lambda: destination.asked and not stack["gateway-in"].alive(), 30, stack.logs)
            first = destination.asked[0].transaction
            stack.start("gateway-in")
            wait_until("the same question", lambda: len(destination.asked) == 2, 30, stack.logs)
            assert destination.asked[1].transaction == first
            stack["gateway-in"].kill()
            # The reports find nobody, and are repeated until gateway-in is back.
            destination.gate.set()
            stack["relay"].kill()
            stack["gateway-in"].launch()
            wait_until("an answer to a report", lambda: destination.answers, 30, stack.logs)
            assert set(destination.answers) == {0}
            stack["gateway-in"].kill()
            assert (asker.reports, transactions(stack)) == ([], ["open"])
            stack.start("relay", "gateway-in")
            report = asker.wait(transaction, stack.logs)
            assert (report.event_type, report.committed) == (1, names(few))
            assert all(destination.attempts[name] == 1 for name in names(few))


def test_a_destination_that_forgets_what_it_was_asked_is_asked_anew(make_stack, few):
    with Committer(on="nobody") as forgetful, Asker(listens=True) as asker:
        with stack_for(make_stack, forgetful, asker, report_timeout="3s", stay="1s") as stack:
            send(stack, few)
            transaction = asker.ask(stack.listen, stack.ae, few)
            wait_until("the first question", lambda: forgetful.asked, 20, stack.logs)
            forgetful.stop()
            with Committer(ae=forgetful.ae, port=forgetful.port) as back:
                back.report_port = forgetful.report_port
                back.gate.set()
                report = asker.wait(transaction, stack.logs, 40)
                assert (report.event_type, report.committed) == (1, names(few))
                assert back.asked[0].transaction != forgetful.asked[0].transaction


def test_where_commitment_is_demanded_stored_is_not_enough(make_stack, few):
    """`means = "committed"` at gateway-out, and a destination that is not asked: a failure, and at once."""
    with Committer() as destination, Asker(listens=True) as asker:
        stack = stack_for(make_stack, destination, asker, means="committed")
        with stack.edit("gateway-in") as receiving:
            table = stack.destination(receiving)
            del table["means"], table["commitment"]
        with stack:
            send(stack, few)
            report = asker.wait(asker.ask(stack.listen, stack.ae, few), stack.logs)
            assert (report.event_type, report.failed) == (2, dict.fromkeys(names(few), 0x0110))
            assert destination.asked == []


@pytest.mark.proves("in/failure-reason/0131", "in/failure-reason/0213")
def test_what_the_destination_has_no_room_for_is_asked_for_anew(make_stack, few):
    full, taken = few[0].sop_instance, few[1].sop_instance
    first = {full: 0x0213, taken: 0x0131}
    with Committer(says=lambda name: first.pop(name, 0)) as destination, Asker(listens=True) as asker:
        destination.gate.set()
        with stack_for(make_stack, destination, asker) as stack:
            send(stack, few)
            report = asker.wait(asker.ask(stack.listen, stack.ae, few), stack.logs, 40)
            assert (report.event_type, report.committed) == (1, names(few))
            every, again = destination.asked
            assert (set(every.instances), set(again.instances)) == (names(few), {full, taken})
            assert every.transaction != again.transaction


def test_a_destination_that_is_no_longer_configured_has_not_committed(make_stack, few):
    with Committer() as destination, Committer() as other, Asker(listens=True) as asker:
        with stack_for(make_stack, destination, asker) as stack:
            send(stack, few)
            transaction = asker.ask(stack.listen, stack.ae, few)
            wait_until("the question", lambda: destination.asked, 20, stack.logs)
            stack["gateway-in"].stop()
            with stack.edit("gateway-in") as receiving:
                table = stack.destination(receiving)
                table["name"] = "another"
                table["address"] = f"{HOST}:{other.port}"
                for route in receiving["route"]:
                    route["destination"] = "another"
            stack.start("gateway-in")
            report = asker.wait(transaction, stack.logs)
            assert (report.event_type, report.failed) == (2, dict.fromkeys(names(few), 0x0110))
            assert "is not configured any more" in stack.log_text("gateway-in")


def test_who_may_report_and_what(make_stack, few, prove):
    """Reports of others, about others, and of no sense change nothing; the right one counts, and counts once."""
    with Committer() as destination, Asker(listens=True) as asker:
        with stack_for(make_stack, destination, asker) as stack:
            send(stack, few)
            transaction = asker.ask(stack.listen, stack.ae, few)
            wait_until("the question", lambda: destination.asked, 20, stack.logs)
            [asked] = destination.asked
            port = destination.report_port
            for claim, ae, called in [("calling", "STRANGER", CALLING), ("called", destination.ae, "STRANGER")]:
                row = prove(f"in/rejection/report-{claim}")
                # Bytes, not pynetdicom, which on a busy machine may see the end of the connection first.
                with pytest.raises(Rejected) as refused:
                    Requestor(port, called, {1: (VERIFICATION, [IMPLICIT])}, calling=ae)
                assert refused.value.triple == (row["result"], row["source"], row["reason"])
            pairs = [(StorageCommitmentPushModel, IMPLICIT), (StorageCommitmentPushModel, JPEG), (few[0].sop_class, IMPLICIT)]
            found = negotiate.accepted_pairs(port, CALLING, pairs, destination.ae)
            for pair, claim in zip(pairs, ["acceptance", "syntax", "class"], strict=True):
                assert found[pair] == prove(f"in/context/report-{claim}")["result"], claim
            # Whoever calls from elsewhere gets no handshake: the connection is closed before anything is read.
            with socket.create_connection((HOST, port), 5, source_address=("127.0.0.2", 0)) as stranger:
                stranger.settimeout(5)
                assert stranger.recv(1) == b""
            instances = asked.instances
            failed = dict.fromkeys(instances, 0x0110)

            def answered(claim: str, status: int) -> None:
                assert prove(f"in/answer/report-{claim}")["status"] == f"{status:04X}"

            with destination.associate() as own:
                answered("echo", own.send_c_echo().Status)
                unknown = "no-question-was-asked-under-this-transaction-uid"
                answered(unknown, send_report(own, generate_uid(), instances, failed))
                answered(unknown, send_report(own, "2.25.1234", instances, failed))
                answered("only-event-types-1-and-2-are-known", send_report(own, asked.transaction, instances, failed, event=3))
                answered("event-information-is-missing-or-cannot-be-read", send_report(own, asked.transaction, {}, {}))
                answered("not-the-well-known-sop-instance", send_report(own, asked.transaction, instances, failed, instance="1.2.3"))
                answered("only-storage-commitment-is-reported-here", send_report(own, asked.transaction, instances, failed, sop_class="1.2.3"))
                # What was never asked for is no word about what was.
                answered("taken", send_report(own, asked.transaction, {"1.2.3": few[0].sop_class}, {}))
                assert (asker.reports, transactions(stack)) == ([], ["open"])
                answered("taken", send_report(own, asked.transaction, instances, {}))
                # Said again, otherwise, and too late to matter.
                answered("taken", send_report(own, asked.transaction, instances, failed))
            report = asker.wait(transaction, stack.logs)
            assert (report.event_type, report.committed) == (1, names(few))


def test_orthanc_as_the_destination(make_stack, tmp_path, few):
    port = free_ports()
    modality = {"AET": CALLING, "Host": HOST, "Port": port, "AllowStorageCommitment": True}
    try:
        archive = Orthanc(tmp_path, DicomModalities={"sluis": modality})
    except Absent as absent:
        pytest.skip(f"peer orthanc: {absent}")
    with archive, Asker(listens=True) as asker:
        stack = stack_for(make_stack, archive, asker)
        with stack.edit("gateway-in") as receiving:
            receiving["commitment"]["listen"] = f"{HOST}:{port}"
        with stack:
            send(stack, few)
            transaction = asker.ask(stack.listen, stack.ae, few)
            report = asker.wait(transaction, lambda: f"{archive.logs()}\n{stack.logs()}", 40)
            assert (report.event_type, report.committed) == (1, names(few))
            assert sorted(receipt["level"] for receipt in stack.receipts()) == [1] * len(few) + [2] * len(few)
