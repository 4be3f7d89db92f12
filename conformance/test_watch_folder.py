"""`[[watch]]`: files dropped into a folder arrive, once and whole; what cannot go on stands in `failed` with its reason."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

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


def test_thousands_at_once_and_a_kill_between_lose_and_double_nothing(make_stack, tmp_path):
    """Twelve hundred files dropped at once; gateway-out is killed again and again while it takes them."""
    count = 1200
    [one] = generate.study(tmp_path / "study", 1, seed=3, side=16)
    inbox = tmp_path / "inbox"
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        watching(stack, inbox)
        made = many(one.path, tmp_path / "made", count)
        (tmp_path / "made").rename(inbox / "all")
        with stack:
            for share in (0.2, 0.5, 0.8):
                wait_until(f"{share:.0%} put away", lambda share=share: len(files(inbox / "done")) > share * count, 120, stack.logs)
                stack.restart("gateway-out")
            wait_until("all put away", lambda: len(files(inbox / "done")) == count, 120, stack.logs)
            wait_until("all at the destination", lambda: len({one.sop_instance for one in part10.find(destination.out)}) == count, 120, stack.logs)
            stack.wait_settled(120)
    assert {one.sop_instance for one in part10.find(destination.out)} == made
    assert files(inbox) == put_away(inbox) and not (inbox / "failed").exists()


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
