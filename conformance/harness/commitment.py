"""Who asks for storage commitment: pynetdicom, on the association that asked or with a listener of its own."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from .part10 import Instance
from .processes import HOST, free_ports, wait_until


@dataclass
class Report:
    """An N-EVENT-REPORT as it came."""

    event_type: int
    transaction: str
    committed: set[str]
    failed: dict[str, int]
    calling: str
    role: tuple[bool, bool] | None
    is_scu: bool
    seen: object = None


@dataclass
class Asker:
    """A modality. `listens`: a listener for reports; `role`: whether it answers SCP/SCU Role Selection there; `tls`: it listens with that.

    `on_report` sees each report before it is answered, and gives the status of the answer.
    """

    ae: str = "MODALITY"
    listens: bool = False
    role: bool = True
    on_report: Callable[[Report], int] = lambda report: 0
    look: Callable[[], object] = lambda: None
    tls: ssl.SSLContext | None = None
    port: int = field(default_factory=free_ports)
    reports: list[Report] = field(default_factory=list)
    _server: object = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Asker":
        if self.listens:
            self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.deaf()

    def listen(self) -> None:
        entity = AE(ae_title=self.ae)
        roles = {"scu_role": False, "scp_role": True} if self.role else {}
        entity.add_supported_context(StorageCommitmentPushModel, **roles)
        handlers = [(evt.EVT_N_EVENT_REPORT, self._report)]
        self._server = entity.start_server((HOST, self.port), block=False, evt_handlers=handlers, ssl_context=self.tls)

    def deaf(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server = None

    def associate(self, port: int, called: str):
        entity = AE(ae_title=self.ae)
        entity.dimse_timeout = entity.network_timeout = 60
        entity.add_requested_context(StorageCommitmentPushModel)
        association = entity.associate(HOST, port, ae_title=called, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._report)])
        assert association.is_established, f"no association with {called} on port {port}"
        return association

    def ask(self, port: int, called: str, instances: Sequence[Instance], transaction: str = "") -> str:
        """On an association that is released at once. Returns the Transaction UID."""
        association = self.associate(port, called)
        transaction = transaction or generate_uid()
        assert request(association, transaction, instances) == 0
        association.release()
        return transaction

    def of(self, transaction: str) -> list[Report]:
        with self._lock:
            return [report for report in self.reports if report.transaction == transaction]

    def wait(self, transaction: str, logs: Callable[[], str], seconds: float = 30.0, count: int = 1) -> Report:
        wait_until(f"report {count} of a transaction", lambda: len(self.of(transaction)) >= count, seconds, logs)
        return self.of(transaction)[-1]

    def _report(self, event: evt.Event) -> tuple[int, None]:
        information = event.event_information
        role = event.assoc.requestor.role_selection.get(StorageCommitmentPushModel) if event.assoc.is_acceptor else None
        report = Report(
            int(event.event_type),
            str(information.TransactionUID),
            {str(one.ReferencedSOPInstanceUID) for one in information.get("ReferencedSOPSequence", [])},
            {str(one.ReferencedSOPInstanceUID): int(one.FailureReason) for one in information.get("FailedSOPSequence", [])},
            str(event.assoc.requestor.ae_title).strip(),
            (role.scu_role, role.scp_role) if role else None,
            event.assoc.accepted_contexts[0].as_scu,
            self.look(),
        )
        status = self.on_report(report)
        with self._lock:
            self.reports.append(report)
        return status, None


def request(association, transaction: str, instances: Sequence[Instance], action: int = 1, data: Dataset | None = None) -> int:
    """N-ACTION; its status."""
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = []
    for one in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.sop_class, one.sop_instance
        information.ReferencedSOPSequence.append(item)
    status, _ = association.send_n_action(
        data if data is not None else information, action, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return status.Status
