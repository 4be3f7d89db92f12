"""Fixtures of the suite: stacks that are always ended, sample studies made once, peers chosen by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import binaries, generate
from harness.destinations import Absent, choose
from harness.part10 import Instance
from harness.peers import UnknownPeer, chosen
from harness.report import Report
from harness.stack import Stack
from harness.turns import ALONE, Shares, Turns, order

pytest_plugins = ["harness.proofs"]

SLOW = os.environ.get("CONFORMANCE_SLOW") == "1"
_turns = pytest.StashKey[Turns]()
_stacks_of = pytest.StashKey[list[Stack]]()


def pytest_configure(config: pytest.Config) -> None:
    try:
        chosen()
    except UnknownPeer as unknown:
        raise pytest.UsageError(str(unknown)) from None
    if hasattr(config, "workerinput"):
        config.stash[_turns] = Turns(binaries.target())
    elif not config.option.collectonly:
        words = " ".join(config.invocation_params.args)
        peers = os.environ.get("PEER")
        config.pluginmanager.register(Report(binaries.target() / "conformance-report.md", f"{words}{f', PEER={peers}' if peers else ''}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    turns = item.config.stash.get(_turns, None)
    with turns.turn(item.path.name in ALONE) if turns else contextlib.nullcontext():
        return (yield)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Shares:
    return Shares(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=order)
    for item in items:
        if title := item.get_closest_marker("check"):
            item.user_properties += [("check", title.args[0]), ("peer", item.callspec.params["one"].name)]
        if "slow" in item.keywords and not SLOW:
            item.add_marker(pytest.mark.skip(reason="slow: set CONFORMANCE_SLOW=1 (conformance/big.py shows the same)"))
        if "root" in item.keywords and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root: another process's memory, packets"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.failed:
        shared = [item.funcargs["hub"].stack] if "hub" in item.funcargs else []
        for stack in item.stash.get(_stacks_of, []) + shared:
            report.sections.append((f"logs of {stack.directory.name}", stack.logs()))
    return report


@pytest.fixture
def make_stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Writes a configuration; the test starts it. Whatever is left running is stopped, and no process may have panicked."""
    stacks: list[Stack] = []
    request.node.stash[_stacks_of] = stacks

    def make(name: str = "sluis", **options) -> Stack:
        stacks.append(Stack(tmp_path / name, **options))
        return stacks[-1]

    yield make
    for stack in stacks:
        stack.stop()
    panics = [line for stack in stacks for line in stack.panics()]
    assert not panics, "\n".join(panics)


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Callable[..., object]]:
    """Starts a destination by name; `PEER=` overrides the name where a test takes any."""
    started = []

    def start(name: str, any_peer: bool = False, **options):
        named = [one.name for one in chosen()] if os.environ.get("PEER") else []
        if any_peer and len(named) == 1:
            [name] = named
        try:
            destination = choose(name, tmp_path, **options)
        except Absent as absent:
            pytest.skip(f"peer {name}: {absent}")
        started.append(destination.start())
        return destination

    yield start
    for destination in started:
        destination.stop()


@pytest.fixture(scope="session")
def sample_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


@pytest.fixture(scope="session")
def ct_study(sample_dir: Path) -> list[Instance]:
    """400 CT slices of 525 kB."""
    return generate.study(sample_dir / "ct", 400, seed=1, side=512)


@pytest.fixture(scope="session")
def small_study(sample_dir: Path) -> list[Instance]:
    """100 slices of 33 kB."""
    return generate.study(sample_dir / "small", 100, seed=2, side=128)


@pytest.fixture
def few(tmp_path: Path) -> list[Instance]:
    """Five slices."""
    return generate.study(tmp_path / "few", 5, seed=3, side=128)
