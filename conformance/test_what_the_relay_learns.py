"""docs/relay-knows.md, measured: sizes fall in Padmé buckets; no UID, AE title, name, file name or key in packets or in the relay's memory."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from harness import generate, part10, senders
from harness.processes import wait_until
from harness.rawul import Acceptor
from harness.watch import PacketWatch, needles_in_memory

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "relay-knows.md"
PATIENT = "Kwartelsnip^Adelheid"
CALLED, CALLING, DESTINATION = "WAARNEEMPOST7", "KIJKKASTJE9", "ZIEKENHUISPLAAT"


def padme(size: int) -> int:
    """The next length of the series, from its definition: of E + 1 bits, all but the first log2(E) + 1 are zero."""
    exponent = size.bit_length() - 1
    low = exponent - exponent.bit_length()
    return (size + (1 << low) - 1) >> low << low


def instance(path: Path, source: random.Random, pixel_bytes: int) -> part10.Instance:
    name, study, series = (generate.uid(source) for _ in range(3))
    head = generate.header(generate.CT_IMAGE, name, study, series, generate.EXPLICIT, 1, 128, 128, 1, PATIENT, 901)
    encoded = head + generate.element(0x7FE0_0010, b"OW", source.randbytes(pixel_bytes))
    return part10.write(path, generate.CT_IMAGE, name, generate.EXPLICIT, encoded)


def test_the_series_is_the_published_one():
    assert [padme(size) for size in (9, 1000, 1025, 525_312, 1 << 20, (1 << 20) + 1)] == [10, 1024, 1088, 540_672, 1 << 20, 1_081_344]


def test_sizes_fall_in_padme_buckets_and_near_ones_fall_together(make_stack, tmp_path):
    source = random.Random(77)
    sizes = [4_096, 20_000, 20_200, 33_000, 131_072, 524_288, 524_800, 3_000_000]
    made = [instance(tmp_path / f"{size}.dcm", source, size) for size in sizes]
    seen: dict[int, int] = {}
    with Acceptor() as destination, make_stack(to=destination.address) as stack:
        for size, one in zip(sizes, made, strict=True):
            before = stack.status("relay")["counters"]["bytes_in"]
            assert set(senders.storescu(stack.listen, stack.ae, [one.path]).values()) == {0}
            stack.wait_settled()
            seen[size] = stack.status("relay")["counters"]["bytes_in"] - before
    print({size: seen[size] for size in sizes})
    assert all(got == padme(got) for got in seen.values()), seen
    assert all(got >= size for size, got in seen.items()), seen
    # What lies in one step cannot be told apart.
    assert seen[20_000] == seen[20_200] and seen[524_288] == seen[524_800], seen


def test_without_padding_the_sizes_tell(make_stack, tmp_path):
    """Negative control: the test above would see it."""
    source = random.Random(78)
    one = instance(tmp_path / "one.dcm", source, 524_790)
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        with stack.edit("gateway-out") as out:
            out["outbox"]["padding"] = "none"
        with stack:
            assert set(senders.storescu(stack.listen, stack.ae, [one.path]).values()) == {0}
            stack.wait_settled()
            got = stack.status("relay")["counters"]["bytes_in"]
    assert got != padme(got)


def secrets(stack) -> dict[str, bytes]:
    """Key files of the two gateways, raw and as they are written."""
    found = {}
    for path in (stack.directory / "keys").iterdir():
        if path.is_file() and "relay" not in path.name:
            text = path.read_bytes().strip()
            for n, word in enumerate(re.findall(rb"[A-Za-z0-9+/=_-]{32,}", text)):
                found[f"{path.name} {n}"] = word
    return found


@pytest.mark.root
def test_packets_and_memory_hold_none_of_what_the_page_denies(make_stack, tmp_path):
    source = random.Random(79)
    folder = tmp_path / "bestandsnaam-kwartel"
    folder.mkdir()
    made = [instance(folder / f"plaatje-{n}.dcm", source, 60_000) for n in range(20)]
    with Acceptor(DESTINATION) as destination:
        stack = make_stack(to=destination.address)
        with stack.edit("gateway-out") as out:
            out["route"][0]["ae"] = CALLED
        keys = secrets(stack)
        assert len(keys) >= 3, keys.keys()
        names = [PATIENT, CALLED, CALLING, DESTINATION, "bestandsnaam", "plaatje-", generate.CT_IMAGE, generate.EXPLICIT, "PID901", "ACC901"]
        names += [one.sop_instance for one in made]
        needles = {name: name.encode() for name in names} | keys
        # Pixels and data set elements, as they were sent.
        needles |= {f"pixels {n}": one.data_set()[-4000:-3960] for n, one in enumerate(made)}
        wanted = list(needles.values())
        try:
            watch = PacketWatch(stack.relay_port, wanted)
        except PermissionError as refused:
            pytest.skip(f"no packet socket: {refused}")
        with stack, watch:
            destination.freeze()
            answers = senders.pynetdicom_send(stack.listen, CALLED, made, calling=CALLING)
            assert set(answers.values()) == {0}
            wait_until("bodies at the relay", lambda: stack.status("relay")["bytes_held"] > 1 << 20, 30, stack.logs)
            searched, found = needles_in_memory(stack["relay"].pid, wanted)
            assert searched > 2 << 20
            assert not found, {name for name, needle in needles.items() if needle in {needle for needle, _ in found}}
            # The search would see them: the sending gateway knows its own title.
            assert needles_in_memory(stack["gateway-out"].pid, [CALLED.encode()])[1]
            destination.thaw()
            stack.wait_settled()
            assert not needles_in_memory(stack["relay"].pid, wanted)[1]
        assert watch.bytes > sum(one.data_set_bytes for one in made), "the watch missed packets"
        assert not watch.seen, watch.seen


@pytest.mark.root
def test_questions_and_their_answers_are_as_opaque(make_stack):
    """What a destination accepts and whether it answers passes the relay, too: no UID and no AE title of it is there to be read."""
    with Acceptor(DESTINATION) as destination:
        stack = make_stack(to=destination.address)
        with stack.edit("gateway-out") as out:
            out["route"][0].update({"ae": CALLED, "echo": "end-to-end", "negotiate": "mirror"})
        with stack.edit("gateway-in") as receiving:
            stack.destination(receiving)["probe_syntaxes"] = [generate.EXPLICIT]
        wanted = [text.encode() for text in (CALLED, CALLING, DESTINATION, generate.CT_IMAGE, generate.EXPLICIT)]
        try:
            watch = PacketWatch(stack.relay_port, wanted)
        except PermissionError as refused:
            pytest.skip(f"no packet socket: {refused}")
        with stack, watch:
            known = lambda: stack.status("gateway-out")["mirror"][0]["accepted"]  # noqa: E731
            wait_until("the table", known, 60, stack.logs, pause=0.2)
            assert senders.echoscu(stack.listen, CALLED, "-aet", CALLING).returncode == 0
            assert stack.status("relay")["counters"]["asks"] >= 2
            assert not needles_in_memory(stack["relay"].pid, wanted)[1]
            assert needles_in_memory(stack["gateway-out"].pid, [generate.CT_IMAGE.encode()])[1]
        assert watch.bytes > 16 * 1024, "the watch missed the answers"
        assert not watch.seen, watch.seen


def test_the_page_says_what_is_measured_here():
    text = DOCUMENT.read_text()
    for word in ("Padmé", "AE titles", "UIDs", "patient's name", "file names", "keys"):
        assert word.lower() in text.lower(), word
