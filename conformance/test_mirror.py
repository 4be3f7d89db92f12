"""Mirrored negotiation: the PACS is offered what the destination accepts, found out gently, kept, and told sealed."""

from __future__ import annotations

import json

import pytest

from harness import generate, senders
from harness.destinations import Absent, wait_for_arrivals
from harness.picky import Picky
from harness.processes import wait_until
from harness.rawul import Acceptor, Requestor

CT, MR, US = generate.CT_IMAGE, "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.6.1"
IMPLICIT, EXPLICIT = generate.IMPLICIT, generate.EXPLICIT
BASELINE, J2K_LOSSLESS, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"
SYNTAXES = [IMPLICIT, EXPLICIT, BASELINE, J2K_LOSSLESS]
TAKES = {CT: [EXPLICIT, IMPLICIT], MR: [EXPLICIT, J2K_LOSSLESS]}
# What a PACS proposes, and what of it this destination takes.
PROPOSED = {
    1: (CT, [BASELINE, EXPLICIT]),
    3: (CT, [BASELINE]),
    5: (MR, [J2K_LOSSLESS]),
    7: (MR, [RLE]),
    9: (US, [EXPLICIT]),
    11: ("1.2.840.10008.1.1", [IMPLICIT]),
}
TAKEN = {1: EXPLICIT, 5: J2K_LOSSLESS, 11: IMPLICIT}


@pytest.fixture
def picky(tmp_path):
    try:
        destination = Picky(tmp_path, TAKES)
    except Absent as absent:
        pytest.skip(str(absent))
    yield destination
    destination.stop()


def mirrored(make_stack, address: str, **destination: object):
    stack = make_stack(to=address)
    stack.quick_retries()
    with stack.edit("gateway-in") as receiving:
        stack.destination(receiving).update({"probe_syntaxes": SYNTAXES, **destination})
    with stack.edit("gateway-out") as sending:
        sending["route"][0]["negotiate"] = "mirror"
    return stack


def table(stack) -> dict:
    """What gateway-out knows of the destination of its one route."""
    return stack.status("gateway-out")["mirror"][0]


def await_table(stack, accepted: int) -> None:
    wait_until("the table", lambda: table(stack)["accepted"] == accepted, 60, stack.logs, pause=0.2)


def offered(stack, contexts=PROPOSED) -> dict[int, str]:
    """The accepted contexts of the A-ASSOCIATE-AC."""
    link = Requestor(stack.listen, stack.ae, contexts)
    link.release()
    return link.accepted


@pytest.mark.proves("out/choice/mirror")
def test_the_pacs_is_offered_what_the_destination_accepts(make_stack, picky, tmp_path):
    name = "destination"
    slices = generate.study(tmp_path / "ct", 2, seed=41, side=64)
    stack = mirrored(make_stack, picky.address)
    with stack:
        with stack.edit("gateway-in") as receiving:
            name = str(stack.destination(receiving)["name"])
        # As long as nothing is known, everything is offered, and that is said.
        everything = offered(stack)
        assert set(everything) == set(PROPOSED) and everything[1] == EXPLICIT
        assert "everything is offered" in stack.log_text("gateway-out")
        assert table(stack)["offers"] == "everything" and table(stack)["why"]
        # A destination that cannot be asked teaches nothing.
        failed = stack.command("gateway-in", "probe", name, check=False)
        assert failed.returncode == 1 and "association 1 of" in failed.stderr, failed.stderr

        picky.start()
        printed = stack.command("gateway-in", "probe", name).stdout
        assert f"{sum(map(len, TAKES.values()))} accepted" in printed, printed
        [line] = [line for line in printed.splitlines() if line.endswith("   CT Image Storage")]
        assert line.split()[:4] == ["+", "+", "-", "-"], printed
        stack.command("gateway-out", "mirror", stack.ae)
        await_table(stack, 4)
        assert offered(stack) == TAKEN
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in slices]).values()) == {0}
        stack.wait_settled()
        # storescp answers before its file has its name.
        wait_for_arrivals(picky, slices, 20, stack.logs)
        assert picky.arrived().keys() == {one.sop_instance for one in slices}
        # Nothing of it is known to the relay but questions, answers and their lengths.
        assert stack.status("relay")["counters"]["asks"] > 0

        # The destination is off: the last table stays, with its age, and survives both gateways.
        picky.stop()
        assert stack.command("gateway-in", "probe", name, check=False).returncode == 1
        stack.restart("gateway-in")
        accepts = stack.status("gateway-in")["destinations"][0]["accepts"]
        assert accepts["accepted"] == 4 and accepts["age_s"] is not None, accepts
        stack["gateway-in"].kill()
        stack["gateway-out"].kill()
        stack["gateway-out"].start()
        assert offered(stack) == TAKEN
        assert table(stack)["age_s"] is not None and table(stack)["offers"] != "everything"

        # It has changed meanwhile: what is refused nevertheless is refused as ever, and the next probe teaches it.
        stack.start("gateway-in")
        narrow = Picky(tmp_path, {MR: [EXPLICIT]}, port=picky.port)
        with narrow:
            late = generate.study(tmp_path / "late", 1, seed=42, side=64)
            assert set(senders.storescu(stack.listen, stack.ae, [late[0].path]).values()) == {0}
            parked = lambda: [row for row in stack.queue() if row["state"] == "parked"]  # noqa: E731
            wait_until("the refusal", parked, 30, stack.logs)
            shown = json.loads(stack.command("gateway-in", "probe", name, "--json").stdout)
            assert (shown["accepted"], shown["unknown"]) == (1, 0)
            stack.command("gateway-out", "mirror", stack.ae)
            await_table(stack, 1)
            assert offered(stack) == {11: IMPLICIT}


@pytest.mark.proves("in/association/probes")
def test_probes_are_gentle_and_nobody_is_asked_without_a_use_for_it(make_stack):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        with stack.edit("gateway-in") as receiving:
            stack.destination(receiving)["probe_syntaxes"] = [EXPLICIT]
            calling = str(stack.destination(receiving)["calling"])
        with stack:
            # negotiate = "all": the destination is left alone.
            assert set(offered(stack)) == set(PROPOSED)
            assert destination.proposed == []
            with stack.edit("gateway-out") as sending:
                sending["route"][0]["negotiate"] = "mirror"
            stack.restart("gateway-out")
            wait_until("the table", lambda: table(stack)["accepted"], 60, stack.logs, pause=0.2)
            asked = list(destination.proposed)
            pairs = [pair for association in asked for pair in association]
            assert all(len(association) <= 128 for association in asked), [len(one) for one in asked]
            assert all(syntaxes == [EXPLICIT] for _, syntaxes in pairs)
            assert len({name for name, _ in pairs}) == len(pairs) == table(stack)["accepted"]
            assert set(destination.calling) == {calling}
            # It is not asked again: neither by another process of ours nor by a sender that asks again.
            stack.restart("gateway-in")
            stack.command("gateway-out", "mirror", stack.ae)
            assert len(destination.proposed) == len(asked)
