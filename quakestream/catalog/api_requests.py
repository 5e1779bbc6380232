"""The client of STAC APIs: pystac-client, with requests of our own.

Only a search imports this: pystac-client brings a JSON schema validator, whose import can take
longer than a small map.
"""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pystac_client
from pystac_client.stac_api_io import StacApiIO

from quakestream.catalog.hrefs import HrefRule
from quakestream.catalog.parsing import kind_of_text, parse_json, unpacked
from quakestream.errors import StorageError
from quakestream.storage.limits import CATALOGUE_BYTES, DOCUMENT
from quakestream.storage.web import WebRequest, web_get

_LATER = "try again later"


def open_client(root: str, rule: HrefRule) -> pystac_client.Client:
    """A client of the service with this landing page.

    Raises:
        StorageError: if the service does not answer.
    """
    return pystac_client.Client.open(root, stac_io=_Requests(rule))


class _Requests(StacApiIO):
    """pystac-client's requests, made by our own client: bounded, and held to the rule of hrefs."""

    def __init__(self, rule: HrefRule) -> None:
        super().__init__()
        self._rule = rule
        self._bytes = 0

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        url = self._rule.place(self._rule.root, href)
        sent = {str(name): str(value) for name, value in (headers or {}).items()}
        if (method or "GET").upper() == "POST":
            sent["Content-Type"] = "application/json"
            body = json.dumps(parameters or {}).encode()
            request = WebRequest(url=url, method="POST", body=body, headers=sent)
        else:
            query = urlencode(parameters or {}, doseq=True)
            mark = "&" if "?" in url else "?"
            request = WebRequest(url=f"{url}{mark}{query}" if query else url, headers=sent)
        try:
            data = unpacked(web_get(request, self._rule.options, DOCUMENT).data, url)
        except StorageError as error:
            remedy = f"{error.remedy or _LATER}, or save its items to a file and name that"
            raise type(error).of(replace(error.problem, remedy=remedy)) from error
        self._bytes += len(data)
        if self._bytes > CATALOGUE_BYTES:
            raise StorageError("service sends too much", url, f"at most {CATALOGUE_BYTES:,} bytes")
        if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
            raise StorageError(
                "answer is no JSON", url, "a STAC API", kind_of_text(data), "check the address"
            )
        return data.decode("utf-8-sig")

    def json_loads(self, txt: str, *_: Any, **__: Any) -> dict[str, Any]:
        value: dict[str, Any] = parse_json(txt)
        return value
