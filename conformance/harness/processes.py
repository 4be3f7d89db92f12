"""Processes started, watched and ended by their own pid; ports; waits with a deadline.

Every wait has a deadline and, when it passes, says what was waited for and shows the end of the logs.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

HOST = "127.0.0.1"
# Below Linux's ephemeral range (32768 up), so that no outgoing connection takes a port we have handed out.
PORT_FIRST, PORT_LAST = 12_000, 32_000
_ports_given: set[int] = set()


def _share() -> tuple[int, int]:
    """This worker's part of the ports: two processes never look at the same one."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = (PORT_LAST - PORT_FIRST) // workers
    return PORT_FIRST + number * size, PORT_FIRST + (number + 1) * size


_port_source = random.Random(os.getpid() * 7919 + time.time_ns())


def _port_is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True


def free_ports(count: int = 1) -> int:
    """The first of `count` consecutive ports that nobody listens on, TCP and UDP."""
    for _ in range(2000):
        low, high = _share()
        first = _port_source.randrange(low, high - count)
        wanted = range(first, first + count)
        if _ports_given.isdisjoint(wanted) and all(map(_port_is_free, wanted)):
            _ports_given.update(wanted)
            return first
    raise RuntimeError(f"no {count} consecutive free ports between {PORT_FIRST} and {PORT_LAST}")


def tail(path: Path, lines: int = 25) -> str:
    """The last lines of a log file."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            text = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return f"  ({error})"
    return "\n".join("  " + line[:400] for line in text[-lines:]) or "  (empty)"


class Overdue(AssertionError):
    """A wait whose deadline has passed."""


def wait_until(
    what: str,
    ready: Callable[[], object],
    seconds: float = 30.0,
    logs: Callable[[], str] | None = None,
    pause: float = 0.05,
) -> object:
    """Calls `ready` until it returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = ready()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Overdue(f"waited {seconds:.0f} s for {what}\n{logs() if logs else ''}")
        time.sleep(pause)


class Daemon:
    """One process: started with its output in a log file, ended by its own pid."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        ready: Callable[[], bool] | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        piped: bool = False,
    ) -> None:
        """`piped`: its output reaches the log through a pipe, for a process that may write no file."""
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self._ready = ready
        self._env = env or {}
        self.cwd = cwd
        self.piped = piped
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: subprocess.Popen[bytes] | None = None
        self.peak_rss_bytes = 0
        self.cpu_seconds = 0.0

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Starts the process without waiting for it."""
        assert not self.alive(), f"{self.name} runs already"
        self._drain()
        with self.log.open("ab") as log:
            if self.piped:
                self._pump = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
            output = self._pump.stdin if self._pump else log
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.cwd,
                env={**os.environ, **self._env},
            )
            if self._pump:
                self._pump.stdin.close()

    def _drain(self) -> None:
        """The end of a piped process's log; the process has ended."""
        if self._pump:
            self._pump.wait(10)
            self._pump = None

    def await_ready(self, seconds: float = 30.0) -> None:
        if self._ready is None:
            return

        def ready_or_dead() -> bool:
            if not self.alive():
                code = self._process.returncode if self._process else None
                raise AssertionError(f"{self.name} ended with {code} before it was ready\n{tail(self.log)}")
            return self._ready() if self._ready else True

        wait_until(f"{self.name} to be ready", ready_or_dead, seconds, lambda: tail(self.log))

    def start(self, seconds: float = 30.0) -> "Daemon":
        self.launch()
        self.await_ready(seconds)
        return self

    def measure(self) -> None:
        """Takes up peak RSS and CPU seconds from /proc; keeps the last values after the end."""
        if not self.alive():
            return
        try:
            self.peak_rss_bytes = max(self.peak_rss_bytes, peak_rss_bytes(self.pid))
            self.cpu_seconds = cpu_seconds(self.pid)
        except (OSError, StopIteration):
            pass

    def stop(self, seconds: float = 40.0) -> int | None:
        """SIGTERM, then SIGKILL after the deadline (longer than a daemon's own); returns the exit code."""
        if self._process is None:
            return None
        self.measure()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(seconds)
        self._drain()
        return self._process.returncode

    def kill(self) -> None:
        """SIGKILL: no chance to write anything."""
        if self._process is not None and self._process.poll() is None:
            self.measure()
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait(15)
            self._drain()

    def suspend(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> "Daemon":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def status_field(pid: int, field: str) -> int:
    """A size of /proc/PID/status in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def peak_rss_bytes(pid: int) -> int:
    return status_field(pid, "VmHWM")


def rss_bytes(pid: int) -> int:
    return status_field(pid, "VmRSS")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tcp_listens(port: int) -> bool:
    """Whether somebody listens on the port: read from /proc, so that the listener sees no probe."""
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[1].endswith(wanted) and fields[3] == "0A":
                return True
    return False


def run(command: Iterable[str | Path], seconds: float = 120.0, check: bool = True, **options: object):
    """Runs a command to its end with a deadline; `check` turns another exit code than 0 into a failure that shows its output."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, errors="replace", **options)
    if check and done.returncode != 0:
        shown = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise AssertionError(f"{' '.join(command)[:400]} ended with {done.returncode}\n{shown}")
    return done
