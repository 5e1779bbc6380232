"""Kubernetes manifests: what kustomize makes of them is what KubeRay and Kubernetes know.

Nothing here runs on a cluster. Each check also catches a planted mistake.
"""

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.deploying import (
    KUBERNETES,
    OVERLAYS,
    ROOT,
    Document,
    built,
    checked,
    kuberay_schema,
    of_kind,
    ray_cluster,
    tool,
)

jsonschema = pytest.importorskip("jsonschema")
ServeDeploySchema = pytest.importorskip("ray.serve.schema").ServeDeploySchema
RAY_KINDS = ("RayJob", "RayCluster", "RayService")
each_overlay = pytest.mark.parametrize(
    "overlay", OVERLAYS, ids=[str(p.relative_to(KUBERNETES)) for p in OVERLAYS]
)


def ray_problems(document: Document) -> list[str]:
    """What KubeRay's closed schema says of a resource."""
    validator = jsonschema.Draft7Validator(kuberay_schema(document["kind"]))
    return [f"{e.json_path}: {e.message}" for e in validator.iter_errors(document)]


def kubernetes_problem(document: Document) -> str:
    """What Kubernetes's own strict schema says; empty if nothing."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="the `dev` extra")
    try:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error.message)
    return ""


def pods(overlay: Path) -> list[tuple[str, Document]]:
    """Pod templates of an overlay, by what they are for."""
    cluster = ray_cluster(overlay)
    found = [("head", cluster["headGroupSpec"]["template"])]
    found += [(g["groupName"], g["template"]) for g in cluster["workerGroupSpecs"]]
    for job in of_kind(overlay, "RayJob"):
        found.append(("submitter", job["spec"]["submitterPodTemplate"]))
    return found


@each_overlay
def test_ray_resources_are_what_kuberay_knows(overlay: Path) -> None:
    (document,) = of_kind(overlay, *RAY_KINDS)
    assert not ray_problems(document)


@each_overlay
def test_the_rest_is_what_kubernetes_knows(overlay: Path) -> None:
    others = [d for d in built(overlay) if d["kind"] not in RAY_KINDS]
    assert {d["kind"] for d in others} >= {"ServiceAccount", "NetworkPolicy", "ConfigMap"}
    assert not [p for d in others if (p := kubernetes_problem(d))]


@each_overlay
def test_pods_are_what_kubernetes_knows(overlay: Path) -> None:
    for name, template in pods(overlay):
        metadata = {**template["metadata"], "name": name}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        assert not kubernetes_problem(pod), name


@each_overlay
def test_pods_are_held_tight(overlay: Path) -> None:
    for name, template in pods(overlay):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "restartPolicy" not in spec or name == "submitter", "autoscaler v2 wants none"
        assert name == "head" or spec["automountServiceAccountToken"] is False
        assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "quakestream"
        volumes = {v["name"] for v in spec["volumes"]}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"]
            assert not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["limits"])
            mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
            assert {"/tmp", "/home/quakestream"} <= set(mounts), "what is written, on a volume"
            assert set(mounts.values()) <= volumes


@each_overlay
def test_the_cluster_is_as_a_run_wants_it(overlay: Path) -> None:
    cluster = ray_cluster(overlay)
    assert cluster["authOptions"] == {"mode": "token", "secretName": "quakestream-ray-token"}
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        # The autoscaler sees no work that waits, and starts no more than the least.
        assert group["replicas"] == group["minReplicas"] <= group["maxReplicas"]
        volumes = {v["name"]: v for v in group["template"]["spec"]["volumes"]}
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    ray = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert ray is not None
    assert cluster["rayVersion"] == ray[1]


@each_overlay
def test_accounts_and_settings_that_pods_name_exist(overlay: Path) -> None:
    accounts = {d["metadata"]["name"] for d in of_kind(overlay, "ServiceAccount")}
    settings = {d["metadata"]["name"] for d in of_kind(overlay, "ConfigMap")}
    for _, template in pods(overlay):
        assert template["spec"]["serviceAccountName"] in accounts
        for container in template["spec"]["containers"]:
            sources = container.get("envFrom", [])
            assert {s["configMapRef"]["name"] for s in sources if "configMapRef" in s} <= settings


def serve_problems(text: str) -> list[str]:
    """What Serve's own schema says of a configuration, and the keys that it would not read."""
    content = yaml.safe_load(text)
    try:
        read = ServeDeploySchema.model_validate(content)
    except ValueError as error:
        return [str(error)]
    return list(unread_keys(content, read.model_dump(exclude_unset=True, mode="json")))


def unread_keys(content: Any, read: Any, where: str = "") -> Iterator[str]:
    """Keys of a document that are missing from what was read of it."""
    if isinstance(content, dict) and isinstance(read, dict):
        for key, value in content.items():
            if key not in read:
                yield f"{where}{key}"
            else:
                yield from unread_keys(value, read[key], f"{where}{key}.")
    elif isinstance(content, list) and isinstance(read, list):
        for value, other in zip(content, read, strict=True):
            yield from unread_keys(value, other, where)


@pytest.mark.parametrize("cloud", ["kind", "eks", "gke"])
def test_the_service_is_what_serving_knows(cloud: str) -> None:
    """Its application is there, its settings are read, and the paths in it are mounted."""
    from serving import app
    from serving.settings import ServiceSettings

    overlay = KUBERNETES / "overlays" / cloud / "service"
    (service,) = of_kind(overlay, "RayService")
    assert serve_problems(service["spec"]["serveConfigV2"]) == []
    serve = yaml.safe_load(service["spec"]["serveConfigV2"])
    (application,) = ServeDeploySchema.model_validate(serve).applications
    module, _, name = application.import_path.partition(":")
    assert module == app.__name__
    assert callable(getattr(app, name))
    (config,) = (d for d in of_kind(overlay, "ConfigMap") if "service.yaml" in d["data"])
    settings = ServiceSettings.of(yaml.safe_load(config["data"]["service.yaml"]), ROOT)
    files = {str(application.args["settings"]), settings.tokens}
    for group, template in pods(overlay):
        (container,) = template["spec"]["containers"]
        assert serve["http_options"]["port"] in {p["containerPort"] for p in container["ports"]}
        mounted = {m["mountPath"] for m in container["volumeMounts"]}
        assert {file.rpartition("/")[0] for file in files} <= mounted, group
        volumes = {v["name"]: v for v in template["spec"]["volumes"]}
        assert volumes["settings"]["configMap"]["name"] == config["metadata"]["name"]


def test_the_service_stands_on_the_cluster_of_runs() -> None:
    """Its pods have one port, Serve's variables and two volumes more."""
    running = pytest.importorskip("serving.running", reason="the service needs quakestream[serve]")
    base = KUBERNETES / "base"
    service = yaml.safe_load((base / "service" / "rayservice.yaml").read_text())
    cluster = yaml.safe_load((base / "cluster" / "raycluster.yaml").read_text())["spec"]
    made = service["spec"]["rayClusterConfig"]
    for group in (made["headGroupSpec"], *made["workerGroupSpecs"]):
        spec = group["template"]["spec"]
        spec["volumes"] = [v for v in spec["volumes"] if v["name"] not in ("settings", "tokens")]
        for one in spec["containers"]:
            one["ports"] = [p for p in one["ports"] if p["name"] != "serve"]
            assert {v["name"]: v["value"] for v in one.pop("env")} == running.ENVIRONMENT
            mounts = one["volumeMounts"]
            one["volumeMounts"] = [m for m in mounts if m["name"] not in ("settings", "tokens")]
    assert made == cluster


@each_overlay
def test_workers_of_a_cloud_are_on_spot_machines_and_have_its_role(overlay: Path) -> None:
    cloud = overlay.parent.name
    spot = {
        "kind": {},
        "eks": {"karpenter.sh/capacity-type": "spot"},
        "gke": {"cloud.google.com/gke-spot": "true"},
    }
    for group in ray_cluster(overlay)["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        assert spec["nodeSelector"] == spot[cloud]
        tolerated = {t["key"] for t in spec["tolerations"]}
        assert cloud != "gke" or "cloud.google.com/gke-spot" in tolerated
    for account in of_kind(overlay, "ServiceAccount"):
        assert bool(account["metadata"].get("annotations")) == (cloud != "kind")


def shell_blocks() -> list[str]:
    """Blocks of commands in the README, each command on one line."""
    text = (ROOT / "deploy" / "README.md").read_text()
    return [b.replace("\\\n", " ") for b in re.findall(r"^```sh\n(.+?)^```", text, re.M | re.S)]


def test_a_map_takes_ten_commands() -> None:
    lines = shell_blocks()[0].splitlines()
    assert len([line for line in lines if not line.startswith("export ")]) == 10


def test_commands_of_the_readme_fill_in_all_that_is_to_be_filled_in() -> None:
    """What would be applied names the reader's run, image, role and bucket, and none of ours."""
    commands = [
        line.partition("| kubectl apply")[0]
        for block in shell_blocks()
        for line in block.splitlines()
        if "kubectl kustomize" in line
    ]
    assert [re.findall(r"overlays/(\S+)", c) for c in commands] == [["eks/job"], ["eks/service"]]
    own = {"RUN": "s3://mine/run.yaml", "ROOT": "s3://mine/jobs", "IMAGE": "mine.example/qs"}
    own["PATH"] = f"{Path(tool('kubectl')).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        done = checked("env", *(f"{n}={v}" for n, v in own.items()), "bash", "-c", command)
        assert done.returncode == 0, done.stderr
        assert not re.search(r"ACCOUNT|REGION|PROJECT|s3://bucket", done.stdout)
        assert f"{own['IMAGE']}:" in done.stdout
        assert own["RUN"] in done.stdout
        assert len([d for d in yaml.safe_load_all(done.stdout) if d]) > 4


def test_no_manifest_holds_a_secret() -> None:
    for path in KUBERNETES.rglob("*.yaml"):
        text = path.read_text()
        assert "kind: Secret" not in text, path
        assert not re.search(r"stringData|AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE", text), path


def test_the_job_and_the_standing_cluster_are_one_cluster() -> None:
    base = KUBERNETES / "base"
    job = yaml.safe_load((base / "job" / "rayjob.yaml").read_text())
    cluster = yaml.safe_load((base / "cluster" / "raycluster.yaml").read_text())
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


def test_images_are_of_this_version() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    named = {
        image
        for path in (ROOT / "deploy").rglob("*")
        if path.suffix in (".yaml", ".cpu", ".gpu", ".md")
        for image in re.findall(r"quakestream:([0-9][\w.]*)-[cg]pu", path.read_text())
    }
    assert named == {version[1]}


def planted(document: Document, path: str, value: Any) -> Document:
    """A copy with one key more, or with another value."""
    made = copy.deepcopy(document)
    *parents, last = path.split(".")
    place: Any = made
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    return made


JOB = KUBERNETES / "overlays" / "eks" / "job"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.backofLimit", 3),
        ("spec.rayClusterSpec.autoscalerOptions.version", "v3"),
        ("spec.rayClusterSpec.authOptions.secret", "name"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.rayClusterSpec.workerGroupSpecs.0.minReplica", 2),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resource", {}),
        ("spec.deletionStrategy.deletionRules.0.policy", "DeletePods"),
    ],
)
def test_a_planted_mistake_in_a_ray_resource_is_found(path: str, value: Any) -> None:
    (document,) = of_kind(JOB, "RayJob")
    (problem,) = ray_problems(planted(document, path, value))
    assert str(path.split(".")[-1]) in problem or str(value) in problem


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.serveConfig", ""),
        ("spec.upgradeStrategy.kind", "NewCluster"),
        ("spec.rayClusterConfig.workerGroupSpecs.0.minReplica", 2),
    ],
)
def test_a_planted_mistake_in_the_service_is_found(path: str, value: Any) -> None:
    (document,) = of_kind(KUBERNETES / "overlays" / "kind" / "service", "RayService")
    (problem,) = ray_problems(planted(document, path, value))
    assert str(path.split(".")[-1]) in problem or str(value) in problem


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("request_timeout_s", "request_timeouts_s"),
        ("route_prefix", "route_prefx"),
        ("proxy_location", "proxy_locations"),
        ("port: 8000", "port: http"),
    ],
)
def test_a_planted_mistake_in_the_configuration_of_serve_is_found(right: str, wrong: str) -> None:
    (service,) = of_kind(KUBERNETES / "overlays" / "kind" / "service", "RayService")
    text = service["spec"]["serveConfigV2"]
    assert right in text
    (problem,) = serve_problems(text.replace(right, wrong))
    assert wrong.split(": ")[-1] in problem


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("NetworkPolicy", "spec.podSelecter", {}),
        ("ServiceAccount", "automountServiceAccountToken", "yes"),
        ("ConfigMap", "datas", {}),
    ],
)
def test_a_planted_mistake_in_a_kubernetes_resource_is_found(
    kind: str, path: str, value: Any
) -> None:
    document = of_kind(JOB, kind)[0]
    assert kubernetes_problem(planted(document, path, value))


def test_a_patch_that_misses_is_found(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}")
    patch = '[{"op": "replace", "path": "/data/absent", "value": 1}]'
    content = {"resources": ["base.yaml"], "patches": [{"target": {"name": "a"}, "patch": patch}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    done = checked("kubectl", "kustomize", tmp_path)
    assert done.returncode != 0
    assert "absent" in done.stderr
