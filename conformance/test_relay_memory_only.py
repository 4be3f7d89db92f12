"""The relay's promise, seen from outside: no byte on a disk, nothing in memory after the burn, no core; and the same tests fail without its sandbox.

What is looked for in memory and files are pieces of the sealed bodies, read from gateway-out's outbox: what the relay holds
byte for byte.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import generate, senders
from harness.processes import wait_until
from harness.rawul import Acceptor
from harness.stack import Stack, binary
from harness.watch import needles_in_files, needles_in_memory

pytestmark = pytest.mark.root
NEEDLE_BYTES = 48


def sealed_pieces(stack: Stack, count: int = 64) -> list[bytes]:
    """Pieces from the middle of bodies that wait in the outbox."""
    bodies = [path for path in (stack.directory / "outbox" / "objects").rglob("*") if path.is_file() and path.stat().st_size > 16_384]
    assert bodies, "no body waits in the outbox"
    pieces = []
    for path in bodies[:count]:
        with path.open("rb") as file:
            file.seek(path.stat().st_size // 2)
            pieces.append(file.read(NEEDLE_BYTES))
    return pieces


def write_bytes(pid: int) -> int:
    found = re.search(r"^write_bytes: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    return int(found[1])


def attest(stack: Stack) -> tuple[int, dict]:
    done = stack.command("relay", "attest", "--json", check=False)
    return done.returncode, json.loads(done.stdout)


@contextmanager
def strace(pid: int, log: Path) -> Iterator[None]:
    """Every call of all threads that can name a file or write to one."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    tracer = subprocess.Popen(
        ["strace", "-f", "-y", "-qq", "-e", "trace=%file,write,writev,pwrite64,pwritev,pwritev2,ftruncate,fallocate,mmap", "-o", log, "-p", str(pid)],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until("strace to attach", lambda: "TracerPid:\t0" not in Path(f"/proc/{pid}/status").read_text(), 20)
        yield
    finally:
        tracer.terminate()
        tracer.wait(20)


def written_files(log: Path) -> set[str]:
    """Regular files among the descriptors that were written to, and paths that were opened to be written."""
    found = set()
    for line in log.read_text(errors="replace").splitlines():
        if " = -1 " in line:
            continue
        call = re.search(r"\b(?:p?writev?2?|pwrite64|ftruncate|fallocate)\(\d+<(/[^>]*)>", line)
        if call and not call[1].startswith(("/dev/", "/proc/")):
            found.add(call[1])
        if re.search(r"\bopen(?:at)?\(.*O_(?:WRONLY|RDWR|CREAT)", line) or re.search(r"\b(?:rename|unlink|mkdir|link|symlink)\w*\(", line):
            found.add(line.split(" ", 1)[-1])
    return found


@pytest.fixture(scope="module")
def gigabyte(tmp_path_factory):
    return generate.large(tmp_path_factory.mktemp("gigabyte") / "large.dcm", 1 << 30, seed=71)


def test_a_gigabyte_passes_and_no_byte_is_written(make_stack, peer, gigabyte):
    destination = peer("dcmtk")
    stack = make_stack(to=destination.address)
    with stack:
        relay = stack["relay"].pid
        before = write_bytes(relay)
        assert senders.storescu(stack.listen, stack.ae, [gigabyte.path], seconds=300) == {gigabyte.path: 0}
        stack.wait_settled(120)
        assert stack.status("relay")["counters"]["bytes_in"] > 1 << 30
        assert write_bytes(relay) - before == 0


def test_no_call_of_the_relay_touches_a_file(make_stack, tmp_path, small_study):
    log = tmp_path / "calls"
    with Acceptor() as destination, make_stack(to=destination.address, log="trace") as stack:
        with strace(stack["relay"].pid, log):
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in small_study]).values()) == {0}
            stack.wait_settled()
            stack.status("relay")
        assert len(log.read_text().splitlines()) > 100, "strace saw nothing"
        assert written_files(log) == set()


def test_pieces_of_bodies_leave_the_memory_with_the_burn_and_never_reach_a_file(make_stack, small_study):
    with Acceptor("FROZEN") as destination, make_stack(to=destination.address) as stack:
        destination.freeze()
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in small_study]).values()) == {0}
        wait_until("bodies at the relay", lambda: stack.status("relay")["bytes_held"] > 1 << 20, 30, stack.logs)
        pieces = sealed_pieces(stack)
        relay = stack["relay"].pid

        def held() -> set[bytes]:
            return {needle for needle, _ in needles_in_memory(relay, pieces)[1]}

        # They come one after another: until most are there, or the search does not find what is held.
        wait_until("most pieces in the relay's memory", lambda: len(held()) > len(pieces) // 2, 30, stack.logs)
        seen = held()
        # The outbox has them, and nobody else: neither beside the configuration nor where programs put things.
        elsewhere = {path for _, path in needles_in_files(stack.directory, list(seen)) if stack.directory / "outbox" not in path.parents}
        assert not elsewhere
        destination.thaw()
        stack.wait_settled()
        assert stack.status("relay")["blobs"] == 0
        wait_until("the burned bodies to be gone", lambda: not needles_in_memory(relay, list(seen))[1], 15, lambda: str(needles_in_memory(relay, list(seen))[1]))
        for place in (stack.directory, Path("/dev/shm"), Path("/var/tmp")):
            assert not needles_in_files(place, list(seen)), place


def die(stack: Stack) -> list[Path]:
    """SIGABRT, with cores allowed and written to where the relay was started; gives the core files."""
    relay = stack["relay"]
    os.kill(relay.pid, signal.SIGABRT)
    wait_until("the relay to end", lambda: not relay.alive(), 60)
    return [path for path in stack.directory.iterdir() if path.name.startswith("core")]


@pytest.fixture
def cores_allowed() -> Iterator[None]:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not pattern.startswith("core"):
        pytest.skip(f"core files do not go where a process was started: {pattern}")
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError) as refused:
        pytest.skip(f"the limit of core files cannot be raised: {refused}")
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_an_abort_leaves_no_core(make_stack, cores_allowed):
    with make_stack() as stack:
        assert die(stack) == []


def test_the_relay_attests_and_the_kernel_agrees(make_stack):
    with make_stack() as stack:
        code, said = attest(stack)
        assert code == 0 and said["enforced"], said
        assert "NOT LOCKED DOWN" not in stack.command("relay", "status").stdout
        assert {check["says"] for check in said["checks"]} == {"process", "kernel"}
        kernel = said["kernel"]
        assert kernel["seccomp"] == 2 and kernel["no_new_privs"] and kernel["core_bytes_max"] == "0" and kernel["file_bytes_max"] == "0"
        assert kernel["regular_files"] == [] and kernel["swapped_kb"] == 0
        for role in ("gateway-out", "gateway-in"):
            status = Path(f"/proc/{stack[role].pid}/status").read_text()
            assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status, role
            assert stack.status(role)["sandbox"]["enforced"]


def test_memory_is_locked_where_the_limit_allows_it(make_stack, few):
    raised = ["prlimit", "--memlock=unlimited:unlimited"]
    if not shutil.which("prlimit") or subprocess.run([*raised, "true"], capture_output=True).returncode != 0:
        pytest.skip("the limit of locked memory cannot be raised here: no CAP_SYS_RESOURCE")
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        stack["relay"].command = [*raised, *stack["relay"].command]
        with stack:
            code, said = attest(stack)
            assert code == 0 and said["process"]["memory"] == "locked", said
            kernel = said["kernel"]
            assert kernel["locked_kb"] >= kernel["resident_kb"] * 9 // 10, kernel
            held = next(check for check in said["checks"] if check["promise"] == "nothing of it can be swapped")
            assert held["value"].startswith("locked; "), held
            # What is allocated later is locked, too, and does not fail.
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
            stack.wait_settled()
            assert stack.command("relay", "attest", check=False).returncode == 0


def test_a_log_file_as_output_is_refused_with_the_remedy(make_stack, tmp_path):
    stack = make_stack()
    with (tmp_path / "relay.log").open("wb") as log:
        ended = subprocess.run([binary("relay"), "run", "--config", stack.config("relay")], stdout=log, stderr=log, timeout=30)
    assert ended.returncode == 1
    text = (tmp_path / "relay.log").read_text()
    assert "regular file" in text and "pipe" in text and "--no-sandbox" in text, text


# -- the negative control: what is asserted above does not hold without the sandbox ------------------------------------


def must_fail(what: Callable[[], None]) -> None:
    with pytest.raises(AssertionError):
        what()


def test_without_the_sandbox_attest_fails_and_says_so_loudly(make_stack):
    with make_stack(sandbox=False) as stack:
        code, said = attest(stack)
        assert code == 1 and not said["enforced"]
        assert "NOT LOCKED DOWN" in stack.command("relay", "status").stdout
        failed = {check["promise"] for check in said["checks"] if check["holds"] is not True}
        assert {"it has locked itself down", "system calls are filtered", "no byte goes to a regular file"} <= failed, failed
        for role in ("relay", "gateway-in", "gateway-out"):
            assert re.search(r"ERROR.*--no-sandbox", stack.log_text(role)), role
            assert not stack.status(role)["sandbox"]["enforced"], role


def test_without_the_sandbox_an_abort_leaves_a_core_with_what_was_held(make_stack, small_study, cores_allowed):
    with Acceptor("FROZEN") as destination, make_stack(to=destination.address, sandbox=False) as stack:
        destination.freeze()
        assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in small_study]).values()) == {0}
        wait_until("bodies at the relay", lambda: stack.status("relay")["bytes_held"] > 1 << 20, 30, stack.logs)
        pieces = sealed_pieces(stack)
        cores = die(stack)
        assert len(cores) == 1
        assert any(piece in cores[0].read_bytes() for piece in pieces), "the core holds no body"


def test_without_the_sandbox_the_relay_writes_files(make_stack, few, tmp_path):
    """Its log may be a file then: strace and write_bytes see it."""
    with Acceptor() as destination:
        stack = make_stack(to=destination.address, sandbox=False, log="trace")
        relay = stack["relay"]
        relay.piped = False
        log = tmp_path / "calls"
        with stack:
            before = write_bytes(relay.pid)
            with strace(relay.pid, log):
                assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
                stack.wait_settled()
            os.sync()
            must_fail(lambda: _assert(written_files(log) == set()))
            must_fail(lambda: _assert(write_bytes(relay.pid) == before))


def _assert(holds: bool) -> None:
    assert holds
