"""A CT study of 400 slices of 525 kB: each answered 0000H, byte-identical at the destination, with one verified receipt."""

from __future__ import annotations

from harness import senders
from harness.destinations import wait_for_arrivals
from harness.stack import one_receipt_each


def test_a_study_from_storescu(make_stack, peer, ct_study):
    destination = peer("dcmtk", any_peer=True)
    with make_stack(to=destination.address) as stack:
        answers = senders.storescu(stack.listen, stack.ae, [one.path for one in ct_study])
        assert set(answers.values()) == {0}, {status: list(answers.values()).count(status) for status in answers.values()}
        wait_for_arrivals(destination, ct_study, 120, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, ct_study)


def test_a_study_from_pynetdicom(make_stack, peer, ct_study):
    destination = peer("pynetdicom", any_peer=True)
    with make_stack(to=destination.address, suite="A") as stack:
        answers = senders.pynetdicom_send(stack.listen, stack.ae, ct_study, originator=("MOVER", 7))
        assert set(answers.values()) == {0}
        wait_for_arrivals(destination, ct_study, 120, stack.logs)
        if destination.name == "pynetdicom":
            assert set(destination.attempts.values()) == {1}, "an instance was stored twice without need"
            assert {(str(title).strip(), number) for title, number in destination.originators.values()} == {("MOVER", 7)}
        stack.wait_settled()
        one_receipt_each(stack, ct_study)
