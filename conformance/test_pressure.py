"""Half-open handshakes, a recipient that stands still and a tenant above its budget: memory stays in bounds, the others go on.

Bounds are asserted, times only printed: what a machine does beside the tests is not the relay's.
"""

from __future__ import annotations

import pressure


def test_a_relay_under_pressure_stays_in_bounds_and_serves_the_others(make_stack, tmp_path):
    figures = pressure.measure(make_stack, tmp_path, handshakes=200, slices=60)
    print(figures.markdown())
    # The others went on: all of their instances arrived, or `measure` would have failed.
    assert figures.pressed_per_s > 0
    assert figures.reserved_peak <= pressure.BUDGET
    assert figures.held_peak <= pressure.BUDGET
    # Headers of what waits count beside the bodies.
    assert figures.greedy_reserved_peak <= pressure.GREEDY_BUDGET + pressure.MIB
    assert figures.greedy_reserved_peak > 0 and figures.offers_waiting > 0, "there was no pressure"
    # QUIC's own buffers, the runtime and 200 half-open handshakes beside the budget.
    assert figures.rss_peak <= figures.rss_before + pressure.BUDGET + 64 * pressure.MIB
    # From RETRY_ABOVE running handshakes on, newcomers have to prove their address.
    assert figures.retried >= 100
