"""How data sets are cut into PDUs is nobody's business: packed, split, empty, 4 KiB and 128 KiB, a small peer behind."""

from __future__ import annotations

import contextlib

import pytest

from harness import generate, senders
from harness.destinations import Storescp, wait_for_arrivals
from harness.rawul import Acceptor, Closed, Requestor

CT = {1: (generate.CT_IMAGE, [generate.EXPLICIT])}


def test_packed_split_and_empty_pdvs(make_stack, peer, few):
    destination = peer("dcmtk")
    with make_stack(to=destination.address) as stack:
        link = Requestor(stack.listen, stack.ae, CT)
        layouts = [
            lambda one: link.store_packed(1, one.sop_class, one.sop_instance, one.data_set()),
            lambda one: link.store_split(1, one.sop_class, one.sop_instance, one.data_set(), 777),
            lambda one: link.store_split(1, one.sop_class, one.sop_instance, one.data_set(), 13),
            lambda one: link.store_split(1, one.sop_class, one.sop_instance, one.data_set(), 5000, empty=True),
            lambda one: link.store(1, one.sop_class, one.sop_instance, one.data_set()),
        ]
        for one, send in zip(few, layouts, strict=True):
            assert send(one) == 0
        link.release()
        wait_for_arrivals(destination, few, 30, stack.logs)


@pytest.mark.parametrize("pdu", [4096, 16384, 131072])
def test_pdu_sizes_on_both_sides(make_stack, tmp_path, pdu):
    sent = generate.study(tmp_path / "in", 8, seed=pdu, side=256)
    with Storescp(tmp_path, "SMALL", None, "-pdu", str(pdu)) as destination, make_stack(to=destination.address) as stack:
        size = str(pdu)
        answers = senders.storescu(stack.listen, stack.ae, [one.path for one in sent], "-pdu", size, "--max-send-pdu", size)
        assert set(answers.values()) == {0}
        wait_for_arrivals(destination, sent, 30, stack.logs)


def test_a_data_set_that_stops_in_the_middle_forwards_nothing(make_stack, few):
    with Acceptor() as destination, make_stack(to=destination.address) as stack:
        first, second, third, fourth, fifth = few
        for one, ending in ((first, "close"), (second, "abort")):
            link = Requestor(stack.listen, stack.ae, CT)
            link.begin(1, one.sop_class, one.sop_instance)
            link.data(1, one.data_set()[:20_000], last=False)
            getattr(link, ending)()
        link = Requestor(stack.listen, stack.ae, CT)
        link.begin(1, third.sop_class, third.sop_instance)
        link.data(1, third.data_set()[:20_000], last=False)
        with contextlib.suppress(Closed, OSError):
            link.release()  # Some peers answer it, some abort: either way the data set has no end.
        # The last fragment comes, but the data set is short of its pixel data.
        link = Requestor(stack.listen, stack.ae, CT)
        assert link.store(1, fourth.sop_class, fourth.sop_instance, fourth.data_set()[:-100]) >> 12 == 0xC
        assert link.store(1, fifth.sop_class, fifth.sop_instance, fifth.data_set()) == 0
        link.release()
        stack.wait_settled()
        assert [one.sop_instance for one in destination.arrivals] == [fifth.sop_instance]
        assert destination.partial == [], "a partial data set reached the destination"


def test_a_mismatch_of_command_and_data_set_is_answered_a900(make_stack, few):
    with Acceptor() as destination, make_stack(to=destination.address) as stack:
        link = Requestor(stack.listen, stack.ae, {**CT, 3: (generate.SECONDARY_CAPTURE, [generate.EXPLICIT])})
        one, other = few[:2]
        assert link.store(1, one.sop_class, other.sop_instance, one.data_set()) == 0xA900
        assert link.store(3, generate.SECONDARY_CAPTURE, one.sop_instance, one.data_set()) == 0xA900
        assert link.store(1, one.sop_class, one.sop_instance, one.data_set()) == 0
        link.release()
        stack.wait_settled()
        assert [arrival.sop_instance for arrival in destination.arrivals] == [one.sop_instance]
