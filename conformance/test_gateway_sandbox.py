"""The gateways' own sandboxes: state may lie anywhere, and nothing but it is written; a stopped and started gateway finds all of it again."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from harness import generate, senders
from harness.processes import wait_until
from harness.stack import one_receipt_each


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    place = tmp_path / "srv" / "state"
    place.mkdir(parents=True)
    return place


def test_state_outside_of_the_configurations_folder(make_stack, few, elsewhere):
    """Folders that are not there yet are made for their owner only; those above them cannot be read."""
    inbox = elsewhere / "inbox"
    stack = make_stack(folder=inbox)
    with stack.edit("gateway-out") as out:
        shutil.move(stack.directory / str(out["outbox"]["dir"]), elsewhere / "outbox")
        out["outbox"]["dir"] = str(elsewhere / "outbox")
    with stack.edit("gateway-in") as receiving:
        receiving["ledger"]["dir"] = str(elsewhere / "deep" / "ledger")
    with stack:
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few[:3]]).values()) == {0}
        stack.wait_settled()
        for role in ("gateway-out", "gateway-in"):
            stack.restart(role)
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few[3:]]).values()) == {0}
        stack.wait_settled()
        wait_until("the files", lambda: len(list(inbox.rglob("*.dcm"))) == len(few), 20, stack.logs)
        one_receipt_each(stack, few)
        writable = stack.status("gateway-in")["sandbox"]["writable"]
        assert sorted(writable) == sorted([str(inbox), str(elsewhere / "deep" / "ledger")])
        assert stack.status("gateway-out")["sandbox"]["writable"] == [str(elsewhere / "outbox")]
    assert stat.S_IMODE((elsewhere / "deep" / "ledger").stat().st_mode) == 0o700


def test_a_destination_that_became_unwritable_keeps_what_is_owed(make_stack, tmp_path):
    """A folder of the plan is replaced while gateway-in runs: the new one is not in the plan. Nothing is lost; a restart mends it."""
    inbox = tmp_path / "inbox"
    made = generate.study(tmp_path / "study", 3, seed=9, side=64)
    stack = make_stack(folder=inbox)
    stack.quick_retries()
    with stack:
        shutil.move(inbox, tmp_path / "moved")
        inbox.mkdir()
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in made]).values()) == {0}
        wait_until("a deferral", lambda: any(row["state"] in ("deferred", "parked") for row in stack.queue()), 30, stack.logs)
        assert not list(inbox.rglob("*.dcm"))
        stack.restart("gateway-in")
        for row in stack.queue():
            stack.command("gateway-out", "queue", "retry", row["delivery"], check=False)
        stack.wait_settled()
        assert len(list(inbox.rglob("*.dcm"))) == len(made)
