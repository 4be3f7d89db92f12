#!/usr/bin/env python3
"""Sluis beside other pseudonymizers on one corpus: `conformance/run pseudonymizers.py [--install]`.

Every tool gets the same files, with a marker in every row of PS3.15 Table E.1-1 at depths 0 to 3, and its basic profile. What is
counted are the markers that are still there, and how many files have errors for dciodvfy that they did not have before. Sluis goes
the whole way, from storescu to storescp. `--install` fetches what is in PyPI into a virtual environment of its own; `--rate` compares how many
CT slices a second our engine and the crate dicom-anonymization take.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

from harness import canaries, part10, patients, senders
from harness.binaries import target
from harness.destinations import Storescp
from harness.stack import Stack

VENV = target() / "pseudonymizers-venv"
PYPI = ("dicom-anonymizer==2.1.0", "dicognito==0.19.0", "dcm-anonymizer==0.5.0", "dcmanon==0.3.1")
SECONDS = 900


class NotHere(Exception):
    """A tool is not installed."""


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(str(VENV / "bin" / name))
    if not found:
        raise NotHere(f"{name} is not installed")
    return found


def sluis(sent: Path, out: Path) -> None:
    instances = part10.find(sent)
    with tempfile.TemporaryDirectory() as folder, Storescp(Path(folder)) as destination:
        stack = Stack(Path(folder) / "sluis", to=destination.address)
        patients.pseudonymize(stack)
        with stack:
            senders.pynetdicom_send(stack.listen, stack.ae, instances)
            stack.wait_settled(120)
            time.sleep(0.5)
        for one in part10.find(destination.out):
            shutil.copy(one.path, out / one.path.name)


def gdcmanon(sent: Path, out: Path) -> None:
    """Its basic profile seals what it removes, and wants a certificate for that."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder) / "key.pem", Path(folder) / "certificate.pem"
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-subj", "/CN=judge", "-days", "2"]
        subprocess.run(made, timeout=60, check=True, capture_output=True)
        command = [tool("gdcmanon"), "--de-identify", "-c", certificate, "-r", "--continue", "-i", sent, "-o", out]
        subprocess.run(command, timeout=SECONDS, check=False, capture_output=True)


def dicom_anonymizer(sent: Path, out: Path) -> None:
    subprocess.run([tool("dicom-anonymizer"), sent, out], timeout=SECONDS, check=False, capture_output=True)


def dicognito(sent: Path, out: Path) -> None:
    if not any(VENV.glob("lib/*/site-packages/dicognito")):
        raise NotHere("dicognito is not installed")
    # Its own entry point does not pass arguments on.
    command = [VENV / "bin" / "python", "-c", "import sys; from dicognito.__main__ import main; main(sys.argv[1:])"]
    subprocess.run([*command, "--seed", "7", "-o", out, sent], timeout=SECONDS, check=False, capture_output=True)


def dcm_anonymizer(sent: Path, out: Path) -> None:
    command = [tool("dcm-anon"), "--continue-on-error", "--quiet", "--salt", "7", "--audit-log", out.with_suffix(".json"), sent, out]
    subprocess.run(command, timeout=SECONDS, check=False, capture_output=True)


# The crate dicom-anonymization, as its own Python package offers it.
_CRATE = """
import pathlib, sys
from dcmanon import Anonymizer
made = Anonymizer()
for path in pathlib.Path(sys.argv[1]).rglob("*.dcm"):
    try:
        (pathlib.Path(sys.argv[2]) / path.name).write_bytes(made.anonymize(str(path)))
    except Exception as error:
        print(path.name, error)
"""


def dicom_anonymization(sent: Path, out: Path) -> None:
    if not any(VENV.glob("lib/*/site-packages/dcmanon*")):
        raise NotHere("dcmanon is not installed")
    subprocess.run([VENV / "bin" / "python", "-c", _CRATE, sent, out], timeout=SECONDS, check=False, capture_output=True)


TOOLS: dict[str, Callable[[Path, Path], None]] = {
    "Sluis": sluis,
    "dicom-anonymization 0.3.1": dicom_anonymization,
    "gdcmanon --de-identify": gdcmanon,
    "dcm-anonymizer 0.5.0": dcm_anonymizer,
    "dicom-anonymizer 2.1.0": dicom_anonymizer,
    "dicognito 0.19.0": dicognito,
}


def judge(name: str, run: Callable[[Path, Path], None], corpus: list, before: dict[tuple[str, str], set[str]]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        sent = corpus[0][0].path.parent
        try:
            run(sent, out)
        except NotHere as absent:
            return f"| {name} | not run: {absent} | | | |"
        contents = [one.path.read_bytes() for one in part10.find(out)]
        planted = [one for _, canary in corpus for one in canary]
        everything = b"\n".join(contents)
        leaks = canaries.leaked(planted, everything)
        worse = sum(bool(canaries.errors(one.path) - before.get(canaries.place(one.path), set())) for one in part10.find(out))
        share = 100 * len(leaks) / len(planted)
        return f"| {name} | {len(leaks)} of {len(planted)} | {share:.1f} % | {len(contents)} of {len(corpus)} | {worse} |"


def rate(tool: str, directory: Path, count: int) -> str:
    """Instances a second of our engine on one core, and of dicom-anonymization on the same files just before and after."""
    def theirs() -> float:
        with tempfile.TemporaryDirectory() as out:
            begin = time.monotonic()
            dicom_anonymization(directory, Path(out))
            assert len(list(Path(out).iterdir())) == count
            return time.monotonic() - begin

    first = theirs()
    done = subprocess.run([tool, directory], timeout=SECONDS, check=True, capture_output=True, text=True)
    mean = (first + theirs()) / 2
    ours = float(done.stdout.split(": ")[1].split("/s")[0])
    return f"{ours:.0f}/s, dicom-anonymization (with its files) {count / mean:.0f}/s: {ours * mean / count:.1f} times"


def compare_rates() -> None:
    build = ["cargo", "build", "--release", "--workspace", "--example", "pseudonym_rate"]
    subprocess.run(build, cwd=Path(__file__).parent.parent, timeout=SECONDS, check=True)
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        for number in range(200):
            made = patients.data_set(patients.CT, "CT", "1.2.3.4", "1.2.3.4.1", "1.2.3.4.2", InstanceNumber=number)
            patients.write(study / f"{number}.dcm", patients.with_pixels(made, 512, number))
        print(f"200 CT slices: {rate(str(target() / 'release' / 'examples' / 'pseudonym_rate'), study, 200)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--install", action="store_true", help="fetch the tools that are in PyPI first")
    parser.add_argument("--rate", action="store_true", help="compare instances a second with dicom-anonymization instead")
    arguments = parser.parse_args()
    if arguments.install:
        venv.create(VENV, with_pip=True)
        for package in PYPI:
            subprocess.run([VENV / "bin" / "pip", "install", "--quiet", package], check=False)
    if arguments.rate:
        compare_rates()
        return 0
    with tempfile.TemporaryDirectory() as folder:
        corpus = canaries.corpus(Path(folder) / "corpus")
        before = {canaries.place(one.path): canaries.errors(one.path) for one, _ in corpus}
        print("| tool, basic profile | markers left | | files written | files with new dciodvfy errors |\n|---|---|---|---|---|")
        for name, run in TOOLS.items():
            print(judge(name, run, corpus, before), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
