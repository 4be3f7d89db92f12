"""Destinations that give storage commitment: pynetdicom as SCP, reporting on the association that asked or on its own."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import tomlkit
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from .binaries import binary
from .destinations import PynetdicomScp
from .processes import HOST, free_ports, run
from .stack import Stack

CALLING = "SLUIS_IN"


@dataclass
class Asked:
    """An N-ACTION as it came."""

    transaction: str
    instances: dict[str, str]
    calling: str
    committed: set[str] = field(default_factory=set)


class Committer(PynetdicomScp):
    """Stores and commits. `says`: 0 or a Failure Reason for a SOP Instance UID; `on`: "same", "new", or "nobody" for silence.

    `on_ask` sees each request before it is answered, and gives the status of the answer; no report leaves before `gate` is set.
    """

    def __init__(
        self,
        on: str = "new",
        says: Callable[[str], int] = lambda _name: 0,
        on_ask: Callable[[Asked], int] = lambda _asked: 0,
        role: bool = True,
        **options: object,
    ) -> None:
        super().__init__(**options)
        self.on, self.says, self.on_ask, self.role = on, says, on_ask, role
        self.gate = threading.Event()
        self.asked: list[Asked] = []
        self.answers: list[int | None] = []
        self.report_port = 0
        self.granted: tuple[bool, bool] | None = None

    def start(self) -> "Committer":
        super().start()
        self._server.ae.add_supported_context(StorageCommitmentPushModel)
        self._server.contexts = self._server.ae.supported_contexts
        self._server.bind(evt.EVT_N_ACTION, self._action)
        return self

    __enter__ = start

    def _action(self, event: evt.Event) -> tuple[int, None]:
        information = event.action_information
        references = information.ReferencedSOPSequence
        asked = Asked(
            str(information.TransactionUID),
            {str(one.ReferencedSOPInstanceUID): str(one.ReferencedSOPClassUID) for one in references},
            str(event.assoc.requestor.ae_title).strip(),
        )
        status = self.on_ask(asked)
        self.asked.append(asked)
        if status == 0 and self.on != "nobody":
            threading.Thread(target=self._report, args=(asked, event.assoc), daemon=True).start()
        return status, None

    def _report(self, asked: Asked, association: object) -> None:
        self.gate.wait(60)
        reasons = {name: self.says(name) for name in asked.instances}
        for _ in range(20):
            try:
                if self.on == "same":
                    self.answers.append(send_report(association, asked.transaction, asked.instances, reasons))
                    return
                with self.associate(asked.calling) as own:
                    role = own.acceptor.role_selection.get(StorageCommitmentPushModel)
                    self.granted = (role.scu_role, role.scp_role) if role else None
                    self.answers.append(send_report(own, asked.transaction, asked.instances, reasons))
                    return
            except (RuntimeError, ValueError, ConnectionError):
                threading.Event().wait(0.5)

    def associate(self, called: str = CALLING, port: int = 0, ae: str = "") -> "Own":
        return Own(ae or self.ae, port or self.report_port, called, self.role)


class Own:
    """An association of the destination's own, for a report."""

    def __init__(self, ae: str, port: int, called: str, role: bool = True) -> None:
        entity = AE(ae_title=ae)
        entity.dimse_timeout = entity.network_timeout = 30
        entity.add_requested_context(StorageCommitmentPushModel)
        entity.add_requested_context(Verification)
        roles = [build_role(StorageCommitmentPushModel, scp_role=True, scu_role=False)] if role else []
        self.association = entity.associate(HOST, port, ae_title=called, ext_neg=roles)

    def __enter__(self):
        if not self.association.is_established:
            raise ConnectionError("no association for the report")
        return self.association

    def __exit__(self, *_: object) -> None:
        self.association.release()


def send_report(
    association,
    transaction: str,
    instances: dict[str, str],
    reasons: dict[str, int],
    event: int = 0,
    sop_class: str = "",
    instance: str = StorageCommitmentPushModelInstance,
) -> int:
    """N-EVENT-REPORT; the status of its answer."""
    information = Dataset()
    information.TransactionUID = transaction
    committed = [name for name in instances if reasons.get(name, 0) == 0]
    failed = [name for name in instances if reasons.get(name, 0) != 0]

    def reference(name: str) -> Dataset:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instances[name], name
        return item

    if committed:
        information.ReferencedSOPSequence = [reference(name) for name in committed]
    if failed:
        items = [reference(name) for name in failed]
        for item, name in zip(items, failed, strict=True):
            item.FailureReason = reasons[name]
        information.FailedSOPSequence = items
    kind = event or (2 if failed else 1)
    if sop_class:
        status, _ = association.send_n_event_report(
            information, kind, sop_class, instance, meta_uid=StorageCommitmentPushModel
        )
    else:
        status, _ = association.send_n_event_report(information, kind, StorageCommitmentPushModel, instance)
    if "Status" not in status:
        raise ConnectionError("no answer to the report")
    return int(status.Status)


def ask_destination(stack: Stack, listens: bool = True, **options: object) -> int:
    """The first destination of gateway-in is asked to commit. Returns the port for its reports."""
    key, port = stack.directory / f"ledger-{secrets.token_hex(4)}.key", free_ports()
    run([binary("gateway-in"), "key", "ledger", key], 60)
    with stack.edit("gateway-in") as receiving:
        table = tomlkit.table()
        table["key"] = str(key)
        if listens:
            table["listen"] = f"{HOST}:{port}"
        receiving["commitment"] = table
        destination = stack.destination(receiving)
        destination["means"] = "committed"
        ask = tomlkit.inline_table()
        ask.update({"quiet": "1s", "stay": "3s", "report_timeout": "5min", "timeout": "10min", **options})
        destination["commitment"] = ask
    return port
