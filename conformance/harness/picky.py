"""A destination that takes only some SOP classes, each in some transfer syntaxes: DCMTK storescp with a configuration file."""

from __future__ import annotations

from pathlib import Path

from .destinations import Storescp, program
from .processes import Daemon, tcp_listens

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT = "1.2.840.10008.1.2"


class Picky(Storescp):
    """storescp that accepts exactly these pairs, and Verification; `takes` is {SOP class: [transfer syntaxes]}, all UIDs."""

    def __init__(self, directory: Path, takes: dict[str, list[str]], ae: str = "PICKY", port: int | None = None) -> None:
        super().__init__(directory, ae, port)
        profile = directory / f"picky-{self.port}-{len(list(directory.glob('picky-*')))}.cfg"
        profile.write_text(_profile({**takes, VERIFICATION: [IMPLICIT]}))
        self.process = Daemon(
            f"storescp {self.port}",
            [program("storescp"), "-v", "-aet", ae, "+B", "-uf", "-od", self.out, "-xf", profile, "Default", str(self.port)],
            directory / f"storescp-{self.port}.log",
            lambda: tcp_listens(self.port),
            {"TCP_NODELAY": "1"},
        )


def _profile(takes: dict[str, list[str]]) -> str:
    lines = ["[[TransferSyntaxes]]"]
    for number, syntaxes in enumerate(takes.values()):
        lines += [f"[Syntaxes{number}]", *(f"TransferSyntax{n} = {uid}" for n, uid in enumerate(syntaxes, 1))]
    lines += ["[[PresentationContexts]]", "[Taken]"]
    lines += [f"PresentationContext{n + 1} = {uid}\\Syntaxes{n}" for n, uid in enumerate(takes)]
    return "\n".join([*lines, "[[Profiles]]", "[Default]", "PresentationContexts = Taken", ""])
