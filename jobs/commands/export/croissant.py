"""Croissant 1.1 metadata, so that dataset tools find, check and load the set.

Source: MLCommons, Croissant Format Specification, version 1.1, 2026; provenance by the W3C's PROV-O as it recommends.
"""

from collections.abc import Mapping
from typing import Any

from pyspark.sql import Row

from jobs.commands.export import card
from jobs.facts import sentences
from jobs.runtime import wording

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
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
    ("caption", "sc:Text", "The caption, unchanged; null where there is none."),
    ("weight", "sc:Float", "Importance weight; the mean over the set is 1."),
    ("image_id", "sc:Text", "Identity of the image, from its bytes and caption alone."),
    ("width", "sc:Integer", "In pixels."),
    ("height", "sc:Integer", "In pixels."),
    ("sha256", "sc:Text", "Digest of the image file."),
    ("url", "sc:URL", "Where the image was downloaded, if the source says so."),
    ("source", "sc:Text", "The file, folder or table that it was read from."),
)


def metadata(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The set as JSON-LD.

    Args:
        manifest: What `export` writes as winnow.json.
    """
    given, curated = manifest["card"], manifest["tables"]["curated"]
    found = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": card.name(manifest),
        "description": _description(manifest),
        "url": given["url"] or manifest["made_from"]["lake"],
        "license": given["license"] or _UNKNOWN_LICENSE,
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


def _description(manifest: Mapping[str, Any]) -> str:
    counts, given = manifest["counts"], manifest["card"]["description"]
    told = f"{counts['curated']:,} images with captions and importance weights"
    if "rows_read" in counts:
        parts = [
            f"{counts[name]:,} {name}" for name in ("repeats", "quarantined", "filtered", "duplicates") if counts[name]
        ]
        told += f", of {counts['rows_read']:,} rows read" + (f" (out: {', '.join(parts)})" if parts else "")
    models = manifest["models"]
    digests = [f"encoder {models['encoder']}"] if models["encoder"] else []
    digests += [f"{category} {digest}" for category, digest in sorted(models["classifiers"].items())]
    named = f" Models: {', '.join(digests)}." if digests else ""
    return f"{given + ' ' if given else ''}{told}.{named} winnow.json holds all settings and table versions."


def _distribution(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    if manifest["made_from"]["format"] == "datacomp":
        return [_file(entry) for entry in manifest["files"]]
    sets = [_file_set("samples", "*.parquet", "application/x-parquet", "One row for each sample.")]
    if manifest["made_from"]["format"] == "webdataset":
        told = "WebDataset shards; the digest of each is in winnow.json."
        sets.append(_file_set("shards", "*.tar", "application/x-tar", told))
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
    """What filtering did to words; nothing where no audit looked."""
    if not manifest["keywords"] and "keyword_shift" in manifest["tables"]:
        return ["no keyword stands out beyond doubt"]
    return [_bias(row) for row in manifest["keywords"]]


def _bias(row: Mapping[str, Any]) -> str:
    told = sentences.shift_sentence(Row(**row))
    return told if row["captions"] is None else f"{told}; in {wording.plural(row['captions'], 'caption')}"


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    told = f"{source['rows']:,} rows, {source['images']:,} images, {source['format']}"
    return {"@type": "prov:Entity", "prov:label": source["source"], "prov:value": told}


def _activity(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "prov:Activity",
        "prov:label": f"{table['command'] or 'unknown'} → {name}, version {table['version']}",
        "prov:endedAtTime": table["written_at"],
    }


def _agent(name: str, version: str) -> dict[str, Any]:
    return {"@type": "prov:SoftwareAgent", "prov:label": f"{name} {version}"}
