"""The status pages of both gateways: what they say of a quiet, a refusing and an absent destination, whom they turned away, and no patient.

`SCREENSHOTS=DIR` also leaves pictures of them there, where a Chromium is installed; no test needs one.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from harness import generate, part10, senders
from harness.destinations import PynetdicomScp, wait_for_arrivals
from harness.processes import HOST, wait_until
from harness.rawul import Acceptor, Rejected, Requestor
from harness.stack import Stack

NAME = "Zilverschoon^Lieselotte"
COMMENT = "Zilverschoon is unknown here"
VOID = {"meta", "br", "img", "link", "input", "hr"}
HOSTILE = "<b onload='x'>"


class Talkative(PynetdicomScp):
    """Says whose instance it refuses, as some PACS do."""

    def _store(self, event):
        status = super()._store(event)
        if not isinstance(status, int) or status == 0:
            return status
        answer = Dataset()
        answer.Status, answer.ErrorComment = status, COMMENT
        return answer


class Page(HTMLParser):
    """Parses strictly: every element is closed in its turn. Keeps headings, captions, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source, self.stack, self.text, self.tables, self.headings = text, [], "", [], []
        self.elements: list[tuple[str, dict]] = []
        assert text.startswith("<!DOCTYPE html>")
        self.feed(text)
        self.close()
        assert not self.stack, f"not closed: {self.stack}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice: {tag} {names}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag in ("h1", "h2", "h3", "caption", "title"):
            self.headings.append("")

    def handle_startendtag(self, tag, attrs):
        raise AssertionError(f"<{tag}/>")

    def handle_endtag(self, tag):
        assert self.stack and self.stack[-1] == tag, f"</{tag}> in {self.stack}"
        self.stack.pop()

    def handle_data(self, data):
        if "style" in self.stack:
            return
        plain = data.replace("\u202f", " ").replace("\u00a0", " ")
        self.text += plain + " "
        if self.headings and self.stack and self.stack[-1] in ("h1", "h2", "h3", "caption", "title"):
            self.headings[-1] += plain

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]

    def title(self) -> str:
        return self.headings[0]


def fetch(stack: Stack, role: str) -> Page:
    with urllib.request.urlopen(f"http://{HOST}:{stack._admin_ports[role]}/", timeout=10) as answer:
        assert answer.status == 200
        headers, body = answer.headers, answer.read().decode()
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy and "frame-ancestors 'none'" in policy, policy
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    page = Page(body)
    accessible(page)
    return page


def accessible(page: Page) -> None:
    """What a reader without eyes, script or colours relies on; nothing that loads or acts."""
    tags = {tag for tag, _ in page.elements}
    assert page.all("html")[0].get("lang") == "en" and len(page.all("h1")) == 1 and len(page.all("main")) == 1
    assert not tags & {"script", "form", "input", "button", "link", "img", "iframe", "object", "embed"}, tags
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    labelled = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert set(labelled) <= set(identifiers)
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], attributes
        assert not attributes.get("href", "/").startswith(("http", "//")) and "src" not in attributes
    [drawing] = page.all("svg")
    assert drawing["role"] == "img" and drawing["aria-label"]
    [refresh] = [meta for meta in page.all("meta") if meta.get("http-equiv") == "refresh"]
    assert refresh["content"].isdigit()
    for words in page.source.split('class="standing ')[1:]:
        assert any(word in words[:120] for word in ("good<", "waiting<", "held up<", "alarmed<")), "a state by colour alone"


@pytest.fixture
def planted(tmp_path):
    source = random.Random(77)
    study, series = generate.uid(source), generate.uid(source)
    made = []
    for number in range(1, 7):
        name = generate.uid(source)
        head = generate.header(generate.CT_IMAGE, name, study, series, generate.EXPLICIT, number, 64, 64, 1, NAME, 700 + number)
        encoded = head + generate.element(0x7FE0_0010, b"OW", bytes(8192))
        made.append(part10.write(tmp_path / "planted" / f"{number}.dcm", generate.CT_IMAGE, name, generate.EXPLICIT, encoded))
    return made, [NAME, NAME.split("^")[0], study, series, *(one.sop_instance for one in made)]


def silent_about(needles: list[str], *pages: Page) -> None:
    for page in pages:
        assert not [needle for needle in needles if needle in page.source], "patient data on a page"
        assert "2.25." not in page.source and "1.2.840." not in page.source, "a UID on a page"


def picture(stack: Stack, role: str, name: str) -> None:
    """Leaves pictures, light and dark, wide and narrow, where somebody asked for them."""
    folder, browser = os.environ.get("SCREENSHOTS"), shutil.which("chromium")
    if not folder:
        return
    if not browser:
        print("SKIPPED: no chromium, so no pictures")
        return
    address = f"http://{HOST}:{stack._admin_ports[role]}/"
    for width, height in ((1280, 1500), (390, 3300)):
        for dark in (False, True):
            to = Path(folder) / f"{role}-{name}-{width}-{'dark' if dark else 'light'}.png"
            command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},{height}"]
            if dark:
                command += ["--blink-settings=preferredColorScheme=0"]
            subprocess.run([*command, f"--screenshot={to}", address], check=True, capture_output=True, timeout=120)


def test_a_quiet_gateway_says_that_all_is_good(make_stack, few):
    with Acceptor() as destination, make_stack(to=destination.address) as stack:
        out, receiving = fetch(stack, "gateway-out"), fetch(stack, "gateway-in")
        assert out.title().startswith("good") and receiving.title().startswith("good")
        for page, role in ((out, "gateway-out"), (receiving, "gateway-in")):
            for heading in ("Last 24 hours", "Routes", "Refusals", "Relays", "Peers and keys", "Disk left", "Configuration"):
                assert heading in page.headings, (role, page.headings)
            assert hashlib.sha256(stack.config(role).read_bytes()).hexdigest() in page.text
            assert f"{role}.toml" in page.text and "connected" in page.text and "in 729 d" in page.text
        assert "nothing is owed" in out.text and "Nobody was turned away since the start." in out.text
        picture(stack, "gateway-out", "empty")
        picture(stack, "gateway-in", "empty")
        picture(stack, "relay", "empty")


def test_what_was_sent_is_counted_and_never_named(make_stack, planted):
    """Through success, a refusal with a comment, a rejected association with a hostile title, and an absent receiver."""
    made, needles = planted
    refused = made[0].sop_instance

    def behave(name: str, _seen: int) -> int:
        return 0xC123 if name == refused else 0

    with Talkative(behave=behave) as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        with stack:
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, made).values()) == {0}
            wait_for_arrivals(destination, made[1:], 40, stack.logs)
            wait_until("the refused one to be parked", lambda: "parked" in str(stack.queue()), 20, stack.logs)
            link = Requestor(stack.listen, stack.ae, {1: (generate.CT_IMAGE, [generate.EXPLICIT])})
            first, second = made[1:3]
            assert link.store(1, first.sop_class, second.sop_instance, first.data_set()) == 0xA900
            link.release()
            with pytest.raises(Rejected):
                Requestor(stack.listen, "NOBODY", {1: (generate.CT_IMAGE, [generate.EXPLICIT])}, calling=HOSTILE)

            out = fetch(stack, "gateway-out")
            assert out.title().startswith("alarmed"), out.title()
            assert "1 parked: an operator has to retry or discard them" in out.text
            assert "C123" in out.text and "A900" in out.text
            assert HOSTILE in out.text and HOSTILE not in out.source, "the hostile title is text"
            assert "called AE title is no route's" in out.text
            wait_until("five receipts", lambda: "receipts: 5 (" in fetch(stack, "gateway-out").text, 20, stack.logs)
            out, receiving = fetch(stack, "gateway-out"), fetch(stack, "gateway-in")
            assert "taken in: 6 (" in out.text
            assert "stored: 5 (" in receiving.text and "C123" in receiving.text and "refused" in receiving.text
            silent_about(needles, out, receiving)
            picture(stack, "gateway-out", "alarmed")
            picture(stack, "gateway-in", "refused")

            stack["relay"].stop()
            wait_until("both to notice", lambda: all("not connected, and there is no other" in fetch(stack, role).text for role in ("gateway-out", "gateway-in")), 60, stack.logs)
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, made[1:2]).values()) == {0}
            out, receiving = fetch(stack, "gateway-out"), fetch(stack, "gateway-in")
            assert receiving.title().startswith("held up")
            silent_about(needles, out, receiving)


def test_a_file_that_cannot_be_used_stands_at_the_top(make_stack):
    with Acceptor() as destination, make_stack(to=destination.address) as stack:
        for role in ("gateway-out", "gateway-in"):
            before = stack.config(role).read_text()
            stack.config(role).write_text(before + "\nnonsense = 1\n[never]\n")
            os.kill(stack[role].pid, signal.SIGHUP)
            wait_until(f"{role} to refuse it", lambda role=role: "The last reload was refused" in fetch(stack, role).text, 20, stack.logs)
            assert fetch(stack, role).title().startswith("alarmed")
            stack.config(role).write_text(before + "\n# mended\n")
            os.kill(stack[role].pid, signal.SIGHUP)
            wait_until(f"{role} to take it", lambda role=role: fetch(stack, role).title().startswith("good"), 20, stack.logs)


def test_the_page_keeps_the_rules_of_the_port_and_changes_nothing(make_stack):
    """As `/metrics`: not by a foreign name, and only by GET."""
    with Acceptor() as destination, make_stack(to=destination.address) as stack:
        for role in ("gateway-out", "gateway-in"):
            address = f"http://{HOST}:{stack._admin_ports[role]}/"
            for request, status in (
                (urllib.request.Request(address, headers={"Host": "evil.example"}), 421),
                (urllib.request.Request(address, data=b"{}", method="POST"), 405),
                (urllib.request.Request(f"{address}nothing"), 404),
            ):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(request, timeout=10)
                assert refused.value.code == status
