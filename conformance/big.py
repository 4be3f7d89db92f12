"""One instance of 2 GiB through the three processes to `storescp +B`: byte-identical, receipted, and the peak RSS of each.

    conformance/run big.py [--mib 2048] [--budget "256 MiB"] [--peer dcmtk]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from harness import generate, senders
from harness.destinations import choose, wait_for_arrivals
from harness.stack import ROLES, Stack, one_receipt_each

MIB = 1 << 20


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--mib", type=int, default=2048)
    arguments.add_argument("--budget", default="256 MiB", help="memory budget of the relay")
    arguments.add_argument("--hold-max", default="128 MiB", help="largest body that the relay holds as a whole")
    arguments.add_argument("--peer", default="dcmtk")
    arguments.add_argument("--times", type=int, default=1, help="send so many instances, one after the other")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluis-big-") as name:
        directory = Path(name)
        large = [generate.large(directory / f"large-{n}.dcm", chosen.mib * MIB, seed=100 + n) for n in range(chosen.times)]
        destination = choose(chosen.peer, directory).start()
        stack = Stack(directory / "sluis", to=destination.address)
        with stack.edit("relay") as relay:
            relay["memory"]["budget"], relay["memory"]["hold_max"] = chosen.budget, chosen.hold_max
            for tenant in relay["tenant"]:
                tenant["budget"] = chosen.budget
        try:
            with stack:
                began = time.monotonic()
                answers = senders.storescu(stack.listen, stack.ae, [one.path for one in large], seconds=1800)
                accepted = time.monotonic() - began
                assert set(answers.values()) == {0}, answers
                wait_for_arrivals(destination, large, 1200, stack.logs)
                arrived = time.monotonic() - began
                stack.wait_settled(120)
                one_receipt_each(stack, large)
                measured = stack.measure()
        finally:
            destination.stop()
    total = chosen.mib * chosen.times
    print(f"{chosen.times} instance(s) of {chosen.mib} MiB to {chosen.peer}: byte-identical, receipted")
    print(f"0000H after {accepted:.1f} s ({total / accepted:.0f} MiB/s), compared at the destination after {arrived:.1f} s\n")
    print(f"| process | peak RSS (MiB) | CPU seconds | CPU s/GB |\n|---|---|---|---|")
    for role in ROLES:
        peak, cpu = measured[role]
        print(f"| {role} | {peak / MIB:.1f} | {cpu:.1f} | {cpu / (total * MIB / 1e9):.2f} |")
    print(f"\nrelay: budget {chosen.budget}, holds bodies up to {chosen.hold_max}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
