"""The relay's log in a directory: one log over kill -9, hashes only, nothing signed that is not on the disk, and a directory that was
taken away or put back is seen by both gateways."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from verify_receipt import Card

from harness import generate, senders
from harness.ctlog import continues, get, head_of
from harness.processes import HOST, wait_until
from harness.rawul import Acceptor
from harness.stack import Stack, one_receipt_each

GATEWAYS = ("gateway-in", "gateway-out")
FILES = re.compile(r"lock|checkpoint(-[0-9a-f]{32})?|(entries|linked)-[0-9a-f]{32}")


def kept(stack: Stack, directory: Path | None = None) -> Path:
    """Gives the relay a log directory."""
    directory = directory or stack.directory / "relay-log"
    with stack.edit("relay") as relay:
        relay["transparency"] = {"dir": str(directory), "interval": "100ms"}
    return directory


def send(stack: Stack, instances) -> None:
    assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in instances]).values()) == {0}
    stack.wait_settled()


def all_signed(stack: Stack) -> dict:
    """The log when all of it is under a head, which both gateways believe."""

    def signed() -> dict | None:
        log = stack.status("relay")["log"]
        known = [stack.status(role)["relays"][0]["log"]["head"] for role in GATEWAYS]
        good = log["size"] == log["entries"] and all(head and head["size"] == log["size"] for head in known)
        return log if good else None

    return wait_until("a head of everything at both gateways", signed, 30, stack.logs)


def checkpoint(stack: Stack) -> str:
    answer = get(f"http://{HOST}:{stack.admin + 1}/checkpoint")
    assert answer.status == 200
    return answer.body.decode()


def proved(stack: Stack, old, new) -> bool:
    path = get(f"http://{HOST}:{stack.admin + 1}/log/consistency?old={old.size}&new={new.size}").json()["path"]
    return continues(old, new, [bytes.fromhex(hash) for hash in path])


def new_epochs(stack: Stack) -> int:
    return sum(stack.log_text(role).count("the relay began another log") for role in GATEWAYS)


def test_a_relay_that_is_killed_again_and_again_goes_on_with_one_log(make_stack, tmp_path):
    study = generate.study(tmp_path / "study", 240, seed=41, side=128)
    chance = random.Random(41)
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        directory = kept(stack)
        stack.quick_retries()
        for role in GATEWAYS:
            with stack.edit(role) as gateway:
                gateway["transparency"] = {"resubmit_after": "1s"}
        with stack:
            card, heads = Card(stack.card("relay")), []
            answers: dict = {}
            sender = threading.Thread(
                target=lambda: answers.update(senders.storescu(stack.listen, stack.ae, [one.path for one in study], seconds=240))
            )
            sender.start()
            for _ in range(6):
                before = stack.status("relay")["log"]["entries"]
                more = chance.randrange(1, 30)
                wait_until("more entries", lambda: stack.status("relay")["log"]["entries"] >= before + more or not sender.is_alive(), 30, stack.logs, 0.01)
                heads.append(head_of(checkpoint(stack), card))
                stack["relay"].kill()
                stack.start("relay")
                assert stack.status("relay")["log"]["entries"] >= heads[-1].size
            sender.join()
            assert set(answers.values()) == {0}
            stack.wait_settled()
            # What was accepted in the last 100 ms before a kill had no head over it, and goes with the relay; what was
            # settled then is submitted again by either gateway until its place is proved.
            for role in GATEWAYS:
                stack.wait_logged(role, len(study))
            log = all_signed(stack)
            assert log["durable"] and log["size"] >= len(study), log
            heads.append(head_of(checkpoint(stack), card))
            assert {head.origin for head in heads} == {log["origin"]}, "another log began"
            assert all(proved(stack, old, heads[-1]) for old in heads)
            assert new_epochs(stack) == 0
            assert [stack.status(role)["relays"][0]["log"]["distrust"] for role in GATEWAYS] == [None, None]
            # What is there is the log's, and the relay could write nothing else.
            assert all(FILES.fullmatch(path.name) for path in directory.iterdir()), sorted(directory.iterdir())
            if os.geteuid() == 0:
                said = json.loads(stack.command("relay", "attest", "--json").stdout)
                assert said["enforced"] and said["process"]["writable"] == [str(directory)]
                files = [file.split(" ")[0] + " " + file.rsplit("/", 1)[1] for file in said["kernel"]["regular_files"]]
                assert [re.sub("[0-9a-f]{32}", "E", file) for file in files] == ["w entries-E", "w lock"], files
                bound = next(check for check in said["checks"] if check["promise"] == "bytes go to the log's own files only")
                assert "unlimited" in bound["value"] and "Landlock is the bound" in bound["value"]
            checked = stack.command("relay", "check").stdout
            assert f"{log['origin']}, {log['size']} entries" in checked, checked
        one_receipt_each(stack, study)


def test_a_directory_that_is_removed_or_put_back_is_seen_by_both_gateways(make_stack, few, tmp_path):
    more = generate.study(tmp_path / "more", 5, seed=42, side=64)
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        directory = kept(stack)
        stack.quick_retries()
        with stack:
            send(stack, few)
            first = all_signed(stack)
            stack["relay"].kill()
            backup = tmp_path / "backup"
            shutil.copytree(directory, backup)

            # Removed: another log, told by everybody, and nothing stops.
            shutil.rmtree(directory)
            stack.start("relay")
            send(stack, more)
            second = all_signed(stack)
            assert second["origin"] != first["origin"]
            assert new_epochs(stack) == 2
            text = stack.log_text("relay")
            assert "the log directory was empty: another log begins" in text
            wait_until("the relay to be told", lambda: "was the directory removed?" in stack.log_text("relay"), 10, stack.logs)

            # Put back as it was: the epoch that had ended returns.
            stack["relay"].kill()
            shutil.rmtree(directory)
            shutil.copytree(backup, directory)
            stack["relay"].launch()

            def out(role: str) -> bool:
                return "rolled its log back" in (stack.status(role)["relays"][0]["log"]["distrust"] or "")

            for role in GATEWAYS:
                wait_until(f"{role} to stop using the relay", lambda role=role: out(role), 30, stack.logs)
                assert "THIS RELAY IS NOT USED ANY MORE" in stack.log_text(role)
            wait_until("readiness to follow", lambda: not stack.answers("gateway-out", "/readyz"), 10, stack.logs)


def test_an_older_state_of_the_same_log_is_a_rollback(make_stack, few, tmp_path):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        directory = kept(stack)
        with stack:
            send(stack, few[:2])
            all_signed(stack)
            stack["relay"].kill()
            backup = tmp_path / "backup"
            shutil.copytree(directory, backup)
            stack.start("relay")
            send(stack, few[2:])
            all_signed(stack)
            stack["relay"].kill()
            [entries] = directory.glob("entries-*")
            whole = entries.read_bytes()

            # Entries that were signed and are gone: it does not start, and says what to do.
            entries.write_bytes(whole[:-1])
            for words in (["run", "--config", stack.config("relay")], ["check", "--config", stack.config("relay")]):
                refused = subprocess.run([stack["relay"].command[0], *words], capture_output=True, text=True, timeout=30)
                assert refused.returncode == 1, refused
                assert "roll the log back" in refused.stderr and str(entries) in refused.stderr, refused.stderr
            assert entries.read_bytes() == whole[:-1], "it was changed"

            # An older state as a whole cannot be told from inside. The gateways tell.
            shutil.rmtree(directory)
            shutil.copytree(backup, directory)
            stack["relay"].launch()
            for role in GATEWAYS:
                wait_until(
                    f"{role} to stop using the relay",
                    lambda role=role: stack.status(role)["relays"][0]["log"]["distrust"],
                    30,
                    stack.logs,
                )
            alarms = wait_until("the relay's own alarm", lambda: stack.status("relay")["alarms"], 10, stack.logs)
            assert any("has a head of this log that it never had" in alarm for alarm in alarms), alarms


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.root
def test_a_full_disk_stops_signing_and_not_the_instances(make_stack, few, tmp_path, small_disk):
    more = generate.study(tmp_path / "more", 120, seed=43, side=64)
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        kept(stack, small_disk / "log")
        with stack:
            send(stack, few)
            signed = all_signed(stack)["size"]
            ballast = small_disk / "ballast"
            with ballast.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(1024))
                except OSError:
                    pass
            send(stack, more)
            assert len(destination.arrivals) == len(few) + len(more)
            wait_until("the alarm", lambda: any("cannot be written" in alarm for alarm in stack.status("relay")["alarms"]), 20, stack.logs)
            log = stack.status("relay")["log"]
            assert log["failing"] and log["size"] < log["entries"] and log["waiting"] == log["entries"] - log["size"], log
            assert "THE LOG DIRECTORY CANNOT BE WRITTEN" in stack.log_text("relay")
            shown = head_of(checkpoint(stack), Card(stack.card("relay")))
            on_disk = head_of((small_disk / "log" / "checkpoint").read_text(), Card(stack.card("relay")))
            assert signed <= shown.size == log["size"] and shown.size <= on_disk.size, "more was signed than is on the disk"
            metrics = get(f"http://{HOST}:{stack.admin + 1}/metrics").body.decode()
            assert "sluis_relay_log_failing 1" in metrics
            assert stack.answers("relay", "/readyz"), "it carries instances"
            ballast.unlink()
            whole = all_signed(stack)
            assert whole["size"] >= 2 * (len(few) + len(more)) and not whole["failing"]
            assert stack.status("relay")["alarms"] == []
