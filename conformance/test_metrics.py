"""`/metrics` of all three roles: what Prometheus' own parser reads, what the alerts and the dashboard in `deploy` name, and no patient."""

from __future__ import annotations

import json
import re
from pathlib import Path

from harness import senders
from harness.metrics import figures, of, text
from harness.part10 import Instance
from harness.processes import wait_until
from harness.rawul import Acceptor
from harness.stack import ROLES, TOP

NAME = re.compile(r"\bsluis_[a-z_]+")
DEPLOYED = [TOP / "deploy" / "prometheus" / "sluis.rules.yml", TOP / "deploy" / "grafana" / "sluis.json"]


def test_what_prometheus_reads(make_stack, few: list[Instance], tmp_path: Path):
    with Acceptor() as destination:
        stack = make_stack(to=destination.address)
        (tmp_path / "inbox").mkdir()
        with stack.edit("gateway-out") as sending:
            sending["watch"] = [{"dir": str(tmp_path / "inbox"), "ae": stack.ae}]
        with stack:
            assert not [name for name, _ in figures(text(stack, "gateway-in")) if name.endswith("destination_up")], "nobody has tried"
            assert set(senders.storescu(stack.listen, stack.ae, [one.path for one in few]).values()) == {0}
            stack.wait_settled()
            assert set(senders.storescu(stack.listen, "NOBODY", [few[0].path]).values()) == {senders.NOT_SENT}
            shown = {role: text(stack, role) for role in ROLES}
            seen = {role: figures(shown[role]) for role in ROLES}
            out, receiving = seen["gateway-out"], seen["gateway-in"]

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
            assert of(receiving, "sluis_gateway_in_nacks_total", reason="replay") == 0
            assert of(out, "sluis_gateway_out_watched_files", folder="1", ae=stack.ae) == 0
            for found, name in ((out, "sluis_gateway_out_relay_rtt_seconds"), (receiving, "sluis_gateway_in_relay_rtt_seconds")):
                [rtt] = [value for (series, _), value in found.items() if series == name]
                assert 0 < rtt < 5, rtt
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
