"""A folder as destination: Part 10 files, written atomically; an identical one is success, a different one never overwritten."""

from __future__ import annotations

import pydicom
import pytest

from harness import generate, part10, senders
from harness.processes import run, wait_until
from harness.destinations import program
from harness.stack import one_receipt_each


@pytest.fixture
def inbox(tmp_path):
    return tmp_path / "inbox"


def files(inbox) -> list:
    return sorted(path for path in inbox.rglob("*") if path.is_file())


def test_files_lie_by_study_series_and_instance(make_stack, inbox, small_study):
    with make_stack(folder=inbox) as stack:
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in small_study]).values()) == {0}
        stack.wait_settled()
        for one in small_study:
            header = pydicom.dcmread(one.path, stop_before_pixels=True)
            path = inbox / header.StudyInstanceUID / header.SeriesInstanceUID / f"{one.sop_instance}.dcm"
            arrived = part10.read(path)
            assert (arrived.sop_class, arrived.sop_instance, arrived.transfer_syntax) == (
                one.sop_class,
                one.sop_instance,
                one.transfer_syntax,
            )
            assert arrived.digest() == one.digest()
        assert len(files(inbox)) == len(small_study), "other files beside the instances"
        run([program("dcmdump"), "-q", files(inbox)[0]])
        one_receipt_each(stack, small_study)


def test_an_identical_file_is_success_and_a_different_one_is_numbered(make_stack, inbox, few):
    one = few[0]
    changed_bytes = bytearray(one.data_set())
    changed_bytes[-1] ^= 0xFF
    changed = part10.write(one.path.with_name("changed.dcm"), one.sop_class, one.sop_instance, one.transfer_syntax, bytes(changed_bytes))
    with make_stack(folder=inbox) as stack:

        def send(instance) -> None:
            assert senders.pynetdicom_send(stack.listen, stack.ae, [instance]) == {instance.sop_instance: 0}
            stack.wait_settled()

        send(one)
        (first,) = files(inbox)
        written = first.stat().st_mtime_ns
        send(one)
        assert files(inbox) == [first] and first.stat().st_mtime_ns == written, "an identical file was written again"
        send(changed)
        both = files(inbox)
        assert len(both) == 2 and first in both
        assert {part10.read(path).digest() for path in both} == {one.digest(), changed.digest()}
        assert part10.read(first).digest() == one.digest(), "the earlier file was overwritten"
        (numbered,) = set(both) - {first}
        assert numbered.name.startswith(one.sop_instance) and numbered.parent == first.parent
        flagged = stack.log_text("gateway-in").lower()
        assert "differ" in flagged or "other content" in flagged, "nobody is told of the second version"
        assert len(stack.receipts()) == 3


def test_a_uid_that_is_no_file_name_writes_nothing_outside(make_stack, inbox, tmp_path):
    """UIDs become paths: only digits and dots, and nothing that climbs."""
    evil = "../../../../../../tmp/evil"
    encoded = generate.data_set(generate.CT_IMAGE, "1.2.3", evil, "1.2.3.4")
    climbing = part10.write(tmp_path / "evil.dcm", generate.CT_IMAGE, "1.2.3", generate.EXPLICIT, encoded)
    dots = generate.data_set(generate.CT_IMAGE, "1.2.4", "..", ".")
    dotted = part10.write(tmp_path / "dots.dcm", generate.CT_IMAGE, "1.2.4", generate.EXPLICIT, dots)
    with make_stack(folder=inbox) as stack:
        for one in (climbing, dotted):
            (status,) = senders.pynetdicom_send(stack.listen, stack.ae, [one]).values()
            if status == 0:
                wait_until("it to be parked", lambda: "parked" in str(stack.queue()), 20, stack.logs)
            else:
                assert status >> 12 in (0xA, 0xC), f"{status:04X}"
            for row in stack.queue():
                stack.command("gateway-out", "queue", "discard", row["delivery"], "--reason", "test")
        assert files(inbox) == []
        assert not (tmp_path.parent / "tmp").exists()
