"""TLS on the admin ports: asked by curl, Python and openssl; certificates exchanged while the daemons run; our own commands."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import urllib.request
from pathlib import Path

import pytest

from harness.processes import HOST, run, wait_until
from harness.stack import ROLES, Stack

NAME = "relay.hospital.example"


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Self-signed, for the loopback address and a name."""
    directory.mkdir(exist_ok=True)
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    alternative = f"subjectAltName=IP:{HOST},DNS:{NAME}"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3", "-subj", f"/CN={name}",
         "-addext", alternative, "-keyout", key, "-out", cert], 30)
    return cert, key


def port(stack: Stack, role: str) -> int:
    return stack.admin + ("gateway-out", "relay", "gateway-in").index(role)


def shown(port: int) -> str:
    return ssl.get_server_certificate((HOST, port), timeout=10)


@pytest.fixture
def secured(make_stack, tmp_path):
    """All three with TLS. The files are replaced as a renewal does it: by a rename in a folder of their own."""
    stack = make_stack()
    stack.cert, stack.key = certificate(tmp_path / "tls", "admin")
    stack.url = {role: f"https://{HOST}:{port(stack, role)}" for role in ROLES}
    for role in ROLES:
        with stack.edit(role) as config:
            config["admin"]["tls"] = {"cert": str(stack.cert), "key": str(stack.key)}

    def answers(role: str, path: str) -> bool:
        done = run(["curl", "-sf", "--cacert", stack.cert, stack.url[role] + path], 20, check=False)
        return done.returncode == 0

    stack.answers = answers
    stack.status = lambda role: json.loads(run(["curl", "-sf", "--cacert", stack.cert, f"{stack.url[role]}/status"], 20).stdout)
    return stack


def renew(stack: Stack, directory: Path) -> None:
    cert, key = certificate(directory, "renewed")
    os.replace(key, stack.key)
    os.replace(cert, stack.cert)


def test_everybody_asks_over_tls_and_our_own_commands_do(secured, tmp_path):
    stack = secured
    with stack:
        for role in ROLES:
            context = ssl.create_default_context(cafile=str(stack.cert))
            with urllib.request.urlopen(f"{stack.url[role]}/healthz", timeout=10, context=context) as answer:
                assert answer.status == 200
            with socket.create_connection((HOST, port(stack, role)), 10) as plain, context.wrap_socket(plain, server_hostname=HOST) as stream:
                assert stream.version() == "TLSv1.3"
            # By the certificate's name, too: a page elsewhere has none that is good.
            by_name = run(["curl", "-sf", "--cacert", stack.cert, "--resolve", f"{NAME}:{port(stack, role)}:{HOST}", f"https://{NAME}:{port(stack, role)}/readyz"], 20)
            assert by_name.stdout == "ready\n"
            # Not without TLS, not with 1.2, not with another authority.
            assert run(["curl", "-s", f"http://{HOST}:{port(stack, role)}/healthz"], 20, check=False).returncode != 0
            assert run(["curl", "-s", "--tls-max", "1.2", "--cacert", stack.cert, f"{stack.url[role]}/healthz"], 20, check=False).returncode != 0
            assert run(["curl", "-s", f"{stack.url[role]}/healthz"], 20, check=False).returncode == 60
            said = stack.command(role, "status")
            assert "not running" not in said.stdout + said.stderr
        assert "gateway-out" in stack.command("relay", "tenants").stdout
        assert run([stack["relay"].command[0], "attest", "--config", stack.config("relay")], 20, check=False).stdout.count("process") > 2
        assert "taken it over" in stack.command("relay", "revoke", "gateway-out").stdout
        assert "taken it over" in stack.command("relay", "admit", str(stack.card("gateway-out"))).stdout
        # Somebody who says nothing keeps nobody waiting.
        silent = [socket.create_connection((HOST, port(stack, "relay")), 10) for _ in range(20)]
        assert stack.answers("relay", "/healthz")
        for one in silent:
            one.close()
        # What our commands find there must be what the configuration names.
        certificate(tmp_path / "tls", "other")
        config = stack.config("relay").read_text().replace("admin.crt", "other.crt")
        other = stack.directory / "other.toml"
        other.write_text(config)
        refused = run([stack["relay"].command[0], "status", "--config", other], 20, check=False)
        assert refused.returncode == 1 and "shows another certificate" in refused.stderr, refused


def test_a_renewed_certificate_is_taken_over_on_sighup_and_a_bad_one_is_not(secured, tmp_path):
    stack = secured
    with stack:
        before = stack.cert.read_text()
        renew(stack, tmp_path / "renewed")
        assert stack.cert.read_text() != before
        for role in ROLES:
            assert shown(port(stack, role)) == before
            os.kill(stack[role].pid, signal.SIGHUP)
            wait_until(f"{role} to show the new one", lambda role=role: shown(port(stack, role)) == stack.cert.read_text(), 20, stack.logs)
            assert stack.status(role)["admin_tls"] == {"refused": None}
        good = stack.key.read_text()
        stack.key.write_text("nonsense\n")
        for role in ROLES:
            os.kill(stack[role].pid, signal.SIGHUP)
            wait_until(f"{role} to refuse it", lambda role=role: stack.status(role)["admin_tls"]["refused"], 20, stack.logs)
            assert str(stack.key) in stack.status(role)["admin_tls"]["refused"]
            assert shown(port(stack, role)) == stack.cert.read_text(), "the earlier one stays"
        stack.key.write_text(good)
        # A command that asks for a reload brings it along.
        renew(stack, tmp_path / "again")
        os.kill(stack["relay"].pid, signal.SIGHUP)
        wait_until("the relay to show it", lambda: shown(port(stack, "relay")) == stack.cert.read_text(), 20, stack.logs)
        assert "taken it over" in stack.command("relay", "revoke", "gateway-in").stdout


@pytest.mark.parametrize("role", ROLES)
def test_an_address_that_others_reach_needs_tls_or_the_operators_word(make_stack, tmp_path, role):
    stack = make_stack()

    def check(**admin) -> tuple[int, str]:
        with stack.edit(role) as config:
            for key in ("tls", "without_tls"):
                config["admin"].pop(key, None)
            config["admin"].update({"listen": f"0.0.0.0:{port(stack, role)}", **admin})
        done = stack.command(role, "check", check=False)
        return done.returncode, done.stderr + done.stdout

    cert, key = certificate(tmp_path / "tls", "admin")
    _, foreign = certificate(tmp_path / "tls", "foreign")
    code, said = check()
    assert code == 64 and f"{role}.toml:" in said and "no loopback address" in said and "without_tls" in said, said
    assert check(without_tls=True)[0] == 0
    assert check(tls={"cert": str(cert), "key": str(key)})[0] == 0
    code, said = check(tls={"cert": str(cert), "key": str(key)}, without_tls=True)
    assert code == 64 and "remove one of the two" in said, said
    for files, what in (((key, key), "no certificate"), ((cert, cert), "no private key"), ((cert, foreign), "cannot be used together"), ((cert, tmp_path / "absent"), "no private key")):
        code, said = check(tls={"cert": str(files[0]), "key": str(files[1])})
        assert code == 64 and what in said and f"{role}.toml:" in said, said
    if role == "relay":
        check(without_tls=True)
        with stack:
            wait_until("the warning", lambda: "THE ADMIN PORT SPEAKS NO TLS" in stack.log_text(role), 10, stack.logs)
