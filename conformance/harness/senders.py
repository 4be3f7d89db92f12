"""Senders made by others: DCMTK storescu and echoscu, pynetdicom. Each gives the status of every instance."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

from pynetdicom import AE, build_context
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext

from .destinations import program
from .part10 import Instance
from .processes import HOST, run

NO_ANSWER, NOT_SENT = -1, -2
_SENDING = re.compile(r"Sending file: (.*)$")
_ANSWER = re.compile(r"Received Store Response \((.*)\)")


def storescu(
    port: int,
    called: str,
    paths: Sequence[Path],
    *options: str,
    calling: str = "STORESCU",
    seconds: float = 300.0,
) -> dict[Path, int]:
    """Sends files on one association; {path: status}, NO_ANSWER where none came, NOT_SENT where it was not begun.

    Only the files' own contexts are proposed (-R), so that storescu re-encodes nothing.
    """
    command = [program("storescu"), "-v", "-nh", "-R", "-aet", calling, "-aec", called]
    command += [] if "-pdu" in options else ["-pdu", "131072"]
    listed = [str(path) for path in paths]
    done = run([*command, *options, HOST, str(port), *listed], seconds, check=False, env={**os.environ, "TCP_NODELAY": "1"})
    answers = dict.fromkeys(paths, NOT_SENT)
    current: Path | None = None
    for line in (done.stdout + done.stderr).splitlines():
        if found := _SENDING.search(line):
            current = Path(found[1].strip())
            answers[current] = NO_ANSWER
        elif (found := _ANSWER.search(line)) and current is not None:
            answers[current] = _status(found[1])
    return answers


# What DCMTK's DU_cstoreStatusString says; it names whole ranges, so the exact code of a range is lost.
_WORDS = {
    "Success": 0x0000,
    "Refused: OutOfResources": 0xA700,
    "Refused: SOPClassNotSupported": 0x0122,
    "Error: DataSetDoesNotMatchSOPClass": 0xA900,
    "Error: CannotUnderstand": 0xC000,
    "Warning: CoercionOfDataElements": 0xB000,
    "Warning: DataSetDoesNotMatchSOPClass": 0xB007,
    "Warning: ElementsDiscarded": 0xB006,
}


def _status(text: str) -> int:
    if text in _WORDS:
        return _WORDS[text]
    if found := re.search(r"0x([0-9a-fA-F]{1,4})\b", text):
        return int(found[1], 16)
    raise AssertionError(f"storescu printed a status that this suite does not know: {text}")


def echoscu(port: int, called: str, *options: str):
    return run([program("echoscu"), "-v", "-to", "10", "-ta", "10", "-td", "20", "-aec", called, *options, HOST, str(port)], 60, check=False)


def contexts_of(instances: Iterable[Instance]) -> list[PresentationContext]:
    pairs = sorted({(one.sop_class, one.transfer_syntax) for one in instances})
    assert len(pairs) <= 128, f"{len(pairs)} contexts do not fit into one association"
    return [build_context(abstract, syntax) for abstract, syntax in pairs]


class NotAccepted(AssertionError):
    """The association was rejected, or aborted before it stood."""


def pynetdicom_send(
    port: int,
    called: str,
    instances: Sequence[Instance],
    calling: str = "PYNETSCU",
    max_pdu: int = 131072,
    originator: tuple[str, int] | None = None,
    seconds: float = 120.0,
    tls: ssl.SSLContext | None = None,
) -> dict[str, int]:
    """Sends the data sets as they are in the files, in one association; {SOP Instance UID: status}."""
    entity = AE(ae_title=calling)
    entity.maximum_pdu_size = max_pdu
    entity.dimse_timeout = entity.network_timeout = seconds
    secured = (tls, HOST) if tls else None
    association = entity.associate(HOST, port, contexts=contexts_of(instances), ae_title=called, max_pdu=max_pdu, tls_args=secured)
    if not association.is_established:
        raise NotAccepted(f"no association with {called} on port {port}")
    answers = {}
    _rest(association)
    try:
        accepted = {(c.abstract_syntax, c.transfer_syntax[0]): c.context_id for c in association.accepted_contexts}
        for number, one in enumerate(instances, 1):
            context = accepted.get((one.sop_class, one.transfer_syntax))
            if context is None:
                answers[one.sop_instance] = NO_ANSWER
                continue
            answers[one.sop_instance] = _store(association, context, one, number % 65535 + 1, originator)
            if answers[one.sop_instance] == NO_ANSWER:
                # Awake again, pynetdicom notices that the peer is gone, if it is.
                association._reactor_checkpoint.set()
                deadline = time.monotonic() + 2
                while association.is_established and time.monotonic() < deadline:
                    time.sleep(0.01)
                break
    finally:
        association._reactor_checkpoint.set()
        if association.is_established:
            association.release()
    return answers


def _rest(association) -> None:
    """Has pynetdicom's own thread rest for as long as we send: it would take responses away, also one that comes just after it was
    told to rest (it says that it does in every round, for a moment)."""
    association._reactor_checkpoint.clear()
    seen = 0
    while seen < 10:
        seen = seen + 1 if association._is_paused else 0
        time.sleep(0.001)


def _store(association, context: int, one: Instance, number: int, originator: tuple[str, int] | None) -> int:
    """The C-STORE of pynetdicom's own send_c_store, but with the bytes of the file instead of an encoding of its own."""
    request = C_STORE()
    request.MessageID = number
    request.Priority = 2
    request.AffectedSOPClassUID = one.sop_class
    request.AffectedSOPInstanceUID = one.sop_instance
    request.DataSet = BytesIO(one.data_set())
    if originator:
        request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID = originator
    association.dimse.send_msg(request, context)
    _, response = association.dimse.get_msg(block=True)
    return NO_ANSWER if response is None else int(response.Status)
