"""DCMTK: echoscu, storescu, storescp."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from .. import generate, senders
from ..destinations import Storescp, program
from ..part10 import Instance
from ..processes import run
from ..tls import Secured
from .base import JPEG_2000_LOSSLESS, JPEG_BASELINE, RLE, Called, Can, Peer, Said
from .process import ProcessScp

# storescu proposes one kind of transfer syntax a run (DCMTK 3.6.7, `storescu --help`).
PROPOSE = {
    generate.IMPLICIT: "-xi",
    generate.EXPLICIT: "-xe",
    generate.BIG_ENDIAN: "-xb",
    JPEG_BASELINE: "-xy",
    JPEG_2000_LOSSLESS: "-xv",
    RLE: "-xr",
}
RESULTS = {"Rejected Permanent": 1, "Rejected Transient": 2}
SOURCES = {"Service User": 1, "Service Provider (ACSE Related)": 2, "Service Provider (Presentation Related)": 3}
REASONS = {"Calling AE Title Not Recognized": 3, "Called AE Title Not Recognized": 7}


def rejection(text: str) -> str | None:
    """What DCMTK prints of an A-ASSOCIATE-RJ, as numbers."""
    found = re.search(r"Result: ([^,]+), Source: (.+)\s+.*Reason: (.+)", text)
    if not found:
        return None
    result, source, reason = (part.strip() for part in found.groups())
    return f"{RESULTS.get(result, result)}/{SOURCES.get(source, source)}/{REASONS.get(reason, reason)}"


class Dcmtk(Peer):
    name = "dcmtk"
    title = "DCMTK"
    can = frozenset({Can.ECHO, Can.STORE, Can.RECEIVE, Can.SEND_PDU, Can.RECEIVE_PDU, Can.TLS, Can.TLS_RECEIVE, Can.ARCHIVE})
    sends = tuple(PROPOSE)
    takes = (*PROPOSE, generate.DEFLATED)

    def find(self) -> None:
        for name in ("echoscu", "storescu", "storescp", "dcmqrscp"):
            program(name)

    def version(self) -> str:
        return re.search(r"v(\S+)", run([program("storescu"), "--version"]).stdout)[1]

    def echo(self, to: Called) -> Said:
        done = senders.echoscu(to.port, to.called, "-aet", to.calling, *(to.tls.dcmtk() if to.tls else []))
        output = done.stdout + done.stderr
        return Said(output, echoed=done.returncode == 0 and "Received Echo Response (Success)" in output, rejected=rejection(output))

    def store(self, to: Called, sent: Sequence[Instance], pdu: int | None = None) -> Said:
        options = ["-pdu", str(pdu), "--max-send-pdu", str(pdu)] if pdu else []
        options += to.tls.dcmtk() if to.tls else []
        said = Said("")
        for syntax, some in groupby(sent, lambda one: one.transfer_syntax):
            named = {one.path: one.sop_instance for one in some}
            answers = senders.storescu(to.port, to.called, list(named), PROPOSE[syntax], *options, calling=to.calling)
            said.statuses |= {named[path]: status for path, status in answers.items()}
        said.output = str(said.statuses)
        return said

    def receiver(self, directory: Path, ae: str, pdu: int | None = None) -> Storescp:
        # The last -pdu of a command line holds.
        return Storescp(directory, ae, None, *(["-pdu", str(pdu)] if pdu else []))

    def secure_receiver(self, directory: Path, ae: str, tls: Secured) -> Storescp:
        return Storescp(directory, ae, None, *tls.dcmtk())

    def archive(self, directory: Path, ae: str) -> "Dcmqrscp":
        return Dcmqrscp(directory, ae)


class Dcmqrscp(ProcessScp):
    """DCMTK's archive: a folder for its one AE title, with an index."""

    name = "dcmqrscp"

    def command(self) -> list[str | Path]:
        config = self.out.with_suffix(".cfg")
        tables = ["HostTable BEGIN", "HostTable END", "VendorTable BEGIN", "VendorTable END"]
        store = ["AETable BEGIN", f"{self.ae} {self.out} RW (1000, 1024mb) ANY", "AETable END"]
        limits = [f"NetworkTCPPort = {self.port}", "MaxPDUSize = 131072", "MaxAssociations = 16"]
        config.write_text("\n".join([*limits, *tables, *store, ""]))
        # +B: it writes what it has read. --no-parallel-store is not given: several associations may store at one time.
        return [program("dcmqrscp"), "-v", "-c", config, "+B", "+xe", str(self.port)]
