"""Dockerfiles, scripts, launcher files and locks pass their linters; planted mistakes do not."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.helpers.deploying import DEPLOY, ROOT, checked

DOCKERFILES = sorted((DEPLOY / "docker").glob("Dockerfile.*"))
JOB = DEPLOY / "docker" / "quakestream-job"
SHIMS = sorted((ROOT / "tests" / "deploy" / "slurm").iterdir())
SCRIPTS = [*sorted(DEPLOY.glob("*.sh")), *sorted(DEPLOY.glob("slurm/*.sbatch")), JOB, *SHIMS]
LAUNCHERS = sorted((DEPLOY / "cluster-launcher").glob("*.yaml"))
LOCKS = sorted((DEPLOY / "docker").glob("requirements.*.txt"))
HADOLINT = DEPLOY / "docker" / "hadolint.yaml"
YAMLLINT = DEPLOY / ".yamllint"
name = pytest.mark.parametrize


@name("path", DOCKERFILES, ids=lambda p: str(p.name))
def test_dockerfiles_pass_hadolint(path: Path) -> None:
    done = checked("hadolint", "-c", HADOLINT, path)
    assert done.returncode == 0, done.stdout


def test_hadolint_finds_a_planted_mistake(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(DOCKERFILES[0].read_text().replace("WORKDIR /src", "WORKDIR src"))
    assert "DL3000" in checked("hadolint", "-c", HADOLINT, path).stdout
    path.write_text(DOCKERFILES[0].read_text() + "RUNS true\n")
    assert checked("hadolint", "-c", HADOLINT, path).returncode != 0


@name("path", DOCKERFILES, ids=lambda p: str(p.name))
def test_images_are_pinned_and_run_as_nobody(path: Path) -> None:
    text = path.read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.M)
    assert len(bases) == 2
    assert bases[0] == bases[1], "built and run on the same system"
    assert re.search(r":[\w.-]*\d[\w.-]*\$\{BASE_DIGEST\}$", bases[0]), "an exact tag"
    last = text.split("FROM ")[-1]
    assert re.search(r"^USER 10001:10001$", last, re.M)
    installs = re.findall(r"pip install .+?(?:&&|\n[A-Z])", text, re.S)
    assert installs
    assert all("--require-hashes" in i or "--no-index" in i for i in installs)


@name("path", LOCKS, ids=lambda p: str(p.name))
def test_locks_hold_hashes_and_the_versions_we_test(path: Path) -> None:
    text = path.read_text()
    pins = dict(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", text, re.M))
    entries = re.findall(r"^[a-z0-9._-]+(?:\[[a-z,]+\])?==.+?(?=^\S|\Z)", text, re.M | re.S)
    assert len(entries) == len(pins) > 3
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    tested = dict(
        re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)
    )
    shared = pins.keys() & tested.keys()
    assert {n: pins[n] for n in shared} == {n: tested[n] for n in shared}


def test_locks_hold_what_the_project_needs() -> None:
    wanted = re.search(
        r"^dependencies = \[(.+?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S
    )
    assert wanted is not None
    names = re.findall(r'^ +"([a-z0-9-]+)', wanted[1], re.M)
    assert len(names) > 20
    for image in ("cpu", "gpu"):
        lock = (DEPLOY / "docker" / f"requirements.{image}.txt").read_text()
        missing = [n for n in (*names, "ray") if not re.search(rf"^{n}(\[[a-z]+\])?==", lock, re.M)]
        assert not missing, f"run `make lock`: {missing} in requirements.{image}.txt"


def test_the_builder_gets_what_the_images_copy() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [Path(line[1:]) for line in ignored if line.startswith("!")]
    for path in DOCKERFILES:
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", path.read_text(), re.M):
            for source in sources.removeprefix("--chmod=0755 ").split():
                assert (ROOT / source).exists(), source
                assert any(Path(source).match(str(k)) for k in kept), f"{source} is ignored"


@name("path", SCRIPTS, ids=lambda p: str(p.name))
def test_scripts_pass_shellcheck(path: Path) -> None:
    done = checked("shellcheck", path)
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_a_planted_mistake(tmp_path: Path) -> None:
    path = tmp_path / "submit.sh"
    path.write_text((DEPLOY / "submit.sh").read_text().replace('"$run"', "$run"))
    assert "SC2086" in checked("shellcheck", path).stdout


def test_yaml_passes_yamllint() -> None:
    done = checked("yamllint", "--strict", "-c", YAMLLINT, DEPLOY)
    assert done.returncode == 0, done.stdout


def test_yamllint_finds_a_planted_mistake(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("spec:\n  backoffLimit: 3\n  backoffLimit: 5\n")
    assert "key-duplicates" in checked("yamllint", "--strict", "-c", YAMLLINT, path).stdout


def launcher_problems(content: object) -> list[str]:
    """What the schema that Ray ships says of a file of its cluster launcher."""
    ray = pytest.importorskip("ray")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    return [e.message for e in jsonschema.Draft7Validator(schema).iter_errors(content)]


@name("path", LAUNCHERS, ids=lambda p: str(p.name))
def test_launcher_files_are_what_ray_knows(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert not launcher_problems(content)
    assert launcher_problems(content | {"max_worker": 3})
    said = path.read_text()
    assert "RAY_AUTH_MODE=token" in said
    assert "--num-cpus=0" in said or "resources: {CPU: 0}" in said, "no actor on the head"
    assert "--dashboard-host=127.0.0.1" in said
