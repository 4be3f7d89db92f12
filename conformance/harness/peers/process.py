"""A destination that is another process, which writes each instance to a file in its folder."""

from __future__ import annotations

from pathlib import Path

from ..destinations import Storescp
from ..processes import Daemon, free_ports, tcp_listens


class ProcessScp(Storescp):
    """DCMTK's storescp with another command; what arrives is read the same way."""

    def __init__(self, directory: Path, ae: str) -> None:
        self.ae = ae
        self.port = free_ports()
        self.out = directory / f"{self.name}-{self.port}"
        self.out.mkdir(parents=True)
        self._digests = {}
        log = directory / f"{self.name}-{self.port}.log"
        self.process = Daemon(f"{self.name} {self.port}", self.command(), log, lambda: tcp_listens(self.port))

    def command(self) -> list[str | Path]:
        raise NotImplementedError
