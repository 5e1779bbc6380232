"""Turns the pod templates of Ray's resources into pods, for checkers that do not know KubeRay.

    kubectl kustomize deploy/kubernetes/overlays/eks/job | python deploy/pods.py > pods.yaml

Other resources pass as they are.
"""

import sys
from collections.abc import Iterator
from typing import Any

import yaml

Document = dict[str, Any]


def pods(document: Document) -> Iterator[Document]:
    """The pods of a RayJob, a RayCluster or a RayService; any other resource itself."""
    if not document["apiVersion"].startswith("ray.io/"):
        yield document
        return
    spec = document["spec"]
    cluster = spec.get("rayClusterSpec", spec.get("rayClusterConfig", spec))
    templates = {"head": cluster["headGroupSpec"]["template"]}
    templates |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    if "submitterPodTemplate" in spec:
        templates["submitter"] = spec["submitterPodTemplate"]
    for name, template in templates.items():
        metadata = {
            **template["metadata"],
            "name": f"{document['metadata']['name']}-{name}",
            "namespace": document["metadata"]["namespace"],
        }
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


if __name__ == "__main__":
    given = [document for document in yaml.safe_load_all(sys.stdin) if document]
    yaml.safe_dump_all([pod for document in given for pod in pods(document)], sys.stdout)
