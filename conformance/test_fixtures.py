"""The repository's own fixtures pass as they are: CT, multi-frame, reports, structure set, private attributes, character sets."""

from __future__ import annotations

import pytest

from harness import part10, senders
from harness.destinations import wait_for_arrivals
from harness.processes import run
from harness.stack import binary, one_receipt_each


@pytest.mark.parametrize("kind", ["demo", "syntaxes"])
def test_fixtures_arrive_byte_identical(make_stack, peer, tmp_path, kind):
    run([binary("fixtures"), kind, "--out", tmp_path / kind])
    sent = part10.find(tmp_path / kind)
    assert len(sent) >= 8
    destination = peer("pynetdicom")
    with make_stack(to=destination.address) as stack:
        answers = senders.pynetdicom_send(stack.listen, stack.ae, sent)
        refused = {one.path.name: f"{answers[one.sop_instance]:04X}" for one in sent if answers[one.sop_instance] != 0}
        assert not refused, refused
        wait_for_arrivals(destination, sent, 60, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, sent)


def test_the_send_command_says_whether_all_were_accepted(make_stack, peer, tmp_path):
    """`gateway-out send` goes through the daemon's own C-STORE port; one file it cannot read makes its exit code 1."""
    run([binary("fixtures"), "demo", "--out", tmp_path / "demo"])
    sent = part10.find(tmp_path / "demo")
    destination = peer("pynetdicom")
    with make_stack(to=destination.address) as stack:
        stack.command("gateway-out", "send", str(tmp_path / "demo"))
        wait_for_arrivals(destination, sent, 60, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, sent)
        (tmp_path / "demo" / "broken.dcm").write_bytes(sent[0].path.read_bytes()[:1000])
        assert stack.command("gateway-out", "send", str(tmp_path / "demo"), check=False).returncode == 1
