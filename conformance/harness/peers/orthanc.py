"""Orthanc: a whole server, asked over its REST interface to echo and to send what it has."""

from __future__ import annotations

import tempfile
import urllib.error
from collections.abc import Sequence
from pathlib import Path

from .. import generate
from ..destinations import Orthanc as Server
from ..destinations import program
from ..part10 import Instance
from ..processes import HOST, run, wait_until
from ..tls import Secured
from .base import JPEG_2000_LOSSLESS, JPEG_BASELINE, RLE, Called, Can, Peer, Said


def tls_settings(tls: Secured) -> dict[str, str]:
    """Its own certificate and the authorities that it believes, for both sides."""
    return {
        "DicomTlsPrivateKey": str(tls.own.key),
        "DicomTlsCertificate": str(tls.own.cert),
        "DicomTlsTrustedCertificates": str(tls.authority.cert),
    }


class Orthanc(Peer):
    name = "orthanc"
    title = "Orthanc"
    can = frozenset({Can.ECHO, Can.STORE, Can.RECEIVE, Can.RECEIVE_PDU, Can.COMMIT, Can.TLS, Can.TLS_RECEIVE})
    tells_unknown = "rejected"
    sends = takes = (generate.IMPLICIT, generate.EXPLICIT, generate.BIG_ENDIAN, JPEG_BASELINE, JPEG_2000_LOSSLESS, RLE)

    def find(self) -> None:
        program("Orthanc")

    def version(self) -> str:
        words = run([program("Orthanc"), "--version"]).stdout.split()
        return words[1]

    def __init__(self) -> None:
        self._servers: dict[tuple[Called, int | None], Server] = {}
        self._directory: tempfile.TemporaryDirectory | None = None

    def _server(self, to: Called, listen: int | None = None) -> Server:
        """A server that knows the called one as `sluis`; it runs on, since it takes seconds to start. It may have to listen at a certain port."""
        if (to, listen) not in self._servers:
            self._directory = self._directory or tempfile.TemporaryDirectory(prefix="conformance-orthanc-")
            sluis = {"AET": to.called, "Host": HOST, "Port": to.port, "AllowStorageCommitment": True}
            known = {"DicomModalities": {"sluis": sluis}, "DicomScuTimeout": 60}
            if to.tls:
                sluis["UseDicomTls"] = True
                known |= tls_settings(to.tls)
            server = Server(Path(self._directory.name), to.calling, **known, **({"DicomPort": listen} if listen else {}))
            server.port = listen or server.port
            self._servers[to, listen] = server.start()
        return self._servers[to, listen]

    def stop(self) -> None:
        for server in self._servers.values():
            server.stop()
        self._servers.clear()
        if self._directory:
            self._directory.cleanup()
            self._directory = None

    def echo(self, to: Called) -> Said:
        server = self._server(to)
        try:
            server.post("/modalities/sluis/echo", {})
        except urllib.error.HTTPError as refused:
            output = refused.read().decode()
            return Said(output, rejected="rejected" if "DUL Association Rejected" in output else None)
        return Said(server.logs(), echoed=True)

    def store(self, to: Called, sent: Sequence[Instance], pdu: int | None = None) -> Said:
        return self._store(self._server(to), sent)[0]

    def _store(self, server: Server, sent: Sequence[Instance], **more: object) -> tuple[Said, dict]:
        """What it says, and its answer to the order."""
        named = {server.post("/instances", one.path.read_bytes())["ID"]: one.sop_instance for one in sent}
        order = {"Resources": list(named), "Synchronous": True, **more}
        try:
            answer = server.post("/modalities/sluis/store", order)
        except urllib.error.HTTPError as failed:
            return Said(failed.read().decode() + server.logs()), {}
        # It counts, and ends the job at the first instance that is not answered with success.
        stored = answer["InstancesCount"] == len(named) and answer["FailedInstancesCount"] == 0
        return Said(f"{answer}\n{server.logs()}", dict.fromkeys(named.values(), 0) if stored else {}), answer

    def store_and_commit(self, to: Called, sent: Sequence[Instance], listen: int, directory: Path) -> Said:
        server = self._server(to, listen)
        said, answer = self._store(server, sent, StorageCommitment=True)
        transaction = answer.get("StorageCommitmentTransactionUID")
        if not transaction:
            return said
        report = wait_until("a report at Orthanc", lambda: _ended(server, transaction), 60, server.logs)
        said.committed = {one["SOPInstanceUID"] for one in report["Success"]}
        said.failed = {one["SOPInstanceUID"]: one["Status"] for one in report["Failures"]}
        return said

    def receiver(self, directory: Path, ae: str, pdu: int | None = None) -> Server:
        return Server(directory, ae, **({"MaximumPduLength": pdu} if pdu else {}))

    def secure_receiver(self, directory: Path, ae: str, tls: Secured) -> Server:
        return Server(directory, ae, DicomTlsEnabled=True, DicomTlsRemoteCertificateRequired=True, **tls_settings(tls))


def _ended(server: Server, transaction: str) -> dict | None:
    report = server.get(f"/storage-commitment/{transaction}")
    return report if report["Status"] != "Pending" else None
