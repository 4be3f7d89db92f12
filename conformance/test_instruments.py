"""The suite's own instruments against each other, without Sluis: what they say about Sluis is worth no more than this."""

from __future__ import annotations

import pytest

from harness import generate, part10, senders
from harness.destinations import Absent, Orthanc, PynetdicomScp, Storescp, compare, wait_for_arrivals
from harness.rawul import Acceptor, Behaviour, Closed, Rejected, Requestor

PRIVATE_SYNTAX = "2.25.162534567823456789012345678901234567"
PRIVATE_CLASS = "2.25.98765432109876543210987654321098765"


def no_logs() -> str:
    return ""


def test_storescu_to_storescp_keeps_generated_data_sets(tmp_path):
    """DCMTK re-encodes what it reads: only data sets that survive that may be compared when storescu sends."""
    with Storescp(tmp_path) as scp:
        for syntax, option in (
            (generate.EXPLICIT, "-xe"),
            (generate.IMPLICIT, "-xi"),
            (generate.BIG_ENDIAN, "-xb"),
            ("1.2.840.10008.1.2.4.50", "-xy"),
        ):
            sent = generate.study(tmp_path / syntax, 3, seed=len(syntax), syntax=syntax)
            answers = senders.storescu(scp.port, scp.ae, [one.path for one in sent], option)
            assert set(answers.values()) == {0}, answers
            wait_for_arrivals(scp, sent, 10, no_logs)


@pytest.mark.parametrize("syntax", [generate.EXPLICIT, generate.DEFLATED, PRIVATE_SYNTAX, "1.2.840.10008.1.2.4.201"])
def test_pynetdicom_to_pynetdicom_keeps_bytes(tmp_path, syntax):
    sent = generate.study(tmp_path / "in", 3, seed=4, syntax=syntax, sop_class=PRIVATE_CLASS)
    with PynetdicomScp() as scp:
        assert set(senders.pynetdicom_send(scp.port, scp.ae, sent, originator=("MOVER", 77)).values()) == {0}
        compare(scp, sent)
        assert {(str(title).strip(), number) for title, number in scp.originators.values()} == {("MOVER", 77)}


def test_a_changed_byte_is_seen(tmp_path):
    sent = generate.study(tmp_path / "in", 2, seed=5)
    with PynetdicomScp() as scp:
        senders.pynetdicom_send(scp.port, scp.ae, sent)
        encoded = bytearray(sent[1].path.read_bytes())
        encoded[-1] ^= 1
        sent[1].path.write_bytes(encoded)
        with pytest.raises(AssertionError, match="1 of 2 differ"):
            compare(scp, sent)


def test_orthanc_gives_back_the_bytes(tmp_path):
    try:
        orthanc = Orthanc(tmp_path)
    except Absent as absent:
        pytest.skip(str(absent))
    sent = generate.study(tmp_path / "in", 2, seed=6)
    with orthanc:
        assert set(senders.storescu(orthanc.port, orthanc.ae, [one.path for one in sent]).values()) == {0}
        wait_for_arrivals(orthanc, sent, 20, no_logs)


def test_statuses_of_a_destination_are_read(tmp_path):
    sent = generate.study(tmp_path / "in", 4, seed=7)
    wanted = dict(zip((one.sop_instance for one in sent), (0x0000, 0xA700, 0xA900, 0xC123), strict=True))
    with PynetdicomScp(behave=lambda name, _seen: wanted[name]) as scp:
        assert senders.pynetdicom_send(scp.port, scp.ae, sent) == wanted
        by_path = senders.storescu(scp.port, scp.ae, [one.path for one in sent])
        # storescu prints the name of a range, not its code.
        assert [by_path[one.path] for one in sent] == [0x0000, 0xA700, 0xA900, 0xC000]
        assert scp.arrived().keys() == {sent[0].sop_instance}


def test_raw_requestor_against_storescp(tmp_path):
    sent = generate.study(tmp_path / "in", 3, seed=8)
    contexts = {1: (generate.CT_IMAGE, [generate.EXPLICIT]), 3: ("1.2.840.10008.1.1", [generate.IMPLICIT])}
    with Storescp(tmp_path) as scp:
        link = Requestor(scp.port, scp.ae, contexts)
        assert link.accepted == {1: generate.EXPLICIT, 3: generate.IMPLICIT}
        assert link.echo(3) == 0
        first, second, third = sent
        assert link.store_packed(1, first.sop_class, first.sop_instance, first.data_set()) == 0
        assert link.store_split(1, second.sop_class, second.sop_instance, second.data_set(), 500) == 0
        assert link.store(1, third.sop_class, third.sop_instance, third.data_set()) == 0
        link.release()
        wait_for_arrivals(scp, sent, 5, no_logs)


def test_raw_acceptor_with_storescu(tmp_path):
    sent = generate.study(tmp_path / "in", 3, seed=9)

    def behave(name: str, _seen: int) -> Behaviour:
        return Behaviour(status=0xA700 if name == sent[1].sop_instance else 0)

    with Acceptor(behave=behave) as scp:
        answers = senders.storescu(scp.port, scp.ae, [one.path for one in sent])
        assert [answers[one.path] for one in sent] == [0, 0xA700, 0]
        assert [(one.sop_instance, one.digest) for one in scp.arrivals] == [(one.sop_instance, one.digest()) for one in sent]
        assert scp.attempts[sent[0].sop_instance] == 1


def test_raw_acceptor_aborts_where_told(tmp_path):
    sent = generate.study(tmp_path / "in", 1, seed=10)
    with Acceptor(behave=lambda _name, _seen: Behaviour(abort_after_bytes=100)) as scp:
        link = Requestor(scp.port, scp.ae, {1: (generate.CT_IMAGE, [generate.EXPLICIT])})
        with pytest.raises((Closed, OSError)):
            link.store(1, sent[0].sop_class, sent[0].sop_instance, sent[0].data_set())
        assert scp.arrivals == []


def test_rejection_of_an_association_is_read(tmp_path):
    with Storescp(tmp_path, "STORESCP", None, "--refuse") as scp, pytest.raises(Rejected) as refused:
        Requestor(scp.port, "STORESCP", {1: (generate.CT_IMAGE, [generate.EXPLICIT])})
    assert refused.value.triple[0] in (1, 2)


def test_large_instances_are_written_in_constant_memory_and_read_by_dcmtk(tmp_path):
    large = generate.large(tmp_path / "large.dcm", 20 << 20, seed=1)
    assert part10.read(large.path) == large
    with Storescp(tmp_path) as scp:
        assert senders.storescu(scp.port, scp.ae, [large.path])[large.path] == 0
        wait_for_arrivals(scp, [large], 10, no_logs)
