"""Which route takes an instance, and where it goes: several destinations, rules, priorities, windows and rates, over the wire."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import time

import pytest
import tomlkit

from harness import generate, senders
from harness.binaries import binary
from harness.commitment import Asker
from harness.destinations import PynetdicomScp, Storescp, wait_for_arrivals
from harness.picky import Picky
from harness.processes import HOST, run, wait_until
from harness.stack import Stack, one_receipt_each

CT, MR, US = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.6.1"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
CLASS_NOT_SUPPORTED, NO_ROUTE = 0x0122, 0x0124


def destination_table(name: str, address: str) -> tomlkit.items.Table:
    called, _, place = address.partition("@")
    table = tomlkit.table()
    table.update({"name": name, "kind": "dicom", "ae": called, "address": place, "calling": "SLUISIN"})
    return table


def routes(stack: Stack, *wanted: dict) -> None:
    """Replaces the routes; each `to` is {name: address} of its destinations, and what else it has is put into gateway-out's route."""
    with stack.edit("gateway-in") as receiving, stack.edit("gateway-out") as sending:
        mine, theirs = sending["route"][0].unwrap(), receiving["route"][0].unwrap()
        sending["route"], receiving["route"], receiving["destination"] = tomlkit.aot(), tomlkit.aot(), tomlkit.aot()
        peer = mine["to"]
        for key in ("id", "to", "destination"):
            del mine[key]
        for one in wanted:
            route = tomlkit.table()
            route.update({**mine, **{key: value for key, value in one.items() if key != "to"}})
            legs = tomlkit.aot()
            for name, address in one["to"].items():
                if name not in [str(known["name"]) for known in receiving["destination"]]:
                    receiving["destination"].append(destination_table(name, address))
                leg, far = tomlkit.table(), tomlkit.table()
                identifier = secrets.token_hex(16)
                leg.update({"id": identifier, "to": peer, "name": name})
                far.update({**theirs, "id": identifier, "destination": name})
                legs.append(leg)
                receiving["route"].append(far)
            route["destination"] = legs
            sending["route"].append(route)


def by_destination(stack: Stack, sop_instance: str) -> dict[str, dict]:
    return {delivery["destination"]: delivery for delivery in stack.why(sop_instance)}


def test_one_of_two_destinations_refuses_jpeg_2000(make_stack, tmp_path):
    """`why` shows a result per destination, commitment names what failed, and nothing else is held up."""
    plain = generate.study(tmp_path / "plain", 4, seed=61, modality="CT")
    packed = generate.study(tmp_path / "packed", 3, seed=62, syntax=JPEG_2000, modality="CT")
    later = generate.study(tmp_path / "later", 4, seed=63, modality="CT")
    explicit = [plain[0].transfer_syntax]
    with Storescp(tmp_path, "ARCHIVE") as archive, Picky(tmp_path, {CT: explicit}) as picky, Asker(listens=True) as asker:
        stack = make_stack(to=archive.address)
        routes(stack, {"to": {"archive": archive.address, "reading": picky.address}})
        stack.quick_retries()
        with stack.edit("gateway-out") as out:
            entry = tomlkit.table()
            entry.update({"ae": asker.ae, "address": f"{HOST}:{asker.port}", "timeout": "10min", "arrival": "1min"})
            out["commitment"] = tomlkit.aot()
            out["commitment"].append(entry)
        with stack:
            sent = [*plain, *packed, *later]
            # One association: the refused ones stand in the middle of the queue.
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, sent, calling=asker.ae).values()) == {0}
            wait_for_arrivals(archive, sent, 30, stack.logs)
            wait_for_arrivals(picky, [*plain, *later], 30, stack.logs)
            transaction = asker.ask(stack.listen, stack.ae, sent)
            report = asker.wait(transaction, stack.logs)
            assert report.event_type == 2
            assert report.failed == {one.sop_instance: CLASS_NOT_SUPPORTED for one in packed}
            assert report.committed == {one.sop_instance for one in [*plain, *later]}
            assert picky.arrived().keys().isdisjoint(report.failed)
            for one in packed:
                results = by_destination(stack, one.sop_instance)
                assert results.keys() == {"archive", "reading"}
                assert results["archive"]["state"] == "receipted", results["archive"]
                assert results["reading"]["state"] == "parked", results["reading"]
                assert (results["reading"]["status"], "transfer syntax" in results["reading"]["meaning"]) == ("0122", True)
                assert "last status 0122: refused: SOP class" in stack.command("gateway-out", "why", one.sop_instance).stdout
            for one in [*plain, *later]:
                assert {row["state"] for row in stack.why(one.sop_instance)} <= {"receipted", "purged"}


def test_rules_decide_instance_by_instance_within_one_association(make_stack, tmp_path):
    thorax = generate.study(tmp_path / "thorax", 2, seed=64, modality="CT", description="CT Thorax nativ")
    head = generate.study(tmp_path / "head", 2, seed=65, modality="CT", description="CT Schaedel")
    spine = generate.study(tmp_path / "spine", 2, seed=66, sop_class=MR, modality="MR")
    bowel = generate.study(tmp_path / "bowel", 2, seed=67, sop_class=US, modality="US")
    rules = ('Modality == "CT" and StudyDescription ~ "(?i)thorax"', 'Modality == "CT"', f'SOPClassUID == "{MR}"')
    with Storescp(tmp_path, "A") as chest, Storescp(tmp_path, "B") as rest, Storescp(tmp_path, "C") as magnet:
        stack = make_stack(to=chest.address)
        places = ({"chest": chest.address}, {"rest": rest.address}, {"magnet": magnet.address})
        routes(stack, *({"when": rule, "to": place} for rule, place in zip(rules, places, strict=True)))
        with stack:
            sent = [head[0], thorax[0], bowel[0], spine[0], thorax[1], spine[1], bowel[1], head[1]]
            answers = senders.pynetdicom_send(stack.listen, stack.ae, sent)
            assert {name for name, status in answers.items() if status == NO_ROUTE} == {one.sop_instance for one in bowel}
            assert {status for name, status in answers.items() if name not in {one.sop_instance for one in bowel}} == {0}
            for place, wanted in ((chest, thorax), (rest, head), (magnet, spine)):
                wait_for_arrivals(place, wanted, 30, stack.logs)
                assert place.arrived().keys() == {one.sop_instance for one in wanted}
            stack.wait_settled()
            one_receipt_each(stack, [*thorax, *head, *spine])
            assert stack.status("gateway-out")["since_start"]["instances_without_route"] == len(bowel)
            # Refused: not a trace of it is kept, the sender keeps it.
            assert stack.command("gateway-out", "why", bowel[0].sop_instance, check=False).returncode != 0
            # DCMTK reads the same answer.
            assert senders.storescu(stack.listen, stack.ae, [bowel[0].path]) == {bowel[0].path: NO_ROUTE}
        # What the daemon did is what `route test` says without it.
        for one, place in ((thorax[0], "chest"), (head[0], "rest"), (spine[0], "magnet"), (bowel[0], None)):
            words = ("route", "test", one.path, "--called", stack.ae, "--calling", "PYNETSCU", "--source", HOST)
            said = stack.command("gateway-out", *words, check=False).stdout
            assert re.findall(r"goes to (\w+) at", said) == ([place] if place else []), said


def test_calling_titles_and_sources_choose_among_routes_of_one_title(make_stack, tmp_path, few):
    with Storescp(tmp_path, "A") as scanners, Storescp(tmp_path, "B") as others:
        stack = make_stack(to=scanners.address)
        routes(
            stack,
            {"calling": ["@scanners"], "sources": ["127.0.0.0/8"], "to": {"scanners": scanners.address}},
            {"calling": ["WS?"], "to": {"others": others.address}},
        )
        with stack.edit("gateway-out") as out:
            out["groups"] = {"scanners": ["CT*", "MR1"]}
        with stack:
            for calling, place, one in (("CT_7", scanners, few[0]), ("MR1", scanners, few[1]), ("WS9", others, few[2])):
                assert senders.storescu(stack.listen, stack.ae, [one.path], calling=calling) == {one.path: 0}
                wait_for_arrivals(place, [one], 30, stack.logs)
            assert len(scanners.arrived()) == 2 and len(others.arrived()) == 1
            refused = senders.storescu(stack.listen, stack.ae, [few[3].path], calling="MR2")
            assert refused == {few[3].path: senders.NOT_SENT}


def test_a_window_holds_back_and_opens_with_a_reload(make_stack, tmp_path, few):
    """Closed all of this week's days but one that is not today; nothing else waits for it."""
    closed = time.strftime("%a", time.gmtime(time.time() + 3 * 86400))
    night, day = few[:3], few[3:]
    with Storescp(tmp_path, "NIGHT") as nightly, Storescp(tmp_path, "DAY") as daily:
        stack = make_stack(to=nightly.address)
        limited = {"ae": "SLUISNIGHT", "window": [closed], "time_zone": "UTC"}
        routes(stack, {**limited, "to": {"night": nightly.address}}, {"ae": "SLUISDAY", "to": {"day": daily.address}})
        with stack:
            assert set(senders.storescu(stack.listen, "SLUISNIGHT", [one.path for one in night]).values()) == {0}
            assert set(senders.storescu(stack.listen, "SLUISDAY", [one.path for one in day]).values()) == {0}
            wait_for_arrivals(daily, day, 30, stack.logs)
            assert nightly.arrived() == {}
            [held] = stack.status("gateway-out")["windows_closed"]
            assert held["destination"] == "night"
            assert f"until {closed} 00:00" in stack.command("gateway-out", "why", night[0].sop_instance).stdout
            with stack.edit("gateway-out") as out:
                del out["route"][0]["window"]
            os.kill(stack["gateway-out"].pid, signal.SIGHUP)
            wait_for_arrivals(nightly, night, 30, stack.logs)
            stack.wait_settled()


@pytest.mark.parametrize("urgent_calls", ["its own title", "the same title, by its priority"])
def test_an_urgent_study_passes_a_queue_of_bulk(make_stack, tmp_path, urgent_calls):
    """Hundreds wait for a slow destination when the urgent ones come; these are there first but for what is on its way."""
    bulk = generate.study(tmp_path / "bulk", 400, seed=68, modality="CT")
    urgent = generate.study(tmp_path / "urgent", 5, seed=69, modality="CT", description="Stroke")

    def slowly(_name: str, _seen: int) -> int:
        time.sleep(0.05)
        return 0

    with PynetdicomScp(behave=slowly) as slow:
        stack = make_stack(to=slow.address)
        same = urgent_calls.startswith("the same")
        first = {"when": 'StudyDescription == "Stroke"'} if same else {"ae": "SLUISSTAT"}
        place = {"to": {"slow": slow.address}}
        routes(stack, {**first, "priority": "urgent", **place}, {"priority": "bulk", **place})
        with stack:
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in bulk]).values()) == {0}
            wait_until("the first of the bulk", lambda: len(slow.events) > 5, 30, stack.logs)
            before = len(slow.events)
            called = stack.ae if same else "SLUISSTAT"
            assert set(senders.storescu(stack.listen, called, [one.path for one in urgent]).values()) == {0}
            wanted = {one.sop_instance for one in urgent}
            wait_until("the urgent ones", lambda: wanted <= slow.stored.keys(), 30, stack.logs)
            passed = len(slow.events) - before
            print(f"{len(bulk) - before} bulk instances waited; {passed - len(urgent)} of them went before the last urgent one")
            # A destination has its associations' worth on its way, one in eight goes by the ageing floor.
            assert passed < 100
            order = [name for _, name, _ in slow.events if name in wanted]
            assert order == [one.sop_instance for one in urgent]
            wait_until("the bulk", lambda: len(slow.stored) == len(bulk) + len(urgent), 120, stack.logs)
            stack.wait_settled()


def test_a_rate_is_kept_and_keeps_nobody_else(make_stack, tmp_path):
    limited = generate.study(tmp_path / "limited", 12, seed=70)
    free = generate.study(tmp_path / "free", 30, seed=71)
    with PynetdicomScp("THROTTLED") as throttled, PynetdicomScp("FREE") as unlimited:
        stack = make_stack(to=throttled.address)
        routes(
            stack,
            {"ae": "SLUISSLOW", "rate": ["4 instances/s"], "to": {"throttled": throttled.address}},
            {"ae": "SLUISFREE", "to": {"free": unlimited.address}},
        )
        with stack:
            assert set(senders.storescu(stack.listen, "SLUISSLOW", [one.path for one in limited]).values()) == {0}
            assert set(senders.storescu(stack.listen, "SLUISFREE", [one.path for one in free]).values()) == {0}
            wait_for_arrivals(unlimited, free, 30, stack.logs)
            assert len(throttled.stored) < len(limited)
            wait_for_arrivals(throttled, limited, 30, stack.logs)
            times = [at for at, _, _ in throttled.events]
            # Twelve at four a second take 2.75 s from the first to the last.
            assert times[-1] - times[0] > 2.5


def test_two_hundred_routes_are_checked_and_explained(tmp_path):
    """The configuration of a large sender: groups, defaults, two hundred routes."""
    directory = tmp_path / "many"
    stack = Stack(directory, folder=tmp_path / "inbox")
    with stack.edit("gateway-out") as out:
        peer = out["route"][0]["to"]
        out["route"] = tomlkit.aot()
        out["groups"] = {"scanners": ["CT*", "MR*", "10.0.0.0/8", "127.0.0.0/8"]}
        out["route_defaults"] = {"to": peer, "calling": ["@scanners"], "sources": ["@scanners"]}
        for number in range(200):
            route = tomlkit.table()
            route.update({"ae": f"DEP{number // 2:03}", "id": secrets.token_hex(16), "destination": f"pacs{number:03}"})
            if number % 2 == 0:
                route["when"] = f'Modality == "CT" and StudyDescription ~ "ward {number}$"'
            out["route"].append(route)
    checked = run([binary("gateway-out"), "check", "--config", stack.config("gateway-out")], 60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    [one] = generate.study(tmp_path / "one", 1, seed=72, modality="CT", description="ward 198")
    words = ("route", "test", one.path, "--called", "DEP099", "--calling", "CT4", "--source", "10.3.4.5", "--json")
    said = json.loads(stack.command("gateway-out", *words).stdout)
    assert "pacs198" in json.dumps(said), said
