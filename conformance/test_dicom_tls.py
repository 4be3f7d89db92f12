"""DICOM over TLS on both sides: DCMTK and pynetdicom with certificates of an authority; everybody else refused, and shown with the reason."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import time

import pytest
import tomlkit

from harness import generate, senders
from harness.commitment import Asker
from harness.destinations import PynetdicomScp, Storescp, wait_for_arrivals
from harness.processes import HOST, free_ports, run, wait_until
from harness.stack import Stack
from harness.tls import Authority, Certificate

LEGACY = "DEFAULT:@SECLEVEL=0"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    authority.own = authority.certificate("gateway")
    authority.device = authority.certificate("device")
    return authority


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("foreign"), "stranger")
    authority.device = authority.certificate("device")
    return authority


def listening(stack: Stack, authority: Authority) -> int:
    """Gives gateway-out a TLS port."""
    stack.tls_port = free_ports()
    with stack.edit("gateway-out") as out:
        out["dicom"]["tls"] = authority.listen(authority.own, stack.tls_port)
    return stack.tls_port


def calling(stack: Stack, table: dict) -> None:
    """Has gateway-in call its destination over TLS."""
    with stack.edit("gateway-in") as receiving:
        receiving["destination"][0]["tls"] = table


def rejections(stack: Stack) -> list[dict]:
    return json.loads(stack.command("gateway-out", "rejections", "--json").stdout)


def client(port: int, *words: str) -> subprocess.CompletedProcess:
    """openssl as a client that says nothing; its input ends at once."""
    command = ["openssl", "s_client", "-connect", f"{HOST}:{port}", *map(str, words)]
    return subprocess.run(command, input="", capture_output=True, text=True, timeout=20)


def greets(port: int, context: ssl.SSLContext) -> str | None:
    """The TLS version that was agreed upon; none where either side refused. With TLS 1.3 that comes with the first read."""
    try:
        with socket.create_connection((HOST, port), 10) as plain, context.wrap_socket(plain, server_hostname=HOST) as stream:
            # An A-ABORT: the gateway closes, and refuses first, if it does.
            stream.sendall(b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00")
            stream.settimeout(10)
            agreed = stream.version()
            try:
                stream.recv(1)
            except (ssl.SSLEOFError, ConnectionResetError):
                """The gateway has read it, and gone."""
            return agreed
    except ssl.SSLError:
        return None


@pytest.mark.proves("out/security/tls", "in/security/tls")
def test_dcmtk_on_both_sides(make_stack, tmp_path, few, site):
    with Storescp(tmp_path, "STORESCP", None, *site.dcmtk(site.device)) as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        port = listening(stack, site)
        calling(stack, site.call(site.own))
        checked = stack.command("gateway-in", "check").stdout
        assert f"at {HOST}:{destination.port} over TLS" in checked, checked
        with stack:
            answers = senders.storescu(port, stack.ae, [one.path for one in few], *site.dcmtk(site.device))
            assert set(answers.values()) == {0}
            wait_for_arrivals(destination, few, 30, stack.logs)
            stack.wait_settled()
            echoed = senders.echoscu(port, stack.ae, *site.dcmtk(site.device))
            assert "Received Echo Response (Success)" in echoed.stdout + echoed.stderr
            # The port without TLS is still there.
            assert senders.echoscu(stack.listen, stack.ae).returncode == 0
            # Whatever else we ask of a destination goes the same way.
            assert "destination answer" in stack.command("gateway-in", "echo", "destination").stdout.replace("destination destination", "destination")
            assert "CT Image Storage" in stack.command("gateway-in", "probe", "destination", seconds=120).stdout
            assert rejections(stack) == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_pynetdicom_on_both_sides_with_each_version(make_stack, tmp_path, few, site, version):
    server, client = site.server(site.device), site.client(site.device)
    for context in (server, client):
        context.minimum_version = context.maximum_version = version
    with PynetdicomScp(tls=server) as destination:
        stack = make_stack(to=destination.address)
        port = listening(stack, site)
        calling(stack, site.call(site.own))
        with stack:
            assert set(senders.pynetdicom_send(port, stack.ae, few, tls=client).values()) == {0}
            wait_for_arrivals(destination, few, 30, stack.logs)


def test_a_large_instance_streams_over_tls_on_both_sides(make_stack, tmp_path, site):
    one = generate.large(tmp_path / "large.dcm", 80 << 20, 5)
    with PynetdicomScp(tls=site.server(site.device)) as destination:
        stack = make_stack(to=destination.address)
        port = listening(stack, site)
        calling(stack, site.call(site.own))
        with stack:
            assert set(senders.pynetdicom_send(port, stack.ae, [one], tls=site.client(site.device)).values()) == {0}
            wait_for_arrivals(destination, [one], 60, stack.logs)
            peaks = stack.measure()
            assert all(peak < 160 << 20 for peak, _ in peaks.values()), peaks


def test_versions_suites_and_certificates_that_are_not_good_are_refused_and_shown(make_stack, site, foreign, prove):
    stack = make_stack()
    port = listening(stack, site)
    own = ["-cert", site.device.cert, "-key", site.device.key]
    expired = site.certificate("expired", days="-1")
    with stack:
        # First that each refusal is about what it says: the same with a good version and a good certificate.
        for version in ("-tls1_2", "-tls1_3"):
            assert "Verify return code: 0" in client(port, version, "-CAfile", site.cert, "-verify_return_error", *own).stdout
        prove("out/security/tls-versions")
        for version in ("-tls1", "-tls1_1"):
            said = client(port, version, "-cipher", LEGACY, *own)
            assert said.returncode != 0 and "alert number" in said.stderr, said
        # Each suite that is claimed, alone; and others that TLS 1.2 has.
        suites = prove("out/security/tls-suites")["value"].split(", ")
        assert len(suites) == 9 and all("_GCM_" in suite or "_CHACHA20_" in suite for suite in suites)
        rsa = [suite for suite in suites if "_ECDSA_" not in suite]
        for suite in rsa:
            version, option = ("-tls1_2", "-cipher") if "_WITH_" in suite else ("-tls1_3", "-ciphersuites")
            named = openssl_name(suite) if "_WITH_" in suite else suite
            said = client(port, version, option, named, *own)
            assert f"Cipher is {named}" in said.stdout, (suite, said)
        for other in ("AES256-GCM-SHA384", "ECDHE-RSA-AES256-SHA384", "ECDHE-RSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"):
            said = client(port, "-tls1_2", "-cipher", f"{other}:@SECLEVEL=0", *own)
            assert said.returncode != 0 and "handshake failure" in said.stderr, (other, said)
        prove("out/security/tls-client-certificates")
        assert greets(port, site.client(site.device)) and not greets(port, site.client(None))
        strange = site.client(None)
        strange.load_cert_chain(foreign.device.cert, foreign.device.key)
        assert not greets(port, strange)
        late = site.client(None)
        late.load_cert_chain(expired.cert, expired.key)
        assert not greets(port, late)
        # A peer that does not believe us, and one that speaks no TLS.
        assert not greets(port, foreign.client(site.device))
        assert senders.echoscu(port, stack.ae).returncode != 0
        whys = [one["why"] for one in rejections(stack)]
        for wanted in ("does not speak TLS", "UnknownIssuer", "Expired", "no certificates", "UnknownCA"):
            assert any(wanted in why for why in whys), (wanted, whys)
        assert sum("no TLS 1.2 or 1.3" in why for why in whys) == 6, whys
        # DCMTK says it, too; and by title and address it is still decided.
        assert senders.storescu(port, stack.ae, [], *foreign.dcmtk(foreign.device)) == {}
        said = senders.echoscu(port, "NOBODY", *site.dcmtk(site.device))
        assert "Called AE Title Not Recognized" in said.stdout + said.stderr
        [latest, *_] = rejections(stack)
        assert latest["called"] == "NOBODY" and latest["peer"].startswith(HOST), latest
        text = stack.command("gateway-out", "rejections").stdout
        assert "UnknownIssuer" in text and "→ NOBODY" in text and text.endswith(" of late\n"), text


def openssl_name(suite: str) -> str:
    """TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 as openssl calls it."""
    if "CHACHA20" in suite:
        return suite.removeprefix("TLS_").replace("_WITH_", "_").removesuffix("_SHA256").replace("_", "-")
    return suite.removeprefix("TLS_").replace("_WITH_", "_").replace("AES_", "AES").replace("_", "-")


def test_without_a_plain_port_only_tls_is_there(make_stack, few, site):
    with PynetdicomScp() as destination:
        stack = make_stack(to=destination.address)
        port = listening(stack, site)
        with stack.edit("gateway-out") as out:
            del out["dicom"]["listen"]
        with stack:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, stack.listen), 5)
            assert set(senders.pynetdicom_send(port, stack.ae, few, tls=site.client(site.device)).values()) == {0}
            wait_for_arrivals(destination, few, 30, stack.logs)
            status = stack.status("gateway-out")
            assert (status["dicom"], status["dicom_tls"]) == (None, f"{HOST}:{port}")
            sent = stack.command("gateway-out", "send", str(few[0].path), check=False)
            assert sent.returncode == 2 and "no DICOM port without TLS" in sent.stderr, sent
    with stack.edit("gateway-out") as out:
        del out["dicom"]["tls"]
        out["dicom"]["max_pdu"] = 65536
    said = stack.command("gateway-out", "check", check=False)
    assert said.returncode == 64 and "nobody could send anything" in said.stderr, said


@pytest.mark.proves("in/security/tls-certificates", "in/security/tls-refused")
def test_a_destination_that_is_somebody_else_gets_nothing(make_stack, tmp_path, few, site, foreign, prove):
    elsewhere = site.certificate("elsewhere", "DNS:pacs.hospital.example")
    wrongs = {
        "another authority": foreign.server(foreign.device),
        "another name": site.server(elsewhere),
        "one that does not believe us": foreign.server(site.device),
    }
    for what, context in wrongs.items():
        with PynetdicomScp(tls=context) as destination:
            stack = make_stack(what.replace(" ", "-"), to=destination.address)
            stack.quick_retries()
            calling(stack, site.call(site.own))
            with stack:
                assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
                wait_until("a word about it", lambda: "no TLS with the destination" in stack.log_text("gateway-in"), 20, stack.logs)
                time.sleep(1)
                assert not destination.stored and not stack.receipts(), what
                assert stack.command("gateway-in", "echo", "destination", check=False).returncode == 1
    # By its name it is the right one; and where any is written out.
    for number, name in enumerate(("pacs.hospital.example", "*")):
        with PynetdicomScp(tls=site.server(elsewhere)) as destination:
            stack = make_stack(f"named-{number}", to=destination.address)
            calling(stack, site.call(site.own, name))
            with stack:
                assert set(senders.pynetdicom_send(stack.listen, stack.ae, few).values()) == {0}
                wait_for_arrivals(destination, few, 30, stack.logs)


def test_a_destination_with_old_tls_only_gets_nothing(make_stack, few, site, prove):
    port = free_ports()
    server = ["openssl", "s_server", "-accept", f"{HOST}:{port}", "-cert", str(site.device.cert), "-key", str(site.device.key), "-CAfile", str(site.cert)]
    suites = [suite for suite in prove("in/security/tls-suites")["value"].split(", ")]
    prove("in/security/tls-versions")
    assert suites == [suite for suite in suites if "_GCM_" in suite or "_CHACHA20_" in suite]
    cases = {
        "1.0": ["-tls1", "-cipher", LEGACY],
        "1.1": ["-tls1_1", "-cipher", LEGACY],
        "CBC": ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256:@SECLEVEL=0"],
        "good": ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
    }
    for what, options in cases.items():
        with subprocess.Popen([*server, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
            try:
                wait_until("s_server to listen", lambda: _connects(port), 10)
                stack = make_stack(f"old-{what.replace('.', '')}", to=f"ANY@{HOST}:{port}")
                calling(stack, site.call(site.own))
                with stack.edit("gateway-in") as receiving:
                    receiving["destination"][0]["connect_timeout"] = "2s"
                said = stack.command("gateway-in", "probe", "destination", check=False, seconds=60)
                assert said.returncode == 1
                # The good one shakes hands, and says nothing then.
                assert ("TLS handshake failed" in said.stderr) == (what != "good"), (what, said)
            finally:
                running.kill()


def _connects(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
        return True
    except OSError:
        return False


@pytest.mark.proves("out/security/tls-renewal", "in/security/tls-renewal")
def test_renewed_certificates_are_taken_over_by_a_reload_and_bad_ones_are_not(make_stack, tmp_path, few, site):
    """Both sides change to another authority; what the running daemons were started with is good for nothing then."""
    live = tmp_path / "live"
    live.mkdir()

    def install(authority: Authority, own: Certificate) -> None:
        for source, name in ((authority.cert, "ca.pem"), (own.cert, "own.pem"), (own.key, "own.key")):
            (live / f"{name}.new").write_bytes(source.read_bytes())
            os.replace(live / f"{name}.new", live / name)

    install(site, site.own)
    later = Authority(tmp_path / "later", "later")
    later.own, later.device = later.certificate("gateway"), later.certificate("device")
    context = site.server(site.device)
    with PynetdicomScp(tls=context) as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        port = listening(stack, site)
        here = {"cert": str(live / "own.pem"), "key": str(live / "own.key")}
        with stack.edit("gateway-out") as out:
            out["dicom"]["tls"].update({**here, "clients": str(live / "ca.pem")})
        calling(stack, {**here, "ca": str(live / "ca.pem")})
        with stack:
            assert set(senders.pynetdicom_send(port, stack.ae, few[:1], tls=site.client(site.device)).values()) == {0}
            wait_for_arrivals(destination, few[:1], 30, stack.logs)
            install(later, later.own)
            (live / "own.key").write_text("nonsense\n")
            for role in ("gateway-out", "gateway-in"):
                os.kill(stack[role].pid, signal.SIGHUP)
                wait_until("the refusal", lambda role=role: (stack.status(role)["last_reload"] or {}).get("refused"), 20, stack.logs)
                assert "own.key" in str(stack.status(role)["last_reload"])
            assert set(senders.pynetdicom_send(port, stack.ae, few[1:2], tls=site.client(site.device)).values()) == {0}
            wait_for_arrivals(destination, few[1:2], 30, stack.logs)
            install(later, later.own)
            for role in ("gateway-out", "gateway-in"):
                os.kill(stack[role].pid, signal.SIGHUP)
                wait_until("it to be taken over", lambda role=role: not stack.status(role)["last_reload"].get("refused"), 20, stack.logs)
            assert not greets(port, site.client(site.device)) and greets(port, later.client(later.device))
            destination.stop()
            destination._tls = later.server(later.device)
            destination.start()
            assert set(senders.pynetdicom_send(port, stack.ae, few[2:], tls=later.client(later.device)).values()) == {0}
            wait_for_arrivals(destination, few, 40, stack.logs)


@pytest.mark.proves("out/security/tls-report")
def test_storage_commitment_is_reported_over_tls(make_stack, few, site, foreign):
    with PynetdicomScp() as destination, Asker(listens=True, tls=site.server(site.device)) as asker:
        stack = make_stack(to=destination.address)
        with stack.edit("gateway-out") as out:
            out["commitment"] = tomlkit.aot()
            entry = tomlkit.table()
            entry.update({"ae": asker.ae, "address": f"{HOST}:{asker.port}", "tls": site.call(site.own)})
            out["commitment"].append(entry)
        assert "over TLS" in stack.command("gateway-out", "check").stdout
        with stack:
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, few, calling=asker.ae).values()) == {0}
            report = asker.wait(asker.ask(stack.listen, stack.ae, few), stack.logs)
            assert report.event_type == 1 and report.committed == {one.sop_instance for one in few}
            # One that is somebody else is told nothing.
            asker.deaf()
            asker.tls = foreign.server(foreign.device)
            asker.listen()
            transaction = asker.ask(stack.listen, stack.ae, few)
            tries = lambda: [row for row in json.loads(stack.command("gateway-out", "commitments", "ls", "--json").stdout) if row["tries"]]
            [row] = wait_until("an attempt that failed", tries, 30, stack.logs)
            assert "UnknownIssuer" in row["reason"] and not asker.of(transaction), row


def test_check_names_the_file_and_the_line_of_what_cannot_be_used(make_stack, tmp_path, site):
    stack = make_stack(to=f"ANY@{HOST}:{free_ports()}")
    garbage, other = tmp_path / "garbage.pem", site.certificate("unrelated")
    garbage.write_text("nothing\n")
    good = {"cert": str(site.own.cert), "key": str(site.own.key)}
    cases = [
        ({"cert": str(tmp_path / "absent")}, "cert", "absent cannot be read"),
        ({"cert": str(garbage)}, "cert", "holds no certificate"),
        ({"key": str(tmp_path / "absent")}, "key", "absent cannot be read"),
        ({"key": str(site.own.cert)}, "key", "holds no private key"),
        ({"key": str(other.key)}, "key", "certificate and key cannot be used"),
        ({"CA": str(garbage)}, "CA", "holds no certificate"),
        ({"CA": str(tmp_path / "absent")}, "CA", "absent cannot be read"),
        ({"wrong": "x"}, "wrong", "unknown"),
    ]
    for change, key, what in cases:
        for role, authorities, where in (("gateway-out", "clients", "dicom.tls"), ("gateway-in", "ca", "destination[0].tls")):
            table = {**good, authorities: str(site.cert), **{authorities if name == "CA" else name: value for name, value in change.items()}}
            with stack.edit(role) as config:
                if role == "gateway-out":
                    config["dicom"]["tls"] = {"listen": f"{HOST}:{free_ports()}", **table}
                else:
                    config["destination"][0]["tls"] = table
            said = stack.command(role, "check", check=False)
            named = authorities if key == "CA" else key
            assert said.returncode == 64 and what in said.stderr and f"{role}.toml:" in said.stderr and named in said.stderr, (change, said)
            assert where in said.stderr or key == "wrong", said.stderr
    with stack.edit("gateway-in") as config:
        config["destination"][0]["tls"] = {**site.call(site.own), "name": "not a name"}
    said = stack.command("gateway-in", "check", check=False)
    assert said.returncode == 64 and "destination[0].tls.name" in said.stderr and "neither a host name nor an address" in said.stderr, said
