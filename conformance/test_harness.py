"""The suite's own rules: which peers are chosen and found, what counts as another data set, when binaries are too old."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pydicom
import pytest

from harness import binaries, compare, generate, part10, turns
from harness.destinations import Absent
from harness.peers import PEERS, UnknownPeer, chosen, dcm4che
from harness.peers.dcmtk import rejection
from harness.peers.gdcm import responses


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("", list(PEERS)),
        ("orthanc", ["orthanc"]),
        ("dicom-rs|dcmtk", ["dicom-rs", "dcmtk"]),
        ("gdcm, dcmjs", ["gdcm", "dcmjs"]),
    ],
)
def test_peers_are_chosen_by_name(named, found):
    assert [peer.name for peer in chosen(named)] == found


def test_a_peer_that_nobody_knows_is_an_error():
    with pytest.raises(UnknownPeer, match="dcm4chee; there are: dcmtk"):
        chosen("dcmtk dcm4chee")


def test_tools_of_dcm4che_are_told_from_those_of_dcmtk(tmp_path):
    dcmtk = script(tmp_path / "dcmtk" / "storescu", "echo '$dcmtk: storescu v3.6.7 2022-04-22 $'")
    ours = script(tmp_path / "dcm4che" / "bin" / "storescu", "echo 'storescu: 5.35.0'")
    path = f"{dcmtk.parent}{os.pathsep}{ours.parent}"
    assert dcm4che.find_tool("storescu", {"PATH": path}) == (ours, "5.35.0")
    assert dcm4che.find_tool("storescu", {"PATH": str(dcmtk.parent), "DCM4CHE_HOME": str(tmp_path / "dcm4che")}) == (ours, "5.35.0")


@pytest.mark.parametrize("answer", ["echo '$dcmtk: storescu v3.6.7 2022-04-22 $'", "echo 'java: not found' >&2; exit 127", "echo 'storescp: 5.35.0'"])
def test_without_tools_of_dcm4che_the_reason_is_said(tmp_path, answer):
    script(tmp_path / "bin" / "storescu", answer)
    with pytest.raises(Absent, match="^dcm4che tools not found .storescu on PATH; DCM4CHE_HOME is not set.$"):
        dcm4che.find_tool("storescu", {"PATH": str(tmp_path / "bin")})
    with pytest.raises(Absent, match=f"^dcm4che tools not found .storescu in DCM4CHE_HOME={tmp_path}.$"):
        dcm4che.find_tool("storescu", {"PATH": "", "DCM4CHE_HOME": str(tmp_path)})


def test_modes_of_dcm4che_are_all_combinations_and_differ():
    modes = dict(PEERS["dcm4che"].modes())
    assert len(modes) == 2 * 3 * len(dcm4che.SEND_PDUS) == len({tuple(words) for words in modes.values()})


def test_a_rejection_that_dcmtk_prints_becomes_numbers():
    text = "F: Association Rejected:\nF: Result: Rejected Permanent, Source: Service User\nF: Reason: Called AE Title Not Recognized\n"
    assert rejection(text) == "1/1/7"
    assert rejection("I: Association Accepted") is None


def test_statuses_that_gdcm_prints_are_read_one_by_one():
    text = "\n".join(
        f"(0000,{element}) ?? (US) {value}  # 2,1"
        for element, value in [("0000", 66), ("0100", 32769), ("0900", 0), ("0000", 66), ("0100", 32769), ("0900", 42752)]
    )
    assert [one["0900"] for one in responses(text)] == ["0", "42752"]


def test_one_changed_element_is_seen_and_an_encoding_is_not(tmp_path):
    [sent] = generate.study(tmp_path, 1, seed=1)
    data_set = pydicom.dcmread(sent.path)
    data_set.save_as(tmp_path / "same.dcm")
    data_set.PatientName = "Test^Changed"
    data_set.save_as(tmp_path / "changed.dcm")
    assert compare.unlike(sent, part10.read(tmp_path / "same.dcm")) == []
    assert [text[:11] for text in compare.unlike(sent, part10.read(tmp_path / "changed.dcm"))] == ["(0010,0010)"]
    data_set.remove_private_tags()
    data_set.PatientName = "Test^Conformance"
    data_set.save_as(tmp_path / "no-private.dcm")
    assert len(compare.unlike(sent, part10.read(tmp_path / "no-private.dcm"))) == 2
    assert compare.unlike(sent, part10.read(tmp_path / "no-private.dcm"), private=False) == []


def test_binaries_older_than_a_source_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(binaries, "TOP", tmp_path)
    monkeypatch.setenv("CONFORMANCE_BIN", str(tmp_path / "release"))
    source = tmp_path / "crates" / "a file.rs"
    for path in (source, *(tmp_path / "release" / name for name in binaries.NAMES)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert binaries.outdated() == "gateway-out is not built"
    for name in binaries.NAMES:
        (tmp_path / "release" / f"{name}.d").write_text(f"{tmp_path}/release/{name}: {str(source).replace(' ', chr(92) + ' ')}\n")
    os.utime(source, (1_000, 1_000))
    assert binaries.outdated() is None
    built = (tmp_path / "release" / "gateway-out").stat().st_mtime
    os.utime(source, (built + 10, built + 10))
    assert binaries.outdated() == "gateway-out is older than crates/a file.rs"
    source.unlink()
    assert binaries.outdated() == f"gateway-out was built from {source}, which is gone"


def test_files_whose_tests_share_a_fixture_are_not_divided():
    sharing = {path.name for path in Path(__file__).parent.glob("test_*.py") if re.search(r'scope="module"\)', path.read_text())}
    assert sharing <= turns.TOGETHER | turns.ALONE
