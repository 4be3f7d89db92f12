"""A CT study of 400 slices of 525 kB: each answered 0000H, byte-identical at the destination, with one verified receipt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import generate, senders
from harness.destinations import wait_for_arrivals
from harness.processes import wait_until
from harness.stack import one_receipt_each


def test_a_study_from_storescu(make_stack, peer, ct_study):
    destination = peer("dcmtk", any_peer=True)
    with make_stack(to=destination.address) as stack:
        answers = senders.storescu(stack.listen, stack.ae, [one.path for one in ct_study])
        assert set(answers.values()) == {0}, {status: list(answers.values()).count(status) for status in answers.values()}
        wait_for_arrivals(destination, ct_study, 120, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, ct_study)


@pytest.mark.proves("out/storage/level", "out/storage/coercion", "out/storage/signatures", "out/storage/transcoding", "out/storage/move-originator")
def test_a_study_from_pynetdicom(make_stack, peer, ct_study):
    destination = peer("pynetdicom", any_peer=True)
    with make_stack(to=destination.address, suite="A") as stack:
        some = ct_study[:100]
        answers = senders.pynetdicom_send(stack.listen, stack.ae, some, originator=("MOVER", 7))
        assert set(answers.values()) == {0}
        wait_for_arrivals(destination, some, 120, stack.logs)
        if destination.name == "pynetdicom":
            assert set(destination.attempts.values()) == {1}, "an instance was stored twice without need"
            assert {(str(title).strip(), number) for title, number in destination.originators.values()} == {("MOVER", 7)}
        stack.wait_settled()
        one_receipt_each(stack, some)


def test_four_studies_at_once(make_stack, peer, tmp_path):
    """Four associations of one sender; afterwards the outbox holds no body and no instance waits."""
    destination = peer("pynetdicom")
    studies = [generate.study(tmp_path / str(number), 60, seed=60 + number, side=128) for number in range(4)]
    with make_stack(to=destination.address) as stack:

        def send(study) -> set[int]:
            return set(senders.storescu(stack.listen, stack.ae, [one.path for one in study]).values())

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(send, studies)) == [{0}] * 4
        everything = [one for study in studies for one in study]
        wait_for_arrivals(destination, everything, 60, stack.logs)
        stack.wait_settled()
        assert set(destination.attempts.values()) == {1}
        for study in studies:
            order = [name for _, name, _ in destination.events if name in {one.sop_instance for one in study}]
            assert order == [one.sop_instance for one in study], "a study arrived in another order than it was sent in"
        # The receipt is stored first, then the file goes.
        wait_until("every body to go after its receipt", lambda: stack.body_bytes() == 0, 10, stack.logs)


def test_a_destination_that_takes_one_association_at_a_time(make_stack, peer, tmp_path):
    """storescp without --fork serves one association: an idle one that we keep open must not hold up our next one."""
    destination = peer("dcmtk")
    classes = [f"1.2.840.10008.5.1.4.1.1.{last}" for last in ("2", "4", "1", "7", "6.1")]
    sent = [
        generate.study(tmp_path / str(number), 1, seed=70 + number, sop_class=name)[0] for number, name in enumerate(classes)
    ]
    with make_stack(to=destination.address) as stack:
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, sent).values()) == {0}
        wait_for_arrivals(destination, sent, 10, stack.logs)
