"""Every transfer syntax and SOP class passes as it is, private ones too; real files arrive byte-identical."""

from __future__ import annotations

from pathlib import Path

import data_store
import pydicom
import pytest
from pydicom.uid import AllTransferSyntaxes

from harness import generate, part10, senders
from harness.destinations import wait_for_arrivals
from harness.stack import one_receipt_each

PRIVATE_SYNTAXES = ["2.25.162534567823456789012345678901234567", "1.2.840.113619.5.2"]
PRIVATE_CLASSES = ["2.25.98765432109876543210987654321098765", "1.3.12.2.1107.5.9.1", "1.2.840.113619.4.27"]
# Newer than the dictionaries of the peers here: HTJ2K, JPIP HTJ2K, SMPTE ST 2110, frame-deflated image, JPEG XL, encapsulated uncompressed.
NEWER_SYNTAXES = [
    "1.2.840.10008.1.2.1.98",
    "1.2.840.10008.1.2.4.110",
    "1.2.840.10008.1.2.4.111",
    "1.2.840.10008.1.2.4.112",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.4.204",
    "1.2.840.10008.1.2.4.205",
    "1.2.840.10008.1.2.7.1",
    "1.2.840.10008.1.2.8.1",
]
# storescu's option for each syntax that it can propose (DCMTK 3.6.7).
DCMTK = {
    "-xi": "1.2.840.10008.1.2",
    "-xe": "1.2.840.10008.1.2.1",
    "-xb": "1.2.840.10008.1.2.2",
    "-xd": "1.2.840.10008.1.2.1.99",
    "-xy": "1.2.840.10008.1.2.4.50",
    "-xx": "1.2.840.10008.1.2.4.51",
    "-xs": "1.2.840.10008.1.2.4.70",
    "-xt": "1.2.840.10008.1.2.4.80",
    "-xu": "1.2.840.10008.1.2.4.81",
    "-xv": "1.2.840.10008.1.2.4.90",
    "-xw": "1.2.840.10008.1.2.4.91",
    "-xm": "1.2.840.10008.1.2.4.100",
    "-xh": "1.2.840.10008.1.2.4.101",
    "-xn": "1.2.840.10008.1.2.4.102",
    "-xl": "1.2.840.10008.1.2.4.103",
    "-x2": "1.2.840.10008.1.2.4.104",
    "-x3": "1.2.840.10008.1.2.4.105",
    "-x4": "1.2.840.10008.1.2.4.107",
    "-x5": "1.2.840.10008.1.2.4.108",
    "-xr": "1.2.840.10008.1.2.5",
}
# Real files that end in the middle of an element: they must be refused, and nothing may leave.
TRUNCATED = {"MR_truncated.dcm", "rtplan_truncated.dcm"}


def test_every_syntax_from_pynetdicom_to_pynetdicom(make_stack, peer, tmp_path):
    destination = peer("pynetdicom")
    syntaxes = sorted({*map(str, AllTransferSyntaxes), *NEWER_SYNTAXES, *PRIVATE_SYNTAXES})
    sent = [
        generate.study(tmp_path / "in" / syntax, 1, seed=number, syntax=syntax)[0] for number, syntax in enumerate(syntaxes)
    ]
    with make_stack(to=destination.address) as stack:
        answers = senders.pynetdicom_send(stack.listen, stack.ae, sent)
        refused = {one.transfer_syntax: answers[one.sop_instance] for one in sent if answers.get(one.sop_instance) != 0}
        assert not refused, f"answered otherwise than 0000H: {refused}"
        wait_for_arrivals(destination, sent, 60, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, sent)
    print(f"{len(syntaxes)} transfer syntaxes")


def test_every_syntax_of_dcmtk(make_stack, peer, tmp_path):
    destination = peer("dcmtk")
    with make_stack(to=destination.address) as stack:
        sent = []
        for option, syntax in DCMTK.items():
            one = generate.study(tmp_path / "in" / syntax, 1, seed=len(sent) + 50, syntax=syntax)[0]
            answers = senders.storescu(stack.listen, stack.ae, [one.path], option)
            assert answers == {one.path: 0}, f"{syntax}: {answers}"
            sent.append(one)
        if deflated := [one for one in sent if one.transfer_syntax == generate.DEFLATED]:
            # storescu inflates and deflates again: its bytes are its own, so that only the arrival counts here.
            sent = [one for one in sent if one not in deflated]
        wait_for_arrivals(destination, sent, 60, stack.logs)
        stack.wait_settled()
        assert {one.sop_instance for one in deflated} <= destination.arrived().keys()


def test_private_sop_classes(make_stack, peer, tmp_path):
    destination = peer("pynetdicom")
    sent = [
        generate.study(tmp_path / "in" / name, 1, seed=number, sop_class=name)[0]
        for number, name in enumerate(PRIVATE_CLASSES)
    ]
    with make_stack(to=destination.address) as stack:
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, sent).values()) == {0}
        wait_for_arrivals(destination, sent, 30, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, sent)


def real_files() -> list[part10.Instance]:
    """The files of pydicom's and pydicom-data's wheels that have file meta information, one for each SOP Instance UID."""
    found: dict[str, part10.Instance] = {}
    for root in (Path(pydicom.__file__).parent / "data" / "test_files", Path(data_store.__file__).parent / "data"):
        for one in part10.find(root):
            if one.sop_instance and one.sop_class and one.path.suffix == ".dcm":
                found.setdefault(one.sop_instance, one)
    return list(found.values())


@pytest.mark.parametrize("name", ["pynetdicom", "orthanc"])
def test_real_files(make_stack, peer, name):
    """Sent as their bytes are. What is not answered 0000H must not arrive, and only a truncated file may be refused."""
    real = real_files()
    assert len(real) > 60, f"only {len(real)} real files: are pydicom and pydicom-data installed?"
    if name == "orthanc":
        # Orthanc keeps what it can parse, by its own rules; a dozen of images of different syntaxes is enough here.
        real = [one for one in real if one.path.name in {"CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "rtplan.dcm", "US1_J2KR.dcm"}]
    destination = peer(name)
    with make_stack(to=destination.address) as stack:
        answers: dict[str, int] = {}
        for at in range(0, len(real), 60):
            answers |= senders.pynetdicom_send(stack.listen, stack.ae, real[at : at + 60])
        refused = {one.path.name: f"{answers.get(one.sop_instance, -1):04X}" for one in real if answers.get(one.sop_instance) != 0}
        print(f"{len(real)} real files, refused: {refused}")
        accepted = [one for one in real if answers.get(one.sop_instance) == 0]
        wait_for_arrivals(destination, accepted, 60, stack.logs)
        stack.wait_settled()
        assert destination.arrived().keys() == {one.sop_instance for one in accepted}
        one_receipt_each(stack, accepted)
        assert set(refused) <= TRUNCATED, refused


def test_a_truncated_file_is_refused_and_nothing_leaves(make_stack, peer):
    truncated = [one for one in real_files() if one.path.name in TRUNCATED]
    assert truncated
    destination = peer("pynetdicom")
    with make_stack(to=destination.address) as stack:
        for one in truncated:
            (status,) = senders.pynetdicom_send(stack.listen, stack.ae, [one]).values()
            assert status >> 12 == 0xC, f"{one.path.name}: {status:04X}"
        assert stack.queue() == []
        assert destination.arrived() == {}
