"""`reload`: what it says of what it took over, and of what counts from the next start, in each role."""

from __future__ import annotations

import pytest
import tomlkit

from harness import senders
from harness.binaries import binary
from harness.processes import run
from harness.stack import ROLES, Stack

NEXT = "count from the next start: "


def waits(stack: Stack, role: str) -> str | None:
    said = stack.command(role, "reload").stdout.splitlines()
    found = [line.removeprefix(NEXT) for line in said if line.startswith(NEXT)]
    return found[0] if found else None


def test_what_counts_from_the_next_start_is_named_until_then(make_stack, tmp_path):
    stack = make_stack()
    with stack:
        for role in ROLES:
            assert waits(stack, role) is None, role
            with stack.edit(role) as config:
                config["log"] = {"format": "json"}
            assert waits(stack, role) == waits(stack, role) == "log", f"{role}: also by the second reload"
            with stack.edit(role) as config:
                del config["log"]
            assert waits(stack, role) is None, role
        # Nobody but `alarm send` looks at it; its files may lie anywhere.
        token = tmp_path / "elsewhere" / "token"
        token.parent.mkdir()
        token.write_text("open sesame\n")
        token.chmod(0o600)
        hook = {"url": "https://127.0.0.1:9/hook", "token": str(token)}
        for role in ROLES:
            with stack.edit(role) as config:
                config["alarm"] = {"webhook": hook}
            assert waits(stack, role) is None, role
            with stack.edit(role) as config:
                config["alarm"]["webhook"]["token"] = str(tmp_path / "nowhere")
            assert waits(stack, role) is None, role
            wrong = stack.command(role, "check", check=False)
            assert wrong.returncode == 64 and "`alarm.webhook.token`" in wrong.stderr, wrong
            with stack.edit(role) as config:
                config["alarm"]["webhook"]["token"] = str(token)
            assert stack.command(role, "check").returncode == 0
        # Another order of destinations is the same.
        with stack.edit("gateway-in") as config:
            other = {"name": "other", "kind": "folder", "dir": str(stack.directory / "other")}
            [first] = config["destination"].unwrap()
            config["destination"] = aot(first, other)
        stack.restart("gateway-in")
        for tables, want in (((other, first), None), ((first, {**other, "dir": str(stack.directory / "another")}), "destination"), ((first, other), None)):
            with stack.edit("gateway-in") as config:
                config["destination"] = aot(*tables)
            assert waits(stack, "gateway-in") == want, tables


def aot(*tables: dict) -> tomlkit.items.AoT:
    made = tomlkit.aot()
    for table in tables:
        made.append(tomlkit.item(table))
    return made


@pytest.mark.parametrize("role", ROLES)
def test_keys_of_another_name_are_not_taken_over(make_stack, few, role):
    stack = make_stack()
    with stack:
        before = stack.status(role)["fingerprint"]
        # Below the folder of the configuration: files elsewhere are out of reach since the lock-down.
        other = stack.directory / "other" / f"{role}.toml"
        where = ["--dir", other.parent, "--listen", "127.0.0.1:1", "--admin", "127.0.0.1:2"] if role == "relay" else ["--config", other]
        run([binary(role), "init", "--name", "stranger", *where], 60)
        theirs = tomlkit.parse(other.read_text())["identity"].unwrap()
        with stack.edit(role) as config:
            mine = config["identity"].unwrap()
            config["identity"] = {key: str(other.parent / path) for key, path in theirs.items()}
        refused = stack.command(role, "reload", check=False)
        assert refused.returncode == 1 and "everything stays as it was" in refused.stderr, refused
        assert "another name counts from a start only" in refused.stderr, refused
        assert stack.status(role)["fingerprint"] == before
        with stack.edit(role) as config:
            config["identity"] = mine
        assert waits(stack, role) is None
        assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
        stack.wait_settled()
