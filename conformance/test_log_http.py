"""The relay's log, read from its admin port and verified by code that is not ours: signatures, every entry, continuation."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest
from verify_receipt import Card, root_of, sha256

from harness import ctlog, generate, senders
from harness.ctlog import Forged, Head, continues, get, head_of
from harness.processes import HOST, run, wait_until
from harness.rawul import Acceptor
from harness.stack import TOP

# Debian's golang-golang-x-mod-dev.
X_MOD = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog")
NOTHING_RUNS = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Log:
    """The admin port of a stack's relay, and the card that everybody has of it."""

    def __init__(self, stack) -> None:
        self.stack, self.url, self.card = stack, f"http://{HOST}:{stack.admin + 1}", Card(stack.card("relay"))

    def get(self, path: str, **options) -> ctlog.Answer:
        return get(self.url + path, **options)

    def json(self, path: str) -> dict:
        answer = self.get(path)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), f"{path}: {answer}"
        return answer.json()

    def text(self, path: str) -> str:
        answer = self.get(path)
        assert answer.status == 200, f"{path}: {answer}"
        return answer.body.decode()

    def head(self, size: int) -> tuple[str, Head]:
        """The checkpoint at that size, which both keys on the card signed."""
        wait_until(
            f"a signed head of {size} entries",
            lambda: self.stack.status("relay")["log"]["size"] == size,
            10,
            lambda: f"{self.stack.status('relay')['log']}\n{self.stack.logs()}",
        )
        note = self.text("/checkpoint")
        head = head_of(note, self.card)
        assert head.size == size
        return note, head

    def entries(self, size: int) -> list[dict]:
        found: list[dict] = []
        while len(found) < size:
            more = self.json(f"/log/entries?start={len(found)}&limit=256")
            assert more["size"] == size and more["entries"]
            found += more["entries"]
        assert [one["index"] for one in found] == list(range(size))
        return found


def send(stack, instances) -> None:
    assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in instances]).values()) == {0}
    stack.wait_settled()


def unhex(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


@pytest.fixture
def log(make_stack, few):
    """Five instances have passed: ten entries."""
    with Acceptor() as destination, make_stack(to=destination.address) as stack:
        send(stack, few)
        log = Log(stack)
        log.head(2 * len(few))
        yield log


def test_every_entry_and_every_step_of_the_log_is_verified_by_others(make_stack, few, tmp_path):
    study = generate.study(tmp_path / "study", 140, seed=41, side=16)
    began = time.time()
    with Acceptor() as destination, make_stack(to=destination.address) as stack:
        log = Log(stack)
        empty_note, empty = log.head(0)
        assert empty.root == sha256()
        send(stack, few)
        old_note, old = log.head(2 * len(few))
        send(stack, study)
        size = 2 * (len(few) + len(study))
        note, new = log.head(size)
        assert empty.origin == old.origin == new.origin
        # Entries, and what is said of each, computed again.
        entries = log.entries(size)
        leaves = []
        for one in entries:
            kind = {"accepted": b"\1", "settled": b"\2"}[one["kind"]]
            leaves.append(sha256(b"\0", kind, bytes.fromhex(one["commitment"])))
            assert one["leaf_hash"] == leaves[-1].hex(), one
            assert one["tree_hash"] == ctlog.root(leaves).hex(), one
            assert began - 1 <= one["ts"] / 1000 <= time.time() + 1, one
        assert [one["ts"] for one in entries] == sorted(one["ts"] for one in entries)
        assert sum(one["kind"] == "accepted" for one in entries) == size // 2
        assert (ctlog.root(leaves), ctlog.root(leaves[: old.size])) == (new.root, old.root)
        # Tiles: the same entries, their hashes, and hashes of whole tiles.
        tiles = {path: log.get(path) for path in ctlog.tile_paths(size)}
        assert {answer.status for answer in tiles.values()} == {200}
        raw = [entry for path in tiles if "entries" in path for entry in ctlog.bundled(tiles[path].body)]
        assert [sha256(b"\0", entry) for entry in raw] == leaves
        assert tiles["/tile/0/000"].body + tiles[f"/tile/0/001.p/{size - 256}"].body == b"".join(leaves)
        assert tiles["/tile/1/000.p/1"].body == ctlog.root(leaves[:256])
        # Inclusion of each entry in the new head, and of each old one in the old head.
        proofs = [log.json(f"/log/inclusion?index={index}") for index in range(size)]
        for index, proof in enumerate(proofs):
            assert (proof["origin"], proof["index"], proof["size"]) == (new.origin, index, size)
            assert proof["leaf_hash"] == leaves[index].hex()
            assert root_of(leaves[index], index, size, unhex(proof["path"])) == new.root
        for index in range(old.size):
            proof = log.json(f"/log/inclusion?index={index}&size={old.size}")
            assert root_of(leaves[index], index, old.size, unhex(proof["path"])) == old.root == bytes.fromhex(proof["root"])
        # Continuation: of what was signed, and of each size before.
        proof = log.json(f"/log/consistency?old={old.size}")
        assert continues(old, new, unhex(proof["path"]))
        assert unhex([proof["old_root"], proof["new_root"]]) == [old.root, new.root]
        for earlier in range(1, size + 1):
            between = log.json(f"/log/consistency?old={earlier}&new={size}")
            assert continues(Head(new.origin, earlier, ctlog.root(leaves[:earlier])), new, unhex(between["path"])), earlier
        # The instruments say no to another history.
        other = Head(old.origin, old.size, sha256(old.root))
        assert not continues(other, new, unhex(proof["path"]))
        assert not continues(old, new, unhex(proof["path"])[:-1])
        for changed in (note.replace(f"\n{size}\n", f"\n{size - 1}\n"), note.replace(new.origin, "other/" + "0" * 32), empty_note + "x"):
            with pytest.raises((Forged, ValueError)):
                head_of(changed, log.card)


def test_code_of_the_go_project_verifies_the_log(make_stack, few, tmp_path):
    if shutil.which("go") is None or not X_MOD.exists():
        pytest.skip("the log is NOT verified by Go: install golang-go and golang-golang-x-mod-dev")
    study = generate.study(tmp_path / "study", 140, seed=42, side=16)
    with Acceptor() as destination, make_stack(to=destination.address) as stack:
        log = Log(stack)
        send(stack, few)
        old, _ = log.head(2 * len(few))
        send(stack, study)
        size = 2 * (len(few) + len(study))
        new, head = log.head(size)
        tiles = {path: log.get(path) for path in ctlog.tile_paths(size)}
        inclusion = [log.json(f"/log/inclusion?index={index}") for index in range(size)]
        proofs = {"inclusion": inclusion, "consistency": log.json("/log/consistency?old=10")["path"]}
        page = log.text("/")
    keys = re.findall(rf"^{re.escape(head.origin)}\+[0-9a-f]{{8}}\+\S+$", html.unescape(re.sub("<[^>]+>", "\n", page)), re.MULTILINE)
    [ed25519] = [key for key in keys if base64.b64decode(key.split("+", 2)[2])[0] == 1]
    directory = tmp_path / "go"
    for path, answer in tiles.items():
        file = directory / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(answer.body)
    program = tmp_path / "logcheck"
    go = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(TOP / "target" / "go"), "GOTOOLCHAIN": "local"}
    run(["go", "build", "-o", program, "."], 300, cwd=TOP / "conformance" / "logcheck", env={**os.environ, **go})

    def check(old: str, new: str, proofs: dict):
        (directory / "old").write_text(old)
        (directory / "new").write_text(new)
        (directory / "proofs.json").write_text(json.dumps(proofs))
        return run([program, directory, ed25519], 60, check=False)

    done = check(old, new, proofs)
    assert done.returncode == 0 and f"{head.size} entries of {head.origin}" in done.stdout, done.stdout + done.stderr
    swapped = [{**inclusion[0], "path": inclusion[1]["path"]}, *inclusion[1:]]
    for changed in (
        (old.replace("\n10\n", "\n11\n"), new, proofs),
        (old, new, {**proofs, "inclusion": swapped}),
        (old, new, {**proofs, "consistency": proofs["consistency"][1:]}),
    ):
        assert check(*changed).returncode == 1


def test_the_list_has_the_shape_that_users_of_paramant_know(log):
    entries = log.entries(10)
    for limit in (1, 4, 10, 256):
        listed = log.json(f"/v2/ct/log?limit={limit}")
        assert listed["ok"] is True and listed["root"] == entries[-1]["tree_hash"]
        assert listed["entries"] == entries[-limit:]
        for entry in listed["entries"]:
            assert {"index", "leaf_hash", "tree_hash", "ts"} <= entry.keys()
            assert (type(entry["index"]), type(entry["ts"])) == (int, int)
            assert re.fullmatch("[0-9a-f]{64}", entry["leaf_hash"]) and re.fullmatch("[0-9a-f]{64}", entry["tree_hash"])
    assert log.json("/v2/ct/log") == log.json("/v2/ct/log?limit=20")


HUGE = 2**64
REFUSED = (
    *((f"/v2/ct/log?limit={limit}", 400) for limit in ("", "0", "-1", "+1", "257", HUGE, "ten", "1e3", "0x10", "%31", "1;DROP", "%D9%A1")),
    *((f"/log/entries?start={start}", 400) for start in ("", "-1", HUGE, "x")),
    ("/log/entries?start=11", 404),
    (f"/log/entries?start={HUGE - 1}", 404),
    ("/log/entries?limit=0", 400),
    ("/log/inclusion", 400),
    *((f"/log/inclusion?index={index}", 400) for index in ("", "-1", HUGE, "x")),
    ("/log/inclusion?index=10", 404),
    (f"/log/inclusion?index={HUGE - 1}", 404),
    ("/log/inclusion?index=0&size=0", 404),
    ("/log/inclusion?index=5&size=5", 404),
    ("/log/inclusion?index=0&size=11", 404),
    ("/log/inclusion?index=0&size=x", 400),
    ("/log/consistency", 400),
    ("/log/consistency?new=5", 400),
    ("/log/consistency?old=x", 400),
    ("/log/consistency?old=-1", 400),
    ("/log/consistency?old=11", 404),
    ("/log/consistency?old=1&new=11", 404),
    (f"/log/consistency?old={HUGE - 1}&new={HUGE - 1}", 404),
    ("/log/consistency?old=5&new=4", 400),
    ("/tile/0/000", 404),
    ("/tile/0/000.p/11", 404),
    ("/tile/63/000.p/1", 404),
    ("/tile/entries/x999/x999/x999/999", 404),
    *((f"/tile/{path}", 400) for path in ("0", "0/0", "0/000.p/0", "0/000.p/256", "64/000", "x/000", "entries/", "..%2fcheckpoint", "0/000/")),
    *((path, 404) for path in ("/log", "/log/", "/tile/", "/v2/ct/log/1", "/checkpoint/", "/index.html", "/..", "/%00")),
)


def test_what_cannot_be_answered_is_refused_in_json_and_the_relay_goes_on(log):
    for path, status in REFUSED:
        answer = log.get(path)
        assert answer.status == status, f"{path}: {answer}"
        said = answer.json()
        assert said["ok"] is False and isinstance(said["error"], str) and said["error"], f"{path}: {answer}"
    for path in ("/", "/checkpoint", "/v2/ct/log", "/log/entries"):
        for method in ("POST", "PUT", "DELETE"):
            assert log.get(path, method=method).status == 405, f"{method} {path}"
        # A page elsewhere that has our address under a name of its own.
        assert log.get(path, headers={"Host": "evil.example"}).status == 421, path
    assert log.text("/healthz") == "ok\n" and log.text("/readyz") == "ready\n"
    assert len(log.json("/v2/ct/log")["entries"]) == 10


def test_the_page_runs_nothing_and_loads_nothing(log):
    answer = log.get("/")
    page = answer.body.decode()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == NOTHING_RUNS
    assert answer.headers["x-content-type-options"] == "nosniff"
    for forbidden in ("<script", "javascript:", " on", "src=", "url(", "@import", "<form", "<iframe", "http:", "https:"):
        assert not re.search(rf"<[^>]*{re.escape(forbidden)}", page) and (forbidden == " on" or forbidden not in page), forbidden
    for link in re.findall('href="([^"]*)"', page):
        assert log.get(html.unescape(link)).status == 200, link
    _, head = log.head(10)
    shown = (head.origin, head.root.hex(), "10 entries", "connected to deposit", "connected to collect")
    compared = [compare(Card(log.stack.card(role)).fingerprint) for role in ("relay", "gateway-out", "gateway-in")]
    for text in (*shown, *compared, '<span class="good">enforced</span>'):
        assert text in page, text


def compare(fingerprint: bytes) -> str:
    """Its first 128 bits, as people compare them."""
    return "-".join(fingerprint[at : at + 2].hex() for at in range(0, 16, 2))


def test_the_page_of_a_relay_without_a_sandbox_says_so(make_stack):
    stack = make_stack(sandbox=False)
    stack.start("relay")
    log = Log(stack)
    assert '<span class="bad">OFF</span> (--no-sandbox)' in log.text("/")
    assert "\nsluis_relay_sandbox_enforced 0\n" in log.text("/metrics")


def test_figures_are_read_as_prometheus_reads_them(log):
    typed, figures = {}, {}
    for line in log.text("/metrics").splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in typed
            typed[name] = kind
        elif not line.startswith("# HELP "):
            name, labels, value = re.fullmatch(r'(\w+)(\{(?:\w+="[^"\\]*",?)+\})? (\d+)', line).groups()
            assert name in typed, line
            figures[name + (labels or "")] = int(value)
    assert set(typed.values()) == {"counter", "gauge"}
    assert (figures["sluis_relay_log_size"], figures["sluis_relay_log_unsigned"]) == (10, 0)
    assert figures["sluis_relay_deposited_total"] == figures["sluis_relay_settlements_total"] == 5
    assert abs(figures["sluis_relay_log_signed_timestamp_seconds"] - time.time()) < 60
    assert figures["sluis_relay_sandbox_enforced"] == 1
    # The relay's own card and those of both gateways, each good for two years.
    ends = [value for name, value in figures.items() if name.startswith("sluis_relay_card_end_timestamp_seconds{name=")]
    assert len(ends) == 3 and min(ends) > time.time() + 700 * 86400
    assert figures["sluis_relay_bytes_held"] == 0 and figures["sluis_relay_bytes_held_peak"] > 0


def test_another_start_is_another_origin_under_the_same_key(log):
    _, before = log.head(10)
    log.stack.restart("relay")
    head = head_of(log.text("/checkpoint"), log.card)
    assert head.origin != before.origin and head.origin.split("/")[0] == before.origin.split("/")[0]
