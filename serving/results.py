"""Results of a finished job: in a document or raw, by value or by reference."""

import json
import secrets
from dataclasses import dataclass

from fastapi import Response
from fastapi_problem.error import Problem

from quakestream.outputs.live import LiveMap
from quakestream.outputs.readback import current_buildings, current_object
from serving.jobs import ServiceJob
from serving.problems import no_such
from serving.processes import RESULTS, link
from serving.services import Context

COLUMNS = ["building_id", "status", "reason", "damage_label", "confidence", "geometry"]
"""What buildings have that are sent by value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputValue:
    """One output: where it is, or what it is."""

    name: str
    media_type: str
    href: str = ""
    body: bytes | None = None
    """None for an output that is sent by reference."""

    def shown(self) -> object:
        """As a member of a document."""
        if self.body is None:
            return {"href": self.href, "type": self.media_type}
        is_json = self.media_type.endswith("json")
        return json.loads(self.body) if is_json else self.body.decode()


def results_of(job: ServiceJob, context: Context, base: str) -> "dict[str, object] | Response":
    """The results of a job that has ended well, as its request wants them."""
    live = context.maps.live(job.id)
    if live is None:
        raise no_such("run", job.id)
    made = {product["name"] for product in live.run["products"]} | {"run.json"}
    names = [name for name in job.request["outputs"] if RESULTS[name][0] in made]
    outputs = [_output(name, live, job, context, base) for name in names]
    if job.request.get("response") == "raw":
        return raw(outputs)
    page = link(f"{base}/view/{context.links.sign(job.id)}/", "preview", "the map", "text/html")
    return {output.name: output.shown() for output in outputs} | {"links": [page]}


def raw(outputs: list[OutputValue]) -> Response:
    """Outputs without a document around them."""
    if all(output.body is None for output in outputs):
        links = (f'<{o.href}>; rel="{o.name}"; type="{o.media_type}"' for o in outputs)
        return Response(status_code=204, headers={"Link": ", ".join(links)})
    if len(outputs) == 1:
        return Response(outputs[0].body, media_type=outputs[0].media_type)
    boundary = secrets.token_hex(16)
    parts = b"".join(_part(output, boundary) for output in outputs)
    media_type = f"multipart/related; boundary={boundary}"
    return Response(parts + f"--{boundary}--\r\n".encode(), media_type=media_type)


def _part(output: OutputValue, boundary: str) -> bytes:
    head = [f"--{boundary}", f"Content-ID: <{output.name}>", f"Content-Type: {output.media_type}"]
    if output.body is None:
        head.append(f"Content-Location: {output.href}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + (output.body or b"") + b"\r\n"


def _output(name: str, live: LiveMap, job: ServiceJob, context: Context, base: str) -> OutputValue:
    product, media_type = RESULTS[name]
    if name not in job.request["by_value"]:
        href = f"{base}/runs/{job.id}/{product}"
        return OutputValue(name=name, media_type=media_type, href=href)
    store = context.maps.store(job.id)
    if name == "run":
        return OutputValue(name=name, media_type=media_type, body=json.dumps(live.run).encode())
    if name == "buildings":
        return _buildings(live, job, context)
    if product.endswith(".csv"):
        body = current_object(store, live.run, product)
        return OutputValue(name=name, media_type=media_type, body=body)
    raise Problem(
        f"{name} is sent by reference only", type_="invalid-request", status=400, where=name
    )


def _buildings(live: LiveMap, job: ServiceJob, context: Context) -> OutputValue:
    rows = current_buildings(context.maps.store(job.id), live.run)
    most = context.settings.limits.rows_by_value
    if len(rows) > most:
        raise Problem(
            "too many buildings to send by value",
            type_="too-large",
            status=413,
            detail=f"{len(rows):,} buildings, at most {most:,}; ask for a reference",
        )
    body = json.dumps(rows[COLUMNS].to_geo_dict()).encode()
    return OutputValue(name="buildings", media_type="application/geo+json", body=body)
