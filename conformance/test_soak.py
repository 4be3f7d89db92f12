"""The short soak: three rounds of 100 small instances with a kill -9 of each process in each (soak.py is the long one)."""

from __future__ import annotations

import soak


def test_nothing_answered_with_success_is_lost_by_kills(tmp_path):
    finished = soak.soak(tmp_path, seed=5, rounds=3, instances=100, side=64)
    assert sum(len(one.kills) for one in finished) == 9
