"""Instances larger than any buffer: 300 MB to pynetdicom and Orthanc, through a relay with less memory than that; 2 GiB."""

from __future__ import annotations

import pytest

from harness import generate, senders
from harness.destinations import wait_for_arrivals
from harness.stack import ROLES, Stack, one_receipt_each

MIB = 1 << 20
# The bounds that README states for one 2 GiB instance. The relay may also hold what its budget allows.
GATEWAY_RSS_MAX = 96 * MIB


@pytest.fixture(scope="session")
def multi_frame(sample_dir):
    return generate.large(sample_dir / "multi-frame-300.dcm", 300_000_000, seed=11)


def rss_table(stack: Stack) -> str:
    return ", ".join(f"{role} {peak / MIB:.0f} MiB" for role, (peak, _) in stack.measure().items())


@pytest.mark.parametrize("name", ["pynetdicom", "orthanc"])
def test_a_multi_frame_of_300_mb(make_stack, peer, multi_frame, name):
    """The relay's budget is 64 MiB: the instance can only pass through."""
    destination = peer(name)
    stack = make_stack(to=destination.address)
    relay_budget(stack, "64 MiB", "32 MiB")
    with stack:
        assert senders.storescu(stack.listen, stack.ae, [multi_frame.path]) == {multi_frame.path: 0}
        wait_for_arrivals(destination, [multi_frame], 180, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, [multi_frame])
        print(f"peak RSS for 300 MB to {name}: {rss_table(stack)}")
        assert stack.measure()["gateway-out"][0] < GATEWAY_RSS_MAX, rss_table(stack)
        assert stack.measure()["gateway-in"][0] < GATEWAY_RSS_MAX, rss_table(stack)
        assert stack.measure()["relay"][0] < 64 * MIB * 1.1 + 40 * MIB, rss_table(stack)


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["1 GiB", "256 MiB"])
def test_an_instance_of_2_gib(make_stack, peer, tmp_path, budget):
    large = generate.large(tmp_path / "large.dcm", 2 << 30, seed=12)
    destination = peer("dcmtk")
    stack = make_stack(to=destination.address)
    relay_budget(stack, budget, "128 MiB")
    with stack:
        assert senders.storescu(stack.listen, stack.ae, [large.path], seconds=900) == {large.path: 0}
        wait_for_arrivals(destination, [large], 600, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, [large])
        print(f"peak RSS for 2 GiB, relay budget {budget}: {rss_table(stack)}")
        for role in ROLES[1:]:
            assert stack.measure()[role][0] < GATEWAY_RSS_MAX, rss_table(stack)


def relay_budget(stack: Stack, budget: str, hold_max: str) -> None:
    with stack.edit("relay") as relay:
        relay["memory"]["budget"], relay["memory"]["hold_max"] = budget, hold_max
        for tenant in relay["tenant"]:
            tenant["budget"] = budget
