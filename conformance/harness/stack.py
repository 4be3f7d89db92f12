"""The three real processes: written by `quickstart --write-only`, started, killed and asked by hand."""

from __future__ import annotations

import contextlib
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tomlkit

from .binaries import TOP, binary
from .part10 import Instance
from .processes import HOST, Daemon, free_ports, run, tail, wait_until

ROLES = ("relay", "gateway-in", "gateway-out")
AE = "SLUIS"
COMMANDS_AT_ONCE = 4


class Stack:
    """One relay, one gateway-in and one gateway-out on free loopback ports, with one route to begin with."""

    def __init__(
        self,
        directory: Path,
        to: str | None = None,
        folder: Path | None = None,
        suite: str = "B",
        log: str = "info",
        sandbox: bool = True,
    ) -> None:
        """`sandbox=False`: `--no-sandbox` for all three, for negative controls."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.listen, self.relay_port, self.admin = free_ports(), free_ports(), free_ports(3)
        self.ae = AE
        command = [binary("quickstart"), "--write-only", "--dir", directory, "--ae", AE, "--suite", suite]
        command += ["--listen", f"{HOST}:{self.listen}", "--relay", f"{HOST}:{self.relay_port}"]
        command += ["--admin", f"{HOST}:{self.admin}"]
        command += ["--to", to] if to else ["--folder", folder or directory / "inbox"]
        run(command, 60)
        self.log_level = log
        self.processes: dict[str, Daemon] = {}
        self._admin_ports = dict(zip(("gateway-out", "relay", "gateway-in"), range(self.admin, self.admin + 3), strict=True))
        for role in ROLES:
            self.processes[role] = Daemon(
                role,
                [binary(role), "run", "--config", self.config(role), *([] if sandbox else ["--no-sandbox"])],
                directory / f"{role}.log",
                lambda role=role: self.answers(role, "/healthz"),
                {"RUST_LOG": log, "RUST_BACKTRACE": "1"},
                cwd=directory,
                piped=role == "relay",
            )

    # -- configuration ------------------------------------------------------------------------------------------

    def config(self, role: str) -> Path:
        return self.directory / f"{role}.toml"

    @contextlib.contextmanager
    def edit(self, role: str) -> Iterator[tomlkit.TOMLDocument]:
        """The role's TOML, written back at the end of the block."""
        path = self.config(role)
        document = tomlkit.parse(path.read_text())
        yield document
        path.write_text(tomlkit.dumps(document))

    def quick_retries(self) -> None:
        """Waits of a test's length instead of a hospital's."""
        with self.edit("gateway-out") as out:
            retry = out.setdefault("retry", tomlkit.table())
            retry["first"], retry["max"] = "200ms", "1s"
        with self.edit("gateway-in") as receiving:
            for destination in receiving["destination"]:
                if destination["kind"] in ("dicom", "stow"):
                    destination["probe_every"] = "500ms"

    def destination(self, receiving: tomlkit.TOMLDocument, name: str | None = None):
        """A [[destination]] of an edited gateway-in.toml; the first one without a name."""
        found = [one for one in receiving["destination"] if name in (None, str(one["name"]))]
        assert found, f"no destination {name}"
        return found[0]

    def add_route(self, title: str, destination: str, respond: str | None = None, **table: object) -> None:
        """Another AE title of gateway-out and another destination of gateway-in, with that [[destination]] table."""
        identifier = secrets.token_hex(16)
        with self.edit("gateway-in") as receiving:
            added = tomlkit.table()
            added.update({"name": destination, **table})
            receiving["destination"].append(added)
            route = tomlkit.table()
            route.update({**receiving["route"][0].unwrap(), "id": identifier, "destination": destination})
            receiving["route"].append(route)
        with self.edit("gateway-out") as sending:
            route = tomlkit.table()
            route.update({**sending["route"][0].unwrap(), "id": identifier, "ae": title, "destination": destination})
            if respond:
                route["respond"] = respond
            sending["route"].append(route)

    def add_title(self, title: str, **table: object) -> None:
        """Another AE title of gateway-out for the first destination of gateway-in; `table` goes into its [[route]]."""
        identifier = secrets.token_hex(16)
        for role, more in (("gateway-in", {}), ("gateway-out", {"ae": title, **table})):
            with self.edit(role) as document:
                route = tomlkit.table()
                route.update({**document["route"][0].unwrap(), "id": identifier, **more})
                document["route"].append(route)

    def add_dicom_route(self, title: str, destination: str, address: str, respond: str | None = None) -> None:
        called, _, place = address.partition("@")
        self.add_route(title, destination, respond, kind="dicom", ae=called, address=place, calling="SLUISIN")

    def add_relay(self, name: str) -> Daemon:
        """Another relay for both gateways, behind the one that they have; with the same tenants. The caller starts and stops it."""
        directory, port, admin = self.directory / name, free_ports(), free_ports()
        where = ["--listen", f"{HOST}:{port}", "--admin", f"{HOST}:{admin}"]
        run([binary("relay"), "init", "--dir", directory, "--name", name, *where], 60)
        config = directory / "relay.toml"
        document = tomlkit.parse(config.read_text())
        document["tenant"] = tomlkit.aot()
        for known in tomlkit.parse(self.config("relay").read_text())["tenant"]:
            tenant = tomlkit.table()
            tenant.update({**known.unwrap(), "card": str(self.directory / str(known["card"]))})
            document["tenant"].append(tenant)
        config.write_text(tomlkit.dumps(document))
        [card] = directory.rglob("*.card")
        for role in ("gateway-out", "gateway-in"):
            with self.edit(role) as gateway:
                relay = tomlkit.table()
                relay.update({"name": name, "address": f"{HOST}:{port}", "card": str(card)})
                gateway["relay"].append(relay)

        def ready() -> bool:
            with contextlib.suppress(urllib.error.URLError, OSError):
                with urllib.request.urlopen(f"http://{HOST}:{admin}/readyz", timeout=5) as answer:
                    return answer.status == 200
            return False

        command, environment = [binary("relay"), "run", "--config", config], {"RUST_LOG": self.log_level, "RUST_BACKTRACE": "1"}
        return Daemon(name, command, directory / "relay.log", ready, environment, piped=True)

    def respond_when_delivered(self) -> None:
        with self.edit("gateway-out") as sending:
            sending["route"][0]["respond"] = "delivered"

    def card(self, role: str) -> Path:
        """The role's peer card, as another role's configuration names it."""
        reader = "gateway-out" if role != "gateway-out" else "gateway-in"
        document = tomlkit.parse(self.config(reader).read_text())
        tables = document["relay"] if role == "relay" else document["peer"]
        return self.directory / str(tables[0]["card"])

    # -- running ------------------------------------------------------------------------------------------------

    def __getitem__(self, role: str) -> Daemon:
        return self.processes[role]

    def start(self, *roles: str) -> "Stack":
        for role in roles or ROLES:
            self[role].launch()
        for role in roles or ROLES:
            self[role].await_ready()
        for role in roles or ROLES:
            self.await_ready(role)
        if self["relay"].alive():
            for role in roles or ROLES:
                if role != "relay":
                    self.await_connected(role)
        return self

    def await_ready(self, role: str, seconds: float = 30.0) -> None:
        wait_until(f"{role} to answer /readyz", lambda: self.answers(role, "/readyz"), seconds, self.logs)

    def await_connected(self, role: str, seconds: float = 30.0) -> None:
        """Waits until a gateway's link to the relay stands."""

        def connected() -> bool:
            return all(relay["connected"] for relay in self.status(role)["relays"])

        wait_until(f"{role} to be connected to the relay", connected, seconds, self.logs)

    def answers(self, role: str, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self._admin_ports[role]}{path}", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def status(self, role: str) -> dict:
        with urllib.request.urlopen(f"http://{HOST}:{self._admin_ports[role]}/status", timeout=10) as answer:
            return json.load(answer)

    def stop(self) -> None:
        for role in reversed(ROLES):
            self[role].stop()

    def kill(self) -> None:
        for role in ROLES:
            self[role].kill()

    def restart(self, role: str) -> None:
        """kill -9 and start again."""
        self[role].kill()
        self.start(role)

    def __enter__(self) -> "Stack":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def logs(self) -> str:
        return "\n".join(f"{role}:\n{tail(self[role].log)}" for role in ROLES)

    def log_text(self, role: str) -> str:
        return self[role].log.read_text(errors="replace") if self[role].log.exists() else ""

    def panics(self) -> list[str]:
        return [
            f"{role}: {line}"
            for role in ROLES
            for line in self.log_text(role).splitlines()
            if "panicked at" in line or "stack overflow" in line
        ]

    def measure(self) -> dict[str, tuple[int, float]]:
        """{role: (peak RSS in bytes, CPU seconds)}"""
        for process in self.processes.values():
            process.measure()
        return {role: (self[role].peak_rss_bytes, self[role].cpu_seconds) for role in ROLES}

    # -- commands -----------------------------------------------------------------------------------------------

    def command(self, role: str, *words: str, check: bool = True, seconds: float = 60.0):
        """A command of a role that takes --config."""
        return run([binary(role), *words, "--config", self.config(role)], seconds, check)

    def command_at(self, role: str, config: Path, *words: str, seconds: float = 60.0):
        """A command of a role with another configuration."""
        config.parent.mkdir(parents=True, exist_ok=True)
        return run([binary(role), *words, "--config", config], seconds)

    def queue(self) -> list[dict]:
        """Deliveries that have not ended, parked ones included; at most a thousand."""
        return json.loads(self.command("gateway-out", "queue", "ls", "--json").stdout)

    def why(self, sop_instance: str) -> list[dict]:
        """Every delivery of an instance, oldest first."""
        return json.loads(self.command("gateway-out", "why", sop_instance, "--json").stdout)

    def receipts(self, role: str = "gateway-out") -> list[dict]:
        return json.loads(self.command(role, "receipt", "list", "--json").stdout)

    def receipt_file(self, identifier: str, role: str = "gateway-out") -> Path:
        text = self.command(role, "receipt", "show", identifier).stdout
        path = self.directory / f"receipt-{role}-{identifier[:16]}.txt"
        path.write_text(text)
        return path

    def verify_receipt(self, path: Path, card: Path | None = None, sender: Path | None = None, relay: Path | None = None):
        """`receipt verify` offline: no configuration, no daemon. Without the relay's card the place in its log is not checked."""
        command = [binary("gateway-out"), "receipt", "verify", path, "--peer", card or self.card("gateway-in")]
        command += ["--relay", relay] if relay else []
        return run([*command, "--sender", sender or self.card("gateway-out")], 60, check=False)

    def body_bytes(self) -> int:
        """Bytes of sealed bodies in the outbox."""
        return sum(path.stat().st_size for path in (self.directory / "outbox" / "objects").rglob("*") if path.is_file())

    def wait_settled(self, seconds: float = 60.0) -> None:
        """Waits until gateway-out owes nothing."""
        wait_until(
            "an empty queue", lambda: not self.queue(), seconds, lambda: f"{self.queue()[:3]}\n{self.logs()}", pause=0.3
        )

    def logged(self, role: str) -> list[bool]:
        """Of each receipt: whether its place in the relay's log is proved."""
        return [receipt["logged"] for receipt in self.receipts(role)]

    def wait_logged(self, role: str, count: int) -> None:
        """Waits until `role` has this many receipts, each with its place in the relay's log."""
        wait_until(f"every receipt at {role} to be proved", lambda: self.logged(role) == [True] * count, 60, self.logs, 0.2)


def one_receipt_each(stack: Stack, instances: Sequence[Instance]) -> None:
    """Fails unless every instance has exactly one receipt, and each of them verifies alone and offline."""
    # Each question is a process of its own.
    with ThreadPoolExecutor(COMMANDS_AT_ONCE) as pool:
        found: dict[str, int] = {}
        for deliveries in pool.map(lambda one: stack.why(one.sop_instance), instances):
            assert len(deliveries) == 1, f"{len(deliveries)} deliveries of one instance: {deliveries}"
            found[delivery_id(deliveries[0])] = 1
        receipts = [delivery_id(receipt) for receipt in stack.receipts()]
        assert sorted(receipts) == sorted(found), f"{len(receipts)} receipts for {len(found)} deliveries"
        for checked in pool.map(lambda identifier: stack.verify_receipt(stack.receipt_file(identifier)), receipts):
            assert checked.returncode == 0, checked.stdout + checked.stderr


def delivery_id(row: dict) -> str:
    return row["delivery"]
