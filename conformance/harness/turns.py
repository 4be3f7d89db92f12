"""Which tests run beside which: most beside any other, those of some files in one process, and some have the machine to themselves."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

# They measure memory, rates or how long something takes: nothing else runs beside them.
ALONE = {
    "test_admission.py",
    "test_hostile.py",
    "test_large.py",
    "test_pressure.py",
    "test_relay_memory_only.py",
    "test_respond_delivered.py",
    "test_two_destinations.py",
}
# Their tests share a fixture that takes long to make.
TOGETHER = {"test_dicom_tls.py", "test_peers.py", "test_stow.py"}


def order(item: pytest.Item) -> int:
    """What is long and cannot be divided begins. Those that run alone come last and one after the other: each of them waits until all
    others have ended, and nobody else begins meanwhile."""
    return 0 if item.path.name in TOGETHER else 2 if item.path.name in ALONE else 1


class Shares(LoadScopeScheduling):
    """Gives a process test after test, so that none has nothing to do while another one has a long file before it."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        # By how many tests they have: `order` knows better.
        self.config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        name = Path(nodeid.partition("::")[0]).name
        return "alone" if name in ALONE else name if name in TOGETHER else nodeid


class Turns:
    """Two lock files. The room holds several tests that share it, or one that does not; who waits for the room holds the door,
    so that a test that wants it alone is not passed by others for ever."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._door, self._room = directory / "turns.door", directory / "turns.room"

    @contextmanager
    def turn(self, alone: bool) -> Iterator[None]:
        room = os.open(self._room, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            door = os.open(self._door, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(door, fcntl.LOCK_EX)
                fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            finally:
                os.close(door)
            yield
        finally:
            os.close(room)
