"""docs/first-study.md, run as it stands there: three hosts in three folders, and a destination that gets the study."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from harness import generate
from harness.binaries import DAEMONS, binary
from harness.destinations import Storescp, program
from harness.processes import HOST, Daemon, free_ports, run, tcp_listens, wait_until
from harness.stack import TOP

GUIDE = TOP / "docs" / "first-study.md"
ROLES = {"hub": "relay", "hospital": "gateway-out", "clinic": "gateway-in"}
BLOCK = re.compile(r"^```(sh|toml) (\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Hosts:
    """The hosts of the guide: `/etc/sluis` and `/var/lib/sluis` of each are folders, its addresses are ports."""

    def __init__(self, directory: Path, archive: int) -> None:
        self.directory = directory
        # Where everybody's card comes by mail; the study lies there, too.
        self.mail = directory / "mail"
        self.mail.mkdir(parents=True)
        self.ports = {"192.0.2.1:4433": free_ports(), "192.0.2.10:11112": free_ports(), "192.0.2.21:104": archive}
        self.admin = {host: free_ports() for host in ROLES}
        self.daemons: dict[str, Daemon] = {}
        self.said: list[str] = []

    def etc(self, host: str) -> Path:
        return self.directory / host / "etc"

    def here(self, host: str, text: str) -> str:
        text = text.replace("192.0.2.10 11112", f"{HOST} {self.ports['192.0.2.10:11112']}").replace("192.0.2.11/32", f"{HOST}/32")
        for address, port in self.ports.items():
            text = text.replace(address, f"{HOST}:{port}")
        return text.replace("/etc/sluis", str(self.etc(host)))

    def write(self, host: str, path: str, text: str) -> None:
        file = Path(self.here(host, path))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.here(host, text))

    def command(self, host: str, line: str) -> None:
        words = shlex.split(self.here(host, line).removeprefix("sudo -u sluis "))
        match words:
            case ["apt", "install", package]:
                assert package == f"./sluis-{ROLES[host]}_0.1.0-1_amd64.deb"
                self.etc(host).mkdir(parents=True)
                return
            case ["systemctl", "restart", unit]:
                assert unit == f"sluis-{ROLES[host]}"
                self.start(host)
                return
            case ["storescu", *_]:
                command = [program("storescu"), *words[1:]]
            case [role, verb, *more]:
                command = [binary(role), verb, *more]
                if verb == "init":
                    command += ["--admin", f"{HOST}:{self.admin[host]}"]
                if verb == "trust":
                    # There is nobody to ask here; the guide's reader is asked.
                    command.append("--yes")
                if not {"--dir", "verify"} & set(more):
                    command += ["--config", self.etc(host) / f"{role}.toml"]
        done = run(command, 60, cwd=self.mail)
        self.said.append(f"$ {line}\n{done.stdout}{done.stderr}")
        if words[1] == "init":
            for card in self.etc(host).glob("*.card"):
                shutil.copy(card, self.mail)

    def ask(self, host: str, *words: str) -> list:
        role = ROLES[host]
        return json.loads(run([binary(role), *words, "--config", self.etc(host) / f"{role}.toml"], 60).stdout)

    def start(self, host: str) -> None:
        role, port = ROLES[host], self.admin[host]
        command = [binary(role), "run", "--config", self.etc(host) / f"{role}.toml"]
        daemon = Daemon(role, command, self.directory / f"{role}.log", ready=lambda: tcp_listens(port), piped=True)
        self.daemons[host] = daemon
        daemon.start()

    def stop(self) -> None:
        for daemon in self.daemons.values():
            daemon.stop()


def test_the_guide_leads_to_a_receipted_study(tmp_path):
    [instance] = generate.study(tmp_path / "study", 1, seed=77, side=64)
    blocks = BLOCK.findall(GUIDE.read_text())
    assert len(blocks) >= 10
    with Storescp(tmp_path / "archive", ae="ARCHIVE") as archive:
        hosts = Hosts(tmp_path / "hosts", archive.port)
        shutil.copy(instance.path, hosts.mail / "CT.dcm")
        try:
            for kind, host, path, text in blocks:
                if kind == "toml":
                    hosts.write(host, path, text)
                    continue
                for line in text.strip().splitlines():
                    hosts.command(host, line)
                    if line.startswith("storescu"):
                        wait_until("the receipt", lambda: hosts.ask("hospital", "receipt", "list", "--json"), 30)
            assert hosts.ask("hospital", "queue", "ls", "--json") == []
            assert len(hosts.ask("hospital", "receipt", "list", "--json")) == 1
        finally:
            hosts.stop()
        assert set(archive.arrived()) == {instance.sop_instance}
    assert any("coercion" in said for said in hosts.said), "the warning about patient ids of two hospitals"


def test_the_transcript_shows_what_the_guide_has_typed():
    """`deploy/try-packages --transcript` writes it from a run on three booted Debian roots."""
    transcript = (TOP / "docs" / "first-study-transcript.md").read_text()
    # What was typed by PACS and hosts alike is behind a prompt, and files stand as they were written.
    typed = [line.removeprefix("# ") for block in re.findall(r"^```text\n(.*?)^```$", transcript, re.MULTILINE | re.DOTALL) for line in block.splitlines() if line.startswith("# ")]
    blocks = BLOCK.findall(GUIDE.read_text())
    assert typed == [line for kind, _, _, text in blocks if kind == "sh" for line in text.strip().splitlines()]
    written = [(host, path, text) for kind, host, path, text in BLOCK.findall(transcript) if kind == "toml"]
    assert written == [(host, path, text) for kind, host, path, text in blocks if kind == "toml"]
    assert "stored  0000" in transcript


@pytest.mark.slow
@pytest.mark.root
def test_the_packages_are_installed_booted_upgraded_and_purged():
    done = run([TOP / "deploy" / "try-packages"], 3600, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    if "not run  everything" in done.stdout:
        pytest.skip(done.stdout.strip())


@pytest.mark.slow
@pytest.mark.root
def test_static_programs_need_nothing_of_the_host(tmp_path):
    """In a root that has nothing but them: identities, cards, a configuration that is good, and a relay that locks itself down."""
    built = run([TOP / "deploy" / "static"], 3600, check=False)
    if "is missing" in built.stderr:
        pytest.skip(built.stderr.strip())
    assert built.returncode == 0, built.stderr
    archive = TOP / "target" / "static" / built.stdout.split()[-1]
    run(["tar", "--extract", "--gzip", "--strip-components=1", "--directory", tmp_path, "--file", archive], 60)
    (tmp_path / "proc").mkdir()
    for role in DAEMONS:
        where = ["--dir", "/etc/sluis"] if role == "relay" else ["--config", f"/etc/sluis/{role}.toml"]
        run(["chroot", tmp_path, f"/bin/{role}", "init", *where, "--name", role], 60)
    for role in ("gateway-out", "gateway-in"):
        trust = ["trust", "/etc/sluis/relay.card", "--relay", f"{HOST}:4433", "--yes", "--config", f"/etc/sluis/{role}.toml"]
        run(["chroot", tmp_path, f"/bin/{role}", *trust], 60)
    run(["chroot", tmp_path, "/bin/gateway-out", "check", "--config", "/etc/sluis/gateway-out.toml"], 60)
    assert {path.name for path in (tmp_path / "sbom").iterdir()} == {f"{role}.cdx.json" for role in DAEMONS}
    assert (tmp_path / "systemd" / "sluis-relay.service").is_file() and list((tmp_path / "share").rglob("relay*.1"))


@pytest.fixture
def initialised(tmp_path):
    """One gateway and its relay, before anybody is trusted."""
    for role, name in (("relay", "hub"), ("gateway-out", "north")):
        where = ["--dir", tmp_path] if role == "relay" else ["--config", tmp_path / f"{role}.toml"]
        run([binary(role), "init", *where, "--name", name], 60)
    return tmp_path


def gateway(directory: Path, *words: object, answer: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in (binary("gateway-out"), *words, "--config", directory / "gateway-out.toml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, input=answer)


def test_what_is_missing_is_said_with_its_remedy_and_nobody_is_trusted_unasked(initialised):
    checked = gateway(initialised, "check")
    assert checked.returncode == 64 and "trust CARD --relay ADDRESS:PORT" in checked.stderr, checked.stderr
    card = ["trust", initialised / "hub.card", "--relay", f"{HOST}:4433"]
    asked = gateway(initialised, *card, answer="y\n")
    assert asked.returncode == 2 and "in words" in asked.stdout and "give --yes" in asked.stderr, asked
    assert not (initialised / "conf.d").exists()
    for _ in range(2):
        before = sorted(path for path in initialised.rglob("*"))
        taken = gateway(initialised, *card, "--yes")
    assert taken.returncode == 1 and "pinned already" in taken.stderr, "the second time"
    assert sorted(initialised.rglob("*")) == before
    assert gateway(initialised, "check").returncode == 0
    broken = initialised / "broken.card"
    broken.write_text((initialised / "hub.card").read_text()[:-10])
    assert gateway(initialised, "trust", broken, "--yes").returncode == 1


@pytest.mark.root
def test_root_does_not_write_what_the_daemons_user_could_not_read(initialised):
    # A whole configuration: a relay is pinned already.
    assert gateway(initialised, "trust", initialised / "hub.card", "--relay", f"{HOST}:4433", "--yes").returncode == 0
    os.chown(initialised, 65534, 65534)
    before = sorted(initialised.rglob("*"))
    for words in (["trust", initialised / "north.card", "--yes"], ["key", "rotate"], ["key", "rotate", "--outbox"]):
        refused = gateway(initialised, *words)
        assert refused.returncode == 2 and "belongs to another user" in refused.stderr, refused
    admitted = run([binary("relay"), "admit", initialised / "north.card", "--config", initialised / "relay.toml"], 60, check=False)
    assert admitted.returncode == 2 and "belongs to another user" in admitted.stderr, admitted
    assert sorted(initialised.rglob("*")) == before


@pytest.mark.parametrize("role", ["relay", "gateway-in", "gateway-out"])
def test_a_service_manager_is_told(make_stack, role):
    """Ready, alive and stopping (sd_notify), out of the sandbox, by each role."""
    stack = make_stack(folder=None)
    path = stack.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        daemon = stack[role]
        daemon._env |= {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"}
        stack.start(role)
        said = [manager.recv(256).decode() for _ in range(4)]
        assert sorted(said)[0].startswith("READY=1\n") and said.count("WATCHDOG=1") == 3, said
        daemon.stop()
        while not said[-1].startswith("STOPPING=1\n"):
            said.append(manager.recv(256).decode())


@pytest.mark.parametrize("role", ["relay", "gateway-in", "gateway-out"])
def test_manual_pages_and_completions_are_made(tmp_path, role):
    run([binary(role), "generate", tmp_path], 60)
    assert (tmp_path / "man" / f"{role}.1").read_text().startswith(".ie")
    assert (tmp_path / "man" / f"{role}-run.1").exists()
    assert {path.name for path in (tmp_path / "completions").iterdir()} == {f"{role}.bash", f"{role}.fish", f"_{role}"}


@pytest.mark.parametrize("role", ["relay", "gateway-in", "gateway-out"])
@pytest.mark.parametrize("what", ["", "-alarm"])
def test_the_units_are_hardened(role, what):
    if not shutil.which("systemd-analyze"):
        pytest.skip("the units are NOT judged: systemd-analyze is not installed")
    unit = TOP / "deploy" / "systemd" / f"sluis-{role}{what}.service"
    judged = run(["systemd-analyze", "security", "--offline=true", unit], 60).stdout
    exposure = float(re.search(r"exposure level for \S+: ([0-9.]+)", judged)[1])
    assert exposure <= 1.5, judged
    verified = run(["systemd-analyze", "verify", unit], 60, check=False)
    complaints = [line for line in verified.stderr.splitlines() if f"/usr/bin/{role} is not executable" not in line]
    assert not [line for line in complaints if unit.name in line], verified.stderr


def test_the_packages_hold_what_they_are_for():
    if not shutil.which("cargo-deb"):
        pytest.skip("the packages are NOT built: cargo-deb is not installed (cargo install --locked cargo-deb)")
    made = [Path(line) for line in run([TOP / "deploy" / "packages"], 900, cwd=TOP).stdout.splitlines() if line.endswith(".deb")]
    packages = {path.name.split("_")[0]: TOP / path for path in made}
    everything = {"sluis": list(ROLES.values())} | {f"sluis-{role}": [role] for role in ROLES.values()}
    assert set(packages) == set(everything)
    for name, roles in everything.items():
        listed = run(["dpkg-deb", "--contents", packages[name]], 60).stdout
        files = {line.split()[5].removeprefix("./"): line.split()[0] for line in listed.splitlines()}
        for role in roles:
            assert files[f"usr/bin/{role}"] == "-rwxr-xr-x"
            for file in (
                f"lib/systemd/system/sluis-{role}.service",
                f"lib/systemd/system/sluis-{role}-alarm.service",
                f"lib/systemd/system/sluis-{role}-alarm.timer",
                f"usr/lib/tmpfiles.d/sluis-{role}.conf",
                f"usr/share/man/man1/{role}-run.1.gz",
                f"usr/share/bash-completion/completions/{role}",
            ):
                assert file in files or f"usr/{file}" in files, f"{name}: {file}\n{listed}"
        assert f"usr/lib/sysusers.d/{name}.conf" in files
        assert f"usr/share/doc/{name}/docs/first-study.md" in files or f"usr/share/doc/{name}/docs/first-study.md.gz" in files, listed
        script = run(["dpkg-deb", "--info", packages[name], "postinst"], 60).stdout
        order = [script.index(word) for word in ("systemd-sysusers", "systemd-tmpfiles", "deb-systemd-invoke")]
        assert order == sorted(order), "the user is made before the unit starts"
        # What is owed outlives the package.
        assert "rm -rf" not in run(["dpkg-deb", "--info", packages[name], "postrm"], 60).stdout


def test_check_tries_out_what_a_file_cannot_say(make_stack, tmp_path):
    """Relays, AE titles, disk and cards; beside a running daemon and without one; exit code 1 names what does not work."""
    with Storescp(tmp_path) as destination:
        stack = make_stack(to=destination.address)
        with stack:
            for role in ("gateway-out", "gateway-in"):
                said = stack.command(role, "check", "--connect").stdout
                assert "FAILED" not in said and "the running daemon is connected to it" in said, said
                assert "own card: expires in" in said and "GiB free" in said
            said = stack.command("gateway-out", "check", "--connect").stdout
            assert f"C-ECHO of {stack.ae} at 127.0.0.1:{stack.listen}: answered" in said
            assert f"enter at the PACS: AE title {stack.ae} at 127.0.0.1, port {stack.listen}" in said
            stack["gateway-out"].stop()
            stack["gateway-in"].stop()
            said = stack.command("gateway-out", "check", "--connect").stdout
            assert "its key is the pinned one" in said and "free for the daemon" in said, said
            said = stack.command("gateway-in", "check", "--connect").stdout
            assert "C-ECHO of" in said and "answered" in said and f"it calls {destination.ae}" in said, said
            stack["relay"].stop()
    for role, what in (("gateway-out", "FAILED   relay"), ("gateway-in", "FAILED   destination")):
        said = stack.command(role, "check", "--connect", check=False)
        assert said.returncode == 1 and what in said.stdout and "did not work" in said.stderr, said
