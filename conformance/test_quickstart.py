"""The first command of README: `quickstart --once` ends with 0 only when everything held; `--write-only` starts nothing."""

from __future__ import annotations

import pytest
import tomlkit

from harness import part10
from harness.processes import HOST, free_ports, run, tcp_listens
from harness.stack import ROLES, binary


def ports() -> list[str]:
    return ["--listen", f"{HOST}:{free_ports()}", "--relay", f"{HOST}:{free_ports()}", "--admin", f"{HOST}:{free_ports(3)}"]


def test_once_into_a_folder(tmp_path):
    done = run([binary("quickstart"), "--dir", tmp_path / "demo", *ports(), "--once"], 120)
    assert part10.find(tmp_path / "demo" / "inbox"), done.stdout + done.stderr


def test_once_to_an_ae(tmp_path, peer):
    destination = peer("dcmtk", any_peer=True)
    run([binary("quickstart"), "--dir", tmp_path / "demo", *ports(), "--to", destination.address, "--suite", "A", "--once"], 120)
    assert destination.arrived()


@pytest.mark.slow  # It waits out the quickstart's own deadline of two minutes.
def test_once_fails_when_the_destination_is_not_there(tmp_path):
    command = [binary("quickstart"), "--dir", tmp_path / "demo", *ports(), "--to", f"NOBODY@{HOST}:{free_ports()}", "--once"]
    assert run(command, 240, check=False).returncode == 1


def test_write_only_starts_nothing(tmp_path):
    listen = free_ports()
    done = run([binary("quickstart"), "--dir", tmp_path / "demo", "--listen", f"{HOST}:{listen}", *ports()[2:], "--write-only"], 60)
    assert not tcp_listens(listen)
    for role in ROLES:
        assert tomlkit.parse((tmp_path / "demo" / f"{role}.toml").read_text())
        assert f"{role}.toml" in done.stdout + done.stderr, "the run command is not printed"
        run([binary(role), "check", "--config", tmp_path / "demo" / f"{role}.toml"])


def test_identities_are_never_overwritten(tmp_path):
    arguments = [binary("quickstart"), "--dir", tmp_path / "demo", *ports(), "--write-only"]
    run(arguments, 60)
    keys = {path: path.read_bytes() for path in (tmp_path / "demo").rglob("*.key")}
    assert len(keys) >= 3
    run(arguments, 60, check=False)
    assert {path: path.read_bytes() for path in (tmp_path / "demo").rglob("*.key")} == keys
