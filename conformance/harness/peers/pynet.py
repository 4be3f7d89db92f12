"""pynetdicom, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pynetdicom
from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.sop_class import Verification

from .. import generate, senders
from ..commitment import Asker
from ..destinations import PynetdicomScp
from ..part10 import Instance
from ..processes import HOST
from ..tls import Secured
from .base import JPEG_2000_LOSSLESS, JPEG_BASELINE, RLE, Called, Can, Peer, Said


class Pynetdicom(Peer):
    name = "pynetdicom"
    title = "pynetdicom"
    can = frozenset({Can.ECHO, Can.STORE, Can.RECEIVE, Can.SEND_PDU, Can.RECEIVE_PDU, Can.COMMIT, Can.TLS, Can.TLS_RECEIVE})
    sends = takes = (
        generate.IMPLICIT,
        generate.EXPLICIT,
        generate.BIG_ENDIAN,
        generate.DEFLATED,
        JPEG_BASELINE,
        JPEG_2000_LOSSLESS,
        RLE,
    )

    def find(self) -> None:
        """It is a requirement of the suite itself."""

    def version(self) -> str:
        return pynetdicom.__version__

    def echo(self, to: Called) -> Said:
        entity = AE(ae_title=to.calling)
        entity.add_requested_context(Verification)
        # Read from the PDU: where the connection ends right behind an A-ASSOCIATE-RJ, pynetdicom sometimes says "aborted".
        rejections: list[str] = []

        def received(event: evt.Event) -> None:
            if isinstance(event.pdu, A_ASSOCIATE_RJ):
                rejections.append(f"{event.pdu.result}/{event.pdu.source}/{event.pdu.reason_diagnostic}")

        handlers = [(evt.EVT_PDU_RECV, received)]
        tls = (to.tls.authority.client(to.tls.own), HOST) if to.tls else None
        association = entity.associate(HOST, to.port, ae_title=to.called, evt_handlers=handlers, tls_args=tls)
        if not association.is_established:
            return Said("no association", rejected=rejections[0] if rejections else None)
        answer = association.send_c_echo()
        association.release()
        return Said(str(answer), echoed=answer.get("Status") == 0)

    def store(self, to: Called, sent: Sequence[Instance], pdu: int | None = None) -> Said:
        tls = to.tls.authority.client(to.tls.own) if to.tls else None
        statuses = senders.pynetdicom_send(to.port, to.called, sent, to.calling, pdu or 131072, tls=tls)
        return Said(str(statuses), statuses)

    def store_and_commit(self, to: Called, sent: Sequence[Instance], listen: int, directory: Path) -> Said:
        said = self.store(to, sent)
        with Asker(to.calling, listens=True, port=listen) as asker:
            report = asker.wait(asker.ask(to.port, to.called, sent), lambda: said.output, 60)
        said.committed, said.failed = report.committed, report.failed
        return said

    def receiver(self, directory: Path, ae: str, pdu: int | None = None) -> PynetdicomScp:
        return PynetdicomScp(ae, max_pdu=pdu or 131072, keep=directory / ae)

    def secure_receiver(self, directory: Path, ae: str, tls: Secured) -> PynetdicomScp:
        return PynetdicomScp(ae, tls=tls.authority.server(tls.own))
