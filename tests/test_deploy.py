"""The manifests in deploy/ say what this version of miniclip and its pins say."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import miniclip
from benchmarks.plan import Inputs, plan

yaml: Any = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(DEPLOY.glob("*.yaml"))
QUANTITY = re.compile(r"\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?")
COMPONENTS = {"proxy", "mixCoord", "dataNode", "streamingNode", "queryNode", "standalone"}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_clean_and_complete(path: Path) -> None:
    pytest.importorskip("yamllint")
    rules = "{extends: default, rules: {line-length: {max: 120}, document-start: disable}}"
    command = [sys.executable, "-m", "yamllint", "--strict", "-d", rules, str(path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout
    for document in yaml.safe_load_all(path.read_text()):
        assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", document["metadata"]["name"])
        images = [value for key, value in walk(document) if key == "image"]
        assert images
        assert all(re.search(r":v?\d+\.\d+\.\d+$", image) for image in images)  # none is "latest"
        for key, value in walk(document):
            if key in ("requests", "limits"):
                assert set(value) == {"cpu", "memory"}
                assert all(QUANTITY.fullmatch(quantity) for quantity in value.values())
            if key == "resources":
                assert value["requests"]["memory"] == value["limits"]["memory"]


def test_the_ray_job_runs_a_command_that_there_is_on_the_ray_that_is_pinned() -> None:
    job = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    program, verb, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert program == "miniclip"
    shown = subprocess.run(
        [sys.executable, "-m", "miniclip", verb, "--help"],
        capture_output=True, text=True, check=True, env={"COLUMNS": "200", "TERM": "dumb"},
    ).stdout  # fmt: skip
    assert all(option in shown for option in arguments if option.startswith("-"))

    cluster = job["spec"]["rayClusterSpec"]
    pins = (ROOT / "constraints.txt").read_text()
    assert f"ray=={cluster['rayVersion']}\n" in pins
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert f"rayproject/ray:{cluster['rayVersion']}-py311-cpu" in dockerfile
    assert f"=={miniclip.__version__}'" in dockerfile
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"].endswith(f":{miniclip.__version__}")
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_milvus_cluster_holds_what_it_says() -> None:
    milvus = yaml.safe_load((DEPLOY / "milvus.yaml").read_text())
    assert (milvus["apiVersion"], milvus["kind"]) == ("milvus.io/v1beta1", "Milvus")
    spec = milvus["spec"]
    assert set(spec) == {"mode", "components", "dependencies", "config"}
    assert set(spec["components"]) - {"image"} <= COMPONENTS
    node = spec["components"]["queryNode"]
    needed = plan(1e8, 0, Inputs(query_memory=64))
    assert node["resources"]["limits"]["memory"] == "64Gi"
    assert node["replicas"] == needed.query_nodes


def test_a_plan_grows_with_its_images_and_a_cluster_that_dies_takes_longer() -> None:
    small, large = plan(1e7, 4, Inputs()), plan(1e8, 4, Inputs())
    ideal = 1e8 / (4 * 16 * 11.0 * 0.96) / 3600
    assert large.hours == pytest.approx(ideal, rel=0.01)
    for name in ("hours", "milvus_gb", "vectors_gb", "index_gb", "driver_gb"):
        assert getattr(large, name) == pytest.approx(10 * getattr(small, name), rel=0.02)
    fragile = plan(1e8, 4, Inputs(node_life=5, node_back=5))
    assert fragile.deaths > 10
    assert fragile.hours == pytest.approx(2 * ideal, rel=0.3)  # half of the nodes live at a time
    assert plan(1e8, 1000, Inputs()).hours == pytest.approx(1e8 / Inputs().driver / 3600, rel=0.01)
    json.dumps(large.__dict__)


def walk(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)
