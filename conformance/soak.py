"""kill -9 of relay, gateway-in and gateway-out at random moments while a sender repeats a study until all of it is accepted.

What must hold after every round: each instance answered 0000H is at the destination, byte-identical, and receipted. A second
C-STORE of an instance at the destination is excused only where an outcome was unknown: the sender sent it again for want of an
answer, or gateway-in was killed while, or just after, it sent it. Excused ones are counted and printed; any other is a fault.

    conformance/run soak.py --seed 1 --rounds 20
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from harness import generate, senders
from harness.destinations import PynetdicomScp, compare
from harness.part10 import Instance
from harness.processes import wait_until
from harness.stack import Stack, delivery_id

# A status row is durable well within this time after the destination's answer; a kill later than that leaves nothing unknown.
UNKNOWN_SECONDS = 1.0
ROLES_KILLED = ("relay", "gateway-in", "gateway-out")


@dataclass
class Round:
    """What one round did."""

    number: int
    instances: int
    kills: list[tuple[float, str]] = field(default_factory=list)
    sends: Counter[str] = field(default_factory=Counter)
    repeated_by_sender: int = 0
    repeated_after_kill: int = 0
    seconds: float = 0.0
    settled_seconds: float = 0.0

    def line(self) -> str:
        killed = Counter(role for _, role in self.kills)
        shown = ", ".join(f"{role} x{killed[role]}" for role in ROLES_KILLED)
        return (
            f"round {self.number}: {self.instances} instances, killed {shown}; accepted in {self.seconds:.1f} s, settled after "
            f"{self.settled_seconds:.1f} s more; repeats at the destination: {self.repeated_by_sender} sent again by the sender, "
            f"{self.repeated_after_kill} unknown to a killed gateway-in"
        )


class Fault(AssertionError):
    """A promise that did not hold."""


class Killer(threading.Thread):
    """Kills each role `times` times at random moments of its span, and starts it again after up to a second."""

    def __init__(self, stack: Stack, source: random.Random, spans: dict[str, float], times: int) -> None:
        super().__init__(daemon=True)
        self._stack = stack
        self._source = source
        self.kills: list[tuple[float, str]] = []
        self.fault: BaseException | None = None
        moments = sorted((source.uniform(0, spans[role]), role) for role in ROLES_KILLED for _ in range(times))
        self._plan = [(moment, role, source.uniform(0, 1)) for moment, role in moments]

    def run(self) -> None:
        began = time.monotonic()
        try:
            for moment, role, pause in self._plan:
                time.sleep(max(0.0, began + moment - time.monotonic()))
                process = self._stack[role]
                self.kills.append((time.monotonic(), role))
                process.kill()
                time.sleep(pause)
                process.launch()
                process.await_ready(30)
        except BaseException as fault:  # Kept for the main thread, which fails the round with it.
            self.fault = fault


def send_until_accepted(stack: Stack, study: list[Instance], done: Round, deadline: float) -> None:
    pending = list(study)
    while pending:
        if time.monotonic() > deadline:
            raise Fault(f"{len(pending)} instances were not accepted in time\n{stack.logs()}")
        answers = senders.storescu(stack.listen, stack.ae, [one.path for one in pending], "-to", "5", "-ta", "5", "-td", "30")
        done.sends.update(one.sop_instance for one in pending if answers[one.path] != senders.NOT_SENT)
        odd = {status for status in answers.values() if status > 0 and status not in (0xA700, 0x0110)}
        if odd:
            raise Fault(f"answered {[f'{status:04X}' for status in odd]}")
        left = [one for one in pending if answers[one.path] != 0]
        if len(left) == len(pending):
            time.sleep(0.1)  # Nobody listens at the moment.
        pending = left


def judge(destination: PynetdicomScp, study: list[Instance], done: Round, stack: Stack) -> None:
    compare(destination, study)
    times: dict[str, list[float]] = {}
    for at, name, _ in destination.events:
        times.setdefault(name, []).append(at)
    kills_of_receiver = [at for at, role in done.kills if role == "gateway-in"]
    unexcused = []
    for one in study:
        seen = times[one.sop_instance]
        excused_by_sender = done.sends[one.sop_instance] - 1
        for earlier, later in zip(seen, seen[1:], strict=False):
            if any(earlier - 0.05 <= kill + UNKNOWN_SECONDS and kill - UNKNOWN_SECONDS <= earlier and kill <= later for kill in kills_of_receiver):
                done.repeated_after_kill += 1
            elif excused_by_sender > 0:
                excused_by_sender -= 1
                done.repeated_by_sender += 1
            else:
                unexcused.append((one.sop_instance, seen, kills_of_receiver))
    if unexcused:
        raise Fault(f"{len(unexcused)} C-STOREs repeated at the destination without need: {unexcused[:3]}\n{stack.logs()}")


def verify_receipts(stack: Stack, study: list[Instance], known: set[str]) -> int:
    """Every delivery of every instance of the study has a receipt, and each new one verifies offline."""
    receipts = {delivery_id(row) for row in stack.receipts()}
    for one in study:
        deliveries = stack.why(one.sop_instance)
        if not deliveries:
            raise Fault("an accepted instance is unknown to `why`")
        missing = [delivery_id(row) for row in deliveries if delivery_id(row) not in receipts]
        if missing:
            raise Fault(f"deliveries without a receipt: {missing}")
    fresh = receipts - known
    for identifier in fresh:
        checked = stack.verify_receipt(stack.receipt_file(identifier))
        if checked.returncode != 0:
            raise Fault(f"receipt {identifier}: {checked.stdout}{checked.stderr}")
    known |= receipts
    return len(fresh)


def soak(directory: Path, seed: int, rounds: int, instances: int, side: int, kills: int = 1, say=print) -> list[Round]:
    """Runs all rounds against one stack and one destination; raises `Fault` at the first broken promise."""
    source = random.Random(seed)
    finished, known = [], set()
    with PynetdicomScp("SOAKSCP") as destination:
        stack = Stack(directory / "sluis", to=destination.address)
        stack.quick_retries()
        with stack:
            spans = dict.fromkeys(ROLES_KILLED, 3.0)
            for number in range(rounds + 1):
                study = generate.study(directory / "study", instances, seed * 1000 + number, side)
                done = Round(number, instances)
                # Round 0 runs without kills: its duration is the time in which the others are killed.
                killer = Killer(stack, source, spans, kills) if number else None
                began = time.monotonic()
                if killer:
                    killer.start()
                send_until_accepted(stack, study, done, began + 60 + instances / 2)
                done.seconds = time.monotonic() - began
                if killer:
                    killer.join(120)
                    if killer.fault:
                        raise Fault(f"a process did not come back: {killer.fault}\n{stack.logs()}")
                    done.kills = killer.kills
                wait_until(
                    "an empty queue", lambda: not stack.queue(), 120, lambda: f"{stack.queue()[:3]}\n{stack.logs()}", pause=0.2
                )
                done.settled_seconds = time.monotonic() - began - done.seconds
                judge(destination, study, done, stack)
                checked = verify_receipts(stack, study, known)
                if not number:
                    # gateway-out while it accepts, mostly; the others as long as anything is under way.
                    spans = dict.fromkeys(ROLES_KILLED, done.seconds + done.settled_seconds) | {"gateway-out": 1.2 * done.seconds}
                say(f"{done.line()}; {checked} receipts verified")
                finished.append(done)
                shutil.rmtree(directory / "study")
        if stack.panics():
            raise Fault("\n".join(stack.panics()))
    return finished


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--instances", type=int, default=400)
    arguments.add_argument("--side", type=int, default=256, help="pixels of a side; 512 makes instances of 525 kB")
    arguments.add_argument("--kills", type=int, default=1, help="kills of each role in a round")
    arguments.add_argument("--keep", action="store_true", help="keep the working directory")
    chosen = arguments.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="sluis-soak-"))
    print(f"seed {chosen.seed}, {chosen.rounds} rounds of {chosen.instances} instances; files in {directory}", flush=True)
    try:
        finished = soak(
            directory, chosen.seed, chosen.rounds, chosen.instances, chosen.side, chosen.kills, lambda line: print(line, flush=True)
        )
    except AssertionError as fault:
        print(f"FAULT with seed {chosen.seed}: {fault}\nfiles are kept in {directory}")
        return 1
    excused = sum(one.repeated_by_sender + one.repeated_after_kill for one in finished)
    print(
        f"{sum(one.instances for one in finished)} instances accepted, all arrived byte-identical and receipted; "
        f"{sum(len(one.kills) for one in finished)} kills; {excused} repeats at the destination, each with an unknown outcome"
    )
    if not chosen.keep:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
