"""dcmjs-dimse on Node.js, by conformance/peers/dcmjs/peer.js."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from .. import generate, part10
from ..destinations import Absent, program
from ..part10 import Instance
from ..processes import HOST, Daemon, run, tail, wait_until
from ..stack import TOP
from .base import INSTALLED, JPEG_2000_LOSSLESS, JPEG_BASELINE, RLE, Called, Can, Peer, Said
from .process import ProcessScp

SCRIPT = TOP / "conformance" / "peers" / "dcmjs" / "peer.js"
MODULES = INSTALLED / "dcmjs" / "node_modules"


def node() -> str:
    here = INSTALLED / "bin" / "node"
    return str(here) if here.exists() else program("node")


class DcmjsScp(ProcessScp):
    name = "dcmjs"

    def __init__(self, directory: Path, ae: str, pdu: int | None) -> None:
        self._pdu = pdu
        super().__init__(directory, ae)

    def command(self) -> list[str | Path]:
        settings = {"port": self.port, "directory": str(self.out), "pdu": self._pdu}
        return ["env", f"NODE_PATH={MODULES}", node(), SCRIPT, "scp", json.dumps(settings)]

    def arrived(self) -> dict[str, tuple[str, str]]:
        """The script keeps bare data sets; here they become files, so that all destinations are read alike."""
        for bare in self.out.glob("*.dataset"):
            instance, sop_class, syntax = bare.stem.split("_")
            part10.write(bare.with_name(f"{instance}.dcm"), sop_class, instance, syntax, bare.read_bytes())
            bare.unlink()
        return super().arrived()


class Dcmjs(Peer):
    """It parses and encodes again what it sends, and drops private elements, which have no name in its data sets. What it
    receives, the script keeps as it came. Implicit VR it offers with Explicit VR in one context, and converts to the accepted one.
    """

    name = "dcmjs"
    title = "dcmjs-dimse"
    can = frozenset({Can.ECHO, Can.STORE, Can.RECEIVE, Can.SEND_PDU, Can.RECEIVE_PDU, Can.COMMIT})
    sends_bytes = sends_private = False
    sends = (generate.EXPLICIT, JPEG_BASELINE, JPEG_2000_LOSSLESS, RLE)
    takes = (*sends, generate.IMPLICIT, generate.BIG_ENDIAN, generate.DEFLATED)

    def find(self) -> None:
        if not (MODULES / "dcmjs-dimse").exists():
            raise Absent("dcmjs-dimse is not installed: conformance/peers/install")
        node()

    def version(self) -> str:
        said = json.loads(self._run("version", {}))
        return f"{said['dcmjs-dimse']} on Node.js {said['node']}"

    def _run(self, command: str, settings: dict[str, object], *files: str) -> str:
        environment = {**os.environ, "NODE_PATH": str(MODULES)}
        done = run([node(), SCRIPT, command, json.dumps(settings), *files], 300, check=False, env=environment)
        return done.stdout + done.stderr

    def _said(self, output: str) -> Said:
        said = Said(output)
        for line in output.splitlines():
            if not line.startswith("{"):
                continue
            one = json.loads(line)
            if one.get("association") == "rejected":
                said.rejected = f"{one['result']}/{one['source']}/{one['reason']}"
            elif one.get("answer") == "echo":
                said.echoed = one["status"] == 0
            elif "answer" in one:
                said.statuses[one["answer"]] = one["status"]
        return said

    def _settings(self, to: Called, pdu: int | None = None) -> dict[str, object]:
        return {"host": HOST, "port": to.port, "calling": to.calling, "called": to.called, "pdu": pdu}

    def echo(self, to: Called) -> Said:
        return self._said(self._run("echo", self._settings(to)))

    def store(self, to: Called, sent: Sequence[Instance], pdu: int | None = None) -> Said:
        return self._said(self._run("store", self._settings(to, pdu), *(str(one.path) for one in sent)))

    def store_and_commit(self, to: Called, sent: Sequence[Instance], listen: int, directory: Path) -> Said:
        said = self.store(to, sent)
        asked = {"listen": listen, "instances": [[one.sop_class, one.sop_instance] for one in sent]}
        command = ["env", f"NODE_PATH={MODULES}", node(), SCRIPT, "commit", json.dumps(self._settings(to) | asked)]
        log = directory / "commit.log"
        with Daemon("dcmjs, asking", command, log):
            report = wait_until("a report at dcmjs", lambda: _reported(log), 60, lambda: tail(log))
        said.committed = {one["ReferencedSOPInstanceUID"] for one in report.get("ReferencedSOPSequence", [])}
        said.failed = {one["ReferencedSOPInstanceUID"]: one["FailureReason"] for one in report.get("FailedSOPSequence", [])}
        return said

    def receiver(self, directory: Path, ae: str, pdu: int | None = None) -> DcmjsScp:
        return DcmjsScp(directory, ae, pdu)


def _reported(log: Path) -> dict | None:
    """The first report in the log of a `peer.js commit`, once its association is released: before that, the answer to the report may
    not have left, and it would come again."""
    lines = log.read_text(errors="replace").splitlines()
    reports = [line for line in lines if line.startswith('{"report"')]
    is_over = any(line.startswith('{"association":"released"') for line in lines)
    return json.loads(reports[0]) if reports and is_over else None
