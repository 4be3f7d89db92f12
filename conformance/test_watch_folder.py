"""`[[watch]]`: files dropped into a folder arrive, once and whole; what cannot go on stands in `failed` with its reason."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
import tomlkit

from harness import generate, part10
from harness.destinations import Storescp, wait_for_arrivals
from harness.processes import wait_until
from harness.stack import Stack


def watching(stack: Stack, inbox: Path, **table: object) -> None:
    inbox.mkdir(exist_ok=True)
    with stack.edit("gateway-out") as sending:
        made = tomlkit.aot()
        made.append(tomlkit.item({"dir": str(inbox), "ae": stack.ae, "settle": "500ms", "every": "200ms", **table}))
        sending["watch"] = made


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_dropped_arrives_and_is_put_away(make_stack, tmp_path):
    study = generate.study(tmp_path / "study", 6, seed=1, side=64)
    inbox = tmp_path / "inbox"
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        watching(stack, inbox)
        # Before the start, in a folder below; and one that is no DICOM file.
        (inbox / "ward" / "7").mkdir(parents=True)
        shutil.copy(study[0].path, inbox / "ward" / "7" / "early.dcm")
        (inbox / "letter.txt").write_text("not an image")
        with stack:
            wait_for_arrivals(destination, study[:1], 30, stack.logs)
            # One that grows slower than anybody looks, one that is renamed at its end, one that is hidden.
            whole = study[1].path.read_bytes()
            with (inbox / "slow.dcm").open("wb") as file:
                for at in range(0, len(whole), len(whole) // 8 + 1):
                    file.write(whole[at : at + len(whole) // 8 + 1])
                    file.flush()
                    os.fsync(file.fileno())
                    time.sleep(0.25)
            shutil.copy(study[2].path, inbox / "later.dcm.part")
            shutil.copy(study[3].path, inbox / ".hidden.dcm")
            wait_for_arrivals(destination, study[:2], 30, stack.logs)
            (inbox / "later.dcm.part").rename(inbox / "later.dcm")
            wait_for_arrivals(destination, study[:3], 30, stack.logs)
            stack.wait_settled()
            wait_until("nothing waits", lambda: files(inbox) - {".hidden.dcm"} == put_away(inbox), 20, stack.logs)
            [said] = stack.status("gateway-out")["watched"]
            assert (said["taken"], said["failed"], said["waiting"], said["hindered_by"]) == (3, 1, 0, None), said
    assert files(inbox / "done") == {"ward/7/early.dcm", "slow.dcm", "later.dcm"}
    assert (inbox / "done" / "slow.dcm").read_bytes() == whole
    assert "no DICM at byte 128" in (inbox / "failed" / "letter.txt.reason.txt").read_text()
    assert (inbox / "failed" / "letter.txt").read_text() == "not an image"
    assert {one.sop_instance for one in part10.find(destination.out)} == {one.sop_instance for one in study[:3]}
    assert str(inbox) not in stack.log_text("relay") and "early.dcm" not in stack.log_text("gateway-out")


def put_away(inbox: Path) -> set[str]:
    return {f"{name}/{one}" for name in ("done", "failed") for one in files(inbox / name)}


def test_a_refused_file_says_why_and_one_without_a_way_waits(make_stack, tmp_path):
    study = generate.study(tmp_path / "study", 2, seed=2, side=64)
    broken = study[1].path.read_bytes()[:-40]
    inbox = tmp_path / "inbox"
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        watching(stack, inbox, delivered="remove")
        # Nobody but one modality may send there: the folder is turned away, and its files stay where they are.
        with stack.edit("gateway-out") as sending:
            sending["route"][0]["calling"] = ["CT1"]
        shutil.copy(study[0].path, inbox / "one.dcm")
        (inbox / "broken.dcm").write_bytes(broken)
        with stack:
            hindered = lambda: stack.status("gateway-out")["watched"][0]["hindered_by"]  # noqa: E731
            why = wait_until("a word about it", hindered, 30, stack.logs)
            assert "Calling AE Title" in why or "calling" in why.lower(), why
            assert files(inbox) == {"one.dcm", "broken.dcm"}
        with stack.edit("gateway-out") as sending:
            sending["watch"][0]["calling"] = "CT1"
        with stack:
            wait_for_arrivals(destination, study[:1], 30, stack.logs)
            wait_until("both are put away", lambda: files(inbox) == {"failed/broken.dcm", "failed/broken.dcm.reason.txt"}, 30, stack.logs)
    assert "status C001" in (inbox / "failed" / "broken.dcm.reason.txt").read_text()


@pytest.mark.parametrize("count", [1200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_at_once_and_a_kill_between_lose_and_double_nothing(make_stack, tmp_path, count):
    """Files dropped at once; gateway-out is killed again and again while it takes them."""
    patience = 120 + count // 20
    [one] = generate.study(tmp_path / "study", 1, seed=3, side=16)
    inbox = tmp_path / "inbox"
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        watching(stack, inbox)
        made = many(one.path, tmp_path / "made", count)
        (tmp_path / "made").rename(inbox / "all")
        with stack:
            for share in (0.2, 0.5, 0.8):
                wait_until(f"{share:.0%} put away", lambda share=share: len(files(inbox / "done")) > share * count, patience, stack.logs)
                stack.restart("gateway-out")
            wait_until("all put away", lambda: len(files(inbox / "done")) == count, patience, stack.logs)
            wait_until("all at the destination", lambda: len({one.sop_instance for one in part10.find(destination.out)}) == count, patience, stack.logs)
            stack.wait_settled(patience)
    assert {one.sop_instance for one in part10.find(destination.out)} == made
    assert files(inbox) == put_away(inbox) and not (inbox / "failed").exists()


def test_folders_come_change_and_go_with_a_reload(make_stack, tmp_path):
    """What the process may reach at once is taken at once; another folder says what it waits for, and goes on after a start."""
    study = generate.study(tmp_path / "study", 6, seed=4, side=64)
    inbox, elsewhere = tmp_path / "inbox", tmp_path / "elsewhere"
    (inbox / "ward").mkdir(parents=True)
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        watching(stack, inbox)
        said = lambda: stack.status("gateway-out")["watched"]  # noqa: E731

        def change(folder: Path | None, check: bool = True, **table: object):
            with stack.edit("gateway-out") as sending:
                del sending["watch"]
            if folder:
                watching(stack, folder, **table)
            return stack.command("gateway-out", "reload", check=check)

        def drop(one: generate.Instance, path: Path) -> None:
            shutil.copy(one.path, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)

        with stack:
            drop(study[0], inbox / "0.dcm")
            wait_for_arrivals(destination, study[:1], 30, stack.logs)
            # A folder that is there no more is refused with the whole file; the earlier one goes on.
            with stack.edit("gateway-out") as sending:
                sending["watch"][0]["dir"] = str(tmp_path / "nowhere")
            refused = stack.command("gateway-out", "reload", check=False)
            assert refused.returncode != 0 and "is no folder" in refused.stderr + refused.stdout, refused
            drop(study[1], inbox / "1.dcm")
            wait_for_arrivals(destination, study[:2], 30, stack.logs)
            # One below it, with other values, from SIGHUP on.
            with stack.edit("gateway-out") as sending:
                sending["watch"][0].update({"dir": str(inbox / "ward"), "delivered": "remove"})
            os.kill(stack["gateway-out"].pid, signal.SIGHUP)
            wait_until("the change", lambda: [one["dir"] for one in said()] == [str(inbox / "ward")], 10, stack.logs)
            drop(study[2], inbox / "2.dcm")
            drop(study[3], inbox / "ward" / "3.dcm")
            wait_for_arrivals(destination, [*study[:2], study[3]], 30, stack.logs)
            wait_until("it is removed", lambda: files(inbox / "ward") == set(), 10, stack.logs)
            assert (inbox / "2.dcm").exists()
            # One that the running process has locked itself out of.
            assert "folders changed: 2\n" in change(elsewhere).stdout
            drop(study[4], elsewhere / "4.dcm")
            waits = wait_until("a word", lambda: said()[0]["hindered_by"], 10, stack.logs)
            assert "the next start lets it in" in waits, waits
            assert [one for one in stack.status("gateway-out")["alarms"] if " waits: " in one and one.startswith("watched folder #")]
            stack.restart("gateway-out")
            wait_for_arrivals(destination, [*study[:2], *study[3:5]], 30, stack.logs)
            wait_until("nothing waits", lambda: said()[0]["hindered_by"] is None and said()[0]["waiting"] == 0, 10, stack.logs)
            # The running outbox under another name for the next start: what lies in it was not dropped by anybody.
            with stack.edit("gateway-out") as sending:
                running = sending["outbox"]["dir"]
                sending["outbox"]["dir"] = str(tmp_path / "other-outbox")
            for mine, words in ((stack.directory / running, "of the running process"), (stack.directory, "lies in it")):
                clash = change(mine, check=False)
                assert clash.returncode == 1 and "everything stays as it was" in clash.stderr and words in clash.stderr, clash
                assert "gateway-out.toml:" in clash.stderr and said()[0]["dir"] == str(elsewhere)
            with stack.edit("gateway-out") as sending:
                sending["outbox"]["dir"] = running
            # None.
            change(None)
            assert said() == []
            drop(study[5], elsewhere / "5.dcm")
            time.sleep(2)
            assert (elsewhere / "5.dcm").exists()
            stack.wait_settled()
    assert {one.sop_instance for one in part10.find(destination.out)} == {one.sop_instance for one in [*study[:2], *study[3:5]]}


def test_a_folder_whose_files_wait_for_answers_holds_up_no_other(make_stack, tmp_path):
    """gateway-in is away and the route answers when it is delivered: the batch of one folder takes its time, and another is looked through."""
    study = generate.study(tmp_path / "study", 5, seed=5, side=64)
    first, second = tmp_path / "first", tmp_path / "second"
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        stack.respond_when_delivered()
        for folder in (first, second):
            folder.mkdir()
        both = [{"dir": str(folder), "ae": stack.ae, "settle": "500ms", "every": "200ms"} for folder in (first, second)]
        with stack.edit("gateway-out") as sending:
            sending["watch"] = both
            sending.setdefault("retry", {})["delivered_timeout"] = "12s"
        with stack:
            said = lambda: {Path(one["dir"]).name: one for one in stack.status("gateway-out")["watched"]}  # noqa: E731
            with stack.edit("gateway-out") as sending:
                sending["watch"] = both[:1]
            stack.command("gateway-out", "reload")
            stack["gateway-in"].stop()
            for one in study[:3]:
                shutil.copy(one.path, first / one.path.name)
            # An association that is open has its batch under way.
            associations = lambda: stack.status("gateway-out")["since_start"]["associations"]  # noqa: E731
            wait_until("the batch", lambda: associations() == 1, 20, stack.logs)
            shutil.copy(study[3].path, second / study[3].path.name)
            with stack.edit("gateway-out") as sending:
                sending["watch"] = both[1:]
            stack.command("gateway-out", "reload")
            wait_until("the other folder's batch", lambda: associations() == 2 and said()["second"]["waiting"] == 1, 10, stack.logs)
            # Its successor waits for its answers, and says so.
            with stack.edit("gateway-out") as sending:
                sending["watch"] = [{**both[0], "delivered": "remove"}, both[1]]
            stack.command("gateway-out", "reload")
            assert "get their answers first" in said()["first"]["hindered_by"]
            stack.start("gateway-in")
            wait_for_arrivals(destination, study[:4], 60, stack.logs)
            shutil.copy(study[4].path, first / study[4].path.name)
            wait_until("the last one", lambda: not (first / study[4].path.name).exists(), 60, stack.logs)
            wait_for_arrivals(destination, study, 30, stack.logs)
            wait_until("nothing waits", lambda: all(one["waiting"] == 0 and not one["hindered_by"] for one in said().values()), 60, stack.logs)
            assert said()["first"]["folder"] != said()["second"]["folder"]
    assert {one.sop_instance for one in part10.find(destination.out)} == {one.sop_instance for one in study}


def test_an_answered_file_that_cannot_be_moved_is_sent_once_whatever_the_table_says(make_stack, tmp_path):
    """No other table, no time without one, and no folder above it makes it a new file."""
    study = generate.study(tmp_path / "study", 1, seed=6, side=64)
    inbox = tmp_path / "inbox"
    (inbox / "ward").mkdir(parents=True)
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        watching(stack, inbox)

        def change(folder: Path | None, **table: object) -> None:
            with stack.edit("gateway-out") as sending:
                sending.pop("watch", None)
            if folder:
                watching(stack, folder, **table)
            said = stack.command("gateway-out", "reload").stdout
            assert "count from the next start" not in said, said

        def stuck() -> dict | None:
            [one] = stack.status("gateway-out")["watched"]
            return one if "an answered file cannot be moved away" in str(one["hindered_by"]) else None

        with stack:
            change(inbox / "ward")
            (inbox / "ward" / "done").symlink_to(tmp_path)
            shutil.copy(study[0].path, inbox / "ward" / "one.dcm")
            wait_for_arrivals(destination, study, 30, stack.logs)
            first = wait_until("it cannot be moved", stuck, 30, stack.logs)
            change(inbox / "ward", settle="2s")
            wait_until("it cannot be moved", stuck, 30, stack.logs)
            change(None)
            (inbox / "done").symlink_to(tmp_path)
            change(inbox, settle="1s")
            wait_until("it cannot be moved", stuck, 30, stack.logs)
            change(inbox / "ward", delivered="remove")
            wait_until("it is removed", lambda: not (inbox / "ward" / "one.dcm").exists(), 30, stack.logs)
            assert stack.status("gateway-out")["since_start"]["instances_accepted"] == 1
            [again] = stack.status("gateway-out")["watched"]
            assert again["folder"] == first["folder"] and again["taken"] == 1, (first, again)


def test_nothing_of_ours_is_watched_wherever_links_lead(make_stack, tmp_path):
    """An outbox that is not there yet, files that other tables name, pieces of the configuration."""
    stack = make_stack()
    real, secrets, pieces = tmp_path / "real", tmp_path / "secrets", stack.directory / "conf.d" / "gateway-out"
    keys, told = tmp_path / "keys", tmp_path / "told"
    for folder in (real, secrets, pieces, keys, told, stack.directory / "cards"):
        folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "link").symlink_to(real)
    (secrets / "users").write_text("ct1\n")
    (secrets / "users").chmod(0o600)
    with stack.edit("gateway-out") as sending:
        (keys / "key").symlink_to(stack.directory / str(sending["outbox"]["key"]))
        sending["outbox"]["dir"] = str(tmp_path / "link" / "below" / "outbox")
        sending["dicom"].update({"user_identity": "accepted", "users": str(secrets / "users")})
        sending["outbox"]["key"] = str(keys / "key")
        sending["alarm"] = {"state": str(told / "alarm.json")}
    cases = (
        (real, "real/below/outbox lies in it"),
        (secrets, "users lies in it"),
        (pieces.parent, "conf.d/gateway-out lies in it"),
        (pieces, "lies in it"),
        (pieces / "inbox", "itself writes"),
        (stack.directory / "cards", "lies in it"),
        (keys, "keys/key lies in it"),
        (told, "told/alarm.json lies in it"),
    )
    for folder, words in cases:
        watching(stack, folder)
        for verb in ("check", "run"):
            said = stack.command("gateway-out", verb, check=False, seconds=20)
            assert said.returncode == 64 and words in said.stderr and "`watch[0].dir`" in said.stderr, (verb, said)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a daemon as another user")
@pytest.mark.skipif(Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1", reason="fs.protected_hardlinks is not 1")
@pytest.mark.parametrize("delivered", ["keep", "remove"])
def test_files_of_somebody_else_are_put_away_though_they_may_not_be_linked(tmp_path, delivered):
    """As installed: gateway-out is a user of its own, and the kernel refuses it hard links to what others have dropped."""
    study = generate.study(tmp_path / "study", 3, seed=7, side=64)
    nobody = 65534
    # Nobody has a way into pytest's own folders, nor into a home where the programs may lie.
    with tempfile.TemporaryDirectory(prefix="sluis-") as folder, Storescp(tmp_path) as destination:
        top = Path(folder)
        top.chmod(0o755)
        inbox = top / "inbox"
        stack = Stack(top / "sluis", to=destination.address)
        watching(stack, inbox, delivered=delivered)
        inbox.chmod(0o777)
        daemon = stack["gateway-out"]
        own = shutil.copy(daemon.command[0], top / "gateway-out")
        daemon.command = ["setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups", own, *daemon.command[1:]]
        for path in [stack.directory, *stack.directory.rglob("*")]:
            os.chown(path, nobody, nobody)
        with stack:
            for one in study:
                shutil.copy(one.path, inbox / f"{one.path.name}.part")
                (inbox / f"{one.path.name}.part").rename(inbox / one.path.name)
            (inbox / "notes.dcm").write_text("no DICOM")
            wait_for_arrivals(destination, study, 30, stack.logs)
            kept = {f"done/{one.path.name}" for one in study} if delivered == "keep" else set()
            put_away = {"failed/notes.dcm", "failed/notes.dcm.reason.txt"} | kept
            wait_until("all are put away", lambda: files(inbox) == put_away, 30, stack.logs)
            assert f"Uid:\t{nobody}\t" in Path(f"/proc/{daemon.pid}/status").read_text()
            assert not stack.status("gateway-out")["watched"][0]["hindered_by"]


def many(path: Path, folder: Path, count: int) -> set[str]:
    """Copies under SOP Instance UIDs of the same length."""
    folder.mkdir()
    whole, uid = path.read_bytes(), part10.read(path).sop_instance
    stem = uid[: len(uid) - 6]
    uids = set()
    for number in range(count):
        other = f"{stem}{100000 + number}"[: len(uid)]
        (folder / f"{number}.dcm").write_bytes(whole.replace(uid.encode(), other.encode()))
        uids.add(other)
    assert len(uids) == count
    return uids


def test_check_names_what_is_wrong_with_a_watched_folder(make_stack, tmp_path):
    stack = make_stack()
    watching(stack, tmp_path / "inbox")
    for key, value, words in [
        ("dir", str(tmp_path / "nowhere"), "is no folder"),
        ("dir", str(stack.directory / "outbox"), "outbox lies in it"),
        ("ae", "NOBODY", "no [[route]] is called NOBODY"),
    ]:
        with stack.edit("gateway-out") as sending:
            before = sending["watch"][0][key]
            sending["watch"][0][key] = value
        (stack.directory / "outbox").mkdir(exist_ok=True)
        said = stack.command("gateway-out", "check", check=False)
        assert said.returncode == 64 and words in said.stderr and f"`watch[0].{key}`" in said.stderr, said
        with stack.edit("gateway-out") as sending:
            sending["watch"][0][key] = before
