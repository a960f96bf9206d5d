"""Draws and writes one sub-folder of pictures, and returns its truth."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.commands.generate.pictures import copies, encode
from jobs.commands.generate.pictures.captions import caption, copied_caption
from jobs.commands.generate.pictures.drawing import draw
from jobs.commands.generate.pictures.plan import PERSONS, PictureSet, Role, plan
from jobs.commands.generate.pictures.primitives.randomness import Purpose, stream
from jobs.commands.generate.pictures.scenes import compose

TRUTH = pa.schema(
    [
        ("key", pa.string()),
        ("file_name", pa.string()),
        ("caption", pa.string()),
        ("group", pa.string()),
        ("original", pa.string()),
        ("transform", pa.string()),
        ("sibling_group", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("mode", pa.string()),
        ("subject", pa.string()),
        ("kind", pa.string()),
        ("index", pa.int64()),
    ]
)


def make_shard(directory: str, pictures: PictureSet, number: int) -> pa.Table:
    """Writes one sub-folder, unless it exists, and returns its truth.

    The folder gets its name when it is complete, so a stopped run leaves no incomplete folder.

    Args:
        directory: Folder of the picture set.
        pictures: The picture set.
        number: Number of the sub-folder, from 0.

    Returns:
        A table of schema `TRUTH`, in the order of index.
    """
    indices = range(number * pictures.shard, min((number + 1) * pictures.shard, pictures.count))
    rows = [_truth(pictures, plan(pictures).role(index)) for index in indices]
    folder = Path(directory) / shard_name(number)
    if not folder.is_dir():
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        lines = []
        for index, row in zip(indices, rows, strict=True):
            name = Path(row["file_name"]).name
            (partial / name).write_bytes(picture(pictures, index))
            lines.append(json.dumps({"file_name": name, "text": row["caption"]}))
        (partial / "metadata.jsonl").write_text("\n".join(lines) + "\n")
        partial.rename(folder)
    return pa.Table.from_pylist(rows, schema=TRUTH)


def shard_name(number: int) -> str:
    """Returns the name of a sub-folder.

    Examples:
        >>> shard_name(12)
        '00012'
    """
    return f"{number:05d}"


def picture(pictures: PictureSet, index: int) -> bytes:
    """Returns the file of one picture: a drawing, or a changed copy of one."""
    role = plan(pictures).role(index)
    image = draw(pictures.seed, compose(pictures.seed, role))
    if role.original != index:
        rng = stream(pictures.seed, index, Purpose.COPY)
        image = copies.apply(image, copies.choose(rng), rng)
    return encode.encode(image, _encoding(pictures, role), _key(pictures, index))


def _encoding(pictures: PictureSet, role: Role) -> encode.Encoding:
    return encode.choose(stream(pictures.seed, role.index, Purpose.ENCODE), role.original != role.index)


def _truth(pictures: PictureSet, role: Role) -> dict[str, Any]:
    copied = role.original != role.index
    scene = compose(pictures.seed, role)
    words = caption(pictures.seed, scene)
    transform = None
    if copied:
        transform = "+".join(copies.choose(stream(pictures.seed, role.index, Purpose.COPY)))
        words = copied_caption(stream(pictures.seed, role.index, Purpose.CAPTION), words)
    key = _key(pictures, role.index)
    return {
        "key": key,
        "file_name": f"{key}.{_encoding(pictures, role).extension}",
        "caption": words,
        "group": _key(pictures, role.original),
        "original": _key(pictures, role.original) if copied else None,
        "transform": transform,
        "sibling_group": _key(pictures, role.sibling) if role.sibling >= 0 else None,
        "categories": [role.category] if role.category else [],
        "mode": role.mode or None,
        "subject": role.kind if role.kind in PERSONS else "none",
        "kind": role.kind,
        "index": role.index,
    }


def _key(pictures: PictureSet, index: int) -> str:
    return f"{shard_name(index // pictures.shard)}/{index:09d}"
