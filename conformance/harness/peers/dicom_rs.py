"""dicom-rs: dicom-echoscu, dicom-storescu, dicom-storescp. Built without their TLS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .. import generate
from ..part10 import Instance
from ..processes import run
from .base import JPEG_2000_LOSSLESS, JPEG_BASELINE, RLE, Called, Can, Peer, Said, installed
from .process import ProcessScp

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_STATUS = re.compile(r"^\(0000,0900\) Status .*: (\d+)\n\(0000,1000\) AffectedSOPInstanceUID .*\"(\S+?)\0?\"", re.MULTILINE)


class DicomRsScp(ProcessScp):
    name = "dicom-rs"

    def __init__(self, directory: Path, ae: str, pdu: int | None) -> None:
        self._pdu = pdu
        super().__init__(directory, ae)

    def command(self) -> list[str | Path]:
        size = ["--max-pdu-length", str(self._pdu)] if self._pdu else []
        # Strict: it drops an association whose PDUs are larger than it allowed.
        return [installed("dicom-storescp"), "-v", "--strict", "--promiscuous", "-p", str(self.port), "-o", self.out, *size]


class DicomRs(Peer):
    name = "dicom-rs"
    title = "dicom-rs"
    can = frozenset({Can.ECHO, Can.STORE, Can.RECEIVE, Can.SEND_PDU, Can.RECEIVE_PDU})
    sends = takes = (generate.IMPLICIT, generate.EXPLICIT, generate.BIG_ENDIAN, JPEG_BASELINE, JPEG_2000_LOSSLESS, RLE)

    def find(self) -> None:
        for name in ("dicom-echoscu", "dicom-storescu", "dicom-storescp"):
            installed(name)

    def version(self) -> str:
        return run([installed("dicom-storescu"), "--version"]).stdout.split()[1]

    def _run(self, tool: str, to: Called, *words: str) -> tuple[int, str]:
        done = run([installed(tool), "-v", "--calling-ae-title", to.calling, to.at, *words], 300, check=False)
        return done.returncode, _COLOUR.sub("", done.stdout + done.stderr)

    def echo(self, to: Called) -> Said:
        code, output = self._run("dicom-echoscu", to)
        why = "1/1/7" if re.search("called.AE.title.not.recogni", output, re.IGNORECASE) else None
        return Said(output, echoed=code == 0 and "C-ECHO successful" in output, rejected=why)

    def store(self, to: Called, sent: Sequence[Instance], pdu: int | None = None) -> Said:
        size = ["--max-pdu-length", str(pdu)] if pdu else []
        _, output = self._run("dicom-storescu", to, "--fail-first", *size, *(str(one.path) for one in sent))
        return Said(output, {name: int(status) for status, name in _STATUS.findall(output)})

    def receiver(self, directory: Path, ae: str, pdu: int | None = None) -> DicomRsScp:
        return DicomRsScp(directory, ae, pdu)
