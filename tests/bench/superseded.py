"""Measures what the search for superseded images adds to an `ingest` into a lake of a million images.

python -m tests.bench.superseded [--images 1000000] [--sources 100]

Writes the tables of the lake directly, without image bytes. Then one small folder is ingested in each of three states:
no source was read again; one source was read again and lost a tenth of its images; so did all of them.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from pyspark.sql.pandas.types import to_arrow_schema

from jobs.commands import ingest
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.lake.table import Table
from jobs.origins import superseded
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from tests.builders.images import numbered_images

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_FIRST = "first"  # id of the run that gave all images
_LOST = 10  # of so many images, a source that is read again no longer has one


def append(lake: Lake, table: Table, columns: Mapping[str, Any], count: int) -> None:
    """Writes rows in one commit, without Spark.

    Args:
        lake: The lake.
        table: Which table.
        columns: A list or array of values, or one value for all rows, by column; other columns are null.
        count: Number of rows.
    """
    schema = to_arrow_schema(table.schema, timezone="UTC")
    arrays = [_array(columns.get(field.name), field.type, count) for field in schema]
    # `ingest` looks for the run of the last commit of images in the table sources.
    recipe = Recipe("ingest", settings={"run": _FIRST})
    metadata = json.dumps({**json.loads(recipe.to_json()), "began_ms": round(1000 * time.time())})
    write_deltalake(
        lake.path(table.name),
        pa.Table.from_arrays(arrays, schema=schema),
        mode="append",
        partition_by=list(table.partition) or None,
        commit_properties=CommitProperties(custom_metadata={"userMetadata": metadata}),
    )


def _array(values: Any, kind: pa.DataType, count: int) -> pa.Array:
    if isinstance(values, list):
        return pa.array(values, kind)
    return pa.nulls(count, kind) if values is None else pa.repeat(pa.scalar(values, kind), count)


def fill(lake: Lake, images: int, sources: int) -> None:
    """Writes a lake of images that so many sources gave."""
    lake.mark()
    ids = [_id(number) for number in range(images)]
    places = [f"/data/{number % sources:05}.tar" for number in range(images)]
    keys = [str(number) for number in range(images)]
    own = {"image_id": ids, "key": keys, "source": places, "caption": "a caption", "image": b"0", "meta": "{}"}
    append(lake, tables.IMAGES, {**own, "width": 1, "height": 1, "format": "PNG", "part": 0}, images)
    origins = {"image_id": ids, "source": places, "key": keys, "is_image": True, "run": _FIRST}
    append(lake, tables.ORIGINS, origins, images)
    _record(lake, range(sources), _FIRST, 0, images // sources)


def read_again(lake: Lake, images: int, sources: int, chosen: range, run: str, hour: int) -> None:
    """Writes the readings of sources that were read again and lost a tenth of their images."""
    numbers = [n for n in range(images) if n % sources in chosen and n // sources % _LOST]
    origins = {
        "image_id": [_id(number) for number in numbers],
        "source": [f"/data/{number % sources:05}.tar" for number in numbers],
        "key": [str(number) for number in numbers],
        "is_image": False,
        "run": run,
    }
    append(lake, tables.ORIGINS, origins, len(numbers))
    _record(lake, chosen, run, hour, 0)


def _record(lake: Lake, chosen: range, run: str, hour: int, images: int) -> None:
    columns = {
        "source": [f"/data/{number:05}.tar" for number in chosen],
        "ingested_at": _BEGAN + timedelta(hours=hour),
        "rows_read": images,
        "images": images,
        "repeats": 0,
        "quarantined": 0,
        "format": "webdataset",
        "fingerprint": run,
        "run": run,
        "read_as": "same",
        "whole": True,
    }
    append(lake, tables.SOURCES, columns, len(chosen))


def _id(number: int) -> str:
    return hashlib.md5(str(number).encode()).hexdigest()


def timed_ingest(job: Job, folder: Path, first: int) -> tuple[float, float, Any]:
    """Ingests a folder of two new images; returns the seconds of all, those of the search, and how many it found."""
    numbered_images(folder, range(first, first + 2))
    search, own = superseded.update, 0.0

    def timed(lake: Lake) -> superseded.Changes:
        nonlocal own
        began = time.perf_counter()
        found = search(lake)
        own = time.perf_counter() - began
        return found

    superseded.update = timed
    began = time.perf_counter()
    try:
        summary = ingest.run(job, [str(folder)])
    finally:
        superseded.update = search
    return time.perf_counter() - began, own, summary.get("superseded in all", 0)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--sources", type=int, default=100)
    args = parser.parse_args()
    settings = config.load()
    with tempfile.TemporaryDirectory() as name:
        job = Job(Lake(get_session(settings.spark), f"{name}/lake"), settings, Progress())
        fill(job.lake, args.images, args.sources)
        timed_ingest(job, Path(name, "warm"), 0)
        print("| sources read again | superseded images | `ingest` of a small folder, s | of it the search, s |")
        print("|---:|---:|---:|---:|")
        for hour, chosen in enumerate((range(0), range(1), range(args.sources)), 1):
            if chosen:
                read_again(job.lake, args.images, args.sources, chosen, f"again {hour}", hour)
            whole, own, found = timed_ingest(job, Path(name, f"new {hour}"), 10 * hour)
            print(f"| {len(chosen)} of {args.sources} | {found:,} | {whole:.1f} | {own:.1f} |", flush=True)


if __name__ == "__main__":
    main()
