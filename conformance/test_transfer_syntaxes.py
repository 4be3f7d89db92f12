"""Every transfer syntax and SOP class passes as it is, private ones too; real files arrive byte-identical."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import AllTransferSyntaxes

from harness import generate, part10, senders
from harness.destinations import wait_for_arrivals
from harness.processes import run, wait_until
from harness.stack import TOP, one_receipt_each

PRIVATE_SYNTAXES = ["2.25.162534567823456789012345678901234567", "1.2.840.113619.5.2"]
PRIVATE_CLASSES = ["2.25.98765432109876543210987654321098765", "1.3.12.2.1107.5.9.1", "1.2.840.113619.4.27"]
# Newer than the dictionaries of the peers here: JPIP, HTJ2K, JPIP HTJ2K, SMPTE ST 2110, frame-deflated image, JPEG XL, encapsulated uncompressed.
NEWER_SYNTAXES = [
    "1.2.840.10008.1.2.1.98",
    "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.95",
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
# Real files that end in the middle of an element, or are not what their transfer syntax says (fixtures/real.py has the reasons).
BROKEN = {"MR_truncated.dcm", "rtplan_truncated.dcm", "emri_small_jpeg_2k_lossless_too_short.dcm", "SC_rgb_jpeg.dcm"}


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
        wanted = {one.sop_instance for one in deflated}
        wait_until("the deflated one", lambda: wanted <= destination.arrived().keys(), 10, stack.logs)


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


def real_files(directory: Path, *options: str) -> list[part10.Instance]:
    """Real files out of pydicom's and pydicom-data's wheels, named as their data sets name themselves (as any sender does)."""
    run([sys.executable, TOP / "fixtures" / "real.py", directory, *options])
    found = []
    for one in part10.find(directory):
        header = pydicom.dcmread(one.path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        found.append(dataclasses.replace(one, sop_class=str(header.SOPClassUID), sop_instance=str(header.SOPInstanceUID)))
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["pynetdicom", "orthanc"])
def test_real_files(make_stack, peer, tmp_path, name):
    """Sent as their bytes are, broken ones too: those are refused and do not arrive, all others are byte-identical."""
    options = ["--unique", "--broken"] if name == "pynetdicom" else ["--unique"]
    real = real_files(tmp_path / "real", *options)
    if name == "orthanc":
        # Orthanc keeps what it can parse, by its own rules; a few of different syntaxes and modalities are enough here.
        real = [one for one in real if one.path.name in {"CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "rtplan.dcm", "US1_J2KR.dcm"}]
    else:
        assert len(real) > 50, f"only {len(real)} real files"
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
        broken = {one.path.name for one in real} & BROKEN
        assert refused.keys() == broken and all(code.startswith("C") for code in refused.values()), refused


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_files_are_refused_and_nothing_leaves(make_stack, peer, tmp_path):
    broken = [one for one in real_files(tmp_path / "real", "--broken") if one.path.name in BROKEN]
    assert {one.path.name for one in broken} == BROKEN
    destination = peer("pynetdicom")
    with make_stack(to=destination.address) as stack:
        for one in broken:
            (status,) = senders.pynetdicom_send(stack.listen, stack.ae, [one]).values()
            assert status >> 12 == 0xC, f"{one.path.name}: {status:04X}"
        assert stack.queue() == []
        assert destination.attempts == {}
