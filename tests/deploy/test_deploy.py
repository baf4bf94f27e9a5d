"""What containers and clusters are told: the Dockerfile lints, the charts render, and both name commands there are.

Nothing here needs Docker or Helm. Charts use plain substitution only, so they are rendered by it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHARTS = sorted((ROOT / "deploy" / "helm").iterdir())
PLACE = re.compile(r"\{\{ \.(Values|Release)\.(\w+) \}\}")


def rendered(chart: Path) -> list[dict]:
    values = yaml.safe_load((chart / "values.yaml").read_text())
    known = {"Values": values, "Release": {"Name": "test"}}
    text = "".join(path.read_text() for path in sorted((chart / "templates").glob("*.yaml")))
    filled = PLACE.sub(lambda found: str(known[found[1]][found[2]]), text)
    assert "{{" not in filled, "charts use plain substitution only"
    return list(yaml.safe_load_all(filled))


def containers(kinds: list[dict]) -> list[dict]:
    return [c for kind in kinds if "template" in kind["spec"] for c in kind["spec"]["template"]["spec"]["containers"]]


@pytest.mark.parametrize("chart", CHARTS, ids=lambda path: path.name)
def test_a_chart_renders_and_uses_every_value(chart):
    kinds = rendered(chart)
    assert {kind["kind"] for kind in kinds} & {"StatefulSet", "Deployment"}
    text = "".join(path.read_text() for path in (chart / "templates").glob("*.yaml"))
    used = {name for home, name in PLACE.findall(text) if home == "Values"}
    assert used == set(yaml.safe_load((chart / "values.yaml").read_text()))


@pytest.mark.parametrize("chart", CHARTS, ids=lambda path: path.name)
def test_a_pod_has_no_rights_it_does_not_need(chart):
    for kind in rendered(chart):
        if "template" not in kind["spec"]:
            continue
        pod = kind["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert kind["spec"]["replicas"] == 1


@pytest.mark.parametrize("chart", CHARTS, ids=lambda path: path.name)
def test_the_command_of_a_pod_is_one_that_exists(chart):
    for container in containers(rendered(chart)):
        options = [word for word in container["args"] if word.startswith("--")]
        told = subprocess.run(
            [sys.executable, "-m", "atoll", *container["args"][:2], "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for option in options:
            assert option in told


def test_the_dockerfile_lints():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: there is no wheel for this platform")
    found = subprocess.run([hadolint, str(ROOT / "deploy" / "Dockerfile")], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_image_gets_what_it_copies():
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    copied = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    allowed = (ROOT / ".dockerignore").read_text().split()
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in allowed
