"""Every peer against every check: C-ECHO, C-STORE from it through the whole path, C-STORE to it as destination.

`PEER=dcmtk|orthanc conformance/run` takes only those. A peer that is not here is reported as not run, with the reason.
"""

from __future__ import annotations

import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tomlkit

from harness import compare, generate, senders
from harness.destinations import PynetdicomScp, wait_for_arrivals
from harness.part10 import Instance
from harness.peers import Called, Can, Peer, absence, chosen
from harness.processes import HOST, free_ports, wait_until
from harness.stack import Stack
from harness.tls import Authority, Secured

LARGE_BYTES = 16 << 20
MANY = 100
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def check(title: str, ability: Can) -> Callable:
    """A row of the report: one test for each chosen peer that has the ability."""

    def mark(test: Callable) -> Callable:
        able = [pytest.param(peer, id=peer.name, marks=_skipped(peer)) for peer in chosen() if ability in peer.can]
        return pytest.mark.check(title)(pytest.mark.parametrize("one", able)(test))

    return mark


def _skipped(peer: Peer) -> list[pytest.MarkDecorator]:
    reason = absence(peer)
    return [pytest.mark.skip(reason=f"not run: {reason}")] if reason else []


class Hub:
    """One stack for all peers: a route to a receiver of ours, and one to each peer that can be a destination."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.receiver = PynetdicomScp("RECEIVER", keep=directory / "received")
        self.stack = Stack(directory / "sluis", to=self.receiver.address)
        # {(peer, PDU size or kind): destination}, and those that were started
        self._destinations: dict[tuple[str, int | str | None], object] = {}
        self._running: list[object] = []
        self._askers: dict[str, int] = {}
        self._authority = Authority(directory / "tls")
        self._secured = Secured(self._authority, self._authority.certificate("peer"))
        self._own = self._authority.certificate("gateway")
        self._tls_port = free_ports()
        with self.stack.edit("gateway-out") as out:
            out["dicom"]["tls"] = self._authority.listen(self._own, self._tls_port)
        for peer in chosen():
            if not absence(peer):
                self._routes_to(peer)
        self._listen_for(self._askers)
        self.stack.quick_retries()

    def _routes_to(self, peer: Peer) -> None:
        """A route to each kind of destination that the peer can be, with an AE title of its own."""
        title = peer.name.upper()[:9]
        for pdu in (None, *peer.receive_pdus) if Can.RECEIVE in peer.can else ():
            made = peer.receiver(self.directory, f"{title}-{'ANY' if pdu is None else pdu}", pdu)
            self._destinations[peer.name, pdu] = made
            self.stack.add_dicom_route(made.ae, made.ae.lower(), made.address)
        if Can.TLS_RECEIVE in peer.can:
            made = peer.secure_receiver(self.directory, f"{title}-TLS", self._secured)
            self._destinations[peer.name, "tls"] = made
            _, _, place = made.address.partition("@")
            table = {"kind": "dicom", "ae": made.ae, "address": place, "calling": "SLUISIN", "tls": self._authority.call(self._own)}
            self.stack.add_route(made.ae, made.ae.lower(), **table)
        if Can.ARCHIVE in peer.can:
            made = peer.archive(self.directory, f"{title}-QR")
            self._destinations[peer.name, "archive"] = made
            self.stack.add_dicom_route(made.ae, made.ae.lower(), made.address)
        if Can.COMMIT in peer.can:
            self._askers[f"{title}-SC"] = free_ports()

    def _listen_for(self, askers: dict[str, int]) -> None:
        """Whom gateway-out answers Storage Commitment."""
        with self.stack.edit("gateway-out") as out:
            out["commitment"] = tomlkit.aot()
            for title, port in askers.items():
                entry = tomlkit.table()
                entry.update({"ae": title, "address": f"{HOST}:{port}"})
                out["commitment"].append(entry)

    def __enter__(self) -> "Hub":
        self.receiver.start()
        self.stack.start()
        return self

    def __exit__(self, *_: object) -> None:
        for ending in (self.stack, self.receiver, *chosen()):
            ending.stop()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda destination: destination.stop(), self._running))

    def us(self, peer: Peer) -> Called:
        """gateway-out, called by an AE title that no other peer uses."""
        return Called(self.stack.listen, self.stack.ae, peer.name.upper())

    def us_secured(self, peer: Peer) -> Called:
        """The same over TLS."""
        return Called(self._tls_port, self.stack.ae, peer.name.upper(), self._secured)

    def asker(self, peer: Peer) -> tuple[Called, int]:
        """(gateway-out called by the AE title that may ask for Storage Commitment, the port where it waits for the report)"""
        title = f"{peer.name.upper()[:9]}-SC"
        return Called(self.stack.listen, self.stack.ae, title), self._askers[title]

    def destination(self, peer: Peer, pdu: int | str | None = None):
        """The peer as a destination that runs; the route to it has the same AE title."""
        destination = self._destinations[peer.name, pdu]
        if destination not in self._running:
            self._running.append(destination.start())
        return destination

    def associations(self, calling: str) -> int:
        """How many associations gateway-out has opened for that calling AE title."""
        lines = _COLOUR.sub("", self.stack.log_text("gateway-out")).splitlines()
        return sum(1 for line in lines if "association opened" in line and f"calling={calling} " in line + " ")

    def transactions(self) -> list[dict]:
        """Storage Commitments that are not reported yet."""
        return json.loads(self.stack.command("gateway-out", "commitments", "ls", "--json").stdout)

    def settled(self, sent: Sequence[Instance]) -> None:
        """Waits until nothing is owed, and fails unless the first instance has had one delivery and its receipt."""
        self.stack.wait_settled()
        [delivery] = self.stack.why(sent[0].sop_instance)
        assert delivery["state"] in ("receipted", "purged"), delivery

    def arrived(self, peer: Peer, sent: Sequence[Instance]) -> None:
        """Waits until the receiver has all that a peer sent, as it was."""
        self._same(self.receiver, sent, peer.sends_bytes, peer.sends_private)

    def kept(self, peer: Peer, destination, sent: Sequence[Instance]) -> None:
        """Waits until a peer has all that we sent, as it was."""
        self._same(destination, sent, peer.keeps_bytes, private=True)

    def _same(self, destination, sent: Sequence[Instance], bytes_kept: bool, private: bool) -> None:
        """Byte for byte, or element by element where the peer encodes anew."""
        if bytes_kept:
            wait_for_arrivals(destination, sent, 60, self.stack.logs)
        else:
            wanted = {one.sop_instance for one in sent}
            files = wait_until(
                f"{len(sent)} instances at {destination.name}",
                lambda: wanted <= destination.arrived().keys() and destination.files(),
                60,
                lambda: destination.logs() + self.stack.logs(),
            )
            wrong = {one.path.name: differs for one in sent if (differs := compare.unlike(one, files[one.sop_instance], private))}
            assert not wrong, f"{len(wrong)} of {len(sent)} differ: {wrong}"
        self.settled(sent)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("peers")) as started:
        yield started
    assert not started.stack.panics()


@pytest.fixture
def make(one: Peer, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[Instance]]:
    """Instances that no other test sends."""

    calls = itertools.count()

    def study(count: int = 3, syntax: str = generate.EXPLICIT, side: int = 64) -> list[Instance]:
        call = next(calls)
        return generate.study(tmp_path / str(call), count, zlib.crc32(f"{request.node.name} {call}".encode()), side, syntax)

    return study


@check("C-ECHO to us", Can.ECHO)
def test_echo(hub, one):
    said = one.echo(hub.us(one))
    assert said.echoed and said.rejected is None, said.output


@check("unknown AE title rejected", Can.ECHO)
def test_an_unknown_ae_title_is_rejected_and_the_peer_sees_why(hub, one):
    said = one.echo(Called(hub.stack.listen, "NOBODY", "STRANGER"))
    assert not said.echoed, said.output
    assert said.rejected == one.tells_unknown, f"{said.rejected}: {said.output[-2000:]}"


@check("C-STORE to us", Can.STORE)
def test_store(hub, one, make):
    sent = make()
    one.store(hub.us(one), sent).all_stored(sent)
    hub.arrived(one, sent)


@check("C-STORE to us, transfer syntaxes", Can.STORE)
def test_store_in_every_transfer_syntax_it_has(hub, one, make):
    sent = [instance for syntax in one.sends for instance in make(1, syntax)]
    one.store(hub.us(one), sent).all_stored(sent)
    hub.arrived(one, sent)


@check("C-STORE to us, PDU sizes", Can.SEND_PDU)
def test_store_with_each_pdu_size(hub, one, make):
    for pdu in one.send_pdus:
        sent = make(2, side=256)
        one.store(hub.us(one), sent, pdu).all_stored(sent)
        hub.arrived(one, sent)


@check("C-STORE to us, 16 MiB", Can.STORE)
def test_store_of_a_large_instance(hub, one, tmp_path):
    sent = [generate.large(tmp_path / "large.dcm", LARGE_BYTES, zlib.crc32(one.name.encode()))]
    one.store(hub.us(one), sent).all_stored(sent)
    hub.arrived(one, sent)


@check("C-STORE to us, 100 on one association", Can.STORE)
def test_store_of_many_on_one_association(hub, one, make):
    sent, to = make(MANY), hub.us(one)
    before = hub.associations(to.calling)
    one.store(to, sent).all_stored(sent)
    hub.arrived(one, sent)
    assert hub.associations(to.calling) == before + 1


@check("C-STORE to us, every mode", Can.MODES)
def test_store_in_every_mode(hub, one, make):
    for number, (title, mode) in enumerate(one.modes()):
        sent = make(10)
        print(title)
        one.store_in_mode(hub.us(one), sent, mode).all_stored(sent)
        hub.arrived(one, sent)


@check("TLS: C-ECHO and C-STORE to us", Can.TLS)
def test_store_over_tls(hub, one, make):
    sent, to = make(), hub.us_secured(one)
    assert one.echo(to).echoed
    one.store(to, sent).all_stored(sent)
    hub.arrived(one, sent)


def deliver(hub: Hub, peer: Peer, sent: Sequence[Instance], pdu: int | str | None = None) -> None:
    destination = hub.destination(peer, pdu)
    assert set(senders.pynetdicom_send(hub.stack.listen, destination.ae, sent).values()) == {0}
    hub.kept(peer, destination, sent)


@check("C-STORE from us", Can.RECEIVE)
def test_delivery(hub, one, make):
    deliver(hub, one, make())


@check("C-STORE from us, transfer syntaxes", Can.RECEIVE)
def test_delivery_in_every_transfer_syntax_it_takes(hub, one, make):
    deliver(hub, one, [instance for syntax in one.takes for instance in make(1, syntax)])


@check("C-STORE from us, PDU sizes", Can.RECEIVE_PDU)
def test_delivery_with_each_pdu_size(hub, one, make):
    for pdu in one.receive_pdus:
        deliver(hub, one, make(2, side=256), pdu)


@check("C-STORE from us, 16 MiB", Can.RECEIVE)
def test_delivery_of_a_large_instance(hub, one, tmp_path):
    deliver(hub, one, [generate.large(tmp_path / "large.dcm", LARGE_BYTES, zlib.crc32(f"to {one.name}".encode()))])


@check("TLS: C-STORE from us", Can.TLS_RECEIVE)
def test_delivery_over_tls(hub, one, make):
    deliver(hub, one, make(), "tls")


@check("C-STORE from us to its archive", Can.ARCHIVE)
def test_delivery_to_an_archive(hub, one, make):
    deliver(hub, one, make(10), "archive")


@check("C-STORE from us, 100 at once", Can.RECEIVE)
def test_delivery_of_many(hub, one, make):
    deliver(hub, one, make(MANY))


@check("Storage Commitment, the relay off meanwhile", Can.COMMIT)
def test_storage_commitment_is_reported_once_the_destination_has_all(hub, one, make, tmp_path):
    sent, (to, listen) = make(), hub.asker(one)
    hub.stack["relay"].kill()
    with ThreadPoolExecutor(1) as pool:
        try:
            asked = pool.submit(one.store_and_commit, to, sent, listen, tmp_path)
            wait_until("an open transaction", lambda: asked.done() or hub.transactions(), 60, hub.stack.logs)
            assert not asked.done(), f"answered without a relay: {asked.result()}"
            assert not hub.receiver.arrived().keys() & {instance.sop_instance for instance in sent}
        finally:
            hub.stack.start("relay")
        said = asked.result()
    said.all_stored(sent)
    assert said.committed == {instance.sop_instance for instance in sent} and not said.failed, said
    hub.arrived(one, sent)
    wait_until("the end of the transaction", lambda: not hub.transactions(), 20, hub.stack.logs)
