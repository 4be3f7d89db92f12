"""The peers: software made by others, each behind the same few methods, chosen by `PEER=name[|name...]`."""

from __future__ import annotations

import os
from functools import cache

from ..destinations import Absent
from .base import Called, Can, Peer, Said
from .dcm4che import Dcm4che
from .dcmjs import Dcmjs
from .dcmtk import Dcmtk
from .dicom_rs import DicomRs
from .gdcm import Gdcm
from .orthanc import Orthanc
from .pynet import Pynetdicom

PEERS: dict[str, Peer] = {peer.name: peer for peer in (Dcmtk(), Pynetdicom(), Orthanc(), Gdcm(), Dcmjs(), DicomRs(), Dcm4che())}


@cache
def absence(peer: Peer) -> str | None:
    """Why a peer cannot be run here; None where it can."""
    try:
        peer.find()
    except Absent as absent:
        return str(absent)
    return None


class UnknownPeer(ValueError):
    pass


def chosen(wanted: str | None = None) -> list[Peer]:
    """The peers that `PEER` names, separated by `|`, `,` or blanks; all without it."""
    wanted = os.environ.get("PEER", "") if wanted is None else wanted
    names = wanted.replace("|", " ").replace(",", " ").split()
    if unknown := [name for name in names if name not in PEERS]:
        raise UnknownPeer(f"PEER names no peer of ours: {', '.join(unknown)}; there are: {', '.join(PEERS)}")
    return [PEERS[name] for name in names] if names else list(PEERS.values())


__all__ = ["PEERS", "Called", "Can", "Peer", "Said", "UnknownPeer", "absence", "chosen"]
