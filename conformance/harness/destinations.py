"""Destinations made by others: DCMTK storescp, pynetdicom, Orthanc. Each gives what arrived as digests of data sets."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import ssl
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from pynetdicom import ALL_TRANSFER_SYNTAXES, AE, _config, evt
from pynetdicom.sop_class import _NON_PATIENT_OBJECT_CLASSES, Verification

from . import part10
from .processes import HOST, Daemon, free_ports, tail, tcp_listens, wait_until

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
# Any storage class, private ones too, in whatever single syntax a context proposes.
_config.UNRESTRICTED_STORAGE_SERVICE = True
# A file changed less than this ago may still be growing.
WRITING_SECONDS = 0.2
# After this a file that is not what was sent will not become so.
WRITTEN_SECONDS = 20
NON_PATIENT_CLASSES = sorted(set(_NON_PATIENT_OBJECT_CLASSES.values()))


class Absent(Exception):
    """A peer that is not installed on this machine."""


def program(*names: str) -> str:
    for name in names:
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/bin")
        if found:
            return found
    raise Absent(f"{names[0]} is not installed")


class Storescp:
    """DCMTK storescp, bit preserving."""

    name = "dcmtk"

    def __init__(self, directory: Path, ae: str = "STORESCP", port: int | None = None, *options: str, any_class: bool = True) -> None:
        self.ae = ae
        self.port = port or free_ports()
        self.out = directory / f"storescp-{self.port}"
        self.out.mkdir(parents=True, exist_ok=True)
        self._digests: dict[tuple[Path, int, int], str] = {}
        command = [program("storescp"), "-v", "-aet", ae, "+B", "+xa", "-uf", "-od", self.out, "-pdu", "131072"]
        command += ["-pm"] if any_class else []
        self.process = Daemon(
            f"storescp {self.port}",
            [*command, *options, str(self.port)],
            directory / f"storescp-{self.port}.log",
            lambda: tcp_listens(self.port),
            {"TCP_NODELAY": "1"},
        )

    @property
    def address(self) -> str:
        return f"{self.ae}@{HOST}:{self.port}"

    def start(self) -> "Storescp":
        self.process.start()
        return self

    def stop(self) -> None:
        self.process.stop()

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    def arrived(self) -> dict[str, tuple[str, str]]:
        """{SOP Instance UID: (transfer syntax, digest of the data set)}; with +B a file grows while its instance arrives."""
        found = {}
        for one in part10.find(self.out):
            facts = one.path.stat()
            if time.time() - facts.st_mtime < WRITING_SECONDS:
                continue
            key = (one.path, facts.st_size, facts.st_mtime_ns)
            if key not in self._digests:
                self._digests[key] = one.digest()
            found[one.sop_instance] = (one.transfer_syntax, self._digests[key])
        return found

    def logs(self) -> str:
        return f"{self.process.name}:\n{tail(self.process.log)}"


class PynetdicomScp:
    """pynetdicom's storage SCP in threads of this process; statuses, delays and aborts are a function."""

    name = "pynetdicom"

    def __init__(
        self,
        ae: str = "PYNETSCP",
        port: int | None = None,
        behave: Callable[[str, int], int | str] | None = None,
        max_pdu: int = 131072,
        keep: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.ae = ae
        self.port = port or free_ports()
        self._tls = tls
        self._behave = behave or (lambda _uid, _seen: 0x0000)
        self._max_pdu = max_pdu
        self._keep = keep
        self._lock = threading.Lock()
        self._server = None
        self.attempts: dict[str, int] = defaultdict(int)
        self.stored: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.events: list[tuple[float, str, str]] = []
        self.originators: dict[str, tuple[object, object]] = {}

    @property
    def address(self) -> str:
        return f"{self.ae}@{HOST}:{self.port}"

    def start(self) -> "PynetdicomScp":
        entity = AE(ae_title=self.ae)
        entity.add_supported_context(Verification)
        # Unrestricted storage leaves out what is stored without a patient: palettes, hanging protocols, templates, ...
        for name in NON_PATIENT_CLASSES:
            entity.add_supported_context(name, ALL_TRANSFER_SYNTAXES)
        entity.maximum_pdu_size = self._max_pdu
        entity.network_timeout = 120
        handlers = [(evt.EVT_C_STORE, self._store)]
        self._server = entity.start_server((HOST, self.port), block=False, evt_handlers=handlers, ssl_context=self._tls)
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _store(self, event: evt.Event) -> int:
        request = event.request
        name = str(request.AffectedSOPInstanceUID)
        view = request.DataSet.getbuffer()
        digest = hashlib.sha256(view).hexdigest()
        syntax = str(event.context.transfer_syntax)
        with self._lock:
            seen = self.attempts[name]
            self.attempts[name] += 1
        answer = self._behave(name, seen)
        calling = str(event.assoc.requestor.ae_title).strip()
        self.events.append((time.monotonic(), name, calling))
        if answer == "abort":
            event.assoc.abort()
            return 0x0110
        if isinstance(answer, int) and (answer == 0 or answer >> 12 == 0xB):
            if self._keep:
                part10.write(self._keep / f"{name}.dcm", str(request.AffectedSOPClassUID), name, syntax, bytes(view))
            with self._lock:
                self.stored[name].append((syntax, digest))
                self.originators[name] = (
                    request.MoveOriginatorApplicationEntityTitle,
                    request.MoveOriginatorMessageID,
                )
        return answer

    def arrived(self) -> dict[str, tuple[str, str]]:
        with self._lock:
            return {name: copies[-1] for name, copies in self.stored.items()}

    def files(self) -> dict[str, part10.Instance]:
        """What has arrived, by SOP Instance UID, where `keep` was given."""
        assert self._keep, "this receiver keeps no files"
        return {one.sop_instance: one for one in part10.find(self._keep)}

    def logs(self) -> str:
        return f"pynetdicom {self.port}: {len(self.stored)} instances stored"


class Orthanc:
    """Orthanc with its files under the given directory; asked over its REST interface."""

    name = "orthanc"

    def __init__(self, directory: Path, ae: str = "ORTHANC", **settings: object) -> None:
        """`settings`: more of orthanc.json."""
        self.ae = ae
        self.port, self._http = free_ports(2), 0
        self._http = self.port + 1
        root = directory / f"orthanc-{self.port}"
        root.mkdir(parents=True)
        document = {
            "Name": "conformance",
            "StorageDirectory": str(root / "db"),
            "IndexDirectory": str(root / "db"),
            "DicomAet": ae,
            "DicomPort": self.port,
            "HttpPort": self._http,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StorageCompression": False,
            "OverwriteInstances": True,
            "Plugins": [],
            **settings,
        }
        file = root / "orthanc.json"
        file.write_text(json.dumps(document))
        self.process = Daemon(
            f"Orthanc {self.port}", [program("Orthanc"), file], root / "orthanc.log", self._ready, {"TCP_NODELAY": "1"}
        )

    @property
    def address(self) -> str:
        return f"{self.ae}@{HOST}:{self.port}"

    def _open(self, path: str):
        return urllib.request.urlopen(f"http://{HOST}:{self._http}{path}", timeout=300)

    def _get(self, path: str) -> bytes:
        with self._open(path) as answer:
            return answer.read()

    def get(self, path: str) -> dict:
        return json.loads(self._get(path))

    def post(self, path: str, content: bytes | dict) -> dict:
        """A file, or a request as JSON."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        request = urllib.request.Request(f"http://{HOST}:{self._http}{path}", data, method="POST")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def _ready(self) -> bool:
        try:
            return bool(self._get("/system")) and tcp_listens(self.port)
        except OSError:
            return False

    def start(self) -> "Orthanc":
        self.process.start(60)
        return self

    def stop(self) -> None:
        self.process.stop(30)

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    def files(self) -> dict[str, part10.Instance]:
        """What has arrived, by SOP Instance UID."""
        found = {}
        for identifier in json.loads(self._get("/instances")):
            copy = self.process.log.parent / f"{identifier}.dcm"
            with self._open(f"/instances/{identifier}/file") as answer:
                with copy.open("wb") as file:
                    shutil.copyfileobj(answer, file, 1 << 20)
            instance = part10.read(copy)
            found[instance.sop_instance] = instance
        return found

    def arrived(self) -> dict[str, tuple[str, str]]:
        return {name: (one.transfer_syntax, one.digest()) for name, one in self.files().items()}

    def logs(self) -> str:
        return f"{self.process.name}:\n{tail(self.process.log)}"


def wait_for_arrivals(destination, instances: list[part10.Instance], seconds: float, logs: Callable[[], str]) -> None:
    """Waits until every instance has arrived, and fails unless each data set is byte-identical in the same syntax.

    A difference may be an instance that is still being written: it counts when it stays.
    """
    wanted = {one.sop_instance for one in instances}
    wait_until(
        f"{len(wanted)} instances at {destination.name}",
        lambda: wanted <= destination.arrived().keys(),
        seconds,
        lambda: f"{len(wanted - destination.arrived().keys())} are missing\n{destination.logs()}\n{logs()}",
        pause=0.1,
    )
    deadline = time.monotonic() + WRITTEN_SECONDS
    while differences(destination, instances) and time.monotonic() < deadline:
        time.sleep(WRITING_SECONDS)
    compare(destination, instances)


def differences(destination, instances: list[part10.Instance]) -> list[str]:
    arrived = destination.arrived()
    return [
        f"{one.path.name}: sent {(one.transfer_syntax, one.digest())}, arrived {arrived.get(one.sop_instance)}"
        for one in instances
        if arrived.get(one.sop_instance) != (one.transfer_syntax, one.digest())
    ]


def compare(destination, instances: list[part10.Instance]) -> None:
    wrong = differences(destination, instances)
    assert not wrong, f"{len(wrong)} of {len(instances)} differ:\n" + "\n".join(wrong[:5])


def choose(name: str, directory: Path, **options: object):
    """A peer by its name (`PEER=`): dcmtk, pynetdicom or orthanc."""
    if name == "dcmtk":
        return Storescp(directory, **options)
    if name == "orthanc":
        return Orthanc(directory)
    if name == "pynetdicom":
        return PynetdicomScp(**options)
    raise ValueError(f"no peer is called {name}: dcmtk, pynetdicom, orthanc")
