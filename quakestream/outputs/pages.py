"""Builds HTML pages: templates, style, content security policies, model cards."""

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from importlib import resources

from markdown_it import MarkdownIt


def static(name: str) -> str:
    """A file of `outputs/static`."""
    return (resources.files("quakestream.outputs") / "static" / name).read_text("utf-8")


def fill(template: str, parts: Mapping[str, str]) -> str:
    """The template with `{{name}}` replaced in one pass: values are never read as a template."""
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m.group(1)], template)


def content_security_policy(scripts: Sequence[str], *, served: bool = False) -> str:
    """A policy that runs only these scripts.

    Args:
        served: allows requests to the page's own server; otherwise nothing is fetched.
    """
    digests = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{d}'" for d in digests) or "'none'"
    own = "img-src 'self' data:; connect-src 'self'" if served else "img-src data:"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        f"{own}; base-uri 'none'; form-action 'none'"
    )


def cards_html(cards: Sequence[tuple[str, str]]) -> str:
    """Model cards as HTML. HTML, links and images in them stay text: bundles come from others."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.disable(["link", "image", "autolink", "html_inline", "html_block", "reference"])
    return "".join(
        f'<details class="model-card"><summary>Model card of {html.escape(name)}</summary>'
        f"{_lowered(markdown.render(text))}</details>"
        for name, text in cards
    )


def _lowered(text: str) -> str:
    """Headings of a card below those of the page."""
    return re.sub(r"<(/?)h([1-4])>", lambda m: f"<{m[1]}h{int(m[2]) + 2}>", text)
