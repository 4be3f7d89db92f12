"""The outbox key is exchanged while instances wait, also when the command is killed half-way."""

from __future__ import annotations

import shutil

from harness import senders
from harness.rawul import Acceptor


def test_the_outbox_key_is_rotated_while_instances_wait(make_stack, few):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        stack.start("gateway-out")
        keys = stack.directory / "keys"
        old = (keys / "outbox.key").read_text()
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
        said = stack.command("gateway-out", "key", "rotate", "--outbox").stdout
        assert f"{len(few)} instances wrapped" in said, said
        assert (keys / "outbox.key").read_text() != old
        assert not (keys / "outbox.key.next").exists()
        # Killed and started with the new key: what waited is delivered.
        stack["gateway-out"].kill()
        stack.start()
        stack.wait_settled()
        assert {arrival.sop_instance for arrival in destination.arrivals} == {one.sop_instance for one in few}


def test_a_rotation_killed_before_its_last_step_is_finished_by_running_it_again(make_stack, few):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        stack.start("gateway-out")
        keys = stack.directory / "keys"
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
        shutil.copy(keys / "outbox.key", keys / "kept")
        stack.command("gateway-out", "key", "rotate", "--outbox")
        # As if it had been killed before the new key took the old one's name.
        (keys / "outbox.key").rename(keys / "outbox.key.next")
        (keys / "kept").rename(keys / "outbox.key")
        stack["gateway-out"].kill()
        stack.start()
        assert "rotation of the outbox key was interrupted" in stack.log_text("gateway-out")
        stack.wait_settled()
        said = stack.command("gateway-out", "key", "rotate", "--outbox").stdout
        assert "an earlier rotation had wrapped everything" in said, said
        assert not (keys / "outbox.key.next").exists()
        stack.restart("gateway-out")
        assert len(destination.arrivals) == len(few)
