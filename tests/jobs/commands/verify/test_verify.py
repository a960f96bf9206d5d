"""`verify`: which damage of a table's files it finds."""

import hashlib
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.commands.verify import command
from jobs.commands.verify.files import DAMAGED, FEWER_ROWS, MISSING, OTHER_ID, OTHER_SIZE, check, remedy
from jobs.job import Job
from jobs.lake import tables
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.lake_rows import write_rows

ROWS = [(b"bytes %d" % number, "caption" if number else None) for number in range(400)]


def id_of(image: bytes, caption: str | None) -> str:
    return hashlib.sha256(hashlib.sha256(image).hexdigest().encode() + (caption or "").encode()).hexdigest()[:32]


def write(path: Path, rows: list[tuple[bytes, str | None]] = ROWS, ids: list[str] | None = None) -> Path:
    ids = ids or [id_of(*row) for row in rows]
    table = pa.table({"image_id": ids, "image": [image for image, _ in rows], "caption": [text for _, text in rows]})
    pq.write_table(table, path, row_group_size=100, write_page_checksum=True, compression="none", use_dictionary=False)
    return path


def test_a_sound_file_has_no_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    found = check("images", str(path), path.stat().st_size, 400)
    assert (found.fault, found.rows, found.ids) == (None, 400, 400)
    assert check("images", str(path), path.stat().st_size, None).fault is None


def test_a_flipped_bit_that_changes_a_value_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    data, rows = path.read_bytes(), pq.read_table(path)
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    places = range(4, end, end // 60)
    found = 0
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        is_found = check("images", str(path), len(data), 400).fault is not None
        found += is_found
        assert is_found or pq.read_table(path).equals(rows), place  # statistics in the headers of pages
    assert found > 0.8 * len(places)


@pytest.mark.parametrize(
    ("what", "fault"),
    [("gone", MISSING), ("cut", OTHER_SIZE), ("footer", DAMAGED), ("rows", FEWER_ROWS), ("id", OTHER_ID)],
)
def test_each_kind_of_damage_has_its_name(tmp_path: Path, what: str, fault: str) -> None:
    ids = [id_of(*row) for row in ROWS]
    path = write(tmp_path / "a.parquet", ids=["0" * 32, *ids[1:]] if what == "id" else ids)
    data = path.read_bytes()
    if what == "gone":
        path.unlink()
    elif what == "cut":
        path.write_bytes(data[:-1])
    elif what == "footer":
        path.write_bytes(data[:-60] + bytes(56) + b"PAR1")
    found = check("images", str(path), len(data), 401 if what == "rows" else 400)
    assert found.fault == fault and found.detail
    if what == "id":
        assert found.detail.startswith("1 of 400 rows") and "0" * 32 in found.detail


def test_tables_that_can_be_made_again_have_another_remedy() -> None:
    said = remedy({"images": "ingest", "signals": "score", "labels": "label serve"})
    assert (
        said
        == "restore the files of images, labels from a copy; delete the folder signals and run `winnow score` again"
    )


def test_the_command_names_the_damaged_files_of_all_tables(job: Job) -> None:
    text = io.StringIO()
    told = Job(job.lake, job.settings, Progress(Console(file=text, width=500)))
    with pytest.raises(WinnowError, match="has no table"):
        command.run(told)
    image = (id_of(b"x", "a"), "k", "s", "a", b"x", 1, 1, "PNG", "{}", 3)
    write_rows(job.lake, tables.IMAGES, [image])
    write_rows(job.lake, tables.WEIGHTS, [("i", 1.0), ("j", 1.0)])
    summary = command.run(told)
    assert (summary["tables"], summary["files"], summary["rows"], summary["ids computed again"]) == (2, 2, 3, 1)

    [weights] = Path(job.lake.path("weights")).glob("*.parquet")
    [images] = Path(job.lake.path("images")).rglob("part=3/*.parquet")
    weights.unlink()
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(WinnowError) as error:
        command.run(told)
    assert "1 file of images (other size), 1 file of weights (missing)" in str(error.value)
    assert "Restore the files of images from a copy; delete the folder weights and run `winnow weigh` again" in str(
        error.value
    )
    assert weights.name in text.getvalue() and images.name in text.getvalue()
