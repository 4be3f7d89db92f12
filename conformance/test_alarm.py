"""`[alarm]`: mail by SMTP with STARTTLS and a password, a webhook over TLS, a program; once, again when it is over, and no patient data."""

from __future__ import annotations

import email.policy
import json
import ssl
import threading
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from harness import generate, patients, senders
from harness.destinations import PynetdicomScp
from harness.processes import HOST, free_ports, wait_until
from harness.stack import ROLES, Stack
from harness.tls import Authority

USER, PASSWORD, TOKEN = "sluis", "correct horse", "t0ken-of-the-hook"


class MailServer:
    """Takes mail after STARTTLS and a log-in; without `tls` it offers neither."""

    def __init__(self, tls: ssl.SSLContext | None, port: int | None = None) -> None:
        self.mails: list = []
        self.port = port or free_ports()
        options = {"tls_context": tls, "require_starttls": True, "auth_required": True, "authenticator": self._may} if tls else {}
        self._server = Controller(self, hostname=HOST, port=self.port, **options)

    def _may(self, server, session, envelope, mechanism, data) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (USER.encode(), PASSWORD.encode()), handled=False)

    async def handle_DATA(self, server, session, envelope) -> str:
        mail = BytesParser(policy=email.policy.default).parsebytes(envelope.content)
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, mail["Subject"], mail.get_content().replace("\r\n", "\n")))
        return "250 taken"

    def __enter__(self) -> "MailServer":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()


class Hook:
    """Takes a POST of JSON over TLS, and answers what it is told to."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.posts: list[tuple[str, dict]] = []
        self.answer = 204
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hook.answer == 204:
                    hook.posts.append((self.headers["Authorization"], json.loads(body)))
                self.send_response(hook.answer)
                if hook.answer == 302:
                    self.send_header("Location", f"{hook.url}/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"https://{HOST}:{self._server.server_port}"
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> "Hook":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Told:
    """All three ways, and what came by each."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.authority = Authority(directory)
        own = self.authority.certificate("alarms")
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.tls.load_cert_chain(own.cert, own.key)
        self.mail, self.hook = MailServer(self.tls), Hook(self.tls)
        self.program, self.said = directory / "page", directory / "said.jsonl"
        self.program.write_text(f"#!/bin/sh\ncat >> {self.said}; echo >> {self.said}\n")
        self.program.chmod(0o755)
        for name, text in (("password", PASSWORD), ("token", TOKEN)):
            (directory / name).write_text(f"{text}\n")
            (directory / name).chmod(0o600)
        self.directory = directory

    def table(self, **more: object) -> dict:
        ca = str(self.authority.cert)
        mail = {"server": f"{HOST}:{self.mail.port}", "from": "sluis@hospital.example", "to": ["pacs@hospital.example", "Night <night@hospital.example>"],
                "user": USER, "password": str(self.directory / "password"), "ca": ca}
        webhook = {"url": f"{self.hook.url}/hooks/pacs", "token": str(self.directory / "token"), "ca": ca}
        return {"after": "0s", "mail": mail, "webhook": webhook, "command": [str(self.program)], **more}

    def counts(self) -> tuple[int, int, int]:
        return len(self.mail.mails), len(self.hook.posts), len(self.piped())

    def piped(self) -> list[dict]:
        return [json.loads(line) for line in self.said.read_text().splitlines()] if self.said.exists() else []


@pytest.fixture
def told(tmp_path):
    told = Told(tmp_path / "alarms")
    with told.mail, told.hook:
        yield told


def alarmed(stack: Stack, role: str, table: dict) -> None:
    with stack.edit(role) as config:
        config["alarm"] = table


def send(stack: Stack, role: str = "gateway-out") -> str:
    return stack.command(role, "alarm", "send").stdout


def test_what_is_wrong_is_told_once_by_every_way_and_when_it_is_over(make_stack, told):
    stack = make_stack()
    alarmed(stack, "gateway-out", told.table())
    with stack:
        assert stack.command("gateway-out", "alarm", "show").stdout == "nothing is wrong\n"
        assert send(stack) == "" and told.counts() == (0, 0, 0)
        stack["relay"].stop()
        wait_until("the relay is missed", lambda: not stack.status("gateway-out")["relays"][0]["connected"], 30, stack.logs)
        said = send(stack)
        assert [line.split(":")[0] for line in said.splitlines()] == ["command", "webhook", "mail"] and said.count("told 1 new, 0 over") == 3
        assert send(stack) == "" and told.counts() == (1, 1, 1)
        shown = stack.command("gateway-out", "alarm", "show", check=False)
        assert shown.returncode == 1 and shown.stdout.startswith("no connection to relay ") and "first: UDP to the relay" in shown.stdout
        stack["relay"].start()
        stack.await_connected("gateway-out")
        assert send(stack).count("told 0 new, 1 over, 0 still") == 3 and send(stack) == ""
    [first, over] = told.mail.mails
    assert first[:2] == ("sluis@hospital.example", ["pacs@hospital.example", "night@hospital.example"])
    assert first[2] == "[Sluis] gateway-out gateway-out: no connection to relay relay"
    assert "NEW\n- no connection to relay" in first[3] and "first: UDP to the relay's port" in first[3]
    assert ": over: no connection to relay relay" in over[2] and "OVER\n- no connection" in over[3] and "first:" not in over[3]
    tokens, posts = zip(*told.hook.posts)
    assert set(tokens) == {f"Bearer {TOKEN}"} and list(posts) == told.piped()
    assert [len(post["new"]) for post in posts] == [1, 0] and [len(post["over"]) for post in posts] == [0, 1]
    assert posts[0]["text"].startswith(first[2]) and posts[0]["role"] == "gateway-out" and not posts[0]["test"]


def test_a_way_that_fails_is_told_later_and_the_others_not_twice(make_stack, told):
    stack = make_stack()
    alarmed(stack, "gateway-out", told.table())
    # Nothing runs: that is told by whoever looks, not by the daemon.
    told.hook.answer = 500
    failed = stack.command("gateway-out", "alarm", "send", check=False)
    assert failed.returncode == 1 and "webhook: it answers 500" in failed.stderr and "tried again with the next look" in failed.stderr
    assert told.counts() == (1, 0, 1) and "the daemon does not answer" in told.mail.mails[0][3]
    told.hook.answer = 302
    failed = stack.command("gateway-out", "alarm", "send", check=False)
    assert failed.returncode == 1 and "webhook:" in failed.stderr and told.counts() == (1, 0, 1)
    told.hook.answer = 204
    assert send(stack) == "webhook: told 1 new, 0 over, 0 still\n" and told.counts() == (1, 1, 1)
    # A program that fails, and one that does not end by itself, are told as such.
    told.program.write_text("#!/bin/sh\nexit 3\n")
    failed = stack.command("gateway-out", "alarm", "test", check=False)
    assert failed.returncode == 1 and f"FAILED   command: {told.program}: exit status: 3" in failed.stdout
    assert "ok       mail: " in failed.stdout and "ok       webhook: 204" in failed.stdout
    assert "This is a test" in told.mail.mails[-1][3] and told.hook.posts[-1][1]["test"] is True


@pytest.mark.parametrize("role", ROLES)
def test_every_role_tells_that_it_is_dead(make_stack, told, role):
    stack = make_stack()
    alarmed(stack, role, told.table())
    with stack:
        assert send(stack, role) == ""
        stack[role].kill()
        assert "1 new" in send(stack, role)
        stack.restart(role)
        stack.await_ready(role)
        if role != "relay":
            stack.await_connected(role)
        wait_until("it is over", lambda: "1 over" in send(stack, role), 30, stack.logs)
    assert told.mail.mails[0][2].startswith(f"[Sluis] {role}") and "the daemon does not answer" in told.mail.mails[0][2]


def test_passwords_and_tokens_go_nowhere_else(make_stack, told, tmp_path):
    """A server of another authority, one without STARTTLS, a wrong password: nothing is sent, and the reason is shown."""
    stack = make_stack()
    other = Authority(tmp_path / "other")
    table = told.table()
    table["mail"]["ca"] = table["webhook"]["ca"] = str(other.cert)
    alarmed(stack, "gateway-out", table)
    failed = stack.command("gateway-out", "alarm", "test", check=False)
    assert failed.returncode == 1 and failed.stdout.count("FAILED") == 2 and failed.stdout.lower().count("certificate") >= 2, failed.stdout
    (told.directory / "password").write_text("wrong\n")
    alarmed(stack, "gateway-out", told.table())
    failed = stack.command("gateway-out", "alarm", "test", check=False)
    assert "FAILED   mail" in failed.stdout and "535" in failed.stdout and PASSWORD not in failed.stdout + failed.stderr
    with MailServer(None) as plain:
        table = told.table()
        table["mail"]["server"] = f"{HOST}:{plain.port}"
        alarmed(stack, "gateway-out", table)
        failed = stack.command("gateway-out", "alarm", "test", check=False)
        assert "FAILED   mail" in failed.stdout and "STARTTLS" in failed.stdout, failed.stdout
        assert plain.mails == []
        # Without TLS only a server that wants no password, and only where that is written out.
        table["mail"] = {key: value for key, value in table["mail"].items() if key not in ("user", "password", "ca")} | {"security": "none"}
        alarmed(stack, "gateway-out", table)
        assert "ok       mail: taken" in stack.command("gateway-out", "alarm", "test").stdout
        assert len(plain.mails) == 1
    assert told.mail.mails == []


def test_parked_and_old_instances_are_told_without_a_word_about_the_patient(make_stack, told, tmp_path):
    made = generate.study(tmp_path / "study", 3, seed=5, side=64)
    busy = made[1].sop_instance
    with PynetdicomScp(behave=lambda name, seen: 0xA700 if name == busy else 0xC000) as destination:
        stack = make_stack(to=destination.address)
        alarmed(stack, "gateway-out", told.table(oldest="1s"))
        with stack:
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, made).values()) == {0}
            parked = len(made) - 1
            wait_until("all but one are parked", lambda: sum(row["state"] == "parked" for row in stack.queue()) == parked, 40, stack.logs)

            words = ("has waited for", f"until a person decides: {parked}")

            def both_are_told() -> bool:
                send(stack)
                return all(word in json.dumps(told.piped()) for word in words)

            wait_until("both are told", both_are_told, 20, stack.logs)
    everything = json.dumps([told.mail.mails, told.hook.posts, told.piped()])
    assert all(word in everything for word in words)
    for one in made:
        assert one.sop_instance not in everything
    assert not [needle for needle in patients.NEEDLES if needle.decode() in everything]
    state = (stack.config("gateway-out").parent / "alarm.json").read_text()
    assert not [one for one in made if one.sop_instance in state]


def test_what_cannot_be_told_is_refused_before_the_night(make_stack, told):
    """Nobody to tell is an error, of the timer's unit too: somebody has written a table that is not read, or none."""
    stack = make_stack()
    for what in ("send", "test"):
        refused = stack.command("gateway-out", "alarm", what, check=False)
        assert refused.returncode == 1 and "nobody would be told" in refused.stderr
    # What was told has to be kept somewhere; where it cannot be, it is told at once and that is told, too.
    (told.directory / "file").write_text("")
    alarmed(stack, "gateway-out", told.table(after="10min", state=str(told.directory / "file" / "alarm.json")))
    refused = stack.command("gateway-out", "alarm", "test", check=False)
    assert refused.returncode == 1 and "FAILED   state" in refused.stdout, refused.stdout
    refused = stack.command("gateway-out", "alarm", "send", check=False)
    assert refused.returncode == 1 and "the daemon does not answer" in told.piped()[-1]["text"] and "cannot be kept" in told.piped()[-1]["text"]
    (told.directory / "token").chmod(0o644)
    alarmed(stack, "gateway-out", told.table())
    refused = stack.command("gateway-out", "check", check=False)
    assert refused.returncode == 64 and "alarm.webhook.token" in refused.stderr and "chmod 600" in refused.stderr
