"""dcm4che's own tools: storescu, storescp, stgcmtscu, dcmqrscp of its official release (5.x), which is in no package registry.

Found by `DCM4CHE_HOME` (its bin folder), otherwise on PATH. DCMTK has programs of the same names: `storescu --version` of dcm4che
says "storescu: 5.35.0", that of DCMTK begins with "$dcmtk". The options were taken from `--help` and from the sources
(CLIUtils.java and each tool's main class).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path

import pydicom

from .. import generate
from ..destinations import Absent
from ..part10 import Instance
from ..processes import run
from ..tls import Secured
from .base import JPEG_2000_LOSSLESS, JPEG_BASELINE, RLE, Called, Can, Peer, Said
from .process import ProcessScp

TOOLS = ("storescu", "storescp", "stgcmtscu", "dcmqrscp")
NOT_FOUND = "dcm4che tools not found"
# Longest PDU that it receives and that it sends; 0: without limit. 16378 is its default.
SEND_PDUS = ((4096, 4096), (16378, 16378), (131072, 131072), (0, 1000000))


def said_version(tool: Path) -> str | None:
    """The version, if this is dcm4che's tool of that name."""
    try:
        done = subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=60, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(rf"^{re.escape(tool.name)}: (\d\S*)$", done.stdout, re.MULTILINE)
    return found[1] if found and done.returncode == 0 else None


def find_tool(name: str, environment: dict[str, str]) -> tuple[Path, str]:
    """(path, version) of one of dcm4che's tools; raises `Absent`."""
    home = environment.get("DCM4CHE_HOME")
    folders = [Path(home) / "bin"] if home else [Path(part) for part in environment.get("PATH", "").split(os.pathsep) if part]
    for folder in folders:
        tool = folder / name
        if os.access(tool, os.X_OK) and (version := said_version(tool)):
            return tool, version
    where = f"{name} in DCM4CHE_HOME={home}" if home else f"{name} on PATH; DCM4CHE_HOME is not set"
    raise Absent(f"{NOT_FOUND} ({where})")


@cache
def tool(name: str) -> tuple[Path, str]:
    return find_tool(name, dict(os.environ))


def tls_options(tls: Secured) -> list[str]:
    """`--tls` alone enables suites with RSA key transport and CBC only, which are retired: a suite of BCP 195 is named instead, and
    names TLS by that. A client certificate is demanded unless --tls-noauth is given. Key stores are JKS by default."""
    key, trust = tls.stores()
    options = ["--tls-protocol", "TLSv1.2", "--tls-cipher", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
    options += ["--key-store", str(key), "--key-store-type", "PKCS12", "--key-store-pass", "secret", "--key-pass", "secret"]
    return [*options, "--trust-store", str(trust), "--trust-store-type", "PKCS12", "--trust-store-pass", "secret"]


class Dcm4cheDcmqrscp(ProcessScp):
    """dcmqrscp of dcm4che: an archive whose index is a DICOMDIR, which it makes where there is none."""

    name = "dcm4che-dcmqrscp"

    def command(self) -> list[str | Path]:
        # --all-storage: any SOP class. --filepath: where files go below the folder of the DICOMDIR.
        command = [tool("dcmqrscp")[0], "-b", f"{self.ae}:{self.port}", "--dicomdir", self.out / "DICOMDIR", "--all-storage"]
        return [*command, "--filepath", "IMAGES/{00080018,hash}"]


class Dcm4cheStorescp(ProcessScp):
    """storescp of dcm4che: writes what arrives as it came, to files named by their UIDs."""

    name = "dcm4che"

    def __init__(self, directory: Path, ae: str, *options: str) -> None:
        self._options = options
        super().__init__(directory, ae)

    def command(self) -> list[str | Path]:
        # -b AET:PORT: where it listens, and the only called AE title that it accepts. --accept-unknown: any SOP class in any
        # transfer syntax. --directory: where the files go.
        return [tool("storescp")[0], "-b", f"{self.ae}:{self.port}", "--accept-unknown", "--directory", self.out, *self._options]


class Dcm4che(Peer):
    name = "dcm4che"
    title = "dcm4che"
    can = frozenset({Can.ECHO, Can.STORE, Can.RECEIVE, Can.SEND_PDU, Can.RECEIVE_PDU, Can.MODES, Can.COMMIT, Can.TLS, Can.TLS_RECEIVE, Can.ARCHIVE})
    takes = (generate.IMPLICIT, generate.EXPLICIT, generate.BIG_ENDIAN, JPEG_BASELINE, JPEG_2000_LOSSLESS, RLE)
    # Not the other way: its storescp deflates what it writes to a file once more (DicomOutputStream, switchTransferSyntax).
    sends = (*takes, generate.DEFLATED)
    send_pdus = (4096, 16378, 131072)
    receive_pdus = (4096, 16378, 131072, 0)

    def find(self) -> None:
        for name in TOOLS:
            tool(name)

    def version(self) -> str:
        return tool("storescu")[1]

    def _storescu(self, to: Called, *words: str) -> tuple[int, str]:
        # -b AET: its own AE title. -c AET@HOST:PORT: whom it calls.
        command = [tool("storescu")[0], "-b", to.calling, "-c", to.at, *(tls_options(to.tls) if to.tls else []), *words]
        done = run(command, 300, check=False)
        return done.returncode, done.stdout + done.stderr

    def echo(self, to: Called) -> Said:
        # Without files it sends C-ECHO, and logs "C-ECHO-RSP[pcid=1, status=0H"; where the response is missing or the
        # association is rejected, it ends with 2 and prints the A-ASSOCIATE-RJ.
        code, output = self._storescu(to)
        why = re.search(r"A-ASSOCIATE-RJ\[result: (\d+)[^,\]]*, source: (\d+)[^,\]]*, reason: (\d+)", output)
        answered = re.findall(r"C-ECHO-RSP\[pcid=\d+, status=([0-9a-f]+)H", output)
        return Said(
            output,
            echoed=code == 0 and "Connected to" in output and set(answered) <= {"0"},
            rejected="/".join(why.groups()) if why else None,
        )

    def store(self, to: Called, sent: Sequence[Instance], pdu: int | None = None) -> Said:
        # --max-pdulen-rcv, --max-pdulen-snd: the longest P-DATA-TF that it says it receives, and that it sends.
        size = ["--max-pdulen-rcv", str(pdu), "--max-pdulen-snd", str(pdu)] if pdu else []
        return self.store_in_mode(to, sent, size)

    def store_in_mode(self, to: Called, sent: Sequence[Instance], mode: Sequence[str]) -> Said:
        code, output = self._storescu(to, *mode, *(str(one.path) for one in sent))
        # "Sent 3 objects (=0.1MB) in 0.2s": those answered with success or a warning; each other one has a line
        # "ERROR: Received C-STORE-RSP with Status A700H for FILE", each warning one that begins with WARNING.
        counted = re.search(r"Sent ([\d.,' ]+) objects", output)
        other = {
            path.strip(' "'): int(status, 16)
            for status, path in re.findall(r"Received C-STORE-RSP with Status ([0-9A-F]{4})H for (.+)", output)
        }
        named = {str(one.path): one.sop_instance for one in sent}
        said = Said(output, {named[path]: status for path, status in other.items() if path in named})
        refused = sum(1 for status in other.values() if status >> 12 != 0xB)
        if code == 0 and counted and int(re.sub(r"\D", "", counted[1])) == len(sent) - refused:
            said.statuses |= {name: 0 for path, name in named.items() if path not in other}
        return said

    def modes(self) -> Sequence[tuple[str, Sequence[str]]]:
        """Every combination of packed or single PDVs, an asynchronous window or none, and PDU sizes."""
        # By default command and data PDVs share a P-DATA-TF; --not-pack-pdv: one PDV in each.
        packing = {"packed PDVs": [], "single PDVs": ["--not-pack-pdv"]}
        # By default the window is unlimited; --max-ops-invoked N: N operations at a time; --not-async: none is negotiated.
        windows = {"window unlimited": [], "window 5": ["--max-ops-invoked", "5"], "not async": ["--not-async"]}
        sizes = {
            f"PDU {receive}/{send}": ["--max-pdulen-rcv", str(receive), "--max-pdulen-snd", str(send)]
            for receive, send in SEND_PDUS
        }
        return [
            (", ".join(names), [word for part in (packing[names[0]], windows[names[1]], sizes[names[2]]) for word in part])
            for names in product(packing, windows, sizes)
        ]

    def store_and_commit(self, to: Called, sent: Sequence[Instance], listen: int, directory: Path) -> Said:
        said = self.store(to, sent)
        results = directory / "results"
        results.mkdir()
        # -b AET:PORT: where it listens for the N-EVENT-REPORT. --directory: it writes each result to a file there, named by the
        # Transaction UID. --request-timeout: how long it waits for results, in ms. Its context of Storage Commitment has id 2.
        command = [tool("stgcmtscu")[0], "-b", f"{to.calling}:{listen}", "-c", to.at]
        command += ["--directory", results, "--request-timeout", "60000", *(one.path for one in sent)]
        done = run(command, 90, check=False)
        said.output += done.stdout + done.stderr
        for file in results.iterdir():
            result = pydicom.dcmread(file)
            said.committed |= {str(one.ReferencedSOPInstanceUID) for one in result.get("ReferencedSOPSequence", [])}
            said.failed |= {str(one.ReferencedSOPInstanceUID): int(one.FailureReason) for one in result.get("FailedSOPSequence", [])}
        return said

    def receiver(self, directory: Path, ae: str, pdu: int | None = None) -> Dcm4cheStorescp:
        options = [] if pdu is None else ["--max-pdulen-rcv", str(pdu)]
        return Dcm4cheStorescp(directory, ae, *options)

    def secure_receiver(self, directory: Path, ae: str, tls: Secured) -> Dcm4cheStorescp:
        return Dcm4cheStorescp(directory, ae, *tls_options(tls))

    def archive(self, directory: Path, ae: str) -> Dcm4cheDcmqrscp:
        return Dcm4cheDcmqrscp(directory, ae)
