"""Manifests of jobs submit commands that the program takes, with all that these need on every node."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli.main import _parser
from pipeline.curation.config import Config
from pipeline.platform.config import load
from pipeline.platform.storage import SECRETS

INFRA = Path(__file__).parents[2] / "infra"
NAMES = ("rayjob.yaml", "rayjob-buckets.yaml")


def job(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((INFRA / name).read_text())["spec"]
    return spec


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize("name", NAMES)
def test_the_command_and_its_settings_are_the_program_s(name: str) -> None:
    python, flag, module, *arguments = shlex.split(job(name)["entrypoint"])
    assert (python, flag, module) == ("python", "-m", "pipeline")
    parsed = _parser().parse_args(arguments)
    assert load(parsed.config, parsed.settings, Config).config.run.ray_address == "auto"


def test_a_job_over_buckets_shares_no_volume_and_names_no_key() -> None:
    spec = job("rayjob-buckets.yaml")
    arguments = shlex.split(spec["entrypoint"])
    assert sum(argument.startswith("s3://") for argument in arguments) == 3
    for pod in pods(spec):
        assert all("emptyDir" in volume for volume in pod["volumes"])
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "videoauteur-bucket", "optional": True}}]
        variables = {each["name"]: each["value"] for each in container["env"]}
        (mount,) = container["volumeMounts"]
        assert variables["VIDEOAUTEUR_CACHE"] == mount["mountPath"]
        assert not variables.keys() & set(SECRETS)
