"""`/metrics` of all three roles: what Prometheus' own parser reads, what the alerts and the dashboard in `deploy` name, and no patient."""

from __future__ import annotations

import json
import re
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from harness import senders
from harness.part10 import Instance
from harness.processes import HOST, wait_until
from harness.rawul import Acceptor
from harness.stack import ROLES, TOP, Stack

NAME = re.compile(r"\bsluis_[a-z_]+")
DEPLOYED = [TOP / "deploy" / "prometheus" / "sluis.rules.yml", TOP / "deploy" / "grafana" / "sluis.json"]


def text(stack: Stack, role: str) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{stack._admin_ports[role]}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return answer.read().decode()


def figures(shown: str) -> dict[tuple[str, frozenset], float]:
    samples = [sample for family in text_string_to_metric_families(shown) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a series is there twice"
    return found


def test_what_prometheus_reads(make_stack, few: list[Instance]):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        with stack:
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
            stack.wait_settled()
            assert set(senders.storescu(stack.listen, "NOBODY", [few[0].path]).values()) == {senders.NOT_SENT}
            shown = {role: text(stack, role) for role in ROLES}
            seen = {role: figures(shown[role]) for role in ROLES}
            out, receiving = seen["gateway-out"], seen["gateway-in"]

            def of(found, name: str, **labels: str) -> float:
                return found[name, frozenset(labels.items())]

            assert of(out, "sluis_gateway_out_cstore_total", ae=stack.ae, status="0000") == len(few)
            assert of(out, "sluis_gateway_out_associations_total") == 1
            assert of(out, "sluis_gateway_out_associations_rejected_total") == 1
            assert of(out, "sluis_gateway_out_delivery_seconds_count") == len(few)
            assert of(out, "sluis_gateway_out_cstore_seconds_bucket", le="+Inf") == len(few)
            states = {dict(labels)["state"]: value for (name, labels), value in out.items() if name == "sluis_gateway_out_deliveries"}
            assert sum(states.values()) == len(few), states
            assert not [name for name, _ in out if name == "sluis_gateway_out_oldest_age_seconds"], "nothing is owed"
            assert of(receiving, "sluis_gateway_in_stored_total") == len(few)
            assert of(receiving, "sluis_gateway_in_destination_up", destination="destination") == 1
            for role in ROLES:
                prefix = f"sluis_{role.replace('-', '_')}_"
                assert {name[: len(prefix)] for name, _ in seen[role]} == {prefix}
                assert of(seen[role], f"{prefix}sandbox_enforced") == 1
                assert [name for name, _ in seen[role] if name == f"{prefix}card_end_timestamp_seconds"]
                assert few[0].sop_instance not in shown[role]

            # What waits has an age.
            stack["gateway-in"].stop()
            senders.storescu(stack.listen, stack.ae, [few[0].path])
            wait_until("an age", lambda: "oldest_age_seconds{" in text(stack, "gateway-out"), 10, stack.logs)
            every = {name for role in ROLES for name, _ in figures(text(stack, role) if role != "gateway-in" else shown[role])}
    for file in DEPLOYED:
        missing = set(NAME.findall(file.read_text())) - every
        assert not missing, f"{file.name} names what nobody shows: {missing}"
    assert json.loads(DEPLOYED[1].read_text())["panels"]
