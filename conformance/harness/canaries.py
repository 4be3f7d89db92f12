"""A marker in every row of PS3.15 Table E.1-1 whose value can hold one, at depths 0 to 3; in elements that nobody knows; and in private ones."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from dcmanon import Anonymizer
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from . import patients
from .binaries import TOP
from .part10 import Instance

TABLE = TOP / "crates" / "pseudonym" / "data" / "table_e1-1.csv"
# In no row of the table, from the outermost.
SEQUENCES = ("DerivationCodeSequence", "PerformedProtocolCodeSequence", "ViewCodeSequence")
# What an instance is found by: other checks are about them.
OTHERS = {0x00080018, 0x0020000D, 0x0020000E, 0x00100020}
TEXT = {"AE", "LO", "LT", "SH", "ST", "UT", "UC", "PN", "CS", "UR"}
ROWS_PER_FILE = 24
# One study, so that a destination that takes one association at a time is not asked for more.
STUDY, SERIES = "1.2.826.0.1.3680043.8.498.10000001", "1.2.826.0.1.3680043.8.498.10000002"


@dataclass(frozen=True)
class Canary:
    """One planted value, as its bytes stand in a file."""

    row: str
    depth: int
    marker: bytes
    # Options (their codes) that keep or clean the row.
    options: frozenset[str]


def _value(tag: int, vr: str, number: int, depth: int) -> tuple[object, bytes] | None:
    text = f"ZQ{number:04}X{depth}"
    if vr in TEXT:
        return (f"{text}^Q" if vr == "PN" else text), text.encode()
    if vr == "UI":
        return f"1.9.{number}.{depth}.77", f"1.9.{number}.{depth}.77".encode()
    date = f"{1700 + number % 200}{1 + depth:02}{1 + number // 200:02}"
    if vr == "DA":
        return date, date.encode()
    if vr == "DT":
        return f"{date}1213", f"{date}1213".encode()
    if vr == "SQ":
        inner = Dataset()
        inner.add_new(0x00080104, "LO", text)
        return Sequence([inner]), text.encode()
    return None


def _planted() -> list[tuple[str, int, str, int, frozenset[str]]]:
    """(name, tag, VR, number, options that keep or clean it) of each row."""
    lines = [line for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    found = []
    for number, row in enumerate(csv.DictReader(lines)):
        text = row["tag"].strip("()")
        options = frozenset(column[-7:-1] for column, value in row.items() if value in ("K", "C") and column.endswith(")"))
        if "odd" in text or "gggg" in text:
            found.append((row["name"], 0x00291010, "LO", number, options))
            continue
        tag = int(text.replace("50xx,xxxx", "5002,3000").replace("60xx", "6002").replace(",", ""), 16)
        # Of these sequences the UIDs are replaced, and nothing else.
        if tag in OTHERS or not 0x0002FFFF < tag < 0x7FE00000 or row["basic(113100)"] == "X/Z/U*":
            continue
        try:
            vr = dictionary_VR(tag).split(" ")[0]
        except KeyError:
            vr = "LO"
        found.append((row["name"], tag, vr, number, options))
    return found


def _file(directory: Path, number: int, depth: int, rows: list[tuple[str, int, str, int, frozenset[str]]]) -> tuple[Instance, list[Canary]]:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = patients.CT, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, SERIES
    made.Modality, made.ImageType, made.PatientID = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "HOSP-7719034"
    made.InstanceNumber = 1000 * (depth + 1) + number
    level = made
    for keyword in SEQUENCES[:depth]:
        inner = Dataset()
        setattr(level, keyword, Sequence([inner]))
        level = inner
    planted = []
    for name, tag, vr, row, options in rows:
        if (value := _value(tag, vr, row, depth)) is None:
            continue
        if tag == 0x00291010:
            level.add_new(0x00290010, "LO", "SLUIS CONFORMANCE")
        level.add_new(tag, vr, value[0])
        planted.append(Canary(name, depth, value[1], options))
    return patients.write(directory / f"{depth}-{number:03}.dcm", patients.with_pixels(made)), planted


def corpus(directory: Path, rows_per_file: int = ROWS_PER_FILE) -> list[tuple[Instance, list[Canary]]]:
    """Files, each with the values planted in it."""
    rows = _planted()
    pieces = [rows[at : at + rows_per_file] for at in range(0, len(rows), rows_per_file)]
    return [_file(directory, number, depth, piece) for depth in range(4) for number, piece in enumerate(pieces)]


def leaked(planted: list[Canary], content: bytes) -> list[Canary]:
    """Markers of digits alone (dates, numbers) are not looked for within UIDs: among the digits of thousands of pseudonyms they stand by
    chance."""
    without_uids = re.sub(rb"(?:\d+\.){2,}\d+", b"", content)
    return [one for one in planted if one.marker in (without_uids if one.marker.isdigit() else content)]


def place(path: Path) -> tuple[str, str]:
    """What an instance is known by before and after: class and number."""
    read = dcmread(path, stop_before_pixels=True)
    return str(read.SOPClassUID), str(read.get("InstanceNumber", ""))


def values(read: Dataset, path: str = "") -> dict[str, str]:
    """Every value of a data set by where it stands, as in `(0040,0275)[0](0040,0007)`."""
    found: dict[str, str] = {}
    for element in read:
        here = f"{path}{element.tag}"
        if element.VR == "SQ":
            for number, item in enumerate(element.value or []):
                found |= values(item, f"{here}[{number}]")
        elif element.value not in (None, "", b""):
            found[here] = repr(element.value)
    return found


def acted_on(before: Dataset, after: Dataset) -> set[str]:
    """Where a value stood that is not there any more, or is another one."""
    now = values(after)
    return {place for place, value in values(before).items() if now.get(place) != value}


def of_the_oracle(path: Path) -> Dataset:
    """What the crate dicom-anonymization makes of a file with its default configuration, by its own Python package."""
    return dcmread(BytesIO(Anonymizer().anonymize(str(path))), force=True)


def is_kept(canary: Canary, options: set[str]) -> bool:
    """Whether one of these options may let something of it stay."""
    return bool(canary.options & options)


def errors(path: Path) -> set[str]:
    """What dciodvfy calls an error, without the values that it quotes."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", timeout=60, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return {re.sub(r"(?<!Element=)(?<!Module=)<[^>]*>|[0-9.]{16,}", "", line).strip() for line in lines if line.startswith("Error")}


def errors_of(paths: list[Path]) -> dict[Path, set[str]]:
    """As `errors`, of many at a time; none of any where dciodvfy is not installed."""
    if not shutil.which("dciodvfy"):
        return {path: set() for path in paths}
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(paths, pool.map(errors, paths), strict=True))
