"""Images and captions, written in each format that `ingest` reads."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

LONG = "ein sehr langer Satz " * 500
CAPTIONS = ("a red square", 'two\nlines\r\nand, "quotes"', "🦊 größer 東京", LONG[:10_000], "", None, "  spaces kept ")


@dataclass(frozen=True)
class Picture:
    key: str
    image: bytes
    caption: str | None


def encoded(colour: str, fmt: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, fmt)
    return buffer.getvalue()


def pictures() -> list[Picture]:
    colours = ("red", "lime", "blue", "cyan", "magenta", "yellow", "black")
    return [Picture(f"p{i}", encoded(c), t) for i, (c, t) in enumerate(zip(colours, CAPTIONS, strict=True))]


def members_of(picture: Picture, **extra: object) -> dict[str, bytes]:
    members = {f"{picture.key}.png": picture.image}
    if picture.caption is not None:
        members[f"{picture.key}.txt"] = picture.caption.encode()
    if extra:
        members[f"{picture.key}.json"] = json.dumps(extra).encode()
    return members


def tar_bytes(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members))
    return path


def write_tars(folder: Path, rows: Iterable[Picture], shards: int) -> Path:
    rows = list(rows)
    for number in range(shards):
        members = {name: data for row in rows[number::shards] for name, data in members_of(row).items()}
        write_tar(folder / f"{number:05d}.tar", members)
    return folder


def write_folder(folder: Path, rows: Iterable[Picture]) -> Path:
    """Writes images with metadata.jsonl, without the caption if an image has none."""
    lines = []
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        (folder / f"{row.key}.png").write_bytes(row.image)
        caption = {} if row.caption is None else {"text": row.caption}
        lines.append(json.dumps({"file_name": f"{row.key}.png", **caption}, ensure_ascii=False))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def write_parquet(path: Path, rows: Iterable[Picture]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = [{"jpg": row.image, "caption": row.caption, "key": row.key, "url": f"http://x/{row.key}"} for row in rows]
    pq.write_table(pa.Table.from_pylist(table), path)
    return path
