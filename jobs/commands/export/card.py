"""The dataset card: front matter of Hugging Face, headings of datasheets for datasets.

Source: Gebru et al., Datasheets for Datasets, 2018 (the headings); Hugging Face's dataset card (the front matter).
"""

import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any
from urllib.parse import quote, urlsplit

from jinja2 import Environment, StrictUndefined

from jobs.facts import sentences
from jobs.facts.weights import Reach
from jobs.runtime import wording

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MARKED = re.compile(r"([\\`*_{}\[\]<>|#&~$])")
_STARTS = re.compile(r"^([-+=]|\d+(?=[.)]))")  # of a list, a rule or a heading, at the start of a line
_IN_ADDRESSES = ";/?:@&=+$,#[]!'()*%"
_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000)
_LETTERS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B")
_DATA_FILES = {"webdataset": "*.tar", "parquet": "*.parquet"}


def render(manifest: Mapping[str, Any]) -> str:
    """Returns the card as Markdown.

    Args:
        manifest: The content of winnow.json. Names and paths in it are escaped.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "text": text, "link": link, "number": wording.number, "quoted": quoted, "values": values,
    }  # fmt: skip
    template = resources.files("jobs.commands.export").joinpath("dataset_card.md.jinja").read_text("utf-8")
    data_files = _DATA_FILES.get(manifest["made_from"]["format"])
    page = environment.from_string(template).render(
        m=manifest,
        card=manifest["card"],
        name=name(manifest),
        size=size_category(manifest["counts"]["curated"]),
        data_files=data_files,
        reach=_reach(manifest["weights"]),
        words=sentences,
        wording=wording,
    )
    return re.sub(r"\n{3,}", "\n\n", page)


def name(manifest: Mapping[str, Any]) -> str:
    """Returns the name of the set: from the settings, or else the name of the lake."""
    given: str | None = manifest["card"]["name"]
    return given or str(manifest["made_from"]["lake"]).rstrip("/").rpartition("/")[2] or "curated"


def _reach(weights: Mapping[str, Any] | None) -> str:
    """The sentence about images beyond reach; empty if nothing was compared."""
    excess = [f"beyond_reach_excess{end}" for end in ("", "_low", "_high")]
    if not weights or any(name not in weights for name in excess):
        return ""
    return sentences.reach(Reach(weights["beyond_reach"], *(weights[name] for name in excess)))


def size_category(images: int) -> str:
    """Returns the name of Hugging Face for a size.

    Examples:
        >>> size_category(999), size_category(5000), size_category(10**11)
        ('n<1K', '1K<n<10K', '100B<n<1T')
    """
    at = sum(images >= limit for limit in _SIZES)
    if at == 0:
        return "n<1K"
    if at == len(_SIZES):
        return "10B<n<100B" if images < 10**11 else "100B<n<1T" if images < 10**12 else "n>1T"
    return f"{_LETTERS[at - 1]}<n<{_LETTERS[at]}"


def text(value: object) -> str:
    r"""Returns a value as one line of Markdown, with markup escaped.

    Examples:
        >>> text("a|b\n<script>*")
        'a\\|b \\<script\\>\\*'
    """
    escaped = _MARKED.sub(r"\\\1", _CONTROLS.sub(" ", str(value)).strip())
    start = _STARTS.match(escaped)
    if start is None:
        return escaped
    at = start.end() if escaped[0].isdigit() else 0
    return f"{escaped[:at]}\\{escaped[at:]}"


def link(value: object) -> str:
    """Returns a value as a Markdown link if it is an address of the web, else as text.

    Examples:
        >>> link("https://example.org/my_photos")
        '<https://example.org/my_photos>'
        >>> link("javascript:alert(1)")
        'javascript:alert(1)'
    """
    address = web_address(value)
    return f"<{address}>" if address else text(value)


def web_address(value: object) -> str:
    """Returns an address of the web (http or https) with unusual characters percent-encoded; empty for other values.

    Examples:
        >>> web_address("https://example.org/a b")
        'https://example.org/a%20b'
        >>> web_address("CC-BY-4.0"), web_address("data:text/html,x"), web_address(None)
        ('', '', '')
    """
    address = str(value).strip()
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname or _CONTROLS.search(address):
        return ""
    return quote(address, safe=_IN_ADDRESSES, errors="replace")


def quoted(value: object) -> str:
    """Returns a value as a YAML string; a JSON string is one."""
    return json.dumps(_CONTROLS.sub(" ", str(value)), ensure_ascii=False)


def values(settings: Mapping[str, Any]) -> str:
    """Returns settings as one line of JSON, for a code span."""
    return json.dumps(settings, ensure_ascii=False, sort_keys=True, default=str).replace("`", "'")
