"""GDCM: gdcmscu, for C-ECHO and C-STORE.

Debian's gdcmscu ends by SIGABRT once its association is released ("ProtocolStream as nullptr is invalid"), whoever it talked
to. So its exit code says nothing, and the responses that it prints with -D are read instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .. import generate
from ..destinations import program
from ..part10 import Instance
from ..processes import HOST, run
from .base import JPEG_2000_LOSSLESS, JPEG_BASELINE, RLE, Called, Can, Peer, Said

C_STORE_RESPONSE, C_ECHO_RESPONSE = 0x8001, 0x8030
_ELEMENT = re.compile(r"^\((0000),([0-9a-f]{4})\) \?\? \(\w\w\) \[?([^\s\]]+)")


def responses(text: str) -> list[dict[str, str]]:
    """The command sets that gdcmscu prints, each {element number: value}."""
    found: list[dict[str, str]] = []
    for line in text.splitlines():
        if one := _ELEMENT.match(line):
            if one[2] == "0000":
                found.append({})
            found[-1][one[2]] = one[3]
    return found


class Gdcm(Peer):
    name = "gdcm"
    title = "GDCM"
    can = frozenset({Can.ECHO, Can.STORE})
    # It calls source 1, the service user, "service-provider (ACSE related function)".
    tells_unknown = "1/?/7"
    sends = (generate.IMPLICIT, generate.EXPLICIT, generate.BIG_ENDIAN, JPEG_BASELINE, JPEG_2000_LOSSLESS, RLE)

    def find(self) -> None:
        program("gdcmscu")

    def version(self) -> str:
        return re.search(r"gdcm (\S+)", run([program("gdcmscu"), "--version"]).stdout)[1]

    def _run(self, to: Called, *words: str) -> str:
        mode, *files = words
        command = [program("gdcmscu"), "-D", mode, "--aetitle", to.calling, "--call", to.called, HOST, str(to.port), *files]
        done = run(command, 120, check=False)
        return done.stdout + done.stderr

    def echo(self, to: Called) -> Said:
        output = self._run(to, "--echo")
        answers = [one for one in responses(output) if one.get("0100") == str(C_ECHO_RESPONSE)]
        why = re.search(r"Result: rejected-permanent\s+Source: .*\s+Reason: (\d+)", output)
        return Said(
            output,
            echoed=bool(answers) and {one.get("0900") for one in answers} == {"0"},
            rejected=f"1/?/{why[1]}" if why else None,
        )

    def store(self, to: Called, sent: Sequence[Instance], pdu: int | None = None) -> Said:
        output = self._run(to, "--store", *(str(one.path) for one in sent))
        answers = [one for one in responses(output) if one.get("0100") == str(C_STORE_RESPONSE)]
        return Said(output, {one["1000"]: int(one["0900"]) for one in answers if "1000" in one and "0900" in one})
