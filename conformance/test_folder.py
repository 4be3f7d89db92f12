"""A folder as destination: Part 10 files, written atomically; an identical one is success, a different one never overwritten."""

from __future__ import annotations

import pydicom
import pytest

from harness import generate, part10, senders
from harness.destinations import program
from harness.processes import run
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
        told = [line for line in stack.log_text("gateway-in").splitlines() if "WARN" in line and "numbered" in line]
        assert len(told) == 1, "nobody is told of the second version"
        assert len(stack.receipts()) == 3


def test_a_uid_that_is_no_file_name_writes_nothing_outside(make_stack, inbox, tmp_path):
    """UIDs become names of folders: whatever they hold, the file stays in a folder of its own below the inbox."""
    sent = []
    for number, (study, series) in enumerate([("../../../../../../tmp/evil", "1.2.3.4"), ("..", "."), ("1.2.3/x", ""), ("/etc", "~")]):
        name = f"1.2.{number + 3}"
        encoded = generate.data_set(generate.CT_IMAGE, name, study, series)
        sent.append(part10.write(tmp_path / "in" / f"{number}.dcm", generate.CT_IMAGE, name, generate.EXPLICIT, encoded))
    before = {path for path in tmp_path.rglob("*") if inbox not in path.parents}
    with make_stack(folder=inbox) as stack:
        answers = senders.pynetdicom_send(stack.listen, stack.ae, sent)
        assert all(status == 0 or status >> 12 in (0xA, 0xC) for status in answers.values()), answers
        stack.wait_settled()
        accepted = {one.sop_instance: one.digest() for one in sent if answers[one.sop_instance] == 0}
        assert {part10.read(path).sop_instance: part10.read(path).digest() for path in files(inbox)} == accepted
        for path in files(inbox):
            inside = path.relative_to(inbox).parts
            assert len(inside) == 3 and not any(part.startswith(("..", "~")) for part in inside), inside
        outside = {path for path in tmp_path.rglob("*") if inbox not in path.parents and stack.directory not in path.parents}
        assert outside - before <= {inbox, stack.directory}
