"""Who may associate: C-ECHO, called and calling AE title, source address, limits, and the reason given to who may not."""

from __future__ import annotations

import pytest
from pynetdicom import AE

from harness import generate, senders
from harness.processes import HOST, wait_until
from harness.rawul import Rejected, Requestor

ECHO = {1: ("1.2.840.10008.1.1", [generate.IMPLICIT])}
PERMANENT, TRANSIENT = 1, 2
USER, PRESENTATION = 1, 3
CALLING_UNKNOWN, CALLED_UNKNOWN, LIMIT_EXCEEDED = 3, 7, 2


@pytest.fixture
def stack(make_stack):
    stack = make_stack()
    with stack.edit("gateway-out") as out:
        out["route"][0]["calling"] = ["MODALITY", "PACS 1"]
        out["route"][0]["sources"] = [f"{HOST}/32"]
        out["dicom"]["associations_max"] = 3
    stack.start("relay", "gateway-out")
    return stack


def test_echo_by_three_stacks(stack):
    done = senders.echoscu(stack.listen, stack.ae, "-aet", "MODALITY")
    assert done.returncode == 0 and "Success" in done.stdout + done.stderr, done.stdout + done.stderr
    entity = AE(ae_title="PACS 1")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate(HOST, stack.listen, ae_title=stack.ae)
    assert association.is_established
    assert association.send_c_echo().Status == 0
    association.release()
    raw = Requestor(stack.listen, stack.ae, ECHO, calling="MODALITY")
    assert raw.echo(1) == raw.echo(1) == 0
    raw.release()


@pytest.mark.parametrize(
    ("called", "calling", "source", "triple"),
    [
        ("WRONG", "MODALITY", HOST, (PERMANENT, USER, CALLED_UNKNOWN)),
        ("sluis", "MODALITY", HOST, (PERMANENT, USER, CALLED_UNKNOWN)),
        ("SLUIS", "STRANGER", HOST, (PERMANENT, USER, CALLING_UNKNOWN)),
        ("SLUIS", "modality", HOST, (PERMANENT, USER, CALLING_UNKNOWN)),
        ("SLUIS", "MODALITY", "127.0.0.2", (PERMANENT, USER, CALLING_UNKNOWN)),
    ],
    ids=["called", "called-case", "calling", "calling-case", "source"],
)
def test_strangers_are_rejected_with_the_reason(stack, called, calling, source, triple):
    with pytest.raises(Rejected) as refused:
        Requestor(stack.listen, called, ECHO, calling=calling, source=source)
    assert refused.value.triple == triple


def test_titles_are_trimmed(stack):
    Requestor(stack.listen, " SLUIS ", ECHO, calling=" MODALITY").release()


def test_more_associations_than_the_limit_are_rejected_as_transient(stack):
    held = [Requestor(stack.listen, stack.ae, ECHO, calling="MODALITY") for _ in range(3)]
    with pytest.raises(Rejected) as refused:
        Requestor(stack.listen, stack.ae, ECHO, calling="MODALITY")
    assert refused.value.triple == (TRANSIENT, PRESENTATION, LIMIT_EXCEEDED)
    for link in held:
        link.release()

    def free_again() -> bool:
        try:
            Requestor(stack.listen, stack.ae, ECHO, calling="MODALITY").release()
        except Rejected:
            return False
        return True

    wait_until("room for another association", free_again, 5, stack.logs)


def test_a_service_that_is_not_storage_is_not_accepted(stack):
    contexts = {
        1: ("1.2.840.10008.5.1.4.1.2.1.1", [generate.IMPLICIT]),  # Patient Root C-FIND
        3: ("1.2.840.10008.1.20.1", [generate.IMPLICIT]),  # Storage Commitment
        5: (generate.CT_IMAGE, [generate.EXPLICIT]),
    }
    link = Requestor(stack.listen, stack.ae, contexts, calling="MODALITY")
    assert link.accepted == {5: generate.EXPLICIT}
    link.release()
