"""STOW-RS to a real server: Orthanc with its DICOMweb plugin. What arrives, what it takes to get in, and what happens while it is away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
from pathlib import Path

import pytest
import tomlkit
import verify_receipt

from harness import generate, part10, senders
from harness.destinations import Absent, wait_for_arrivals
from harness.peers.base import JPEG_2000_LOSSLESS, JPEG_BASELINE, RLE
from harness.processes import HOST, wait_until
from harness.stack import Stack, delivery_id, one_receipt_each
from harness.tls import Authority, Certificate
from harness.web import CUT, OrthancWeb, TlsFront, WebServer, response, secret, stored, to_web

SYNTAXES = (generate.IMPLICIT, generate.EXPLICIT, generate.BIG_ENDIAN, generate.DEFLATED, JPEG_BASELINE, JPEG_2000_LOSSLESS, RLE)


@pytest.fixture
def orthanc(tmp_path):
    """Starts an Orthanc; the test is skipped where there is none with the plugin."""
    with contextlib.ExitStack() as running:

        def start(**options: object) -> OrthancWeb:
            try:
                server = OrthancWeb(tmp_path, **options)
            except Absent as absent:
                pytest.skip(str(absent))
            return running.enter_context(server)

        yield start


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("tls"))
    authority.device = authority.certificate("server")
    authority.gateway = authority.certificate("gateway")
    return authority


def send(stack: Stack, instances: list) -> None:
    assert set(senders.pynetdicom_send(stack.listen, stack.ae, instances).values()) == {0}


def reload(stack: Stack) -> None:
    before = stack.status("gateway-in")["last_reload"]
    os.kill(stack["gateway-in"].pid, signal.SIGHUP)
    wait_until("the reload", lambda: stack.status("gateway-in")["last_reload"] != before, 20, stack.logs)


def log_of_in(stack: Stack, words: str) -> None:
    wait_until(f"gateway-in to log {words!r}", lambda: words in stack.log_text("gateway-in"), 20, stack.logs)


def test_every_transfer_syntax_arrives_byte_for_byte(make_stack, orthanc, tmp_path):
    sent = []
    for number, syntax in enumerate(SYNTAXES):
        sent += generate.study(tmp_path / f"in-{number}", 1, seed=300 + number, side=32, syntax=syntax)
    server = orthanc()
    with to_web(make_stack(), server.url) as stack:
        send(stack, sent)
        wait_for_arrivals(server, sent, 60, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, sent)
        receipt = json.loads(stack.receipt_file(delivery_id(stack.receipts()[0])).read_text())
        assert receipt["says"]["destination"] == f"destination (STOW-RS {server.url})"
        assert receipt["says"]["status"] == "0x0000"
        # Whoever is asked beside it knows the third kind, too.
        assert "answered" in stack.command("gateway-in", "echo", "destination").stdout
        probed = stack.command("gateway-in", "probe", "destination", check=False)
        assert probed.returncode == 1 and "negotiates nothing" in probed.stderr
        checked = stack.command("gateway-in", "check", "--connect").stdout
        assert f"is {server.url} at {HOST}:{server.http} without TLS" in checked, checked
        assert f"a POST of nothing to {server.url}/studies" in checked, checked


def test_a_study_of_a_hundred_over_kept_connections(make_stack, orthanc, small_study):
    server = orthanc()
    with to_web(make_stack(), server.url) as stack:
        answers = senders.storescu(stack.listen, stack.ae, [one.path for one in small_study])
        assert set(answers.values()) == {0}
        wait_for_arrivals(server, small_study, 60, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, small_study)
        # The same again is stored again: Orthanc says so, and there is a receipt for each.
        send(stack, small_study[:3])
        stack.wait_settled()
        assert len(stack.receipts()) == len(small_study) + 3


def test_both_verifiers_read_the_receipt(make_stack, orthanc, few):
    with to_web(make_stack(), orthanc().url) as stack:
        send(stack, few[:1])
        stack.wait_settled()
        wait_until("the countersignature", lambda: stack.receipts("gateway-in")[0]["countersigned"], 30, stack.logs)
        path = stack.receipt_file(delivery_id(stack.receipts()[0]))
        cards = (verify_receipt.Card(stack.card(role)) for role in ("gateway-in", "gateway-out"))
        proven = verify_receipt.verify(path.read_bytes().decode(), *cards)
        assert "STOW-RS http://" in proven["destination"]
        text = path.read_text().replace("/dicom-web", "/dicom-wib")
        with pytest.raises(verify_receipt.Refused):
            verify_receipt.verify(text, verify_receipt.Card(stack.card("gateway-in")))


@pytest.mark.proves("in/web/credentials")
def test_a_password_lets_us_in_and_another_waits_until_it_is_mended(make_stack, orthanc, tmp_path, few):
    server = orthanc(users={"sluis": "open sesame"})
    file = tmp_path / "password"
    user = {"name": "sluis", "passcode": secret(file, "open barley")}
    with to_web(make_stack(), server.url, user=user) as stack:
        send(stack, few)
        log_of_in(stack, "the service refuses our requests")
        assert "correct `bearer`, or `user`" in stack.log_text("gateway-in")
        assert stack.receipts() == [] and len(stack.queue()) == len(few)
        echoed = stack.command("gateway-in", "echo", "destination", check=False)
        assert echoed.returncode == 1 and "HTTP status 401" in echoed.stdout, echoed
        secret(file, "open sesame")
        reload(stack)
        wait_for_arrivals(server, few, 60, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, few)
        for role in ("gateway-in", "gateway-out"):
            assert not any(word in stack.log_text(role) for word in ("sesame", "barley")), f"{role} logs a password"


@pytest.mark.proves("in/web/credentials")
def test_a_token_is_shown_and_can_be_changed_without_a_restart(make_stack, tmp_path, few):
    token = secret(tmp_path / "token", "first.Token-1")
    allowed = {"Bearer first.Token-1"}

    def at_head(post) -> bytes | None:
        return None if post.field("Authorization") in allowed else response(401, b"", "Connection: close")

    with WebServer(at_head=at_head) as server, to_web(make_stack(), server.url, bearer=token) as stack:
        send(stack, few[:1])
        wait_for_arrivals(server, few[:1], 30, stack.logs)
        allowed.clear()
        allowed.add("Bearer second.Token-2==")
        secret(Path(token), "second.Token-2==")
        reload(stack)
        send(stack, few[1:2])
        wait_for_arrivals(server, few[:2], 30, stack.logs)
        stack.wait_settled()
        assert "Token" not in stack.log_text("gateway-in")


def speaking(own: Certificate) -> ssl.SSLContext:
    """Asks nobody for a certificate, as most web servers do."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own.cert, own.key)
    return context


@pytest.mark.proves("in/security/https")
def test_over_tls_by_an_authority_of_its_own(make_stack, orthanc, tmp_path, few, site):
    server = orthanc(users={"sluis": "sesame"})
    user = {"name": "sluis", "passcode": secret(tmp_path / "password", "sesame")}
    with TlsFront(server.http, speaking(site.device)) as front:
        with to_web(make_stack(), front.url, tls={"ca": str(site.cert)}, user=user) as stack:
            assert f"at {HOST}:{front.port} over TLS" in stack.command("gateway-in", "check").stdout
            send(stack, few)
            wait_for_arrivals(server, few, 60, stack.logs)
            stack.wait_settled()
            one_receipt_each(stack, few)


def test_a_client_certificate_is_shown_where_it_is_asked_for(make_stack, few, site):
    with WebServer(tls=site.server(site.device)) as server:
        own = {"cert": str(site.gateway.cert), "key": str(site.gateway.key)}
        with to_web(make_stack(), server.url, tls={"ca": str(site.cert), **own}) as stack:
            send(stack, few)
            wait_for_arrivals(server, few, 30, stack.logs)


def test_a_server_with_another_certificate_gets_nothing(make_stack, tmp_path, few, site):
    foreign = Authority(tmp_path / "foreign", "stranger")
    other = site.certificate("elsewhere", "DNS:elsewhere.example")

    for own in (foreign.certificate("server"), other):
        with WebServer(tls=speaking(own)) as server:
            stack = to_web(make_stack(own.cert.stem), server.url, tls={"ca": str(site.cert)})
            with stack:
                send(stack, few[:1])
                log_of_in(stack, "no TLS with the destination")
                assert server.posts == [] and len(stack.queue()) == 1
    # By the name that is written out the second one is the right one.
    with WebServer(tls=speaking(other)) as server:
        named = {"ca": str(site.cert), "name": "elsewhere.example"}
        with to_web(make_stack("named"), server.url, tls=named) as stack:
            send(stack, few[:1])
            wait_for_arrivals(server, few[:1], 30, stack.logs)


def test_a_url_with_a_name_is_called_at_its_address_by_its_name(make_stack, few, site):
    own = site.certificate("named", "DNS:pacs.example")
    with WebServer(tls=speaking(own)) as server:
        table = {"address": f"{HOST}:{server.port}", "tls": {"ca": str(site.cert)}}
        with to_web(make_stack(), "https://pacs.example/dicom-web", **table) as stack:
            send(stack, few)
            wait_for_arrivals(server, few, 30, stack.logs)
            assert {post.field("Host") for post in server.posts} == {"pacs.example"}


def test_what_comes_while_orthanc_is_away_arrives_once_it_is_back(make_stack, orthanc, small_study):
    server = orthanc()
    with to_web(make_stack(), server.url) as stack:
        send(stack, small_study[:10])
        wait_for_arrivals(server, small_study[:10], 60, stack.logs)
        server.stop()
        send(stack, small_study[10:40])
        log_of_in(stack, "destination is down")
        wait_until("all of them to wait", lambda: len(stack.queue()) == 30, 20, stack.logs)
        assert not next(iter(stack.status("gateway-in")["destinations"]))["up"]
        server.start()
        wait_for_arrivals(server, small_study[:40], 60, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, small_study[:40])
        assert next(iter(stack.status("gateway-in")["destinations"]))["up"]


def test_orthanc_that_is_killed_in_the_middle_has_each_instance_in_the_end(make_stack, orthanc, small_study):
    server = orthanc()
    with to_web(make_stack(), server.url) as stack:
        answers = senders.storescu(stack.listen, stack.ae, [one.path for one in small_study[:60]])
        assert set(answers.values()) == {0}
        wait_until("some to arrive", lambda: len(server.arrived()) > 5, 30, stack.logs)
        server.process.kill()
        server.start()
        wait_for_arrivals(server, small_study[:60], 90, stack.logs)
        stack.wait_settled(90)
        one_receipt_each(stack, small_study[:60])


@pytest.mark.proves("in/web/end")
def test_a_gateway_that_is_killed_within_a_body_leaves_no_part_for_the_whole(make_stack, tmp_path):
    large = generate.large(tmp_path / "large.dcm", 48 << 20, 7)
    stacks: list[Stack] = []

    def within(post) -> None:
        if len(server.posts) == 1 and len(post.body) > 8 << 20:
            stacks[0]["gateway-in"].kill()

    with WebServer(within=within) as server, to_web(make_stack(), server.url) as stack:
        stacks.append(stack)
        send(stack, [large])
        wait_until("gateway-in to be gone", lambda: not stack["gateway-in"].alive(), 30, stack.logs)
        wait_until("its connection to end", lambda: server.partial() and not server.whole(), 10)
        assert server.posts[0].parts() == [], "a part is complete although its gateway was killed"
        stack.start("gateway-in")
        wait_for_arrivals(server, [large], 60, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, [large])
        assert server.attempts[large.sop_instance] == 1


def test_a_gateway_that_is_killed_before_it_hears_the_answer_sends_again_and_says_so(make_stack, few):
    """What became of it nobody knows: it is sent again, and the receipt has the remark."""
    stacks: list[Stack] = []

    def behave(post, seen: int):
        if seen == 0:
            stacks[0]["gateway-in"].kill()
            return CUT
        return stored(post)

    with WebServer(behave) as server, to_web(make_stack(), server.url) as stack:
        stacks.append(stack)
        send(stack, few[:1])
        wait_until("gateway-in to be gone", lambda: not stack["gateway-in"].alive(), 30, stack.logs)
        stack.start("gateway-in")
        stack.wait_settled()
        assert server.attempts[few[0].sop_instance] == 2
        [receipt] = stack.receipts()
        says = json.loads(stack.receipt_file(delivery_id(receipt)).read_text())["says"]
        assert says["remark"] == "an earlier attempt had an unknown outcome"


def test_coercion_is_applied_and_the_receipt_has_both_digests(make_stack, few):
    with WebServer() as server:
        stack = to_web(make_stack(), server.url)
        with stack.edit("gateway-in") as receiving:
            coercions, table = tomlkit.aot(), tomlkit.table()
            route = receiving["route"][0]
            table.update({"from": str(route["from"]), "destination": str(route["destination"]), "prefix": {"PatientID": "N-"}})
            coercions.append(table)
            receiving["coercion"] = coercions
        with stack:
            send(stack, few[:1])
            stack.wait_settled()
            [post] = server.whole()
            assert b"N-PID" in post.body and post.field("Transfer-Encoding") == "chunked"
            [receipt] = stack.receipts()
            says = json.loads(stack.receipt_file(delivery_id(receipt)).read_text())["says"]
            assert says["received_sha256"] == few[0].digest() and says["data_sha256"] == post.digest != few[0].digest()


def test_the_file_that_arrives_has_our_meta_information(make_stack, orthanc, few, tmp_path):
    server = orthanc()
    with to_web(make_stack(), server.url) as stack:
        send(stack, few[:1])
        wait_for_arrivals(server, few[:1], 30, stack.logs)
        one = server.files()[few[0].sop_instance]
        assert (one.sop_class, one.transfer_syntax) == (few[0].sop_class, few[0].transfer_syntax)
        assert part10.data_set_digest(one.data_set()) == few[0].digest()
