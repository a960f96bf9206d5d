"""Finds the sources behind the paths of a command line, their formats and their fingerprints."""

import hashlib
import json
import math
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from jobs.runtime.addresses import require_no_secret
from jobs.runtime.config import IngestSettings
from jobs.runtime.wording import plural
from jobs.sources import files
from jobs.sources.beside import is_side_file, json_file, side_files, text_file
from models.errors import WinnowError

FORMATS = ("folder", "webdataset", "parquet", "delta")
IMAGE_ENDINGS = (
    "jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "mpo",
    "avif",
    # Image formats that Winnow cannot decode: each file gives a quarantine row, so that it is not skipped silently.
    "heic", "heif", "ico", "jp2", "jxl", "jxr", "svg",
)  # fmt: skip
METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_SHARD_ENDINGS = (".tar", ".tar.gz", ".tgz")
# Part of the fingerprint: increase it when a reader returns other rows for the same file.
_READERS = 3
# File names are arbitrary: limits on the number of extensions that are counted apart, and on their length.
_MOST_KINDS = 1000
_LONGEST_KIND = 16
# Place and bytes by which images are known. The first files without a usual extension are opened to count images apart.
_MARKS = ((0, b"\xff\xd8\xff", "JPEG"), (0, b"\x89PNG", "PNG"), (0, b"GIF8", "GIF"), (8, b"WEBP", "WEBP"))
_START_BYTES = 12
_MOST_OPENED = 1000


@dataclass(frozen=True)
class Source:
    """The unit that is read, counted and committed as a whole: shard, Parquet file, image folder or Delta table.

    Attributes:
        path: Absolute path or URI, as stored in tables.
        format: One of `FORMATS`.
        root: The folder that the user named, or the folder of the file.
        size: Size of the input in bytes.
        ignored: Number of files in a folder that are neither images nor metadata nor text or JSON files.
        fingerprint: Changes when its files (names, sizes, times) or the settings for reading them change.
        kinds: The extensions of the ignored files, each with its number of files. Of files without a usual extension,
            it is the format in capital letters if the content is an image, else ''.
        unused: Number of text and JSON files in a folder that describe no image.
    """

    path: str
    format: str
    root: str
    size: int
    ignored: int
    fingerprint: str
    kinds: tuple[tuple[str, int], ...] = ()
    unused: int = 0


def find(
    session: Callable[[], SparkSession], paths: Iterable[str], fmt: str | None, settings: IngestSettings
) -> list[Source]:
    """Returns the sources behind the paths of a command line, sorted by path, without repetition.

    Args:
        session: Returns the session, for the versions of Delta tables; called only for these.
        paths: Files, folders, patterns with `*`, URIs.
        fmt: One of `FORMATS`, or None to guess: tar files are `webdataset`, a folder with `_delta_log` is `delta`,
            Parquet files in a folder without images are `parquet`, anything else is `folder`.
        settings: Settings for reading, which are part of the fingerprint.

    Raises:
        WinnowError: The format is unknown; a path does not exist, holds no file of the format, or contains a secret.
    """
    if fmt is not None and fmt not in FORMATS:
        raise WinnowError(f"there is no format {fmt!r}: choose one of {', '.join(FORMATS)}")
    found: dict[str, Source] = {}
    for path in paths:
        require_no_secret(path)
        names = files.expand(files.absolute(path))
        if not names:
            raise WinnowError(f"no file matches {path}: check the path and the pattern")
        for name in names:
            for source in _sources(session, name, fmt, settings):
                found[source.path] = source
    return [found[path] for path in sorted(found)]


def task_count(spark: SparkSession, sources: Sequence[Source], settings: IngestSettings) -> int:
    """Returns the number of tasks that read sources: each reads about `file_mb`, and no core is idle."""
    full = math.ceil(sum(source.size for source in sources) / (settings.file_mb << 20))
    return max(full, spark.sparkContext.defaultParallelism)


def ending(name: str) -> str:
    """Returns the last extension of a file name, in lower case and without the dot.

    Examples:
        >>> ending("a.b.JPG")
        'jpg'
    """
    return posixpath.splitext(name)[1][1:].lower()


def is_image(name: str) -> bool:
    """Returns whether the name of a file is that of an image.

    Examples:
        >>> is_image("a.JPG"), is_image("metadata.csv")
        (True, False)
    """
    return ending(name) in IMAGE_ENDINGS


def is_metadata(name: str) -> bool:
    """Returns whether the name of a file in an image folder is that of metadata.

    Examples:
        >>> is_metadata("Metadata.CSV"), is_metadata("a.csv")
        (True, False)
    """
    return name.lower() in METADATA_NAMES


def _sources(session: Callable[[], SparkSession], path: str, fmt: str | None, settings: IngestSettings) -> list[Source]:
    kind = files.kind(path)
    if kind is None:
        raise WinnowError(f"{path} does not exist: give a file, a folder or a URI that this machine can read")
    chosen = fmt or (_guess_file(path) if kind == "file" else _guess_folder(path))
    digest = _digest_of(settings, chosen)
    if kind == "file":
        if chosen not in ("webdataset", "parquet"):
            raise WinnowError(f"{path} is a file, but format {chosen} needs a folder: give the folder that contains it")
        return [_file_source(path, posixpath.dirname(path), files.entry(path), chosen, digest)]
    if chosen == "delta":
        return [_delta_source(session, path, digest)]
    if chosen == "folder":
        return [_folder_source(path, digest)]
    return _shards(path, chosen, digest)


def _guess_file(path: str) -> str:
    name = posixpath.basename(path)
    if _is_shard(name):
        return "webdataset"
    if ending(name) == "parquet":
        return "parquet"
    if ending(name) == "arrow":
        raise WinnowError(_saved_to_disk(path))
    raise WinnowError(f"{path} is neither .tar nor .parquet: give the folder of an image, or --format FORMAT")


def _guess_folder(path: str) -> str:
    if files.kind(posixpath.join(path, "_delta_log")) == "folder":
        return "delta"
    seen: Counter[str] = Counter()
    for _, entries in files.walk(path):
        seen.update(_role(entry.name) for entry in entries)
    if seen["shard"]:
        if seen["image"]:
            what = f"{plural(seen['shard'], 'tar file')} and {plural(seen['image'], 'image file')}"
            raise WinnowError(f"{path} holds {what}: choose with --format webdataset or --format folder")
        return "webdataset"
    if seen["parquet"] and not seen["image"]:
        return "parquet"
    if seen["image"] or seen["metadata"]:
        return "folder"
    if seen["arrow"]:
        raise WinnowError(_saved_to_disk(path))
    raise WinnowError(
        f"{path} holds no images, no .tar and no .parquet files (it has {plural(seen.total(), 'file')}): check the path"
    )


def _saved_to_disk(path: str) -> str:
    return (
        f"{path} holds Arrow data, as `save_to_disk` of Hugging Face's datasets writes them: write Parquet with its "
        "`to_parquet`, and give those files"
    )


def _role(name: str) -> str:
    if is_metadata(name):
        return "metadata"
    if _is_shard(name):
        return "shard"
    return "image" if is_image(name) else ending(name)


def _is_shard(name: str) -> bool:
    return name.lower().endswith(_SHARD_ENDINGS)


def _is_parquet(name: str) -> bool:
    # Spark and others mark files that are not data with a leading underscore.
    return ending(name) == "parquet" and not name.startswith("_")


_IS_PART: dict[str, Callable[[str], bool]] = {"webdataset": _is_shard, "parquet": _is_parquet}


def _shards(root: str, fmt: str, digest: "hashlib._Hash") -> list[Source]:
    found = []
    others, is_saved = 0, False
    for folder, entries in files.walk(root):
        if fmt == "parquet" and any(part.startswith("_") for part in folder.split("/")):
            continue
        for entry in entries:
            if _IS_PART[fmt](entry.name):
                found.append(_file_source(posixpath.join(root, folder, entry.name), root, entry, fmt, digest))
            else:
                others += 1
                is_saved |= ending(entry.name) == "arrow"
    if is_saved and not found:
        raise WinnowError(_saved_to_disk(root))
    if not found:
        raise WinnowError(
            f"{root} holds no {fmt} files (it has {plural(others, 'other file')}): check the path or --format"
        )
    return found


def _file_source(path: str, root: str, entry: files.FileEntry, fmt: str, digest: "hashlib._Hash") -> Source:
    return Source(path, fmt, root, entry.size, 0, _fingerprint(digest, _identities([("", [entry])])))


def _delta_source(session: Callable[[], SparkSession], path: str, digest: "hashlib._Hash") -> Source:
    has_log = files.kind(posixpath.join(path, "_delta_log")) == "folder"
    if not has_log or not DeltaTable.isDeltaTable(session(), files.spark_path(path)):
        raise WinnowError(f"{path} is not a Delta table (it has no _delta_log): check the path or --format")
    detail = DeltaTable.forPath(session(), files.spark_path(path))
    newest = detail.history(1).select("version").first()
    size = detail.detail().select("sizeInBytes", "id").first()
    assert newest is not None and size is not None
    return Source(path, "delta", path, int(size[0] or 0), 0, _fingerprint(digest, [f"{size[1]} {newest[0]}"]))


def _folder_source(path: str, digest: "hashlib._Hash") -> Source:
    size = ignored = useful = unused = 0
    kinds: Counter[str] = Counter()
    state = digest.copy()
    for folder, entries in files.walk(path):
        for text in _identities([(folder, entries)]):
            state.update(text.encode("utf-8", "surrogateescape"))
        beside = side_files(entry.name for entry in entries)
        unused -= len(_used(entries, beside))
        for entry in entries:
            role = _role(entry.name)
            size += entry.size if role == "image" else 0
            if role in ("image", "metadata"):
                useful += 1
            elif is_side_file(entry.name):
                unused += 1
            else:
                ignored += 1
                _count(kinds, posixpath.join(path, folder, entry.name))
    if not useful:
        raise WinnowError(f"{path} holds no images and no metadata.jsonl, .csv or .parquet: check the path or --format")
    return Source(path, "folder", path, size, ignored, state.hexdigest(), tuple(kinds.items()), unused)


def _used(entries: Sequence[files.FileEntry], beside: Mapping[str, str]) -> set[str]:
    """Returns the names of the text and JSON files that describe an image of their folder."""
    images = [entry.name for entry in entries if is_image(entry.name)]
    found = {file(image, beside) for image in images for file in (text_file, json_file)}
    return {name for name in found if name is not None}


def _count(kinds: Counter[str], path: str) -> None:
    kind = ending(path)
    kind = kind if kind.isprintable() and len(kind) <= _LONGEST_KIND else ""
    if not kind and kinds.total() < _MOST_OPENED:
        kind = _format_of(path)
    if kind in kinds or len(kinds) < _MOST_KINDS:
        kinds[kind] += 1


def _format_of(path: str) -> str:
    """Returns the format of a file that begins like an image; else ''."""
    try:
        with files.random_access(path) as file:
            start = bytes(file.read(_START_BYTES))
    except OSError:  # it is not read, so this says nothing of the source
        return ""
    return next((name for place, mark, name in _MARKS if start[place:].startswith(mark)), "")


def _digest_of(settings: IngestSettings, fmt: str) -> "hashlib._Hash":
    rules = settings.model_dump(include={"image_columns", "caption_columns", "key_columns", "max_megapixels"})
    return hashlib.sha256(json.dumps([_READERS, fmt, rules]).encode())


def _identities(folders: Sequence[tuple[str, Sequence[files.FileEntry]]]) -> Iterator[str]:
    for folder, entries in folders:
        for entry in entries:
            yield f"{folder}/{entry.name}\0{entry.size}\0{entry.modified}\0"


def _fingerprint(digest: "hashlib._Hash", parts: Iterable[str]) -> str:
    state = digest.copy()
    for part in parts:
        state.update(part.encode("utf-8", "surrogateescape"))
    return state.hexdigest()
