"""Dashboard and alert rules name metrics that the code emits, with labels that these have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from pipeline.platform.metrics import METRICS

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "infra" / "monitoring"
RAYS_OWN = {"ray_serve_deployment_replica_healthy": {"application", "deployment"}}
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
EXPORTED = {
    f"ray_{name}{suffix}": {*metric.labels, *(["le"] if suffix == "_bucket" else [])}
    for name, metric in METRICS.items()
    for suffix in SUFFIXES[metric.kind]
} | RAYS_OWN


def expressions() -> Iterator[tuple[str, str]]:
    dashboard = json.loads((MONITORING / "grafana/dashboards/videoauteur.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    rules = yaml.safe_load((MONITORING / "rules.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(
    ("place", "expression"), [pytest.param(*each, id=each[0]) for each in expressions()]
)
def test_every_metric_and_label_of_a_query_is_emitted(place: str, expression: str) -> None:
    names = set(re.findall(r"\bray_\w+", expression))
    assert names and names <= set(EXPORTED)
    for name, labels in re.findall(r"\b(ray_\w+)\{([^}]*)\}", expression):
        assert {label.split("=")[0].strip() for label in labels.split(",")} <= EXPORTED[name]
    grouped = {
        label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")
    }
    assert all(any(label in EXPORTED[name] for name in names) for label in grouped)


def test_every_metric_is_recorded_by_the_code_and_shown() -> None:
    code = "".join(
        path.read_text()
        for folder in ("pipeline", "generation")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "metrics.py"
    )
    recorded = {
        (kind, name)
        for call, name in re.findall(r'metrics\.(add|put|observe)\(\s*"(\w+)"', code)
        for kind in [{"add": "counter", "put": "gauge", "observe": "histogram"}[call]]
    }
    # Counters of an event are summed up before they are passed on.
    recorded |= {("counter", name) for name in re.findall(r'yield "(videoauteur_\w+)"', code)}
    assert recorded == {(metric.kind, name) for name, metric in METRICS.items()}
    shown = "".join(expression for _, expression in expressions())
    assert [name for name in METRICS if f"ray_{name}" not in shown] == []


def test_each_alert_fires_in_a_test_made_for_it() -> None:
    tests = yaml.safe_load((MONITORING / "rules_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    rules = yaml.safe_load((MONITORING / "rules.yml").read_text())
    assert fired == {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: Debian's package prometheus has it")
    for arguments in (["check", "config", "prometheus.yml"], ["test", "rules", "rules_test.yml"]):
        subprocess.run(["promtool", *arguments], cwd=MONITORING, check=True, capture_output=True)


def test_the_compose_file_names_files_that_exist() -> None:
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
    watching = {name: services.pop(name) for name in list(services) if name.startswith(("prom", "graf"))}
    assert (set(services), len(watching)) == ({"head", "worker", "vllm"}, 4)
    places = [volume.split(":")[0] for each in watching.values() for volume in each["volumes"]]
    assert all((ROOT / "infra" / place).exists() for place in places)
    configurations = [each["command"][0] for each in watching.values() if "command" in each]
    assert all((MONITORING / Path(each).name).exists() for each in configurations)


def test_a_cluster_on_loopback_is_watched_on_its_own_network() -> None:
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
    scraper, viewer = services["prometheus-local"], services["grafana-local"]
    for each in (scraper, viewer):
        # Not started with the others; no port is open to other machines.
        assert (each["profiles"], each["network_mode"], "ports" in each) == (["local"], "host", False)
    assert "--web.listen-address=127.0.0.1:9090" in scraper["command"]
    assert viewer["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    source = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())
    host = urlsplit(source["datasources"][0]["url"]).hostname
    assert viewer["extra_hosts"] == [f"{host}:127.0.0.1"]
    jobs = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    assert jobs[0]["static_configs"] == [{"targets": ["localhost:8080"]}]
