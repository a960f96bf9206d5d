"""Croissant 1.1 metadata, with which dataset tools find, check and load the set.

Source: MLCommons, Croissant Format Specification, version 1.1, 2026; its recommended provenance terms are W3C PROV-O.
"""

import re
from collections.abc import Mapping
from typing import Any

from pyspark.sql import Row

from jobs.commands.export import card
from jobs.facts import sentences
from jobs.runtime import wording

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_BLANKS = re.compile(r"[\x00-\x20]+")  # a browser passes by these in a scheme
_UNKNOWN_LICENSE = "https://spdx.org/licenses/NOASSERTION"
_CROISSANT_TERMS = (
    "annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract", "field",
    "fileProperty", "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "recordSet", "references", "regex", "readLines", "repeated", "replace", "samplingRate",
    "sdVersion", "separator", "source", "subField", "transform", "unArchive", "value",
)  # fmt: skip
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _CROISSANT_TERMS},
}
_FIELDS = (
    ("key", "sc:Text", "Name of the sample in its shard."),
    ("caption", "sc:Text", "The caption, unchanged; null if there is none."),
    ("weight", "sc:Float", "Importance weight; the mean over the set is 1."),
    ("image_id", "sc:Text", "Id of the image; it depends only on its bytes and caption."),
    ("width", "sc:Integer", "Width in pixels."),
    ("height", "sc:Integer", "Height in pixels."),
    ("sha256", "sc:Text", "SHA-256 digest of the image file."),
    ("url", "sc:URL", "URL from which the image was downloaded, if the source names it."),
    ("source", "sc:Text", "The file, folder or table from which the image was read."),
)


def metadata(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metadata of the set as JSON-LD.

    Args:
        manifest: The content of winnow.json.
    """
    given, curated = manifest["card"], manifest["tables"]["curated"]
    found = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": card.name(manifest),
        "description": _description(manifest),
        "url": card.web_address(given["url"]) or manifest["made_from"]["lake"],
        "license": _license(given["license"]),
        "creator": {"@type": "sc:Organization", "name": given["creator"] or "unknown"},
        "datePublished": curated["written_at"][:10],
        "version": f"{curated['version']}.0.0",
        "citeAs": f"{card.name(manifest)}, version {curated['version']} of {curated['written_at'][:10]}",
        "distribution": _distribution(manifest),
        "recordSet": _record_set(manifest),
        "rai:dataPreprocessingProtocol": [
            _preprocessing_step(name, table) for name, table in manifest["tables"].items()
        ],
        "rai:dataBiases": _biases(manifest),
        "prov:wasDerivedFrom": [_source(source) for source in manifest["sources"]],
        "prov:wasGeneratedBy": [_activity(name, table) for name, table in manifest["tables"].items()],
        "prov:wasAttributedTo": [_agent(name, version) for name, version in manifest["software"].items()],
    }
    return {name: value for name, value in found.items() if value not in (None, [])}


def _license(given: str | None) -> str | dict[str, str]:
    """A URL, or a name. A name that begins like an address of another kind is no link: a program could follow it."""
    if not given:
        return _UNKNOWN_LICENSE
    address = card.web_address(given)
    is_name = _SCHEME.match(_BLANKS.sub("", given)) is None
    return address or (given if is_name else {"@type": "sc:CreativeWork", "name": given})


def _description(manifest: Mapping[str, Any]) -> str:
    counts, given = manifest["counts"], manifest["card"]["description"]
    text = f"{counts['curated']:,} images with captions and importance weights"
    if counts.get("rows_read") is not None:
        parts = [
            f"{counts[name]:,} {name}" for name in ("repeats", "quarantined", "filtered", "duplicates") if counts[name]
        ]
        text += f", from {counts['rows_read']:,} rows read" + (f" (removed: {', '.join(parts)})" if parts else "")
    models = manifest["models"]
    digests = [f"encoder {models['encoder']}"] if models["encoder"] else []
    digests += [f"semantic encoder {models['semantic']}"] if models.get("semantic") else []
    digests += [f"{category} {digest}" for category, digest in sorted(models["classifiers"].items())]
    named = f" Models: {', '.join(digests)}." if digests else ""
    return f"{given + ' ' if given else ''}{text}.{named} winnow.json holds all settings and table versions."


def _distribution(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    if manifest["made_from"]["format"] == "datacomp":
        return [_file(entry) for entry in manifest["files"]]
    sets = [_file_set("samples", "*.parquet", "application/x-parquet", "One row per sample.")]
    if manifest["made_from"]["format"] == "webdataset":
        about = "WebDataset shards; winnow.json holds their digests."
        sets.append(_file_set("shards", "*.tar", "application/x-tar", about))
    return sets


def _file(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject", "@id": entry["name"], "name": entry["name"], "contentUrl": entry["name"],
        "description": "Sorted uids of the images, 128 bits each, as two 64-bit words.",
        "contentSize": f"{entry['bytes']} B", "encodingFormat": "application/octet-stream", "sha256": entry["sha256"],
    }  # fmt: skip


def _file_set(name: str, includes: str, encoding: str, description: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet", "@id": name, "name": name, "description": description, "encodingFormat": encoding,
        "includes": includes,
    }  # fmt: skip


def _record_set(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    if manifest["made_from"]["format"] == "datacomp":
        return []
    fields = [
        {
            "@type": "cr:Field", "@id": f"images/{name}", "name": name, "description": description, "dataType": kind,
            "source": {"fileSet": {"@id": "samples"}, "extract": {"column": name}},
        }
        for name, kind, description in _FIELDS
    ]  # fmt: skip
    key = {"@id": "images/key"}
    return [{"@type": "cr:RecordSet", "@id": "images", "name": "images", "key": key, "field": fields}]


def _preprocessing_step(name: str, table: Mapping[str, Any]) -> str:
    made = f"winnow {table['command']}" if table["command"] else "not made by Winnow"
    return f"{name}, version {table['version']}: {made}, settings {card.values(table['settings'])}"


def _biases(manifest: Mapping[str, Any]) -> list[str]:
    """The shifts of keywords by filtering; empty if `audit` did not run."""
    if not manifest["keywords"] and "keyword_shift" in manifest["tables"]:
        return ["the share of no keyword changed significantly"]
    return [_bias(row) for row in manifest["keywords"]]


def _bias(row: Mapping[str, Any]) -> str:
    sentence = sentences.shift_sentence(Row(**row))
    return sentence if row["captions"] is None else f"{sentence}; in {wording.plural(row['captions'], 'caption')}"


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    counts = f"{source['rows']:,} rows, {source['images']:,} images, {source['format']}"
    return {"@type": "prov:Entity", "prov:label": source["source"], "prov:value": counts}


def _activity(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "prov:Activity",
        "prov:label": f"{table['command'] or 'unknown'} → {name}, version {table['version']}",
        "prov:endedAtTime": table["written_at"],
    }


def _agent(name: str, version: str) -> dict[str, Any]:
    return {"@type": "prov:SoftwareAgent", "prov:label": f"{name} {version}"}
