"""The card and the metadata of a manifest written by hand: what becomes a link, and what is text."""

import json
from pathlib import Path
from typing import Any

import mlcroissant
import pytest

from jobs.commands.export import card, croissant

CURATED = {"version": 3, "written_at": "2026-01-02T03:04:05", "command": "weigh", "settings": {}}


def manifest_of(**given: str) -> dict[str, Any]:
    facts = dict.fromkeys(("name", "description", "license", "creator", "url")) | given
    return {
        "made_from": {"format": "webdataset", "lake": "/data/lake", "seed": 0, "shard_samples": 10},
        "card": facts,
        "counts": {"curated": 2},
        "tables": {"curated": CURATED},
        "models": {"encoder": None, "semantic": None, "classifiers": {}},
        "sources": [{"source": "s3a://bucket/a_b", "format": "parquet", "parts": 1, "rows": 2, "images": 2}],
        "thresholds": [], "keywords": [], "weights": None, "decisions": None, "files": [],
        "software": {"winnow": "0.1.0"},
    }  # fmt: skip


def distribution_of(**given: str) -> str:
    return card.render(manifest_of(**given)).partition("## Distribution\n")[2].partition("## Maintenance")[0]


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("https://example.org/my_photos", "<https://example.org/my_photos>"),
        (" HTTP://example.org/a b|c>d", "<HTTP://example.org/a%20b%7Cc%3Ed>"),
        ("https://example.org/%41?b=c#d", "<https://example.org/%41?b=c#d>"),
    ],
)
def test_web_addresses_are_links(address: str, link: str) -> None:
    text = distribution_of(url=address, license=address)

    assert f"URL: {link}." in text and f"License: {link}." in text
    assert croissant.metadata(manifest_of(url=address))["url"] == link[1:-1]


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", " \tJava\nScript:alert(1)", "data:text/html,x", "ftp://host/a", "https:", "https://[x",
     "file:///etc/passwd", "https://host/\x01x"],
)  # fmt: skip
def test_other_addresses_are_text(address: str) -> None:
    text = distribution_of(url=address, license=address)
    metadata = croissant.metadata(manifest_of(url=address, license=address))

    assert not set(text) & set("<>") and "](" not in text
    assert metadata["url"] == "/data/lake"
    assert metadata["license"] == {"@type": "sc:CreativeWork", "name": address}


def test_a_license_is_a_name_a_url_or_unknown() -> None:
    assert croissant.metadata(manifest_of(license="CC-BY-4.0"))["license"] == "CC-BY-4.0"
    assert croissant.metadata(manifest_of())["license"].endswith("NOASSERTION")
    assert "License: CC-BY-4.0." in distribution_of(license="CC-BY-4.0")


def test_markdown_in_a_value_is_escaped() -> None:
    hostile = "![x](javascript:alert(1)) <b> &lt; $a$ ~~b~~ `c` | d\u2028e"

    text = distribution_of(license=hostile)

    assert r"!\[x\](javascript:alert(1)) \<b\> \&lt; \$a\$ \~\~b\~\~ \`c\` \| d e" in text


@pytest.mark.parametrize(
    ("value", "escaped"),
    [("- a", r"\- a"), ("---", r"\---"), ("12. a", r"12\. a"), ("=", r"\="), ("2026", "2026"), ("    a", "a")],
)
def test_a_value_starts_no_list_rule_or_heading(value: str, escaped: str) -> None:
    assert card.text(value) == escaped
    assert f"\n{escaped}\n" in card.render(manifest_of(description=value))


@pytest.mark.parametrize("license_", ["javascript:alert(1)", "CC-BY-4.0", "https://example.org/license"])
def test_the_metadata_is_valid_with_each_kind_of_license(tmp_path: Path, license_: str) -> None:
    file = tmp_path / "croissant.json"
    file.write_text(json.dumps(croissant.metadata(manifest_of(license=license_))))

    assert not mlcroissant.Dataset(jsonld=str(file)).metadata.ctx.issues.errors
