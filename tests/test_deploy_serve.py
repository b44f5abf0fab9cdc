"""What deploy/serve/ says is sound to the tools of its trade, and true of this version."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import miniclip
from miniclip.serve.settings import Settings

yaml: Any = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[1]
SERVE = ROOT / "deploy/serve"
UNIT = SERVE / "miniclip-serve.service"
NOT_THERE = "/opt/miniclip/bin/miniclip is not executable"  # it is not installed there here


def linted(*command: object) -> str:
    """Return what a linter says; the test is skipped where there is none."""
    program = str(command[0])
    found = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if not found:
        pytest.skip(f"there is no {program} here")
    done = subprocess.run(
        [found, *map(str, command[1:])], capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr) if done.returncode else ""


@pytest.mark.parametrize("folder", ["deploy", "deploy/serve"])
def test_a_dockerfile_is_clean(folder: str) -> None:
    assert linted("hadolint", "--no-color", ROOT / folder / "Dockerfile") == ""


def test_the_compose_file_is_what_compose_understands() -> None:
    path = SERVE / "compose.yaml"
    assert linted("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path) == ""
    rules = "{extends: default, rules: {line-length: {max: 120}, document-start: disable}}"
    assert linted("yamllint", "--strict", "-d", rules, path) == ""


def test_the_services_are_confined_and_of_this_version() -> None:
    services = yaml.safe_load((SERVE / "compose.yaml").read_text())["services"]
    for service in services.values():
        assert service["image"] == f"miniclip-serve:{miniclip.__version__}"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "mem_limit" in service
        assert any(volume.endswith(":/photos:ro") for volume in service["volumes"])
    serve = services["serve"]
    assert all(port.startswith("127.0.0.1:") for port in serve["ports"])
    assert "MINICLIP_TOKEN" in serve["environment"]
    grace = re.fullmatch(r"(\d+)s", serve["stop_grace_period"])
    assert grace
    assert int(grace[1]) > Settings.grace_seconds


def test_the_image_is_of_no_root_and_stops_when_told() -> None:
    text = (SERVE / "Dockerfile").read_text()
    said = dict(re.findall(r"^(USER|STOPSIGNAL|ENTRYPOINT|EXPOSE) (.+)$", text, re.MULTILINE))
    assert said["USER"] == "10001:10001"
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert said["ENTRYPOINT"] == '["miniclip", "serve"]'
    assert said["EXPOSE"] == str(Settings.port)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    assert set(wanted.split(",")) <= set(project["optional-dependencies"])


def test_the_unit_is_one_that_systemd_understands() -> None:
    said = linted("systemd-analyze", "verify", "--recursive-errors=no", "--man=no", UNIT)
    ours = [line for line in said.splitlines() if UNIT.name in line]  # and not the machine's own
    assert [line for line in ours if NOT_THERE not in line] == []
    said = linted("systemd-analyze", "security", "--offline=true", "--threshold=25", UNIT)
    assert said == "", "its exposure is above 2.5 of 10"


def test_the_unit_calls_the_verb_and_gives_it_time_to_drain() -> None:
    said = dict(
        line.split("=", 1) for line in UNIT.read_text().splitlines() if re.match(r"\w+=", line)
    )
    program, verb, option, _ = shlex.split(said["ExecStart"])
    assert (Path(program).name, verb, option) == ("miniclip", "serve", "--index")
    assert int(said["TimeoutStopSec"]) > Settings.grace_seconds
