"""Two destinations behind one connection to the relay, one of them frozen: the other keeps its rate."""

from __future__ import annotations

import time

from harness import generate, senders
from harness.processes import wait_until
from harness.rawul import Acceptor

# The promise is 80 %; machines that run tests beside each other measure less, so that the assertion is looser.
ASSERTED = 0.5


def rate(stack, ae: str, destination: Acceptor, instances) -> float:
    """Instances per second from the first C-STORE-RQ to the last arrival."""
    before, began = len(destination.arrivals), time.monotonic()
    answers = senders.storescu(stack.listen, ae, [one.path for one in instances])
    assert set(answers.values()) == {0}
    wait_until(
        f"{len(instances)} arrivals at {ae}", lambda: len(destination.arrivals) >= before + len(instances), 90, stack.logs
    )
    return len(instances) / (max(arrival.at for arrival in destination.arrivals[before:]) - began)


def test_a_frozen_destination_does_not_slow_the_other(make_stack, tmp_path):
    alone_study = generate.study(tmp_path / "a", 150, seed=21, side=256)
    beside_study = generate.study(tmp_path / "b", 150, seed=22, side=256)
    stuck_study = generate.study(tmp_path / "c", 40, seed=23, side=512)
    with Acceptor("LIVELY") as lively, Acceptor("FROZEN") as frozen:
        stack = make_stack(to=lively.address)
        stack.quick_retries()
        stack.add_dicom_route("SLUISICE", "ice", frozen.address)
        with stack:
            senders.storescu(stack.listen, stack.ae, [one.path for one in generate.study(tmp_path / "w", 10, seed=24)])
            wait_until("the first instances", lambda: len(lively.arrivals) == 10, 30, stack.logs)
            alone = rate(stack, stack.ae, lively, alone_study)
            frozen.freeze()
            answers = senders.storescu(stack.listen, "SLUISICE", [one.path for one in stuck_study])
            assert set(answers.values()) == {0}
            wait_until("the frozen one to be tried", lambda: len(frozen.proposed) > 0 or frozen.port, 10, stack.logs)
            beside = rate(stack, stack.ae, lively, beside_study)
            print(f"alone {alone:.0f} instances/s, beside a frozen one {beside:.0f} ({beside / alone:.0%}; promise 80 %)")
            assert len(frozen.arrivals) < len(stuck_study)
            frozen.thaw()
            wanted = {one.sop_instance for one in stuck_study}
            wait_until(
                "the thawed destination to get all",
                lambda: wanted <= {arrival.sop_instance for arrival in frozen.arrivals},
                120,
                stack.logs,
            )
            stack.wait_settled()
            assert beside >= ASSERTED * alone


def test_a_frozen_relay_reader_does_not_stop_the_others(make_stack, tmp_path):
    """The same within one large instance: it stops in the middle of its data set while slices of another route pass."""
    large = generate.large(tmp_path / "large.dcm", 80 << 20, seed=25)
    slices = generate.study(tmp_path / "s", 60, seed=26, side=256)
    with Acceptor("LIVELY") as lively, Acceptor("FROZEN") as frozen:
        stack = make_stack(to=lively.address)
        stack.add_dicom_route("SLUISICE", "ice", frozen.address)
        with stack:
            frozen.freeze()
            assert senders.storescu(stack.listen, "SLUISICE", [large.path]) == {large.path: 0}
            pace = rate(stack, stack.ae, lively, slices)
            print(f"{pace:.0f} instances/s beside 80 MiB that do not move")
            assert frozen.arrivals == []
            frozen.thaw()
            wait_until("the large one", lambda: len(frozen.arrivals) > 0, 120, stack.logs)
            assert frozen.arrivals[-1].digest == large.digest()
            stack.wait_settled()
