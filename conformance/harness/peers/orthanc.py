"""Orthanc: a whole server, asked over its REST interface to echo and to send what it has."""

from __future__ import annotations

import tempfile
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .. import generate
from ..destinations import Orthanc as Server
from ..destinations import program
from ..part10 import Instance
from ..processes import HOST, run
from .base import JPEG_2000_LOSSLESS, JPEG_BASELINE, RLE, Called, Can, Peer, Said


class Orthanc(Peer):
    name = "orthanc"
    title = "Orthanc"
    can = frozenset({Can.ECHO, Can.STORE, Can.RECEIVE, Can.RECEIVE_PDU})
    tells_unknown = "rejected"
    sends = takes = (generate.IMPLICIT, generate.EXPLICIT, generate.BIG_ENDIAN, JPEG_BASELINE, JPEG_2000_LOSSLESS, RLE)

    def find(self) -> None:
        program("Orthanc")

    def version(self) -> str:
        words = run([program("Orthanc"), "--version"]).stdout.split()
        return words[1]

    @contextmanager
    def _server(self, to: Called) -> Iterator[Server]:
        """A server that knows the called one as `sluis`."""
        with tempfile.TemporaryDirectory(prefix="conformance-orthanc-") as directory:
            known = {"DicomModalities": {"sluis": [to.called, HOST, to.port]}, "DicomScuTimeout": 60}
            with Server(Path(directory), to.calling, **known) as server:
                yield server

    def echo(self, to: Called) -> Said:
        with self._server(to) as server:
            try:
                server.post("/modalities/sluis/echo", {})
            except urllib.error.HTTPError as refused:
                output = refused.read().decode()
                return Said(output, rejected="rejected" if "DUL Association Rejected" in output else None)
            return Said(server.logs(), echoed=True)

    def store(self, to: Called, sent: Sequence[Instance], pdu: int | None = None) -> Said:
        with self._server(to) as server:
            named = {server.post("/instances", one.path.read_bytes())["ID"]: one.sop_instance for one in sent}
            order = {"Resources": list(named), "Synchronous": True}
            try:
                answer = server.post("/modalities/sluis/store", order)
            except urllib.error.HTTPError as failed:
                return Said(failed.read().decode() + server.logs())
            # It counts, and ends the job at the first instance that is not answered with success.
            stored = answer["InstancesCount"] == len(named) and answer["FailedInstancesCount"] == 0
            return Said(f"{answer}\n{server.logs()}", dict.fromkeys(named.values(), 0) if stored else {})

    def receiver(self, directory: Path, ae: str, pdu: int | None = None) -> Server:
        return Server(directory, ae, **({"MaximumPduLength": pdu} if pdu else {}))
