"""Manifests and scripts, checked without a cluster: fields, references, and the commands that they run."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from pipeline.cli import curate
from pipeline.curation.config import Config
from pipeline.platform.config import load
from pipeline.platform.storage import SECRETS

INFRA = Path(__file__).parents[2] / "infra"
MANIFESTS = ["raycluster.yaml", "rayjob.yaml", "rayjob-buckets.yaml", "rayservice.yaml"]
SCRIPTS = ["ray-job.sh", "slurm.sh"]
CLUSTER = {"rayVersion", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
FIELDS = {
    "RayCluster": CLUSTER,
    "RayJob": {
        "entrypoint", "submissionMode", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
        "backoffLimit", "rayClusterSpec",
    },
    "RayService": {"serveConfigV2", "rayClusterConfig", "upgradeStrategy"},
    "head": {"rayStartParams", "template"},
    "worker": {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"},
    "pod": {"containers", "volumes", "serviceAccountName"},
    "container": {"name", "image", "workingDir", "env", "envFrom", "resources", "ports", "volumeMounts"},
}  # fmt: skip
"""Fields of KubeRay's ray.io/v1 and of Kubernetes' pods that the manifests use; others are errors."""
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?")
PORT = re.compile(r"(?=.{1,15}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def manifest(name: str) -> Any:
    return yaml.safe_load((INFRA / name).read_text())


def cluster_of(tree: Any) -> Any:
    spec = tree["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def pods(tree: Any) -> Iterator[Any]:
    cluster = cluster_of(tree)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_has_known_fields_of_known_kinds(name: str) -> None:
    tree = manifest(name)
    assert set(tree) == {"apiVersion", "kind", "metadata", "spec"} and tree["apiVersion"] == "ray.io/v1"
    assert set(tree["spec"]) <= FIELDS[tree["kind"]] and set(cluster_of(tree)) <= CLUSTER
    # The image has the version of the lock; another one on the head could not talk to it.
    assert cluster_of(tree)["rayVersion"] == ray.__version__
    assert set(cluster_of(tree)["headGroupSpec"]) == FIELDS["head"]
    for group in cluster_of(tree)["workerGroupSpecs"]:
        assert set(group) == FIELDS["worker"]
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster_of(tree)["headGroupSpec"], *cluster_of(tree)["workerGroupSpecs"]):
        # KubeRay takes texts only, and refuses numbers.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_name_what_they_have(name: str) -> None:
    for pod in pods(manifest(name)):
        assert set(pod) <= FIELDS["pod"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert set(container) <= FIELDS["container"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            ports = [(port["name"], port["containerPort"]) for port in container["ports"]]
            assert all(PORT.fullmatch(text) and 0 < port < 65536 for text, port in ports)
            asked = container["resources"]["requests"]
            # Ray counts the limits: what it hands out must be there.
            assert asked == container["resources"]["limits"]
            assert all(QUANTITY.fullmatch(amount) for amount in asked.values())


def curate_options(words: list[str]) -> argparse.Namespace:
    """Parse a command that begins with a python, as the program would."""
    assert words[1:4] == ["-m", "pipeline", "curate"]
    parser = argparse.ArgumentParser(exit_on_error=False)
    curate.add(parser.add_subparsers())
    return parser.parse_args(words[3:])


def test_a_job_over_buckets_shares_no_volume_and_names_no_key() -> None:
    tree = manifest("rayjob-buckets.yaml")
    options = curate_options(shlex.split(tree["spec"]["entrypoint"]))
    assert all(str(place).startswith("s3://") for place in (options.input, options.output, options.memo))
    assert load(None, options.settings, Config).config.run.ray_address == "auto"
    for pod in pods(tree):
        assert all("emptyDir" in volume for volume in pod["volumes"])
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "videoauteur-bucket", "optional": True}}]
        variables = {each["name"]: each["value"] for each in container["env"]}
        (mount,) = container["volumeMounts"]
        assert variables["VIDEOAUTEUR_CACHE"] == mount["mountPath"]
        assert not variables.keys() & set(SECRETS)


def test_the_job_runs_a_command_that_is_understood() -> None:
    tree = manifest("rayjob.yaml")
    options = curate_options(shlex.split(tree["spec"]["entrypoint"]))
    assert str(options.input).startswith("/data/") and str(options.output).startswith("/data/")
    mounts = {
        mount["mountPath"]
        for pod in pods(tree)
        for each in pod["containers"]
        for mount in each["volumeMounts"]
    }
    assert mounts == {"/data"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_sound(name: str) -> None:
    subprocess.run(["bash", "-n", INFRA / name], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: Debian's package shellcheck has it")
    subprocess.run(["shellcheck", INFRA / name], check=True)


def run_with_stand_ins(
    script: str, arguments: list[str], folder: Path, **variables: str
) -> list[list[str]]:
    """Run a script whose programs only write down how they were called; return those calls."""
    programs = folder / "bin"
    programs.mkdir()
    calls = folder / "calls"
    dump = "import json, sys; print(json.dumps(sys.argv[1:]))"
    note = f"""python3 -c '{dump}' "$(basename "$0")" "$@" >> {calls}\n"""
    # The real one waits for the nodes, too.
    joined = f"""until [ "$(grep -c '"start"' {calls})" = 3 ]; do sleep 0.05; done"""
    wait = f"""case "$*" in *" - "*) {joined};; esac\n"""
    for name in ("srun", "ray", "python"):
        (programs / name).write_text(f"#!/bin/bash\n{note}{wait}cat > /dev/null\n")
    (programs / "scontrol").write_text("#!/bin/bash\nprintf 'node-1\\nnode-2\\nnode-3\\n'\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", **variables}
    subprocess.run(
        ["bash", INFRA / script, *arguments],
        env=environment,
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
    )
    return [json.loads(line) for line in calls.read_text().splitlines()]


def test_the_slurm_script_starts_a_node_of_ray_everywhere_and_the_job_once(tmp_path: Path) -> None:
    calls = run_with_stand_ins(
        "slurm.sh", ["/in put", "/out", "--set", "clip.max_s=9"], tmp_path,
        SLURM_JOB_ID="123456", SLURM_JOB_NODELIST="node-[1-3]", SLURM_CPUS_PER_TASK="7",
        PYTHON=str(tmp_path / "bin" / "python"),
    )  # fmt: skip
    where = {call[3].removeprefix("--nodelist="): call for call in calls if "start" in call}
    assert set(where) == {"node-1", "node-2", "node-3"}
    assert "--head" in where["node-1"] and "--port=23456" in where["node-1"]
    for node in ("node-2", "node-3"):
        assert "--address=node-1:23456" in where[node] and "--head" not in where[node]
    assert all(call[-2:] == ["--num-cpus", "7"] for call in where.values())
    [job] = [call[5:] for call in calls if "curate" in call]
    options = curate_options(job)
    assert (str(options.input), str(options.output)) == ("/in put", "/out")
    assert "run.ray_address=auto" in options.settings


def test_the_ray_job_script_submits_the_command(tmp_path: Path) -> None:
    [call] = run_with_stand_ins("ray-job.sh", ["/data/in", "/data/out"], tmp_path)
    assert call[:3] == ["ray", "job", "submit"]
    json.loads(call[call.index("--runtime-env-json") + 1])
    curate_options(call[call.index("--") + 1 :])
