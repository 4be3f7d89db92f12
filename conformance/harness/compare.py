"""Data sets compared element by element, for peers that encode what they send anew."""

from __future__ import annotations

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments

from .part10 import Instance

_PIXEL_DATA = 0x7FE00010
_PADDING = 0xFFFCFFFC


def unlike(sent: Instance, arrived: Instance, private: bool = True) -> list[str]:
    """What differs in meaning. How sequences, lengths and offset tables are encoded does not count, nor do group lengths.

    Without `private` elements of odd groups are left out.
    """
    if sent.transfer_syntax != arrived.transfer_syntax:
        return [f"transfer syntax {sent.transfer_syntax} arrived as {arrived.transfer_syntax}"]
    read = [pydicom.dcmread(one.path) for one in (sent, arrived)]
    if not private:
        for data_set in read:
            data_set.remove_private_tags()
    return list(_unlike(*read, ""))


def _unlike(sent: Dataset, arrived: Dataset, where: str):
    tags = {tag for data_set in (sent, arrived) for tag in data_set.keys() if tag.element != 0 and tag != _PADDING}
    for tag in sorted(tags):
        if tag not in sent or tag not in arrived:
            yield f"{where}{tag}: only {'arrived' if tag in arrived else 'sent'}"
        elif sent[tag].VR == "SQ" and arrived[tag].VR == "SQ":
            items = list(zip(sent[tag].value, arrived[tag].value))
            if len(sent[tag].value) != len(arrived[tag].value):
                yield f"{where}{tag}: another number of items"
            for number, (one, other) in enumerate(items):
                yield from _unlike(one, other, f"{where}{tag}[{number}]")
        elif _value(sent[tag]) != _value(arrived[tag]):
            yield f"{where}{tag}: {sent[tag]!s:.80} arrived as {arrived[tag]!s:.80}"


def _value(element: DataElement) -> object:
    if element.tag == _PIXEL_DATA and element.is_undefined_length:
        return list(generate_fragments(element.value))[1:]
    return (element.VR, element.value)
