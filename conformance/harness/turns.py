"""Tests that run two at a time, and those that must have the machine to themselves."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
