"""Rates through the whole path beside DCMTK storescu -> storescp direct in the same minute. Reports; asserts only that all arrived.

    conformance/run bench.py [--runs 3]

Both with TCP_NODELAY=1, one association, storescp +B writing to the same file system. Rates end with the last byte at the
destination; "accepted" is when storescu had its last 0000H.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness import generate, senders
from harness.destinations import WRITING_SECONDS, Storescp, compare
from harness.part10 import Instance
from harness.processes import cpu_seconds, peak_rss_bytes, wait_until
from harness.stack import ROLES, Stack

MIB = 1 << 20


@dataclass
class Run:
    """One measured sending of one load."""

    accepted_seconds: float
    arrived_seconds: float
    cpu: dict[str, float]


def load_bytes(load: list[Instance]) -> int:
    return sum(one.data_set_bytes for one in load)


def clear(destination: Storescp) -> None:
    for path in destination.out.iterdir():
        path.unlink()


def complete(destination: Storescp, load: list[Instance]) -> bool:
    entries = [entry.stat().st_size for entry in os.scandir(destination.out)]
    return len(entries) == len(load) and sum(entries) >= load_bytes(load)


def measure(load: list[Instance], port: int, ae: str, destination: Storescp, pids: dict[str, int], logs) -> Run:
    clear(destination)
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, began = time.time(), time.monotonic()
    answers = senders.storescu(port, ae, [one.path for one in load], seconds=900)
    accepted = time.monotonic() - began
    assert set(answers.values()) == {0}, "not all were answered 0000H"
    wait_until("the last instance", lambda: complete(destination, load), 300, logs, pause=0.02)
    last = max(entry.stat().st_mtime for entry in os.scandir(destination.out))
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    time.sleep(WRITING_SECONDS)
    cpu["storescu"] = ended.ru_utime + ended.ru_stime - children.ru_utime - children.ru_stime
    compare(destination, load)
    return Run(accepted, max(last - wall, accepted if port == destination.port else 0.0), cpu)


def middle(runs: list[Run], value) -> float:
    return statistics.median(value(run) for run in runs)


def report(title: str, load: list[Instance], direct: list[Run], through: list[Run]) -> str:
    size, count = load_bytes(load), len(load)
    direct_s, through_s = middle(direct, lambda run: run.arrived_seconds), middle(through, lambda run: run.arrived_seconds)
    accepted_s = middle(through, lambda run: run.accepted_seconds)
    lines = [
        f"### {title}: {count} x {size / count / 1000:.0f} kB, median of {len(through)} runs\n",
        "| path | seconds | instances/s | MB/s | of DCMTK |",
        "|---|---|---|---|---|",
        f"| storescu -> storescp direct | {direct_s:.2f} | {count / direct_s:.0f} | {size / direct_s / 1e6:.0f} | 100 % |",
        f"| through Sluis, to the last arrival | {through_s:.2f} | {count / through_s:.0f} | {size / through_s / 1e6:.0f} | {direct_s / through_s:.0%} |",
        f"| through Sluis, to the last 0000H | {accepted_s:.2f} | {count / accepted_s:.0f} | {size / accepted_s / 1e6:.0f} | {direct_s / accepted_s:.0%} |",
        "",
        "| process | CPU s/GB |",
        "|---|---|",
    ]
    names = ["storescu", *ROLES, "storescp"]
    for name in names:
        lines.append(f"| {name} | {middle(through, lambda run: run.cpu[name]) / (size / 1e9):.2f} |")
    direct_cpu = middle(direct, lambda run: run.cpu["storescu"] + run.cpu["storescp"]) / (size / 1e9)
    lines.append(f"| direct: storescu + storescp | {direct_cpu:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--instances", type=int, default=400)
    arguments.add_argument("--suite", default="B")
    arguments.add_argument("--only", choices=["ct", "large"])
    arguments.add_argument("--dir", default=None, help="where the files go; the outbox is fsynced there")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluis-bench-", dir=chosen.dir) as name:
        directory = Path(name)
        loads = {}
        if chosen.only != "large":
            loads["CT"] = generate.study(directory / "ct", chosen.instances, seed=1, side=512)
        if chosen.only != "ct":
            loads["multi-frame"] = [generate.large(directory / "large.dcm", 300_000_000, seed=2)]
        # Two of them: storescp serves one association at a time, and gateway-in keeps its own open for a while.
        with Storescp(directory, "DIRECT") as alone, Storescp(directory, "BENCH") as destination:
            stack = Stack(directory / "sluis", to=destination.address, suite=chosen.suite, log="warn")
            with stack:
                pids = {"storescp": destination.process.pid} | {role: stack[role].pid for role in ROLES}
                warm = generate.study(directory / "warm", 20, seed=3)

                def measure_direct(load: list[Instance]) -> Run:
                    return measure(load, alone.port, alone.ae, alone, {"storescp": alone.process.pid}, stack.logs)

                def measure_through(load: list[Instance]) -> Run:
                    return measure(load, stack.listen, stack.ae, destination, pids, stack.logs)

                measure_direct(warm)
                measure_through(warm)
                print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, suite {chosen.suite}\n")
                for title, load in loads.items():
                    direct, through = [], []
                    for _ in range(chosen.runs):
                        direct.append(measure_direct(load))
                        through.append(measure_through(load))
                        stack.wait_settled(120)
                    print(report(title, load, direct, through), flush=True)
                print("| process | peak RSS (MiB) |\n|---|---|")
                for role in ROLES:
                    print(f"| {role} | {peak_rss_bytes(stack[role].pid) / MIB:.1f} |")
                print(f"| storescp | {peak_rss_bytes(destination.process.pid) / MIB:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
