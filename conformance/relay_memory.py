"""What the relay's process takes beside what it holds: resident memory while it holds bodies, at the peak, and after the burn.

    conformance/run relay_memory.py [--budget "64 MiB" --budget "256 MiB"] [--case slices|small|large]

Each case starts three new processes. `idle`: resident after the start. `held`: body bytes at the relay, by its own status. `charged`: what
its budget is charged for them: bodies in whole pages, headers, and bytes that were granted and are on their way. `above`: resident
memory above idle and charged, in percent of what is charged.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import generate, senders
from harness.destinations import choose, wait_for_arrivals
from harness.processes import rss_bytes, wait_until
from harness.rawul import Acceptor
from harness.stack import Stack

MIB = 1 << 20
CASES = {"slices": (300, 512), "small": (2000, 100)}


@dataclass
class Sample:
    """The moment at which the process took most, and the end."""

    idle: int = 0
    held: int = 0
    charged: int = 0
    resident: int = 0
    peak: int = 0
    peak_held: int = 0
    peak_charged: int = 0
    after: int = 0

    @property
    def above(self) -> float:
        return (self.resident - self.idle - self.charged) / self.charged


class Watch:
    """Samples resident and held bytes until it is left."""

    def __init__(self, stack: Stack, sample: Sample) -> None:
        self._stack, self._sample, self._ended = stack, sample, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            resident = rss_bytes(self._stack["relay"].pid)
            if resident > self._sample.peak:
                status = self._stack.status("relay")
                self._sample.peak, self._sample.peak_held = resident, status["bytes_held"]
                self._sample.peak_charged = status["bytes_reserved"]


def held(stack: Stack) -> int:
    return stack.status("relay")["bytes_held"]


def budgeted(directory: Path, budget: str, to: str) -> Stack:
    stack = Stack(directory / "sluis", to=to)
    with stack.edit("relay") as relay:
        relay["memory"]["budget"] = budget
        relay["memory"]["hold_max"] = "32 MiB"
    return stack


def settled(name: str, value: Callable[[], int]) -> int:
    """Waits until a number has stood still for a second."""
    last, since = -1, time.monotonic()

    def still() -> bool:
        nonlocal last, since
        now = value()
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > 1

    wait_until(f"{name} to stand still", still, 120)
    return last


def many(directory: Path, budget: str, count: int, side: int) -> Sample:
    """Bodies that wait because the destination is frozen; then it takes them all."""
    study = generate.study(directory / "study", count, seed=5, side=side)
    sample = Sample()
    with Acceptor("FROZEN") as destination:
        stack = budgeted(directory, budget, destination.address)
        with stack:
            sample.idle = rss_bytes(stack["relay"].pid)
            with Watch(stack, sample):
                destination.freeze()
                assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in study], seconds=600).values()) == {0}
                sample.held = settled("what the relay holds", lambda: held(stack))
                sample.charged = stack.status("relay")["bytes_reserved"]
                sample.resident = rss_bytes(stack["relay"].pid)
                destination.thaw()
                stack.wait_settled(300)
            assert held(stack) == 0
            sample.after = settled("resident memory", lambda: rss_bytes(stack["relay"].pid) // MIB) * MIB
    return sample


def one_large(directory: Path, budget: str) -> Sample:
    """2 GiB through less: nothing is ever held as a whole."""
    large = generate.large(directory / "large.dcm", 2 << 30, seed=6)
    destination = choose("dcmtk", directory).start()
    sample = Sample()
    try:
        stack = budgeted(directory, budget, destination.address)
        with stack:
            sample.idle = rss_bytes(stack["relay"].pid)
            with Watch(stack, sample):
                assert set(senders.storescu(stack.listen, stack.ae, [large.path], seconds=1800).values()) == {0}
                wait_for_arrivals(destination, [large], 1200, stack.logs)
                stack.wait_settled(120)
            sample.resident, sample.held, sample.charged = sample.peak, sample.peak_held, sample.peak_charged
            sample.after = settled("resident memory", lambda: rss_bytes(stack["relay"].pid) // MIB) * MIB
    finally:
        destination.stop()
    return sample


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--budget", action="append")
    arguments.add_argument("--case", action="append", choices=[*CASES, "large"])
    chosen = arguments.parse_args()
    print("| budget | case | idle MiB | held MiB | charged MiB | resident MiB | above | peak MiB | after the burn MiB |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for budget in chosen.budget or ["64 MiB", "256 MiB"]:
        for case in chosen.case or [*CASES, "large"]:
            with tempfile.TemporaryDirectory(prefix="sluis-memory-") as name:
                made = one_large(Path(name), budget) if case == "large" else many(Path(name), budget, *CASES[case])
            mib = lambda size: f"{size / MIB:.1f}"  # noqa: E731
            above = f"{made.above:+.0%}" if made.charged else "-"
            print(
                f"| {budget} | {case} | {mib(made.idle)} | {mib(made.held)} | {mib(made.charged)} | {mib(made.resident)} | {above} "
                f"| {mib(made.peak)} | {mib(made.after)} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
