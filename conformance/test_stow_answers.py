"""What gateway-in sends to a DICOM web service and makes of each answer, row by row of its Conformance Statement, and of answers
that no service should give."""

from __future__ import annotations

import contextlib
import time

import pytest

from harness import generate, senders
from harness.destinations import wait_for_arrivals
from harness.processes import free_ports, wait_until
from harness.proofs import committed
from harness.rawul import Closed, Requestor
from harness.stack import Stack, delivery_id, one_receipt_each
from harness.web import CUT, SILENT, Post, WebServer, failed, response, stored, to_web

PATIENT = "Test^Conformance"


def send(stack: Stack, instances: list) -> None:
    assert set(senders.pynetdicom_send(stack.listen, stack.ae, instances).values()) == {0}


def parked(stack: Stack) -> dict[str, dict]:
    return {row["delivery"]: row for row in stack.queue() if "parked" in str(row).lower()}


def outcomes() -> list[dict]:
    return [row for row in committed("gateway-in")["outcomes"] if row["operation"] == "Store Instances"]


def first_of(status: str) -> int:
    """An HTTP status that a row stands for; where it has a class, one that no other row has."""
    return {"2xx": 206, "3xx": 307, "5xx": 501, "any other": 418}.get(status) or int(status)


# -- what is sent ---------------------------------------------------------------------------------------------------


@pytest.mark.proves(
    "in/web/store", "in/web/resource", "in/web/content-type", "in/web/accept", "in/web/transfer-syntax", "in/web/framing",
)  # fmt: skip
def test_a_request_is_one_instance_with_a_length_or_in_chunks(make_stack, prove, tmp_path, few):
    large = generate.large(tmp_path / "large.dcm", 20 << 20, 11)
    with WebServer() as server, to_web(make_stack(), server.url) as stack:
        send(stack, [*few, large])
        wait_for_arrivals(server, [*few, large], 60, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, [*few, large])
        boundaries = set()
        for post in server.whole():
            assert post.line == "POST /dicom-web/studies HTTP/1.1"
            assert post.field("Host") == server.url.split("/")[2]
            assert post.field("Accept") == prove("in/web/accept")["value"]
            assert post.field("Content-Type") == f"{prove('in/web/content-type')['value']}; boundary={post.boundary.decode()}"
            assert len(post.boundary) >= 32, "fewer than 128 random bits"
            [(head, file)] = post.parts()
            assert head == b"Content-Type: application/dicom" and file[128:132] == b"DICM"
            assert (post.field("Content-Length") is None) == (post.sop_instance == large.sop_instance)
            assert bool(post.chunks) == (post.field("Transfer-Encoding") == "chunked")
            assert post.field("Authorization") is None
            boundaries.add(post.boundary)
        assert len(boundaries) == len(server.whole())


@pytest.mark.proves("in/web/connections-max")
def test_studies_are_spread_over_connections_that_are_kept(make_stack, prove, tmp_path, few):
    most = int(prove("in/web/connections-max")["value"])
    studies = [generate.study(tmp_path / f"{seed}", 4, seed, side=16) for seed in range(400, 408)]

    def behave(post: Post, _seen: int) -> bytes:
        time.sleep(0.05)
        return stored(post)

    with WebServer(behave) as server, to_web(make_stack(), server.url) as stack:
        # The first of all may come to the relay before gateway-in has, and is then deposited again.
        send(stack, few)
        stack.wait_settled()
        send(stack, [one for slices in zip(*studies, strict=True) for one in slices])
        wait_for_arrivals(server, [*few, *(one for study in studies for one in study)], 60, stack.logs)
        stack.wait_settled()
        assert 1 < server.most <= most
        assert len({post.connection for post in server.whole()}) <= most
        for study in studies:
            order = [post.sop_instance for post in server.whole() if post.sop_instance in {one.sop_instance for one in study}]
            assert order == [one.sop_instance for one in study], "a study changed its order"


# -- what follows ---------------------------------------------------------------------------------------------------


def test_what_follows_from_each_http_status(make_stack, prove, tmp_path):
    """One instance for each row, all at once; the service answers its status first, and that it is stored if it is asked again."""
    rows = [row for row in outcomes() if not row["claim"].startswith("in/outcome/stow-")]
    sent = generate.study(tmp_path / "in", len(rows), seed=420, side=8)
    codes = {one.sop_instance: first_of(row["status"]) for one, row in zip(sent, rows, strict=True)}

    def behave(post: Post, seen: int) -> bytes:
        code = codes[post.sop_instance]
        return stored(post) if seen else response(code, PATIENT.encode(), "Location: http://127.0.0.1:1/elsewhere")

    with WebServer(behave) as server, to_web(make_stack(), server.url) as stack:
        send(stack, sent)
        refused = [row for row in rows if "refused" in row["follows"]]
        assert len(refused) == 2
        wait_until("only what was refused in the queue", lambda: len(parked(stack)) == len(stack.queue()) == len(refused), 60, stack.logs, 0.3)
        receipts = {delivery_id(receipt): receipt for receipt in stack.receipts()}
        for one, row in zip(sent, rows, strict=True):
            prove(row["claim"])
            [delivery] = stack.why(one.sop_instance)
            attempts, http = server.attempts[one.sop_instance], codes[one.sop_instance]
            if row in refused:
                status = row["follows"].removeprefix("as status ").split(":")[0]
                assert attempts == 1 and status in str(parked(stack)[delivery_id(delivery)]).upper(), row
            else:
                assert attempts == 2 and "stored" in str(receipts[delivery_id(delivery)]), (row, http)
        log = stack.log_text("gateway-in")
        assert PATIENT not in log and PATIENT not in stack.log_text("gateway-out")
        prove("in/web/redirects")
        assert "redirects are not followed" in log and "elsewhere" not in log
        prove("in/failure/fault"), prove("in/failure/busy")
        assert "the web service refuses our requests (HTTP status 401)" in log
        assert "the web service takes no requests for now (HTTP status 503)" in log
        assert "somebody" in str([row for row in rows if row["claim"] == "in/outcome/http-401"])


def test_what_follows_from_what_is_said_of_the_instance(make_stack, prove, tmp_path):
    """As the same status in a C-STORE response; whatever stands among failures is not stored."""
    cases = [
        (lambda post: stored(post), "stored", "0x0000"),
        (lambda post: stored(post, 0xB000, 202), "stored", "0xB000"),
        (lambda post: failed(post, 0xA700), "again", None),
        (lambda post: failed(post, 0x0110, 200), "again", None),
        (lambda post: failed(post, None, 202), "again", None),
        (lambda post: failed(post, 0xB000, 200), "again", None),
        (lambda post: failed(post, 0x0000, 200), "again", None),
        (lambda post: failed(post, 0xA900), "refused", "0xA900"),
        (lambda post: failed(post, 0xC122, 200), "refused", "0xC122"),
        (lambda post: failed(post, 0x0122, 400), "refused", "0x0122"),
    ]
    sent = generate.study(tmp_path / "in", len(cases), seed=430, side=8)
    deeds = {one.sop_instance: case[0] for one, case in zip(sent, cases, strict=True)}

    def behave(post: Post, seen: int) -> bytes:
        return stored(post) if seen else deeds[post.sop_instance](post)

    with WebServer(behave) as server, to_web(make_stack(), server.url) as stack:
        send(stack, sent)
        refused = sum(case[1] == "refused" for case in cases)
        wait_until("only what was refused in the queue", lambda: len(parked(stack)) == len(stack.queue()) == refused, 60, stack.logs, 0.3)
        receipts = {delivery_id(receipt): receipt for receipt in stack.receipts()}
        for one, (_, want, status) in zip(sent, cases, strict=True):
            [delivery] = stack.why(one.sop_instance)
            identifier, attempts = delivery_id(delivery), server.attempts[one.sop_instance]
            assert attempts == (2 if want == "again" else 1), (want, status)
            if status:
                assert status.removeprefix("0x") in str(receipts[identifier]), (want, status)
            assert (identifier in parked(stack)) == (want == "refused")
        assert PATIENT not in stack.log_text("gateway-in"), "the service's own words are in the log"
        prove("in/outcome/stow-stored"), prove("in/outcome/stow-failed")


def test_a_site_may_give_a_failure_another_sense(make_stack, few):
    with WebServer(lambda post, _seen: failed(post, 0xB00E)) as server:
        with to_web(make_stack(), server.url, status={"B00E": "stored"}) as stack:
            send(stack, few[:1])
            stack.wait_settled()
            [receipt] = stack.receipts()
            assert "B00E" in str(receipt).upper()


# -- while it cannot ------------------------------------------------------------------------------------------------


@pytest.mark.proves("in/web/probe", "in/web/retry-after")
def test_a_busy_service_is_left_alone_for_as_long_as_it_says_and_asked_by_nothing(make_stack, few):
    """Busy for 3 s by its own word, although it is asked twice a second by default; then the first question is the one without a part."""
    busy = {"until": None}

    def at_head(post: Post) -> bytes | None:
        now = time.monotonic()
        if busy["until"] is None:
            busy["until"] = now + 3
        return response(503, b"", "Retry-After: 3", "Connection: close") if now < busy["until"] else None

    with WebServer(at_head=at_head) as server, to_web(make_stack(), server.url) as stack:
        send(stack, few)
        wait_for_arrivals(server, few, 30, stack.logs)
        stack.wait_settled()
        one_receipt_each(stack, few)
        first, then = server.posts[0], server.posts[1]
        assert then.at - first.at >= 2.9, "it was asked before the time that it gave"
        assert then.whole and then.sop_instance is None and then.field("Content-Length")


def test_a_service_that_is_not_there_is_asked_by_nothing_before_it_gets_something(make_stack, few):
    port = free_ports()
    with to_web(make_stack(), f"http://127.0.0.1:{port}/dicom-web") as stack:
        send(stack, few)
        wait_until("the destination to be known as down", lambda: "destination is down" in stack.log_text("gateway-in"), 15, stack.logs)
        with WebServer(port=port) as server:
            wait_for_arrivals(server, few, 30, stack.logs)
            assert server.posts[0].sop_instance is None
            stack.wait_settled()
            one_receipt_each(stack, few)


# -- services that no site should have ------------------------------------------------------------------------------

LATE = "no answer; the instance may be stored"
UNSAID = "the service does not say that it has the instance"
HOSTILE = {
    "garbage instead of HTTP": (lambda _: b"SSH-2.0-OpenSSH_9.2\r\n\r\nConnection: close", LATE),
    "another protocol": (lambda _: b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: close\r\n\r\n", LATE),
    "a cut before the answer": (lambda _: CUT, LATE),
    "a cut within the head": (lambda _: b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-", LATE),
    "a cut within the body": (lambda post: stored(post)[:-20].replace(b"\r\n", b"\r\nConnection: close\r\n", 1), UNSAID),
    "silence": (lambda _: SILENT, LATE),
    "no JSON": (lambda _: response(200, b"<html>It works!</html>"), UNSAID),
    "nothing": (lambda _: response(204), UNSAID),
    "an empty data set": (lambda _: response(200, {}), UNSAID),
    "another instance": (lambda post: stored(Post("", [], 0, sop_instance="1.2.3")), UNSAID),
    "two lengths": (lambda post: stored(post).replace(b"\r\n", b"\r\nContent-Length: 3\r\nConnection: close\r\n", 1), LATE),
    "a body without an end": (lambda _: b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * (1 << 20), UNSAID),
    "a head without an end": (lambda _: b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + b"X: y\r\n" * 20_000, LATE),
    "a chunk that is none": (lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n", UNSAID),
    "nested without an end": (lambda _: response(200, b"[" * 200_000), UNSAID),
}


@pytest.mark.proves("in/web/answer-max")
def test_an_answer_that_is_none_is_no_success(make_stack, tmp_path):
    """Each first for one instance, which is sent again; nothing is refused, nothing counts as stored, and nobody panics."""
    sent = generate.study(tmp_path / "in", len(HOSTILE), seed=440, side=8)
    deeds = {one.sop_instance: deed for one, (deed, _) in zip(sent, HOSTILE.values(), strict=True)}

    def behave(post: Post, seen: int):
        return stored(post) if seen else deeds[post.sop_instance](post)

    with WebServer(behave) as server, to_web(make_stack(), server.url, response_timeout="2s") as stack:
        send(stack, sent)
        stack.wait_settled(90)
        one_receipt_each(stack, sent)
        log = stack.log_text("gateway-in")
        for one, (name, (_, words)) in zip(sent, HOSTILE.items(), strict=True):
            assert server.attempts[one.sop_instance] == 2, name
            [delivery] = stack.why(one.sop_instance)
            lines = [line for line in log.splitlines() if delivery_id(delivery)[:8] in line and words in line]
            assert lines, f"{name}: {words!r} is not logged of {delivery_id(delivery)[:8]}"


def test_whoever_says_continue_or_answers_in_chunks_is_understood(make_stack, few):
    def at_head(_post: Post) -> bytes:
        return b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"

    def behave(post: Post, _seen: int) -> bytes:
        head, body = stored(post).split(b"\r\n\r\n", 1)
        pieces = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:]))
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"

    with WebServer(behave, at_head) as server, to_web(make_stack(), server.url) as stack:
        send(stack, few)
        stack.wait_settled()
        one_receipt_each(stack, few)
        assert all(count == 1 for count in server.attempts.values())


@pytest.mark.proves("in/web/end")
@pytest.mark.parametrize("deed", ["success", "refusal", "cut"])
def test_a_service_that_has_enough_before_the_end_never_has_stored(make_stack, tmp_path, deed):
    """Within the body of a large instance: that it is stored, that it is too large, or nothing. Only a refusal is believed."""
    large = generate.large(tmp_path / "large.dcm", 24 << 20, 13)

    def within(post: Post):
        if len(server.posts) > 1:
            return None
        named = Post("", [], 0, sop_instance=large.sop_instance)
        return {"success": stored(named), "refusal": response(413, b"", "Connection: close"), "cut": CUT}[deed]

    with WebServer(within=within) as server, to_web(make_stack(), server.url) as stack:
        send(stack, [large])
        if deed == "refusal":
            wait_until("it to be parked", lambda: parked(stack), 30, stack.logs)
            [row] = parked(stack).values()
            assert "C413" in str(row).upper()
            assert server.whole() == []
            assert "client_max_body_size" in stack.log_text("gateway-in") or "raise the limit" in stack.log_text("gateway-in")
        else:
            stack.wait_settled()
            one_receipt_each(stack, [large])
            assert len(server.whole()) == 1
        assert server.partial(), "the first body has not come to its end"


@pytest.mark.proves("in/web/end", "in/failure/incomplete")
@pytest.mark.parametrize("ending", ["close", "abort", "mismatch", "truncated"])
def test_a_large_instance_that_is_not_accepted_never_ends_at_the_service(make_stack, tmp_path, few, ending):
    """It streams through while it arrives; its end does not leave before every check has passed, and the connection is reset."""
    large = generate.large(tmp_path / "large.dcm", 40 << 20, seed=61)
    data_set = large.data_set()
    with WebServer() as server, to_web(make_stack(), server.url) as stack:
        link = Requestor(stack.listen, stack.ae, {1: (large.sop_class, [large.transfer_syntax])})
        link.begin(1, large.sop_class, "1.2.3.4" if ending == "mismatch" else large.sop_instance)
        link.data(1, data_set[: 30 << 20], last=False)
        if ending != "mismatch":
            wait_until("some of it to be at the service", lambda: any(post.body for post in server.posts), 30, stack.logs)
        if ending in ("mismatch", "truncated"):
            link.data(1, data_set[30 << 20 : -2])
            assert link.answer() in (0xA900, *range(0xC000, 0xD000))
            link.release()
        else:
            with contextlib.suppress(Closed, OSError):
                getattr(link, ending)()
        send(stack, few)
        wait_for_arrivals(server, few, 30, stack.logs)
        stack.wait_settled()
        for post in server.partial():
            wait_until("its connection to end", lambda post=post: post.ended, 10)
            assert post.ended == "reset" and post.parts() == []
            assert len(post.body) < len(data_set), "all of the data set has left before its end was known"
        assert server.arrived() == {one.sop_instance: (one.transfer_syntax, one.digest()) for one in few}
        assert ending == "mismatch" or server.partial(), "nothing of it was on its way"
        # The same instance, whole, passes afterwards.
        assert senders.storescu(stack.listen, stack.ae, [large.path]) == {large.path: 0}
        wait_for_arrivals(server, [large], 30, stack.logs)


def test_one_that_takes_nothing_holds_up_nobody_else(make_stack, tmp_path, few):
    """A service that stops reading gives its instance back after `response_timeout`; another destination goes on meanwhile."""
    large = generate.large(tmp_path / "large.dcm", 40 << 20, 17)
    with WebServer(within=lambda _: SILENT) as stuck, WebServer() as other:
        stack = to_web(make_stack(), stuck.url, response_timeout="2s")
        stack.add_route("OTHER", "other", kind="stow", url=other.url)
        with stack:
            send(stack, [large])
            wait_until("the stuck one to have some", lambda: stuck.posts and stuck.posts[0].body, 20, stack.logs)
            assert set(senders.pynetdicom_send(stack.listen, "OTHER", few).values()) == {0}
            wait_for_arrivals(other, few, 20, stack.logs)
            wait_until("the first to be tried again", lambda: len(stuck.posts) > 1, 30, stack.logs)
            assert stuck.whole() == []
