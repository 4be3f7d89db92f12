"""What a peer is to the suite: software made by others that calls us, or is called by us, by DIMSE."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import generate
from ..destinations import Absent
from ..part10 import Instance
from ..processes import HOST
from ..stack import TOP
from ..tls import Secured

# Where `conformance/peers/install` puts what is not in Debian or PyPI.
INSTALLED = Path(os.environ.get("CARGO_TARGET_DIR") or TOP / "target") / "peers"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
RLE = "1.2.840.10008.1.2.5"


class Can(enum.StrEnum):
    """What a peer may be able to do. A check asks for one of these."""

    ECHO = "C-ECHO SCU"
    STORE = "C-STORE SCU"
    RECEIVE = "C-STORE SCP"
    SEND_PDU = "PDU size of the SCU"
    RECEIVE_PDU = "PDU size of the SCP"
    MODES = "asynchronous operations, packed and split PDVs"
    COMMIT = "Storage Commitment SCU"
    TLS = "C-STORE SCU over TLS"
    TLS_RECEIVE = "C-STORE SCP over TLS"
    ARCHIVE = "an archive that is asked by C-FIND"


@dataclass(frozen=True)
class Called:
    """Whom a peer calls, and by which AE title of its own."""

    port: int
    called: str
    calling: str
    tls: Secured | None = None

    @property
    def at(self) -> str:
        """As most tools write it."""
        return f"{self.called}@{HOST}:{self.port}"


@dataclass
class Said:
    """What a peer itself says happened; nothing of it comes from our side."""

    output: str
    # {SOP Instance UID: status of its C-STORE response}
    statuses: dict[str, int] = field(default_factory=dict)
    echoed: bool = False
    # {SOP Instance UID} that a Storage Commitment named, and {SOP Instance UID: reason} that it named as failed
    committed: set[str] = field(default_factory=set)
    failed: dict[str, int] = field(default_factory=dict)
    # "result/source/reason" (PS3.8, section 9.3.4) of an association that was rejected.
    rejected: str | None = None

    def all_stored(self, sent: Sequence[Instance]) -> None:
        """Fails unless the peer says that each one was answered 0000H."""
        wrong = {one.path.name: self.statuses.get(one.sop_instance) for one in sent if self.statuses.get(one.sop_instance) != 0}
        assert not wrong, f"not answered 0000H: {wrong}\n{self.output[-4000:]}"


class Peer:
    """One peer. Its abilities are data; its methods do what they name and report in the peer's own words."""

    name = ""
    title = ""
    can: frozenset[Can] = frozenset()
    # Whether a generated data set leaves it (or is kept by it) with the bytes that it had; otherwise elements are compared,
    # those of odd groups only where it passes them on.
    sends_bytes = True
    keeps_bytes = True
    sends_private = True
    # What it tells when it calls an AE title that nobody has: permanent, service user, called AE title not recognized.
    tells_unknown = "1/1/7"
    # Transfer syntaxes that it sends, and takes, without converting.
    sends: tuple[str, ...] = (generate.IMPLICIT, generate.EXPLICIT)
    takes: tuple[str, ...] = (generate.IMPLICIT, generate.EXPLICIT)
    send_pdus: tuple[int, ...] = (4096, 16384, 131072)
    receive_pdus: tuple[int, ...] = (4096, 131072)

    def find(self) -> None:
        """Raises `Absent` with the reason, unless the peer can be started here."""
        raise NotImplementedError

    def version(self) -> str:
        """As it says itself."""
        raise NotImplementedError

    def echo(self, to: Called) -> Said:
        raise NotImplementedError

    def store(self, to: Called, sent: Sequence[Instance], pdu: int | None = None) -> Said:
        raise NotImplementedError

    def store_and_commit(self, to: Called, sent: Sequence[Instance], listen: int, directory: Path) -> Said:
        """Sends, asks for Storage Commitment by the same AE title, and waits for the report at port `listen`."""
        raise NotImplementedError

    def receiver(self, directory: Path, ae: str, pdu: int | None = None):
        """A destination, not started, with `start`, `stop`, `address`, `arrived` and `logs`, and `files` where it does not keep bytes."""
        raise NotImplementedError

    def secure_receiver(self, directory: Path, ae: str, tls: Secured):
        """The same over TLS; it demands a certificate of that authority."""
        raise NotImplementedError

    def archive(self, directory: Path, ae: str):
        """The same by a tool that is an archive, and not only a receiver."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends what it has kept running between two calls."""

    def modes(self) -> Sequence[tuple[str, object]]:
        """Further ways to send, named; `store_in_mode` takes the second part."""
        return ()

    def store_in_mode(self, to: Called, sent: Sequence[Instance], mode: object) -> Said:
        raise NotImplementedError


def installed(name: str) -> Path:
    """A program under target/peers."""
    path = INSTALLED / "bin" / name
    if not path.exists():
        raise Absent(f"{name} is not installed: conformance/peers/install")
    return path
