"""`[[coercion]]` at gateway-in: identifiers of one site do not enter another's archive as its own; previous values are kept, repeats have
the same bytes, memory stays flat."""

from __future__ import annotations

import json
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
import tomlkit
import verify_receipt
from verify_receipt import Card

from harness import generate, part10, senders
from harness.destinations import Absent, Orthanc, PynetdicomScp
from harness.generate import EXPLICIT, IMPLICIT
from harness.part10 import Instance
from harness.processes import HOST, Daemon, free_ports, run, wait_until
from harness.rawul import Acceptor, Behaviour
from harness.stack import Stack, binary, delivery_id

MIB = 1 << 20
GATEWAY_RSS_MAX = 96 * MIB
ORIGINALS = "OriginalAttributesSequence"
KEYWORDS = (
    "AccessionNumber", "IssuerOfAccessionNumberSequence", "InstitutionName", "PatientID", "IssuerOfPatientID", "OtherPatientIDsSequence", "StudyID",
)  # fmt: skip


def coerce(stack: Stack, sender: str = "gateway-out", destination: str = "destination", **deeds: object) -> None:
    with stack.edit("gateway-in") as receiving:
        table = tomlkit.table()
        table.update({"from": sender, "destination": destination, **deeds})
        receiving.setdefault("coercion", tomlkit.aot()).append(table)


def instance(directory: Path, seed: int, more: bytes = b"", syntax: str = EXPLICIT, before: int = 0x0010_0010, patient: str = "P1") -> Instance:
    """A slice of that patient, with other elements before the given tag."""
    [made] = generate.study(directory, 1, seed, syntax=syntax)
    data = made.data_set()
    known = f"PID{seed * 100_000 + 1 & 0xFFFF}".encode()
    known += b" " * (len(known) % 2)
    old, new = generate.element(0x0010_0020, b"LO", known, syntax), generate.element(0x0010_0020, b"LO", patient.encode(), syntax)
    assert data.count(old) == 1
    data = data.replace(old, new)
    at = data.index(bytes([before >> 16 & 255, before >> 24, before & 255, before >> 8 & 255]))
    return part10.write(directory / f"{seed}.dcm", made.sop_class, made.sop_instance, syntax, data[:at] + more + data[at:])


def delivered(destination: PynetdicomScp, one: Instance, stack: Stack) -> pydicom.Dataset:
    wait_until("the instance", lambda: one.sop_instance in destination.arrived(), 30, stack.logs)
    return pydicom.dcmread(destination.files()[one.sop_instance].path)


def says_of(stack: Stack, one: Instance) -> dict:
    """The receipt, after both verifiers have taken it."""
    stack.wait_settled()
    path = stack.receipt_file(delivery_id(stack.why(one.sop_instance)[-1]))
    done = stack.verify_receipt(path)
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = verify_receipt.verify(path.read_text(), Card(stack.card("gateway-in")), Card(stack.card("gateway-out")))
    says = json.loads(path.read_text())["says"]
    assert {key: theirs[key] for key in says} == says
    return says


@dataclass
class Site:
    """Another sending hospital: a gateway-out of its own, with the same relay and receiver."""

    daemon: Daemon
    listen: int


def another_site(stack: Stack, name: str, title: str) -> Site:
    """Its gateway-out, exchanged cards, a tenant of the relay, and a route to the same destination."""
    directory, listen, admin, identifier = stack.directory / name, free_ports(), free_ports(), "5e" * 16
    directory.mkdir()
    config = directory / "gateway-out.toml"
    where = ["--listen", f"{HOST}:{listen}", "--admin", f"{HOST}:{admin}"]
    run([binary("gateway-out"), "init", "--name", name, "--config", config, *where], 60)
    card = directory / f"{name}.card"
    own = tomlkit.parse(config.read_text())
    known = tomlkit.parse(stack.config("gateway-out").read_text())
    for key in ("relay", "peer", "route"):
        table = tomlkit.table()
        table.update(known[key][0].unwrap())
        if "card" in table:
            table["card"] = str(stack.directory / str(table["card"]))
        if key == "route":
            table.update({"id": identifier, "ae": title})
        own[key] = tomlkit.aot()
        own[key].append(table)
    config.write_text(tomlkit.dumps(own))
    with stack.edit("relay") as relay:
        tenant = tomlkit.table()
        tenant.update({"name": name, "card": str(card), "deposit_for": ["gateway-in"]})
        relay["tenant"].append(tenant)
    with stack.edit("gateway-in") as receiving:
        peer = tomlkit.table()
        peer.update({"name": name, "card": str(card)})
        receiving["peer"].append(peer)
        route = tomlkit.table()
        route.update({**receiving["route"][0].unwrap(), "id": identifier, "from": name})
        receiving["route"].append(route)

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{admin}/readyz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    command = [binary("gateway-out"), "run", "--config", config]
    return Site(Daemon(name, command, directory / f"{name}.log", ready, {"RUST_LOG": "info"}, cwd=directory), listen)


def test_two_sites_send_one_patient_id_and_the_archive_has_two_patients(make_stack, tmp_path):
    try:
        archive = Orthanc(tmp_path)
    except Absent as absent:
        pytest.skip(str(absent))
    with archive:
        stack = make_stack(to=archive.address)
        south = another_site(stack, "south", "SOUTH")
        warned = stack.command("gateway-in", "check").stdout
        assert warned.count("as if they were its own") == 2 and "from south to destination" in warned, warned
        coerce(stack, prefix={"PatientID": "N-", "AccessionNumber": "N-"}, set={"IssuerOfPatientID": "NORTH"})
        with stack.edit("gateway-in") as receiving:
            receiving["route"][1]["foreign_ids"] = "accepted"
        checked = stack.command("gateway-in", "check").stdout
        assert "as if they were its own" not in checked and "coercion: prefix AccessionNumber, set IssuerOfPatientID, prefix PatientID (rules " in checked
        one, other = instance(tmp_path / "north", 1, patient="4711"), instance(tmp_path / "south", 2, patient="4711")
        with stack:
            south.daemon.start()
            try:
                assert senders.pynetdicom_send(stack.listen, stack.ae, [one]) == {one.sop_instance: 0}
                assert senders.pynetdicom_send(south.listen, "SOUTH", [other]) == {other.sop_instance: 0}
                wait_until("both", lambda: len(json.loads(archive._get("/instances"))) == 2, 60, stack.logs)
                patients = {archive.get(f"/patients/{uid}")["MainDicomTags"]["PatientID"] for uid in json.loads(archive._get("/patients"))}
                assert patients == {"N-4711", "4711"}
            finally:
                south.daemon.stop()


@pytest.mark.proves("in/storage/original-attributes", *(f"in/storage/coercion-{keyword}" for keyword in KEYWORDS))
def test_each_attribute_by_each_deed(make_stack, tmp_path):
    """What the table says, previous values in an item, and every other byte as it was."""
    before = generate.element(0x0008_0051, b"SQ", _item(generate.element(0x0040_0031, b"UT", b"OLD")))
    institution = generate.element(0x0008_0080, b"LO", b"General")
    others = generate.element(0x0010_0021, b"LO", b"OLD") + generate.element(0x0010_1002, b"SQ", _item(generate.element(0x0010_0020, b"LO", b"X9")))
    study_id = generate.element(0x0020_0010, b"SH", b"S1")
    cases = {
        "SET": ({"set": {"AccessionNumber": "A1", "IssuerOfAccessionNumberSequence": "NORTH&1.2.3&ISO", "InstitutionName": "North", "PatientID": "P9", "IssuerOfPatientID": "N", "StudyID": "S9"}},
                {"AccessionNumber": "A1", "InstitutionName": "North", "PatientID": "P9", "IssuerOfPatientID": "N", "StudyID": "S9"}),
        "PREFIX": ({"prefix": {"AccessionNumber": "N-", "InstitutionName": "N-", "PatientID": "N-", "IssuerOfPatientID": "N-", "StudyID": "N-"}},
                   {"AccessionNumber": "N-ACC1", "InstitutionName": "N-General", "PatientID": "N-P1", "IssuerOfPatientID": "N-OLD", "StudyID": "N-S1"}),
        "COPY": ({"copy": {"InstitutionName": "AccessionNumber", "PatientID": "AccessionNumber", "IssuerOfPatientID": "InstitutionName", "StudyID": "PatientID"}},
                 {"AccessionNumber": "ACC1", "InstitutionName": "ACC1", "PatientID": "ACC1", "IssuerOfPatientID": "General", "StudyID": "P1"}),
        "REMOVE": ({"remove": list(KEYWORDS)},
                   {"AccessionNumber": "", "InstitutionName": None, "PatientID": "", "IssuerOfPatientID": None, "StudyID": ""}),
    }  # fmt: skip
    with PynetdicomScp(keep=tmp_path / "arrived") as destination:
        stack = make_stack(to=destination.address)
        for title in cases:
            stack.add_dicom_route(title, title.lower(), destination.address)
        for title, (deeds, _) in cases.items():
            coerce(stack, destination=title.lower(), **deeds)
        with stack:
            for number, (title, (deeds, wanted)) in enumerate(cases.items()):
                one = instance(tmp_path / title, 10 + number)
                data = one.data_set()
                for tag, more in ((0x0008_0060, before + institution), (0x0020_000D, others), (0x0020_0013, study_id)):
                    at = data.index(bytes([tag >> 16 & 255, tag >> 24, tag & 255, tag >> 8 & 255]))
                    data = data[:at] + more + data[at:]
                known = generate.element(0x0008_0050, b"SH", f"ACC{(10 + number) * 100_000 + 1 & 0xFFFF}".encode())
                assert data.count(known) == 1
                data = data.replace(known, generate.element(0x0008_0050, b"SH", b"ACC1"))
                one = part10.write(tmp_path / f"{title}.dcm", one.sop_class, one.sop_instance, EXPLICIT, data)
                assert senders.pynetdicom_send(stack.listen, title, [one]) == {one.sop_instance: 0}
                there, came = delivered(destination, one, stack), pydicom.dcmread(one.path)
                assert {key: None if there.get(key) is None else str(there[key].value) for key in wanted} == wanted, title
                issuer = there.get("IssuerOfAccessionNumberSequence")
                if title == "SET":
                    assert (issuer[0].LocalNamespaceEntityID, issuer[0].UniversalEntityID, issuer[0].UniversalEntityIDType) == ("NORTH", "1.2.3", "ISO")
                assert (issuer is None) == (title == "REMOVE") == ("OtherPatientIDsSequence" not in there)
                [item] = there[ORIGINALS].value
                [previous] = item.ModifiedAttributesSequence
                changed = {keyword for table in deeds.values() for keyword in table} if title != "COPY" else set(deeds["copy"])
                assert {e.keyword for e in previous} == changed
                assert all(previous[keyword].value == came[keyword].value for keyword in changed)
                assert (item.ModifyingSystem, item.SourceOfPreviousValues, item.ReasonForTheAttributeModification) == ("gateway-in", "gateway-out", "COERCE")
                for element in came:
                    assert element.keyword in changed or there[element.tag].value == element.value, element.tag
                assert there.PixelData == came.PixelData and there.SOPInstanceUID == came.SOPInstanceUID
                says = says_of(stack, one)
                assert (says["received_sha256"], says["data_sha256"]) == (one.digest(), destination.arrived()[one.sop_instance][1])
                assert says["received_syntax"] == says["stored_syntax"] == EXPLICIT
                rules = says["coercion"].removeprefix("rules ")
                assert f"(rules {rules})" in stack.command("gateway-in", "check").stdout


def _item(content: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + len(content).to_bytes(4, "little") + content


def test_a_repeat_has_the_same_bytes_also_after_a_restart(make_stack, tmp_path):
    """The first answer never comes; gateway-in is killed; the second attempt carries the time of the first."""
    one = instance(tmp_path, 20)
    with Acceptor(behave=lambda _, seen: Behaviour(silent=not seen)) as destination:
        stack = make_stack(to=destination.address)
        stack.quick_retries()
        coerce(stack, prefix={"PatientID": "N-"})
        with stack:
            assert senders.pynetdicom_send(stack.listen, stack.ae, [one]) == {one.sop_instance: 0}
            wait_until("the first", lambda: len(destination.arrivals) == 1, 30, stack.logs)
            # The modification's time has seconds: so many that another time would show.
            wait_until("another second", lambda: time.monotonic() - destination.arrivals[0].at > 2.5, 10)
            stack.restart("gateway-in")
            wait_until("the second", lambda: len(destination.arrivals) == 2, 60, stack.logs)
            first, second = destination.arrivals
            assert first.digest == second.digest != one.digest()
            says = says_of(stack, one)
            assert says["data_sha256"] == first.digest and "unknown outcome" in says["remark"]


def test_into_a_folder_and_together_with_re_encoding(make_stack, tmp_path):
    one, other = instance(tmp_path / "one", 30), instance(tmp_path / "other", 31, syntax=IMPLICIT)
    with Acceptor(refuses=frozenset({IMPLICIT, generate.DEFLATED})) as destination:
        stack = make_stack(to=destination.address)
        stack.add_route("FOLDER", "folder", kind="folder", dir=str(tmp_path / "inbox"))
        with stack.edit("gateway-in") as receiving:
            receiving["destination"][0]["reencode"] = "syntax-only"
        coerce(stack, destination="folder", prefix={"PatientID": "N-"})
        coerce(stack, set={"IssuerOfPatientID": "NORTH"})
        with stack:
            for _ in range(2):
                assert senders.pynetdicom_send(stack.listen, "FOLDER", [one]) == {one.sop_instance: 0}
                stack.wait_settled()
            [file] = part10.find(tmp_path / "inbox")[:1]
            assert pydicom.dcmread(file.path).PatientID == "N-P1" and says_of(stack, one)["data_sha256"]
            assert senders.pynetdicom_send(stack.listen, stack.ae, [other]) == {other.sop_instance: 0}
            says = says_of(stack, other)
            [arrival] = destination.arrivals
            assert arrival.transfer_syntax == EXPLICIT and says["data_sha256"] == arrival.digest
            assert (says["received_syntax"], says["stored_syntax"]) == (IMPLICIT, EXPLICIT) and says["coercion"].startswith("rules ")


@pytest.mark.proves("in/failure/not-coerced")
def test_what_cannot_be_coerced_is_refused_and_kept(make_stack, tmp_path):
    """A prefix that would make an identifier too long: cut off it would be another patient's."""
    long, good = instance(tmp_path / "long", 40, patient="P" * 62), instance(tmp_path / "good", 41)
    with PynetdicomScp(keep=tmp_path / "arrived") as destination:
        stack = make_stack(to=destination.address)
        coerce(stack, prefix={"PatientID": "NORTH-"})
        with stack.edit("gateway-in") as receiving:
            receiving["destination"][0]["status"] = {"C011": "stored"}
        with stack:
            assert set(senders.pynetdicom_send(stack.listen, stack.ae, [long, good]).values()) == {0}
            assert delivered(destination, good, stack).PatientID == "NORTH-P1"
            wait_until("it to be parked", lambda: [row for row in stack.why(long.sop_instance) if row["state"] == "parked"], 30, stack.logs)
            assert long.sop_instance not in destination.arrived()
            path = stack.receipt_file(delivery_id(stack.why(long.sop_instance)[-1]))
            says = json.loads(path.read_text())["says"]
            assert (says["outcome"], says["status"]) == ("refused", "0xC011") and "could not coerce it" in says["remark"]
            assert stack.verify_receipt(path).returncode == 0
            assert "PPPP" not in stack.log_text("gateway-in")


def test_150_mb_pass_in_constant_memory(make_stack, tmp_path):
    one = generate.large(tmp_path / "large.dcm", 150 * MIB, 50)
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        coerce(stack, prefix={"PatientID": "N-"}, set={"IssuerOfPatientID": "NORTH"})
        with stack:
            assert senders.pynetdicom_send(stack.listen, stack.ae, [one]) == {one.sop_instance: 0}
            stack.wait_settled(120)
            [arrival] = destination.arrivals
            says = says_of(stack, one)
            assert (says["data_sha256"], says["received_sha256"]) == (arrival.digest, one.digest()) and arrival.digest != one.digest()
            peak = stack.measure()["gateway-in"][0]
            print(f"peak RSS of gateway-in for 150 MiB: {peak / MIB:.0f} MiB")
            assert peak < GATEWAY_RSS_MAX


def test_a_reload_takes_over_other_rules(make_stack, tmp_path):
    one, other = instance(tmp_path / "one", 60), instance(tmp_path / "other", 61)
    with PynetdicomScp(keep=tmp_path / "arrived") as destination:
        stack = make_stack(to=destination.address)
        coerce(stack, prefix={"PatientID": "N-"})
        with stack:
            assert senders.pynetdicom_send(stack.listen, stack.ae, [one]) == {one.sop_instance: 0}
            assert delivered(destination, one, stack).PatientID == "N-P1"
            with stack.edit("gateway-in") as receiving:
                receiving["coercion"][0]["prefix"]["PatientID"] = "M-"
            reload = urllib.request.Request(f"http://{HOST}:{stack.admin + 2}/reload", b"{}", {"Content-Type": "application/json"}, method="POST")
            with urllib.request.urlopen(reload, timeout=20) as answer:
                assert answer.status == 200
            assert senders.pynetdicom_send(stack.listen, stack.ae, [other]) == {other.sop_instance: 0}
            assert delivered(destination, other, stack).PatientID == "M-P1"


def test_check_names_file_and_line_of_what_cannot_be(make_stack):
    stack = make_stack(to=f"ANY@{HOST}:104")
    cases = [
        ({"set": {"StudyInstanceUID": "1.2.3"}}, "set.StudyInstanceUID", "cannot be coerced; give one of AccessionNumber"),
        ({"set": {"PatientID": "A\\B"}}, "set.PatientID", "does not fit its value representation LO"),
        ({"prefix": {"OtherPatientIDsSequence": "A"}}, "prefix.OtherPatientIDsSequence", "takes only: remove"),
        ({"copy": {"PatientID": "StudyID"}}, "copy.PatientID", "comes after it"),
        ({"set": {"PatientID": "A"}, "remove": ["PatientID"]}, "remove", "something else is done to PatientID already"),
        ({}, "from", "nothing is changed by this table"),
        ({"patient": "x"}, "patient", "unknown"),
    ]
    for table, key, what in cases:
        with stack.edit("gateway-in") as receiving:
            receiving.pop("coercion", None)
        coerce(stack, **table)
        said = stack.command("gateway-in", "check", check=False)
        assert said.returncode == 64 and what in said.stderr and key in said.stderr and "gateway-in.toml:" in said.stderr, (table, said.stderr)
    for sender, destination, what in (("nobody", "destination", "no [[peer]]"), ("gateway-out", "nowhere", "no [[destination]]")):
        with stack.edit("gateway-in") as receiving:
            receiving.pop("coercion", None)
        coerce(stack, sender, destination, remove=["StudyID"])
        said = stack.command("gateway-in", "check", check=False)
        assert said.returncode == 64 and what in said.stderr, said.stderr
