"""A route that pseudonymizes, from `storescu` to `storescp`: nothing of the patient leaves, what belongs together stays together, and
what cannot be cleaned is refused before anything of it has left."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import time
from collections import defaultdict
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

import verify_receipt

from harness import canaries, generate, metrics, part10, patients, senders
from harness.binaries import binary
from harness.commitment import Asker
from harness.destinations import PynetdicomScp, Storescp
from harness.processes import HOST, run, wait_until
from harness.proofs import committed
from harness.rawul import Requestor
from harness.stack import ROLES, delivery_id
from harness.watch import needles_in_files


# The table removes the number that this name is the condition of, and gives the name a dummy value.
BY_THE_TABLE = {
    "Error - Attribute present when condition unsatisfied (which may not be present otherwise) Type 1C Conditional "
    "Element=<ClinicalTrialProtocolEthicsCommitteeName> Module=<ClinicalTrialSubject>",
    # X in the table, and of type 1 in a presentation state; an option for dates keeps them.
    "Error - Missing attribute Type 1 Required Element=<PresentationCreationDate> Module=<PresentationStateIdentification>",
    "Error - Missing attribute Type 1 Required Element=<PresentationCreationTime> Module=<PresentationStateIdentification>",
}


def wait_for(destination: Storescp, count: int, logs) -> list[pydicom.FileDataset]:
    """What has arrived, as pydicom reads it, once it is that many."""
    wait_until(f"{count} instances at the destination", lambda: len(part10.find(destination.out)) >= count, 60 + count / 2, logs)
    time.sleep(0.3)
    return [pydicom.dcmread(one.path) for one in part10.find(destination.out)]


def only(arrived: list[pydicom.FileDataset], sop_class: str) -> list[pydicom.FileDataset]:
    return [one for one in arrived if one.SOPClassUID == sop_class]


def left_behind(stack, destination, needles: list[bytes]) -> set[str]:
    """Files in which something of the patient is: at the destination, in the state of both gateways, and in all logs."""
    logs = [f"{role}.log" for role in ROLES for needle in needles if needle in stack.log_text(role).encode()]
    found = needles_in_files(stack.directory, needles) | needles_in_files(destination.out, needles)
    return {str(path) for _, path in found} | set(logs)


def test_a_ct_study_and_an_rt_set_arrive_without_their_patient(make_stack, tmp_path):
    sent = patients.slices(tmp_path / "sent", 5) + patients.rt_set(tmp_path / "sent")
    uids = [one.sop_instance.encode() for one in sent]
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address, log="trace")
        patients.pseudonymize(stack, preset="longitudinal", words=str(tmp_path / "words.txt"))
        (tmp_path / "words.txt").write_text("thorax\naxial\n")
        with stack:
            answers = senders.storescu(stack.listen, stack.ae, [one.path for one in sent], calling="KAMER9")
            assert set(answers.values()) == {0}, answers
            arrived = wait_for(destination, len(sent), stack.logs)
            stack.wait_settled()
            assert not left_behind(stack, destination, [*patients.NEEDLES, *uids])
            # The modality's AE title names a room: gateway-out's own log may have it, nobody behind it.
            assert "KAMER9" not in stack.log_text("gateway-in") + stack.log_text("relay")
            assert not needles_in_files(destination.out, [b"KAMER9"]) | needles_in_files(stack.directory / "ledger", [b"KAMER9"])
            assert len(stack.why(sent[0].sop_instance)) == 1, "`why` knows an instance by the UID that it came with"
            study = pydicom.dcmread(sent[0].path).StudyInstanceUID
            [report] = json.loads(stack.command("gateway-out", "pseudonyms", "report", study, "--json").stdout)
            assert report["instances"] == 5
            assert {"tag": "(0010,0010)", "name": "PatientName", "what": "pseudonym", "count": 5} in report["done"]
            the_reports_are_in_the_receipts(stack, study, report["reports"])
    for one in arrived:
        assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
        assert str(one.SOPInstanceUID).startswith("2.25.") and one.preamble == bytes(128)
        assert (one.PatientIdentityRemoved, one.LongitudinalTemporalInformationModified) == ("YES", "MODIFIED")
        codes = [item.CodeValue for item in one.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113105", "113107", "113108"]
        assert one.SeriesDescription == "thorax axial" and one.PatientSex == "F"
        assert not [element for element in one.iterall() if element.tag.is_private]
    assert len({one.PatientID for one in arrived}) == 1, "one patient"
    assert len({patients.days(one.StudyDate, "20260401") for one in arrived}) == 1, "one shift"
    # References within the set resolve.
    [structures], [plan], [dose] = (only(arrived, one) for one in (patients.RT_STRUCT, patients.RT_PLAN, patients.RT_DOSE))
    images = {one.SOPInstanceUID: one for one in only(arrived, patients.CT)}
    [frame] = structures.ReferencedFrameOfReferenceSequence
    [study] = frame.RTReferencedStudySequence
    [series] = study.RTReferencedSeriesSequence
    drawn_on = [images[item.ReferencedSOPInstanceUID] for item in series.ContourImageSequence]
    assert len(drawn_on) == 2 and {one.SeriesInstanceUID for one in drawn_on} == {series.SeriesInstanceUID}
    assert frame.FrameOfReferenceUID == drawn_on[0].FrameOfReferenceUID
    assert study.ReferencedSOPInstanceUID == structures.StudyInstanceUID
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.SOPInstanceUID
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    pixels = {one.path: pydicom.dcmread(one.path).PixelData for one in sent if one.sop_class == patients.CT}
    assert sorted(pixels.values()) == sorted(one.PixelData for one in images.values())


def the_reports_are_in_the_receipts(stack, study: str, reports: list[dict]) -> None:
    """The sender has signed what was done to each instance: by the digest in the receipt the report is found, and is its SHA-256."""
    receipts = [stack.receipt_file(delivery_id(row)) for row in stack.receipts() if row["outcome"] == "stored"]
    said = [json.loads(path.read_text())["says"]["pseudonymized"].removeprefix("report ") for path in receipts]
    assert {one["digest"] for one in reports} <= set(said) and sum(one["instances"] for one in reports) == 5
    digest = reports[0]["digest"]
    text = stack.command("gateway-out", "pseudonyms", "report", study, "--instance", digest).stdout
    assert hashlib.sha256(text.encode()).hexdigest() == digest
    assert "(0010,0010) 1 pseudonym\n" in text and "codes 113100 113105 113107 113108\n" in text
    path = receipts[said.index(digest)]
    cards = [verify_receipt.Card(stack.card(role)) for role in ("gateway-in", "gateway-out")]
    assert verify_receipt.verify(path.read_text(), *cards)["pseudonymized"] == f"report {digest}"
    assert digest in stack.verify_receipt(path).stdout
    path.write_text(path.read_text().replace(digest, f"{digest[:-1]}{int(digest[-1], 16) ^ 1:x}"))
    assert stack.verify_receipt(path).returncode == 1, "what was done cannot be changed afterwards"


def test_a_report_is_cleaned_item_by_item(make_stack, tmp_path):
    study = generate_uid()
    [image] = patients.slices(tmp_path / "sent", 1, study=study)
    report = patients.report(tmp_path / "sent" / "report.dcm", image, study)
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address, log="debug")
        patients.pseudonymize(stack, options=["clean-structured-content"])
        with stack:
            answers = senders.storescu(stack.listen, stack.ae, [image.path, report.path])
            assert set(answers.values()) == {0}, answers
            arrived = wait_for(destination, 2, stack.logs)
            stack.wait_settled()
            assert not left_behind(stack, destination, patients.NEEDLES)
    [ct], [sr] = only(arrived, patients.CT), only(arrived, patients.SR)
    assert sr.StudyInstanceUID == ct.StudyInstanceUID and sr.PatientID == ct.PatientID
    assert sr.VerificationFlag == "UNVERIFIED" and "VerifyingObserverSequence" not in sr
    assert "113104" in [item.CodeValue for item in sr.DeidentificationMethodCodeSequence]
    observer, device, finding, length, seen = sr.ContentSequence
    assert str(observer.PersonName) and observer.ConceptNameCodeSequence[0].CodeMeaning == "Person Observer Name"
    assert (device.TextValue, finding.TextValue) == ("REDACTED", "REDACTED")
    assert str(length.MeasuredValueSequence[0].NumericValue) == "12.5"
    assert length.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeMeaning == "mm"
    assert seen.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == ct.SOPInstanceUID


@pytest.mark.proves("out/deidentification/113101")
def test_what_is_burned_in_becomes_black_by_a_rule(make_stack, tmp_path):
    """An ultrasound clip with the name in its first rows, by rectangles; another one by the regions that its machine calibrated."""
    by_rule, by_regions = patients.clips(tmp_path / "sent")
    regions = {"manufacturer": "Maker", "model": "Echo 9 R", "pixels": "mask", "regions": True}
    rectangle = {"x": 0, "y": 0, "width": 64, "height": 8}
    rule = {"manufacturer": "Maker", "model": "Echo 9", "rows": 48, "columns": 64, "pixels": "mask", "rectangles": [rectangle]}
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        patients.pseudonymize(stack, pixels=[rule, regions])
        with stack:
            answers = senders.storescu(stack.listen, stack.ae, [by_rule.path, by_regions.path])
            assert set(answers.values()) == {0}, answers
            arrived = wait_for(destination, 2, stack.logs)
            stack.wait_settled()
    for one in arrived:
        assert one.BurnedInAnnotation == "NO" and one.NumberOfFrames == 3
        assert [item.CodeValue for item in one.DeidentificationMethodCodeSequence] == ["113100", "113101"]
        has_regions = "SequenceOfUltrasoundRegions" in one
        before = pydicom.dcmread((by_regions if has_regions else by_rule).path).PixelData
        stays = (lambda x, y: 4 <= x < 60 and 8 <= y < 40) if has_regions else (lambda _x, y: y >= 8)
        places = ((x, y) for _frame in range(3) for y in range(48) for x in range(64))
        expected = b"".join(before[3 * n : 3 * n + 3] if stays(x, y) else bytes(3) for n, (x, y) in enumerate(places))
        assert one.PixelData == expected != before


# How DCMTK and GDCM compress a clip in colour, and by how much a sample may differ from what DCMTK decodes.
COMPRESSORS = [
    (["dcmcrle"], 0),
    (["dcmcjpeg", "+e1"], 0),
    (["dcmcjpeg", "+eb", "+q", "95", "+s4"], 4),
    (["gdcmconv", "--raw", "--j2k"], 0),
]


@pytest.mark.parametrize(("compressor", "off"), COMPRESSORS, ids=[" ".join(words) for words, _ in COMPRESSORS])
def test_compressed_pixels_become_black_by_the_same_rule(make_stack, tmp_path, compressor, off):
    """They are decoded on their way and arrive as native ones: all else in them is as it was."""
    clip, _ = patients.clips(tmp_path / "sent")
    run([*compressor, clip.path, tmp_path / "compressed.dcm"], 60)
    sent = part10.read(tmp_path / "compressed.dcm")
    assert sent.transfer_syntax != clip.transfer_syntax
    rectangle = {"x": 0, "y": 0, "width": 64, "height": 8}
    rule = {"manufacturer": "Maker", "model": "Echo 9", "rows": 48, "columns": 64, "pixels": "mask", "rectangles": [rectangle]}
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        patients.pseudonymize(stack, pixels=[rule])
        with stack:
            assert senders.pynetdicom_send(stack.listen, stack.ae, [sent]) == {sent.sop_instance: 0}
            [one] = wait_for(destination, 1, stack.logs)
            stack.wait_settled()
    assert one.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1" and one.PhotometricInterpretation == "RGB"
    assert one.BurnedInAnnotation == "NO" and one.NumberOfFrames == 3 and one.PlanarConfiguration == 0
    assert ("LossyImageCompression" in one and one.LossyImageCompression == "01") == (off > 0)
    assert [item.CodeValue for item in one.DeidentificationMethodCodeSequence] == ["113100", "113101"]
    decoded = clip.path
    if off:
        decoded = tmp_path / "decoded.dcm"
        run(["dcmdjpeg", tmp_path / "compressed.dcm", decoded], 60)
    before, row = pydicom.dcmread(decoded).PixelData, 64 * 3
    for at in range(0, len(before), row):
        now = one.PixelData[at : at + row]
        if at // row % 48 < 8:
            assert now == bytes(row), "black"
        else:
            assert max(abs(a - b) for a, b in zip(now, before[at : at + row], strict=True)) <= off
    assert len(one.PixelData) == len(before)


def test_one_patient_is_one_on_two_days_and_at_two_modalities(make_stack, tmp_path):
    first = patients.slices(tmp_path / "sent", 1, IssuerOfPatientID="NORTH")
    later = patients.slices(tmp_path / "sent", 1, patients.MR, "MR", StudyDate="20260501")
    other = patients.slices(tmp_path / "sent", 1, PatientID="HOSP-7719035")
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        patients.pseudonymize(stack, options=["retain-modified-dates"], patient={"issuer": "NORTH"})
        with stack:
            send = lambda sent: senders.storescu(stack.listen, stack.ae, [one.path for one in sent])  # noqa: E731
            assert set(send(first).values()) == {0}
            stack.restart("gateway-out")
            assert set(send(later + other).values()) == {0}
            arrived = wait_for(destination, 3, stack.logs)
    [mr] = only(arrived, patients.MR)
    same = [one for one in arrived if one.PatientID == mr.PatientID]
    assert len(same) == 2 and len({one.PatientID for one in arrived}) == 2
    [ct] = [one for one in same if one.SOPClassUID == patients.CT]
    assert ct.StudyInstanceUID != mr.StudyInstanceUID
    assert patients.days(ct.StudyDate, mr.StudyDate) == 30, "days between two studies are what they were"
    assert ct.StudyDate != "20260401"


def test_another_key_splits_no_study(make_stack, tmp_path):
    study = generate_uid()
    sent = [patients.slices(tmp_path / "sent", 1, study=study)[0] for _ in range(3)]
    [new] = patients.slices(tmp_path / "sent", 1)
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        key = patients.pseudonymize(stack)
        with stack:
            send = lambda one: senders.storescu(stack.listen, stack.ae, [one.path])  # noqa: E731
            assert set(send(sent[0]).values()) == {0}
            run([binary("gateway-out"), "key", "gen", "--next", key], 60)
            os.kill(stack["gateway-out"].pid, signal.SIGHUP)
            wait_until("the reload", lambda: stack.status("gateway-out")["last_reload"], 10, stack.logs)
            assert set(send(sent[1]).values()) == {0}
            stack.restart("gateway-out")
            assert set(send(sent[2]).values()) == {0}
            assert set(send(new).values()) == {0}
            arrived = wait_for(destination, 4, stack.logs)
            # The earlier key goes, and the study with it: refused, not split.
            lines = key.read_text().splitlines(keepends=True)
            key.write_text(lines[0] + lines[1])
            stack.restart("gateway-out")
            [more] = patients.slices(tmp_path / "sent", 1, study=study)
            assert senders.pynetdicom_send(stack.listen, stack.ae, [more]) == {more.sop_instance: 0xC024}
    studies = [one.StudyInstanceUID for one in arrived]
    assert sorted(studies.count(one) for one in set(studies)) == [1, 3]
    by_study = {one.StudyInstanceUID: one.PatientID for one in arrived}
    assert len(set(by_study.values())) == 2, "a new study is under the new key: nobody links it to the earlier ones without both"


def refusals(directory) -> dict[str, tuple[part10.Instance, int]]:
    """What cannot be cleaned, and its status."""
    study = generate_uid()

    def made(name: str, sop_class: str = patients.CT, **more: object) -> part10.Instance:
        one = patients.data_set(sop_class, "CT", study, generate_uid(), generate_uid(), **more)
        return patients.write(directory / f"{name}.dcm", patients.with_pixels(one))

    long = patients.data_set(patients.CT, "CT", study, generate_uid(), generate_uid())
    long.add_new(0x00281201, "OW", bytes(33 << 20))
    cases = {
        "no patient": (made("empty", PatientID=""), 0xC020),
        "nobody": (made("nobody", PatientID="UNKNOWN 3"), 0xC020),
        "class": (made("report", patients.SR), 0xC021),
        "burned in": (made("burned", BurnedInAnnotation="YES"), 0xC022),
        "screen": (made("screen", ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]), 0xC022),
        # A place where nobody expects a name, and where no row of the table says anything about.
        "name elsewhere": (made("elsewhere", PatientPosition="WILHELMINA"), 0xC023),
        "header": (patients.write(directory / "long.dcm", patients.with_pixels(long)), 0xC025),
    }
    return cases


@pytest.mark.parametrize("respond", ["spooled", "delivered"])
@pytest.mark.proves(*(f"out/answer/{one}" for one in ("no-patient", "not-covered", "pixels-may-show", "still-names", "no-site-key", "not-rewritable")))
def test_what_cannot_be_cleaned_is_refused_and_leaves_nothing(make_stack, tmp_path, respond):
    cases = refusals(tmp_path / "sent")
    [good] = patients.slices(tmp_path / "sent", 1)
    with PynetdicomScp() as destination:
        stack = make_stack(to=destination.address, log="debug")
        patients.pseudonymize(stack)
        if respond == "delivered":
            stack.respond_when_delivered()
        with stack:
            for name, (instance, status) in cases.items():
                answers = senders.pynetdicom_send(stack.listen, stack.ae, [instance])
                assert answers == {instance.sop_instance: status}, name
            link = Requestor(stack.listen, stack.ae, {1: (good.sop_class, [good.transfer_syntax])})
            for cut in (305, good.data_set_bytes - 7):
                assert link.store(1, good.sop_class, good.sop_instance, good.data_set()[:cut]) == 0xC001, cut
            link.release()
            wait_until("the good one to pass", lambda: 0 in senders.pynetdicom_send(stack.listen, stack.ae, [good]).values(), 10, stack.logs)
            stack.wait_settled()
            assert len(destination.arrived()) == 1 and stack.body_bytes() == 0
            seen = metrics.figures(metrics.text(stack, "gateway-out"))
            counted = [metrics.of(seen, "sluis_gateway_out_pseudonymized_total", ae=stack.ae, status=one) for one in ("0000", "C020", "C022")]
            assert counted == [1, 2, 2], counted
            [only_receipt] = [row for row in stack.receipts() if row["outcome"] == "stored"]
            listed = json.loads(stack.command("gateway-out", "pseudonyms", "refused", "--json").stdout)
            assert [row["status"] for row in reversed(listed)][: len(cases)] == [f"{status:04X}" for _, status in cases.values()]
            elsewhere, _ = cases["name elsewhere"]
            why = stack.command("gateway-out", "why", elsewhere.sop_instance).stdout
            assert "refused C023" in why and "(0018,5100) still has a name of the patient in it" in why
            assert stack.command("gateway-out", "why", patients.PATIENT_ID).stdout.count("refused C0") >= 5
            logs = "".join(stack.log_text(role) for role in ROLES).encode()
            assert not [needle for needle in patients.NEEDLES if needle in logs]
            assert not needles_in_files(stack.directory, patients.NEEDLES)


def test_storage_commitment_is_never_given_for_what_was_changed(make_stack, tmp_path):
    sent = patients.slices(tmp_path / "sent", 2)
    with Storescp(tmp_path) as destination, Asker(listens=True) as asker:
        stack = make_stack(to=destination.address)
        patients.pseudonymize(stack, options=["retain-uids"])
        with stack.edit("gateway-out") as sending:
            sending["commitment"] = [{"ae": asker.ae, "address": f"{HOST}:{asker.port}", "arrival": "0s"}]
        assert "storage commitment" in stack.command("gateway-out", "check").stdout
        with stack:
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, sent, calling=asker.ae).values()) == {0}
            stack.wait_settled()
            report = asker.wait(asker.ask(stack.listen, stack.ae, sent), stack.logs)
            assert report.event_type == 2 and report.committed == set()


def test_success_is_the_destinations_own_where_the_route_says_so(make_stack, tmp_path):
    """`respond = "delivered"`: what was pseudonymized waits in a file that is gone afterwards."""
    sent = patients.slices(tmp_path / "sent", 3)
    with PynetdicomScp(behave=lambda _name, seen: 0xC123 if seen else 0) as destination:
        stack = make_stack(to=destination.address)
        patients.pseudonymize(stack)
        stack.respond_when_delivered()
        with stack:
            wait_until("the first one to pass", lambda: 0 in senders.pynetdicom_send(stack.listen, stack.ae, sent[:1]).values(), 10, stack.logs)
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, sent[1:]).values()) == {0}
            assert len(destination.arrived()) == 3 and stack.body_bytes() == 0
            assert senders.pynetdicom_send(stack.listen, stack.ae, sent[2:]) == {sent[2].sop_instance: 0xC123}
            assert not needles_in_files(stack.directory, [one.sop_instance.encode() for one in sent])


def test_a_file_is_shown_as_a_table_of_changes(make_stack, tmp_path):
    [one] = patients.slices(tmp_path / "sent", 1)
    stack = make_stack()
    patients.pseudonymize(stack)
    words = ("route", "test", str(one.path), "--pseudonymize")
    shown = stack.command("gateway-out", *words).stdout
    for line in ("removed   (0008,0080)  InstitutionName", "replaced  (0010,0020)  PatientID", "written   (0012,0062)  PatientIdentityRemoved"):
        assert line in shown, shown
    assert "pseudonymized, not anonymous" in shown
    assert not [needle for needle in patients.NEEDLES if needle in shown.encode()]
    assert patients.PATIENT_ID in stack.command("gateway-out", *words, "--reveal").stdout
    changes = json.loads(stack.command("gateway-out", *words, "--json").stdout)["pseudonymization"]
    assert changes["refused"] is None and len(changes["changes"]) > 10
    burned = pydicom.dcmread(one.path)
    burned.BurnedInAnnotation = "YES"
    burned.save_as(tmp_path / "burned.dcm")
    refused = stack.command("gateway-out", "route", "test", str(tmp_path / "burned.dcm"), "--pseudonymize", check=False)
    assert refused.returncode == 1 and "Burned In Annotation (0028,0301) is YES" in refused.stdout


def test_a_crosswalk_is_worked_out_from_the_originals(make_stack, tmp_path):
    """Also of a study that is under an earlier key; nothing has to be kept for it."""
    old = patients.slices(tmp_path / "sent", 2)
    new = patients.slices(tmp_path / "sent", 1, PatientID="HOSP,7719035")
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        key = patients.pseudonymize(stack, options=["retain-modified-dates"])
        with stack:
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in old]).values()) == {0}
            run([binary("gateway-out"), "key", "gen", "--next", key], 60)
            stack.restart("gateway-out")
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in new]).values()) == {0}
            arrived = wait_for(destination, 3, stack.logs)
    (tmp_path / "crosswalk").mkdir()
    words = ("pseudonyms", "crosswalk", "--called", stack.ae, "--out", str(tmp_path / "crosswalk"), str(tmp_path / "sent"))
    unencrypted = stack.command("gateway-out", *words, check=False)
    assert unencrypted.returncode == 2 and "--for CERT" in unencrypted.stderr
    key, certificate = patients.key_pair(tmp_path)
    stack.command("gateway-out", *words, "--for", str(certificate))
    words = (*words, "--plain")
    stack.command("gateway-out", *words)
    for name in ("patients.csv", "uids.csv"):
        sealed = tmp_path / "crosswalk" / f"{name}.cms"
        assert b"7719035" not in sealed.read_bytes()
        opened = run(["openssl", "cms", "-decrypt", "-inform", "DER", "-binary", "-inkey", key, "-in", sealed], 60).stdout
        assert opened == (tmp_path / "crosswalk" / name).read_text()
    for name in ("patients.csv", "uids.csv"):
        assert (tmp_path / "crosswalk" / name).stat().st_mode & 0o777 == 0o600
    with (tmp_path / "crosswalk" / "patients.csv").open() as file:
        people = {row["id_old"]: row for row in csv.DictReader(file)}
    with (tmp_path / "crosswalk" / "uids.csv").open() as file:
        uids = {row["id_old"]: row["id_new"] for row in csv.DictReader(file)}
    for path in [one.path for one in [*old, *new]]:
        before = pydicom.dcmread(path)
        [after] = [one for one in arrived if one.SOPInstanceUID == uids[before.SOPInstanceUID]]
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            assert uids[before[keyword].value] == after[keyword].value
        person = people[before.PatientID]
        assert person["id_new"] == after.PatientID
        assert int(person["days"]) == patients.days(before.StudyDate, after.StudyDate)
    assert stack.command("gateway-out", *words, check=False).returncode == 1, "it does not write over one that is there"


def test_who_has_the_private_key_finds_the_patient_again(make_stack, tmp_path):
    """Original values go with each instance, encrypted for a certificate; openssl and `reidentify` open them, the path does not."""
    key, certificate = patients.key_pair(tmp_path)
    sent = patients.slices(tmp_path / "sent", 2) + patients.rt_set(tmp_path / "sent")
    uids = [one.sop_instance.encode() for one in sent]
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address, log="trace")
        patients.pseudonymize(stack, reidentify=[str(certificate)])
        assert "encrypted for CN=Data access committee" in stack.command("gateway-out", "check").stdout
        with stack:
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in sent]).values()) == {0}
            arrived = wait_for(destination, len(sent), stack.logs)
            stack.wait_settled()
            assert not left_behind(stack, destination, [*patients.NEEDLES, *uids])
    originals = {one.sop_instance: pydicom.dcmread(one.path) for one in sent}
    for one in arrived:
        [item] = one.EncryptedAttributesSequence
        assert item.EncryptedContentTransferSyntaxUID == "1.2.840.10008.1.2.1"
        (tmp_path / "content.cms").write_bytes(item.EncryptedContent)
        run(["openssl", "cms", "-decrypt", "-inform", "DER", "-binary", "-inkey", key, "-in", tmp_path / "content.cms", "-out", tmp_path / "opened"], 60)
        [opened] = dcmread_explicit(tmp_path / "opened").ModifiedAttributesSequence
        before = originals[opened.SOPInstanceUID]
        for element in opened:
            assert before[element.tag].value == element.value, element
        assert {"PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "InstitutionName"} <= set(opened.dir())
        shown = run([binary("gateway-out"), "reidentify", "--key", key, "--json", one.filename], 60).stdout
        assert json.loads(shown)["(0010,0020)"]["value"] == patients.PATIENT_ID
        back = tmp_path / "back" / f"{opened.SOPInstanceUID}.dcm"
        back.parent.mkdir(exist_ok=True)
        run([binary("gateway-out"), "reidentify", "--key", key, "--out", back, one.filename], 60)
        assert back.stat().st_mode & 0o777 == 0o600
        whole = pydicom.dcmread(back)
        assert whole.file_meta.MediaStorageSOPInstanceUID == whole.SOPInstanceUID == before.SOPInstanceUID
        assert (whole.PatientName, whole.PatientIdentityRemoved) == (before.PatientName, "NO")
        assert "EncryptedAttributesSequence" not in whole and "DeidentificationMethodCodeSequence" not in whole
    other, _ = patients.key_pair(tmp_path / "other")
    refused = run([binary("gateway-out"), "reidentify", "--key", other, arrived[0].filename], 60, check=False)
    assert refused.returncode == 1 and "encrypted for another certificate" in refused.stderr
    refused = run([binary("gateway-out"), "reidentify", "--key", key, sent[0].path], 60, check=False)
    assert refused.returncode == 1 and "no Encrypted Attributes Sequence" in refused.stderr
    new = canaries.errors_of([Path(one.filename) for one in arrived])
    old = set().union(*canaries.errors_of(list(one.path for one in sent)).values())
    assert not set().union(*new.values()) - old - BY_THE_TABLE


def dcmread_explicit(path: Path) -> pydicom.Dataset:
    """A data set without file meta information."""
    with path.open("rb") as file:
        return pydicom.filereader.read_dataset(file, is_implicit_VR=False, is_little_endian=True)


def test_rules_for_another_tool_are_taken_over(make_stack, tmp_path):
    theirs = {"tag_actions": {"(0008,103E)": {"action": "keep"}, "(0010,0020)": {"action": "hash", "length": 16}}}
    (tmp_path / "theirs.json").write_text(json.dumps(theirs))
    rules = run([binary("gateway-out"), "pseudonyms", "import", tmp_path / "theirs.json"], 60).stdout
    assert "# (0010,0020) is not taken over" in rules
    (tmp_path / "rules.toml").write_text(rules)
    [one] = patients.slices(tmp_path / "sent", 1, SeriesDescription="thorax axial")
    stack = make_stack()
    patients.pseudonymize(stack, rules=str(tmp_path / "rules.toml"))
    shown = stack.command("gateway-out", "route", "test", str(one.path), "--pseudonymize").stdout
    assert "(0008,103E)" not in shown and "(0008,1030)" in shown


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ({"options": ["retain-full-dates", "retain-modified-dates"]}, "`route[0].pseudonymize.options`"),
        ({"options": ["clean-descriptors"]}, "`route[0].pseudonymize.words`"),
        ({"override": [{"tag": "SeriesDescription", "action": "keep"}, {"tag": "PatientID", "action": "keep"}]}, "`route[0].pseudonymize.override[1]`"),
        ({"presets": "basic"}, "presets"),
        ({"profile": "none"}, "`route[0].pseudonymize.profile`"),
        ({"key": "nowhere.key"}, "`route[0].pseudonymize.key`"),
    ],
)
def test_contradictions_are_refused_with_their_place(make_stack, table, error):
    stack = make_stack()
    patients.pseudonymize(stack, **table)
    refused = stack.command("gateway-out", "check", check=False)
    assert refused.returncode == 64 and "gateway-out.toml:" in refused.stderr and error in refused.stderr, refused.stderr


def test_each_option_of_the_statement_is_what_the_program_does(make_stack, tmp_path, prove):
    """An option that is offered can be chosen and its code is written; one that is not is refused."""
    (tmp_path / "words.txt").write_text("thorax\n")
    [one] = patients.slices(tmp_path / "sent", 1)
    stack = make_stack()
    key = patients.site_key(stack)
    for row in committed("gateway-out")["deidentification"]:
        if row["code"] == "113101":
            continue  # it is no option: it follows from masking
        option = row["note"].partition('"')[2].partition('"')[0]
        patients.pseudonymize(stack, key, words=str(tmp_path / "words.txt"), options=[option] if option else [])
        if row["offered"]:
            words = ("route", "test", str(one.path), "--pseudonymize", "--reveal", "--json")
            changes = json.loads(stack.command("gateway-out", *words).stdout)["pseudonymization"]["changes"]
            written = {(change["place"], change["after"]) for change in changes}
            number = 2 if option else 1
            assert (f"(0012,0064)[{number}] (0008,0100)", row["code"]) in written, row
        else:
            name = "-".join(row["name"].removesuffix(" Option").lower().split())
            patients.pseudonymize(stack, key, options=[name])
            refused = stack.command("gateway-out", "check", check=False)
            assert refused.returncode == 64 and "is not offered" in refused.stderr, refused.stderr
        prove(row["claim"])


def test_a_large_instance_streams_past(make_stack, tmp_path):
    """Its header is held, its pixels are not: 384 MiB, masked in every frame, in less than 128 MiB."""
    instance = generate.large(tmp_path / "sent" / "large.dcm", 384 << 20, seed=5)
    rectangle = {"x": 0, "y": 0, "width": 1024, "height": 16}
    rule = {"sop_class": instance.sop_class, "rows": 512, "columns": 1024, "pixels": "mask", "rectangles": [rectangle]}
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        patients.pseudonymize(stack, pixels=[rule])
        with stack:
            assert set(senders.storescu(stack.listen, stack.ae, [instance.path]).values()) == {0}
            stack.wait_settled(120)
            [arrived] = part10.find(destination.out)
            assert arrived.sop_instance != instance.sop_instance
            peak, _ = stack.measure()["gateway-out"]
            assert peak < 128 << 20, f"{peak >> 20} MiB"
    with arrived.path.open("rb") as file:
        file.seek(-(1 << 20), os.SEEK_END)
        last = file.read()
    assert last[: 16 * 2048] == bytes(16 * 2048) and last[16 * 2048 :] == instance.path.read_bytes()[-(1 << 20) + 16 * 2048 :]


# Options that clean what they do not remove: no marker is a word that anybody has reviewed.
CLEANED = {"113103", "113104", "113105"}


def profiles() -> dict[frozenset[str], dict[str, object]]:
    """Basic, each option by itself, and the presets: the codes that are to be written, and the table that asks for them."""
    made: dict[frozenset[str], dict[str, object]] = {
        frozenset({"113100", "113105", "113107", "113108"}): {"preset": "longitudinal"},
        frozenset({"113100", "113105", "113108"}): {"preset": "teaching"},
    }
    for row in committed("gateway-out")["deidentification"]:
        option = row["note"].partition('"')[2].partition('"')[0]
        if row["offered"] and (option or row["code"] == "113100"):
            made[frozenset({"113100", row["code"]})] = {"options": [option]} if option else {"preset": "basic"}
    return made


def references(instances: list[pydicom.FileDataset]) -> tuple[int, list[str]]:
    """How many references RT objects, reports and presentation states have to instances and studies, and those that lead nowhere."""
    known = {str(one[keyword].value) for one in instances for keyword in ("SOPInstanceUID", "StudyInstanceUID")}
    linked = [one for one in instances if one.SOPClassUID != patients.CT]
    found = [str(e.value) for one in linked for e in one.iterall() if e.keyword == "ReferencedSOPInstanceUID"]
    return len(found), [uid for uid in found if uid not in known]


def test_no_marker_is_left_and_no_error_is_new(make_stack, tmp_path):
    """A marker in every row of Table E.1-1, at depths 0 to 3, all the way at Basic, at every single option and at each preset;
    references resolve, the codes are right, and dciodvfy finds nothing wrong that was not wrong before."""
    corpus = canaries.corpus(tmp_path / "sent" / "corpus", rows_per_file=80)
    (tmp_path / "words.txt").write_text("thorax\n")
    [image] = patients.slices(tmp_path / "sent" / "more", 1, study=canaries.STUDY)
    report = patients.report(tmp_path / "sent" / "more" / "report.dcm", image, canaries.STUDY)
    state = patients.presentation_state(tmp_path / "sent" / "more" / "state.dcm", image, canaries.STUDY)
    more = [image, *patients.rt_set(tmp_path / "sent" / "more")]
    beyond = {"113104": [report], "113103": [state]}
    planted = [one for _, inside in corpus for one in inside]
    wanted = profiles()
    assert len(wanted) >= 12, "Basic, nine options and two presets"
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        for number, (codes, table) in enumerate(wanted.items()):
            key = patients.site_key(stack, f"{number}.key")
            stack.add_title(f"P{number}", pseudonymize={"key": str(key), "words": str(tmp_path / "words.txt"), **table})
        sent = {codes: [*(one for one, _ in corpus), *more, *(one for code in codes for one in beyond.get(code, []))] for codes in wanted}
        with stack:
            for number, (codes, instances) in enumerate(sent.items()):
                answers = senders.pynetdicom_send(stack.listen, f"P{number}", instances)
                assert len(answers) == len(instances) and set(answers.values()) == {0}, (codes, answers)
            wait_for(destination, sum(map(len, sent.values())), stack.logs)
            stack.wait_settled()
        assert "destination is down" not in stack.log_text("gateway-in"), "it serves one association at a time"
        arrived = defaultdict(list)
        for one in part10.find(destination.out):
            read = pydicom.dcmread(one.path)
            arrived[frozenset(item.CodeValue for item in read.DeidentificationMethodCodeSequence)].append(read)
    assert {codes: len(instances) for codes, instances in arrived.items()} == {codes: len(instances) for codes, instances in sent.items()}
    originals = {one.path: pydicom.dcmread(one.path) for one in {one.path: one for group in sent.values() for one in group}.values()}
    # The crate dicom-anonymization is the oracle: whatever it removes or changes, so do we.
    basic = {canaries.place(Path(one.filename)): one for one in arrived[frozenset({"113100"})]}
    for one, _ in corpus:
        original, ours = originals[one.path], basic[canaries.place(one.path)]
        theirs = canaries.acted_on(original, canaries.of_the_oracle(one.path))
        assert len(theirs) >= 4, "UIDs and the patient's identifier"
        assert not theirs - canaries.acted_on(original, ours), one.path
    before = defaultdict(set)
    for path, errors in canaries.errors_of(list(originals)).items():
        before[canaries.place(path)] |= errors
    after = canaries.errors_of([Path(one.filename) for instances in arrived.values() for one in instances])
    for codes, instances in arrived.items():
        content = b"\n".join(Path(one.filename).read_bytes() for one in instances)
        leaks = canaries.leaked([one for one in planted if not canaries.is_kept(one, set(codes) - CLEANED)], content)
        assert not leaks, f"{sorted(codes)}: {len(leaks)}: {leaks[:5]}"
        assert references(instances) == references([originals[one.path] for one in sent[codes]]), sorted(codes)
        assert references(instances)[0] >= 5 and not references(instances)[1]
        paths = [Path(one.filename) for one in instances]
        new = {path.name: errors for path in paths if (errors := after[path] - before[canaries.place(path)] - BY_THE_TABLE)}
        assert not new, (sorted(codes), new)
