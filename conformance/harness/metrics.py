"""`/metrics` of a role, as Prometheus' own parser reads it."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from .processes import HOST
from .stack import Stack

Figures = dict[tuple[str, frozenset], float]


def text(stack: Stack, role: str) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{stack._admin_ports[role]}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return answer.read().decode()


def figures(shown: str) -> Figures:
    """By name and labels; each is there once."""
    samples = [sample for family in text_string_to_metric_families(shown) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a series is there twice"
    return found


def of(found: Figures, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]
