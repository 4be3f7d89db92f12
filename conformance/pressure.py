"""A relay under pressure: half-open handshakes, a recipient that stands still, a tenant above its budget. The others go on.

    conformance/run pressure.py            # prints what was measured, as Markdown
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness import generate, senders
from harness.half_open import HalfOpen
from harness.processes import rss_bytes, wait_until
from harness.rawul import Acceptor
from harness.stack import Stack

MIB = 1 << 20
BUDGET = 64 * MIB
GREEDY_BUDGET = 8 * MIB


@dataclass
class Figures:
    """What came of it."""

    alone_per_s: float
    pressed_per_s: float
    rss_before: int
    rss_peak: int
    reserved_peak: int
    greedy_reserved_peak: int
    held_peak: int
    retried: int
    answered: int
    offers_waiting: int

    def markdown(self) -> str:
        rows = [
            ("other tenant alone", f"{self.alone_per_s:.0f} instances/s"),
            ("other tenant under pressure", f"{self.pressed_per_s:.0f} instances/s ({self.pressed_per_s / self.alone_per_s:.0%})"),
            ("relay RSS before / peak", f"{self.rss_before / MIB:.0f} / {self.rss_peak / MIB:.0f} MiB (budget {BUDGET // MIB} MiB)"),
            ("bytes reserved, peak", f"{self.reserved_peak / MIB:.1f} MiB of {BUDGET // MIB}"),
            ("reserved by the tenant above its budget, peak", f"{self.greedy_reserved_peak / MIB:.1f} MiB of {GREEDY_BUDGET // MIB}"),
            ("body bytes held, peak", f"{self.held_peak / MIB:.1f} MiB"),
            ("half-open handshakes", f"{self.retried} made to prove their address, {self.answered} datagrams answered otherwise"),
            ("offers that wait", f"{self.offers_waiting}"),
        ]
        lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
        return "\n".join(lines)


def join(relay: Stack, guest: Stack, name: str, *limits: str) -> None:
    """The guest's gateways use the relay of the other stack, under names of their own."""
    for role in ("gateway-out", "gateway-in"):
        with guest.edit(role) as own:
            own["relay"][0].update({"address": f"127.0.0.1:{relay.relay_port}", "card": str(relay.card("relay"))})
    # Each stack calls its gateways the same; at one relay they need names of their own, and so other identities.
    own_out, own_in = f"{name}-out", f"{name}-in"
    for role, own in (("gateway-out", own_out), ("gateway-in", own_in)):
        folder = guest.directory / own
        guest.command_at(role, folder / f"{role}.toml", "init", "--name", own)
        with guest.edit(role) as config:
            keys = f"{own}/keys/{role}"
            config["identity"].update({"key": f"{keys}.key", "log_key": f"{keys}-log.key", "card": f"{own}/{own}.card"})
    with guest.edit("gateway-out") as config:
        config["peer"][0].update({"name": own_in, "card": f"{own_in}/{own_in}.card"})
        config["route"][0]["to"] = own_in
    with guest.edit("gateway-in") as config:
        config["peer"][0].update({"name": own_out, "card": f"{own_out}/{own_out}.card"})
        config["route"][0]["from"] = own_out
    relay.command("relay", "admit", str(guest.directory / own_in / f"{own_in}.card"))
    card = guest.directory / own_out / f"{own_out}.card"
    relay.command("relay", "admit", str(card), "--deposit-for", own_in, *limits)


def rate(stack: Stack, destination: Acceptor, instances: list) -> float:
    before, began = len(destination.arrivals), time.monotonic()
    answers = senders.storescu(stack.listen, stack.ae, [one.path for one in instances])
    assert set(answers.values()) == {0}, answers
    wait_until("all arrivals", lambda: len(destination.arrivals) >= before + len(instances), 120, stack.logs)
    return len(instances) / (time.monotonic() - began)


def tenant(status: dict, name: str) -> dict:
    return next(one for one in status["tenants"] if one["name"] == name)


def measure(make, directory: Path, handshakes: int = 200, slices: int = 100) -> Figures:
    """Three pairs of gateways at one relay."""
    with contextlib.ExitStack() as stack:
        lively = stack.enter_context(Acceptor("LIVELY"))
        still = stack.enter_context(Acceptor("STILL"))
        lost = stack.enter_context(Acceptor("LOST"))
        good, stalled, greedy = (make(name, to=to.address) for name, to in (("good", lively), ("stalled", still), ("greedy", lost)))
        with good.edit("relay") as relay:
            relay["memory"] = {"budget": "64 MiB", "hold_max": "16 MiB", "ttl": "15m"}
        good.start("relay")
        join(good, stalled, "stalled")
        join(good, greedy, "greedy", "--budget", "8 MiB")
        good.start("gateway-in", "gateway-out")
        stalled.start("gateway-in", "gateway-out")
        greedy.start("gateway-in", "gateway-out")
        for one in (good, stalled, greedy):
            one.await_connected("gateway-in")
            one.await_connected("gateway-out")
        # Nobody collects for the greedy one any more: what it deposits stays as long as it may. Its session has to be open
        # by then: without a prekey nothing is addressed.
        rate(greedy, lost, generate.study(directory / "g", 1, seed=39, side=64))
        greedy["gateway-in"].kill()
        rate(good, lively, generate.study(directory / "w", 10, seed=40, side=256))
        alone = rate(good, lively, generate.study(directory / "a", slices, seed=41, side=256))
        pid = good["relay"].pid
        rss_before = rss_bytes(pid)
        peaks = {"rss": 0, "reserved": 0, "greedy": 0, "waiting": 0}
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.1):
                status = good.status("relay")
                peaks["rss"] = max(peaks["rss"], rss_bytes(pid))
                peaks["reserved"] = max(peaks["reserved"], status["bytes_reserved"])
                peaks["greedy"] = max(peaks["greedy"], tenant(status, "greedy-out")["bytes_reserved"])
                peaks["waiting"] = max(peaks["waiting"], status["offers_waiting"])

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            stalled["gateway-in"].suspend()
            for one, seed in ((stalled, 42), (greedy, 43)):
                files = [generate.large(directory / f"{seed}-{i}.dcm", 12 * MIB, seed=seed * 10 + i) for i in range(8)]
                assert set(senders.storescu(one.listen, one.ae, [file.path for file in files]).values()) == {0}
            with HalfOpen(good.relay_port, handshakes) as half:
                beginning = threading.Event()

                def keep_up() -> None:
                    while not beginning.wait(4):
                        half.again()

                keeping = threading.Thread(target=keep_up)
                keeping.start()
                try:
                    pressed = rate(good, lively, generate.study(directory / "p", slices, seed=44, side=256))
                finally:
                    beginning.set()
                    keeping.join()
                retried, answered = half.retried, half.answered
        finally:
            stalled["gateway-in"].resume()
            ended.set()
            watching.join()
        return Figures(
            alone, pressed, rss_before, peaks["rss"], peaks["reserved"], peaks["greedy"],
            good.status("relay")["bytes_held_peak"], retried, answered, peaks["waiting"],
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handshakes", type=int, default=200, help="half-open handshakes (default 200)")
    parser.add_argument("--slices", type=int, default=100, help="instances of the other tenant, alone and again under pressure (default 100)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stacks: list[Stack] = []

        def make(name: str, **how: object) -> Stack:
            stacks.append(Stack(Path(folder) / name, **how))
            return stacks[-1]

        try:
            print(measure(make, Path(folder), options.handshakes, options.slices).markdown())
        finally:
            for stack in stacks:
                stack.stop()


if __name__ == "__main__":
    main()
