"""Made-up studies of one patient with planted identifiers, and how a route is told to pseudonymize."""

from __future__ import annotations

import datetime
from io import BytesIO
from pathlib import Path

import tomlkit
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from . import part10
from .binaries import binary
from .part10 import Instance
from .processes import run
from .stack import Stack

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
RT_DOSE, RT_STRUCT, RT_PLAN = (f"1.2.840.10008.5.1.4.1.1.481.{n}" for n in (2, 3, 5))
SR = "1.2.840.10008.5.1.4.1.1.88.33"
NAME, PATIENT_ID, ACCESSION, BIRTH_DATE = "Zandstra-Quist^Wilhelmina", "HOSP-7719034", "ACC-5530187", "19470923"
PHYSICIAN, INSTITUTION, STATION = "Oosterveen^Balthazar", "Sint Odiliahuis", "KAMER17CT"
# Nothing of these may leave.
NEEDLES = [
    b"Zandstra", b"Wilhelmina", PATIENT_ID.encode(), ACCESSION.encode(), BIRTH_DATE.encode(), b"Oosterveen", b"Balthazar",
    INSTITUTION.encode(), STATION.encode(), b"PRIVATE-7719034",
]


def data_set(sop_class: str, modality: str, study: str, series: str, frame: str, **more: object) -> Dataset:
    """One instance without pixels."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = sop_class, generate_uid()
    made.Modality, made.ImageType = modality, ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = study, series, frame
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = NAME, PATIENT_ID, BIRTH_DATE, "F"
    made.AccessionNumber, made.ReferringPhysicianName, made.OperatorsName = ACCESSION, PHYSICIAN, PHYSICIAN
    made.InstitutionName, made.StationName, made.StudyID = INSTITUTION, STATION, "S1"
    made.StudyDate, made.StudyTime, made.SeriesDate = "20260401", "101500", "20260401"
    made.StudyDescription, made.SeriesDescription = f"Thorax for {INSTITUTION}", f"thorax axial {PHYSICIAN}"
    item = Dataset()
    item.RequestedProcedureDescription, item.ScheduledProcedureStepDescription = f"for {PHYSICIAN}", f"{NAME}"
    made.RequestAttributesSequence = Sequence([item])
    block = made.private_block(0x0009, "SLUIS CONFORMANCE", create=True)
    block.add_new(0x01, "LO", "PRIVATE-7719034")
    for keyword, value in more.items():
        setattr(made, keyword, value)
    return made


def with_pixels(made: Dataset, side: int = 64, seed: int = 7) -> Dataset:
    """A 16 bit grey image."""
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns, made.BitsAllocated, made.BitsStored, made.HighBit = side, side, 16, 16, 15
    made.PixelRepresentation = 0
    made.add_new(0x7FE00010, "OW", bytes((seed + n) % 251 for n in range(side * side * 2)))
    return made


def write(path: Path, made: Dataset) -> Instance:
    """As explicit little endian."""
    out = BytesIO()
    dcmwrite(out, made, implicit_vr=False, little_endian=True, force_encoding=True, enforce_file_format=False)
    return part10.write(path, str(made.SOPClassUID), str(made.SOPInstanceUID), ExplicitVRLittleEndian, out.getvalue())


def slices(directory: Path, count: int, sop_class: str = CT, modality: str = "CT", study: str | None = None, **more: object) -> list[Instance]:
    """A series of a study."""
    study, series, frame = study or generate_uid(), generate_uid(), generate_uid()
    made = []
    for number in range(1, count + 1):
        one = data_set(sop_class, modality, study, series, frame, InstanceNumber=number, **more)
        made.append(write(directory / f"{modality}-{number}-{series[-6:]}.dcm", with_pixels(one, seed=number)))
    return made


def reference(instance: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
    return item


def rt_set(directory: Path) -> list[Instance]:
    """CT, structures drawn on it, a plan for them and a dose of it: each names the one before by UID."""
    study, frame = generate_uid(), generate_uid()
    series = generate_uid()
    ct = [with_pixels(data_set(CT, "CT", study, series, frame, InstanceNumber=n), seed=n) for n in (1, 2)]
    structures = data_set(RT_STRUCT, "RTSTRUCT", study, generate_uid(), frame, StructureSetLabel="ONE", StructureSetDate="20260401", StructureSetTime="111500")
    contour_series = Dataset()
    contour_series.SeriesInstanceUID = series
    contour_series.ContourImageSequence = Sequence([reference(one) for one in ct])
    rt_study = Dataset()
    rt_study.ReferencedSOPClassUID, rt_study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", study
    rt_study.RTReferencedSeriesSequence = Sequence([contour_series])
    referenced = Dataset()
    referenced.FrameOfReferenceUID = frame
    referenced.RTReferencedStudySequence = Sequence([rt_study])
    structures.ReferencedFrameOfReferenceSequence = Sequence([referenced])
    plan = data_set(RT_PLAN, "RTPLAN", study, generate_uid(), frame, RTPlanLabel="PLAN", RTPlanGeometry="PATIENT")
    plan.ReferencedStructureSetSequence = Sequence([reference(structures)])
    dose = data_set(RT_DOSE, "RTDOSE", study, generate_uid(), frame, DoseUnits="GY", DoseType="PHYSICAL", DoseSummationType="PLAN")
    dose.ReferencedRTPlanSequence = Sequence([reference(plan)])
    made = [*ct, structures, plan, with_pixels(dose)]
    return [write(directory / f"{n}-{one.Modality}.dcm", one) for n, one in enumerate(made)]


def observation(value_type: str, relationship: str | None = None, **more: object) -> Dataset:
    """A content item of a structured report."""
    item = Dataset()
    item.ValueType = value_type
    if relationship:
        item.RelationshipType = relationship
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return item


def code(scheme: str, value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def report(path: Path, image: Instance, study: str) -> Instance:
    """A structured report about an image: observers, a finding in words, a measurement, a reference."""
    named = lambda scheme, value, meaning: Sequence([code(scheme, value, meaning)])  # noqa: E731
    observer = observation("PNAME", "HAS OBS CONTEXT", ConceptNameCodeSequence=named("DCM", "121008", "Person Observer Name"), PersonName=PHYSICIAN)
    device = observation("TEXT", "HAS OBS CONTEXT", ConceptNameCodeSequence=named("DCM", "121013", "Device Observer Name"), TextValue=STATION)
    finding = observation("TEXT", "CONTAINS", ConceptNameCodeSequence=named("DCM", "121071", "Finding"), TextValue=f"{NAME} seen by {PHYSICIAN}")
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "12.5", named("UCUM", "mm", "mm")
    length = observation("NUM", "CONTAINS", ConceptNameCodeSequence=named("SCT", "410668003", "Length"), MeasuredValueSequence=Sequence([measured]))
    target = Dataset()
    target.ReferencedSOPClassUID, target.ReferencedSOPInstanceUID = image.sop_class, image.sop_instance
    seen = observation("IMAGE", "CONTAINS", ReferencedSOPSequence=Sequence([target]))
    made = data_set(SR, "SR", study, generate_uid(), generate_uid(), InstanceNumber=1, ContentDate="20260401", ContentTime="120000")
    del made.ImageType, made.FrameOfReferenceUID
    made.ValueType, made.ContinuityOfContent = "CONTAINER", "SEPARATE"
    made.ConceptNameCodeSequence = named("DCM", "126000", "Imaging Measurement Report")
    made.CompletionFlag, made.VerificationFlag = "COMPLETE", "VERIFIED"
    verifier = Dataset()
    verifier.VerifyingOrganization, verifier.VerifyingObserverName, verifier.VerificationDateTime = INSTITUTION, PHYSICIAN, "20260401120000"
    made.VerifyingObserverSequence = Sequence([verifier])
    made.ContentSequence = Sequence([observer, device, finding, length, seen])
    return write(path, made)


def presentation_state(path: Path, image: Instance, study: str) -> Instance:
    """A softcopy presentation state of an image: a text and a line drawn on it."""
    made = data_set("1.2.840.10008.5.1.4.1.1.11.1", "PR", study, generate_uid(), generate_uid(), InstanceNumber=1)
    del made.ImageType, made.FrameOfReferenceUID
    target = Dataset()
    target.ReferencedSOPClassUID, target.ReferencedSOPInstanceUID = image.sop_class, image.sop_instance
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedImageSequence = generate_uid(), Sequence([target])
    made.ReferencedSeriesSequence = Sequence([series])
    text = Dataset()
    text.AnchorPointAnnotationUnits, text.AnchorPoint, text.AnchorPointVisibility = "PIXEL", [8.0, 8.0], "N"
    text.UnformattedTextValue = f"thorax, see {PHYSICIAN}"
    line = Dataset()
    line.GraphicAnnotationUnits, line.GraphicDimensions, line.NumberOfGraphicPoints = "PIXEL", 2, 2
    line.GraphicData, line.GraphicType, line.GraphicFilled = [1.0, 1.0, 9.0, 9.0], "POLYLINE", "N"
    drawn = Dataset()
    drawn.ReferencedImageSequence, drawn.GraphicLayer = Sequence([target]), "LAYER1"
    drawn.TextObjectSequence, drawn.GraphicObjectSequence = Sequence([text]), Sequence([line])
    made.GraphicAnnotationSequence = Sequence([drawn])
    made.ContentLabel, made.ContentDescription, made.ContentCreatorName = "STATE", "for the round", PHYSICIAN
    made.PresentationCreationDate, made.PresentationCreationTime = "20260401", "120000"
    return write(path, made)


def clips(directory: Path) -> list[Instance]:
    """Two ultrasound clips in colour, of two models; the second says where its picture is."""
    made = []
    for name, model in (("rule", "Echo 9"), ("regions", "Echo 9 R")):
        one = data_set("1.2.840.10008.5.1.4.1.1.3.1", "US", generate_uid(), generate_uid(), generate_uid())
        del one.FrameOfReferenceUID
        one.Manufacturer, one.ManufacturerModelName, one.BurnedInAnnotation = "Maker", model, "YES"
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PlanarConfiguration, one.NumberOfFrames = 3, "RGB", 0, 3
        one.Rows, one.Columns, one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 48, 64, 8, 8, 7, 0
        one.add_new(0x7FE00010, "OW", bytes(1 + n % 251 for n in range(3 * 48 * 64 * 3)))
        if name == "regions":
            region = Dataset()
            region.RegionLocationMinX0, region.RegionLocationMinY0 = 4, 8
            region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 59, 39
            one.SequenceOfUltrasoundRegions = Sequence([region])
        made.append(write(directory / f"us-{name}.dcm", one))
    return made


def site_key(stack: Stack, name: str = "site.key") -> Path:
    path = stack.directory / "keys" / name
    run([binary("gateway-out"), "key", "gen", path], 60)
    return path


def key_pair(directory: Path) -> tuple[Path, Path]:
    """A private key and a certificate that encrypts for it."""
    directory.mkdir(exist_ok=True)
    key, certificate = directory / "committee.key.pem", directory / "committee.cert.pem"
    subject = ["-subj", "/CN=Data access committee", "-days", "30"]
    run(["openssl", "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-keyout", key, "-out", certificate, *subject], 60)
    return key, certificate


def pseudonymize(stack: Stack, key: Path | None = None, **table: object) -> Path:
    """Lets the first route pseudonymize; gives the file of site keys."""
    key = key or site_key(stack)
    with stack.edit("gateway-out") as sending:
        made = tomlkit.table()
        made.update({"key": str(key), **table})
        sending["route"][0]["pseudonymize"] = made
    return key


def days(one: str, other: str) -> int:
    """From one DA to another."""
    parse = lambda text: datetime.date(int(text[:4]), int(text[4:6]), int(text[6:8]))  # noqa: E731
    return (parse(other) - parse(one)).days
