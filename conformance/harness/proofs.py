"""Each row of the committed Conformance Statements that can be seen on the wire is proved by a test that passed.

A row has a `claim`, as in `out/answer/truncated`. A test proves it by `@pytest.mark.proves("out/answer/truncated")`, or by
the fixture `prove`, where it looks at many rows. When the whole suite was run, a claim without a passing test, and a proof
of something that is not claimed, fail the run. When only a part was run nothing is said.
"""

from __future__ import annotations

import functools
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

STATEMENTS = Path(__file__).resolve().parents[1] / "statement"
ROLES = ("gateway-out", "gateway-in")
_PROPERTY = "proves"


@functools.cache
def committed(role: str) -> dict:
    """The committed statement of a gateway."""
    return json.loads((STATEMENTS / f"{role}.json").read_text())


def rows(value: object) -> Iterator[dict]:
    """Every row with a claim, wherever it stands."""
    if isinstance(value, dict):
        if "claim" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from rows(one)


@functools.cache
def claims() -> dict[str, dict]:
    """{claim: row} of both statements."""
    found: dict[str, dict] = {}
    for role in ROLES:
        for row in rows(committed(role)):
            assert row["claim"] not in found, f"two rows claim {row['claim']}"
            found[row["claim"]] = row
    return found


class Proofs:
    """The plugin. Proofs travel in the reports, so that tests may run in several processes."""

    def __init__(self) -> None:
        self.by_claim: dict[str, list[str]] = defaultdict(list)
        self.skipped: dict[str, str] = {}
        self.partial = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for marker in item.iter_markers("proves"):
                item.user_properties.extend((_PROPERTY, claim) for claim in marker.args)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.partial = self.partial or bool(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        proved = [claim for name, claim in report.user_properties if name == _PROPERTY]
        for claim in proved:
            if report.when == "call" and report.passed:
                self.by_claim[claim].append(report.nodeid)
            elif report.skipped:
                self.skipped[claim] = f"{report.nodeid} was skipped"

    def faults(self) -> list[str]:
        """What stands in the way: rows that no test proves, and proofs of rows that are not there."""
        unproved = [f"no passing test proves {claim} ({self.skipped.get(claim, 'none names it')})" for claim in claims() if claim not in self.by_claim]
        return unproved + [f"{tests[0]} proves {claim}, which no statement claims" for claim, tests in self.by_claim.items() if claim not in claims()]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self._is_whole(session.config) or session.config.option.collectonly:
            return
        if self.faults() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        if not self._is_whole(config) or config.option.collectonly:
            return
        terminalreporter.section("Conformance Statement")
        faults = self.faults()
        for fault in faults[:40]:
            terminalreporter.line(f"FAILED {fault}", red=True)
        terminalreporter.line(f"{len(claims()) - sum('no passing' in fault for fault in faults)} of {len(claims())} rows are proved")

    def _is_whole(self, config: pytest.Config) -> bool:
        """All of the suite's files, and none of their tests left out by hand."""
        named = [argument for argument in config.invocation_params.args if not str(argument).startswith("-")]
        chosen = config.option.keyword or config.option.markexpr or config.option.lf or config.option.maxfail
        is_worker = hasattr(config, "workerinput")
        by_name = any((Path(config.invocation_params.dir) / str(argument).split("::")[0]).exists() for argument in named)
        return not (is_worker or self.partial or chosen or by_name or os.environ.get("PEER"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "proves(*claims): rows of the Conformance Statement that the test proves")
    config.pluginmanager.register(Proofs(), "statement-proofs")


@pytest.fixture
def prove(request: pytest.FixtureRequest) -> Callable[[str], dict]:
    """Gives the row of a claim, and has the test prove it by passing."""

    def prove(claim: str) -> dict:
        request.node.user_properties.append((_PROPERTY, claim))
        return claims()[claim]

    return prove
