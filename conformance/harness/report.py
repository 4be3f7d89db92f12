"""The report: a table of peers and checks, and the suite by file, as Markdown; the same results as JUnit XML by pytest itself."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from _pytest.junitxml import xml_key

from . import binaries
from .peers import PEERS, absence, chosen

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


def versions() -> dict[str, str]:
    """{peer: its version, or why it was not run}; what a peer says of itself."""
    said = {}
    for peer in chosen():
        try:
            said[peer.name] = f"not run: {reason}" if (reason := absence(peer)) else peer.version()
        except (AssertionError, LookupError, TypeError, ValueError) as unread:
            said[peer.name] = f"version not understood: {unread}"
    return said


class Report:
    """A pytest plugin that collects results and writes them down at the end."""

    def __init__(self, path: Path, selection: str) -> None:
        self._path = path
        self._selection = selection
        self._begin = time.time()
        # {(check, peer): (result, reason)}, in the order of the tests
        self._cells: dict[tuple[str, str], tuple[str, str]] = {}
        self._files: dict[str, Counter] = defaultdict(Counter)
        self._seconds: Counter = Counter()
        self._outcome: dict[str, tuple[str, str]] = {}

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.partition("::")[0]
        self._seconds[file] += report.duration
        result, reason = self._outcome.get(report.nodeid, (PASSED, ""))
        if report.failed:
            result, reason = FAILED, ""
        elif report.skipped and result != FAILED:
            result, reason = NOT_RUN, _why_skipped(report)
        self._outcome[report.nodeid] = (result, reason)
        if report.when == "teardown":
            self._files[file][result] += 1
            found = dict(report.user_properties)
            if "check" in found:
                self._cells[found["check"], found["peer"]] = (result, reason)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Which build against which peers, in the JUnit file too."""
        if xml := session.config.stash.get(xml_key, None):
            for name, text in [*binaries.describe(), ("sources", binaries.tree())]:
                xml.add_global_property(name, text)
            for name, text in versions().items():
                xml.add_global_property(f"peer {name}", text)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        if not self._outcome:
            return
        said = versions()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(self._markdown(said))
        for name, text in said.items():
            if text.startswith("not run"):
                terminalreporter.write_line(f"peer {name} {text}", yellow=True)
        terminalreporter.write_line(f"report: {self._path} and {self._path.with_suffix('.xml')}")

    def _markdown(self, said: dict[str, str]) -> str:
        lines = ["# Conformance report", ""]
        lines += [f"- {name}: {text}" for name, text in binaries.describe()]
        lines += [f"- sources: {binaries.tree()}; binaries of {binaries.directory()}"]
        lines += [f"- machine: {platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs"]
        lines += [f"- begun {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(self._begin))}, {time.time() - self._begin:.0f} s"]
        lines += [f"- selected: {self._selection}", ""]
        if self._cells:
            lines += self._peer_table(said)
        lines += ["## The suite by file", "", "| file | passed | failed | not run | seconds |", "|---|---|---|---|---|"]
        for file, count in self._files.items():
            lines.append(f"| {file} | {count[PASSED]} | {count[FAILED]} | {count[NOT_RUN]} | {self._seconds[file]:.1f} |")
        lines += self._listed("Failed", FAILED) + self._listed("Not run", NOT_RUN)
        return "\n".join(lines) + "\n"

    def _peer_table(self, said: dict[str, str]) -> list[str]:
        peers = [PEERS[name] for name in said]
        lines = ["## Peers", "", "| peer | version |", "|---|---|"]
        lines += [f"| {peer.title} | {said[peer.name]} |" for peer in peers]
        lines += ["", "“—”: the peer has no such function. “to us”: the peer is SCU and calls gateway-out; “from us”: gateway-in calls the peer.", ""]
        lines += ["| check | " + " | ".join(peer.title for peer in peers) + " |", "|---" * (len(peers) + 1) + "|"]
        for check in dict.fromkeys(check for check, _ in self._cells):
            row = [self._cells.get((check, peer.name), ("—", ""))[0] for peer in peers]
            lines.append(f"| {check} | " + " | ".join(f"**{cell}**" if cell == FAILED else cell for cell in row) + " |")
        return [*lines, ""]

    def _listed(self, title: str, wanted: str) -> list[str]:
        found = [(nodeid, reason) for nodeid, (result, reason) in self._outcome.items() if result == wanted]
        return ["", f"## {title}", "", *(f"- {nodeid}" + (f": {reason}" if reason else "") for nodeid, reason in found)] if found else []


def _why_skipped(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ").removeprefix("not run: ")
