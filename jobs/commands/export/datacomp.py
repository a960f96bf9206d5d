"""The subset file of DataComp: the sorted uids of the curated set, as `.npy` of dtype `u8,u8`."""

import re
from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import TaskContext
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.commands.export.folder import Folder, Output

FILE = "subset.npy"
DTYPE = np.dtype("u8,u8")
_RUN = ".sorted"
_IS_RUN = re.compile(r"\d{5,}\.sorted")
_RUNS = "run int, uids long, images long"
_COPY_BYTES = 8 << 20


def uid() -> Column:
    """Returns the uid (128 bits in hexadecimal) of an image: its field `uid`, its key if it is one, or its image_id."""
    candidates = [F.lower(F.get_json_object("meta", "$.uid")), F.lower("key")]
    return F.coalesce(*[F.when(c.rlike("^[0-9a-f]{32}$"), c) for c in candidates], "image_id")


def write(curated: DataFrame, folder: Folder) -> tuple[int, int, Output]:
    """Writes the subset file.

    Spark sorts the uids and each task writes a sorted run. The runs are then copied into one file in order. The driver
    never holds more than 8 MB.

    Args:
        curated: image_id, key, meta.
        folder: The folder of the export.

    Returns:
        The number of images, the number of distinct uids, and the file.
    """
    for name in _runs(folder):  # left by a killed export
        folder.delete(name)
    ordered = curated.groupBy(uid().alias("uid")).agg(F.count("*").alias("images")).orderBy("uid")
    runs = sorted(ordered.mapInArrow(partial(_write_run, folder.uri), _RUNS).collect())
    count = sum(row["uids"] for row in runs)
    with folder.created(FILE) as output:
        header = {"descr": np.lib.format.dtype_to_descr(DTYPE), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(output, header)
        for row in runs:
            with folder.opened(_run_name(row["run"])) as run:
                while block := run.read(_COPY_BYTES):
                    output.write(block)
    for name in _runs(folder):
        folder.delete(name)
    return sum(row["images"] for row in runs), count, output


def words(uids: list[str]) -> NDArray[np.uint64]:
    """Returns uids as pairs of 64-bit words, shape (n, 2), the higher word first.

    Examples:
        >>> words(["0000000000000001" + "00000000000000ff"]).tolist()
        [[1, 255]]
    """
    return np.frombuffer(bytes.fromhex("".join(uids)), ">u8").astype("<u8").reshape(-1, 2)


def _write_run(uri: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    context = TaskContext.get()
    assert context is not None  # only Spark tasks write runs
    number, count, images = context.partitionId(), 0, 0
    with Folder(uri).created(_run_name(number)) as output:
        for batch in batches:
            found = words(batch.column(0).to_pylist())
            output.write(found.tobytes())
            count += len(found)
            images += sum(batch.column(1).to_pylist())
    schema = pa.schema([("run", pa.int32()), ("uids", pa.int64()), ("images", pa.int64())])
    yield pa.RecordBatch.from_pylist([{"run": number, "uids": count, "images": images}], schema=schema)


def _run_name(number: int) -> str:
    return f"{number:05d}{_RUN}"


def _runs(folder: Folder) -> list[str]:
    return [name for name in folder.names() if _IS_RUN.fullmatch(name)]
