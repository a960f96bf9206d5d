"""The local index of `browse`: an SQLite file, so that no Spark job lies between a click and an image."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from udfs.hashes.hamming import distances, words

SCHEMA_VERSION = "1"

_WAIT = 30.0  # seconds, while another thread writes a decision

IMAGE_COLUMNS = (
    "image_id", "key", "source", "caption", "width", "height", "format", "state", "reasons", "kept_id", "distance",
    "weight", "sharpness", "noise", "quality", "hash", "decision", "why",
)  # fmt: skip

_SCHEMA = """
create table thumb (image_id text primary key, data blob) without rowid;
create table image (
  image_id text primary key, key text, source text, caption text, width int, height int, format text, state text,
  reasons text, kept_id text, distance int, weight real, sharpness real, noise real, quality int, hash blob,
  decision text, why text);
create table score (category text, image_id text, score real);
create table fault (source text, key text, stage text, reason text, detail text, image_id text);
create virtual table words using fts5(caption, key, content='');
"""
_INDEXES = """
create index by_state on image (state, image_id);
create index by_keeper on image (kept_id);
create index by_score on score (category, score, image_id);
create index by_decision on image (decision) where decision is not null;
create index by_image on score (image_id);
insert into words (rowid, caption, key) select rowid, coalesce(caption, ''), key from image;
analyze;
"""

_NEAREST = "near the threshold"
_AROUND = """
select * from (select * from score where category = :category and score >= :threshold and score <= :high
               order by score limit :nearest)
union all
select * from (select * from score where category = :category and score < :threshold and score >= :low
               order by score desc limit :nearest)"""
_MOST_REASONS = 100

SORTS = {
    "id": "image.image_id",
    "group": "coalesce(image.kept_id, image.image_id), image.state desc, image.distance",
    "weight, heaviest": "image.weight desc",
    "weight, lightest": "image.weight",
    "pixels, most": "image.width * image.height desc",
    "pixels, fewest": "image.width * image.height",
    "sharpest": "image.sharpness desc",
    "softest": "image.sharpness",
    "noisiest": "image.noise desc",
    "distance, farthest": "image.distance desc",
    "score, highest": "score.score desc",
    "score, lowest": "score.score",
    _NEAREST: "abs(score.score - :threshold)",
}
"""Orders of a view, and their SQL."""

_SCORED = ("score, highest", "score, lowest", _NEAREST)
_SHOWN = (
    "image_id", "key", "caption", "width", "height", "state", "reasons", "kept_id", "distance", "weight", "sharpness",
    "noise", "quality", "decision", "why", "source", "format",
)  # fmt: skip


def _known(sort: str) -> str:
    if sort not in SORTS:
        raise ValueError(f"there is no order {sort!r}")
    return sort


Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class View(BaseModel):
    """What a page shows of the images.

    Attributes:
        state: `kept`, `filtered`, `duplicate` or `undecided`; None for all.
        reason: Only images with this reason; None for any.
        words: Only images whose caption or key has these words; empty for any.
        category: Category whose scores are shown and sorted by; None without.
        low: Smallest score.
        high: Largest score.
        threshold: The score that "near the threshold" means.
        keeper: Only the group of this image; None for any.
        groups: Only images that are in a group: removed duplicates, and those that stay in their place.
        pending: Only images with a decision that `filter` does not know yet.
        sort: A key of `SORTS`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    state: Literal["kept", "filtered", "duplicate", "undecided"] | None = None
    reason: str | None = None
    words: Annotated[str, Field(max_length=500)] = ""
    category: str | None = None
    low: float = 0.0
    high: float = 1.0
    threshold: float = 0.5
    keeper: Id | None = None
    groups: bool = False
    pending: bool = False
    sort: Annotated[str, AfterValidator(_known)] = "id"


class Index:
    """The index of one lake. Several threads may use it.

    Args:
        file: The SQLite file; it is made if it does not exist.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # The file holds images, which other users of the machine must not see. The folder may be the user's own.
        file.touch(mode=0o600)
        self.file = file
        self._lock = threading.Lock()
        self._open = sqlite3.connect(file, check_same_thread=False, timeout=_WAIT)
        self._open.execute("pragma synchronous = normal")
        self._open.execute("create table if not exists meta (name text primary key, value text) without rowid")
        self._hashes: tuple[list[str], NDArray[np.uint64]] | None = None
        # A reader of its own for each thread, so that a slow view holds up no other reply.
        self._readers, self._local = list[sqlite3.Connection](), threading.local()

    def close(self) -> None:
        """Closes the file."""
        for reader in (*self._readers, self._open):
            reader.close()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.file.stat().st_size

    def made_from(self) -> str | None:
        """Returns what the index was made from; None if it is not complete."""
        row = self._open.execute("select value from meta where name = 'made_from'").fetchone()
        return row[0] if row else None

    # Making it ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Makes empty tables."""
        self._open.executescript(_SCHEMA)

    def take_thumbnails(self, older: Path) -> None:
        """Copies the thumbnails of an older index of the lake: an image never changes under its id."""
        self._open.execute("attach ? as older", (str(older),))
        self._open.execute("insert into thumb select * from older.thumb where image_id in (select image_id from image)")
        self._open.commit()
        self._open.execute("detach older")

    def add_images(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows with the columns `IMAGE_COLUMNS`."""
        self._add("image", len(IMAGE_COLUMNS), rows)

    def add_scores(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows: category, image_id, score."""
        self._add("score", 3, rows)

    def add_faults(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows: source, key, stage, reason, detail, image_id."""
        self._add("fault", 6, rows)

    def add_thumbnails(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows: image_id, WebP or None."""
        self._add("thumb", 2, rows)

    @property
    def has_thumbnails(self) -> bool:
        """Whether any image has a thumbnail."""
        return bool(self._open.execute("select 1 from thumb limit 1").fetchone())

    def without_thumbnail(self) -> list[str]:
        """Returns the images that have no thumbnail yet."""
        query = "select image_id from image where image_id not in (select image_id from thumb)"
        return [row[0] for row in self._open.execute(query)]

    def finish(self, made_from: str) -> None:
        """Makes the search structures and the overview, and marks the index as complete."""
        self._open.executescript(_INDEXES)
        self._open.commit()
        self._open.execute("insert into meta values ('overview', ?)", (json.dumps(self._counted()),))
        self._open.execute("insert into meta values ('made_from', ?)", (made_from,))
        self._open.commit()

    def _add(self, table: str, columns: int, rows: Iterable[Sequence[Any]]) -> None:
        places, waiting = ", ".join("?" * columns), []
        query = f"insert or replace into {table} values ({places})"
        for row in rows:
            waiting.append(tuple(row))
            if len(waiting) == 1_000:
                self._open.executemany(query, waiting)
                self._open.commit()
                waiting = []
        self._open.executemany(query, waiting)
        self._open.commit()

    # Reading it -----------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, Any]:
        """Returns the number of images by state, the frequent reasons with their numbers, and further numbers.

        Returns:
            states, reasons, quarantined, histograms (by category), pending (decisions that `filter` does not know yet).
        """
        found: dict[str, Any] = json.loads(self._rows("select value from meta where name = 'overview'")[0][0])
        query = "select count(*) from image where decision is not null and decision like 'pending %'"
        return {**found, "pending": self._rows(query)[0][0]}

    def _counted(self) -> dict[str, Any]:
        states = dict(self._rows("select state, count(*) from image group by state"))
        reasons = self._rows("select reasons, count(*) from image where state = 'filtered' group by 1")
        each: dict[str, int] = {}
        for text, count in reasons:
            # The name of a category or rule comes before the first colon.
            for name in {reason.partition(": ")[0] for reason in (text or "").split("\n")}:
                each[name] = each.get(name, 0) + count
        quarantined = self._rows("select count(*) from fault")[0][0]
        ordered = sorted(each.items(), key=lambda item: -item[1])[:_MOST_REASONS]
        histograms = {row[0]: self.histogram(row[0]) for row in self._rows("select distinct category from score")}
        return {"states": states, "reasons": ordered, "quarantined": quarantined, "histograms": histograms}

    def images(self, view: View, offset: int, limit: int) -> dict[str, Any]:
        """Returns a part of a view: the total, and the facts of the images from `offset` on."""
        source, values = self._source(view, offset + limit)
        whole = self._source(view)[0]
        total = self._rows(f"select count(*) {whole}", values)[0][0]
        order = SORTS[view.sort] if view.category or view.sort not in _SCORED else SORTS["id"]
        score = "score.score" if view.category else "null"
        columns = ", ".join(f"image.{name}" for name in _SHOWN)
        members = "(select count(*) from image m where m.kept_id = image.image_id)"
        query = f"select {columns}, {score}, {members} {source} order by {order}, image.image_id limit :n offset :from"
        rows = self._rows(query, {**values, "n": limit, "from": offset})
        names = (*_SHOWN, "score", "copies")
        return {"total": total, "images": [dict(zip(names, row, strict=True)) for row in rows]}

    def image(self, image_id: str) -> dict[str, Any] | None:
        """Returns all facts of an image, with its scores."""
        rows = self._rows(f"select {', '.join(_SHOWN)} from image where image_id = ?", (image_id,))
        if not rows:
            return None
        scores = self._rows("select category, score from score where image_id = ? order by 1", (image_id,))
        return {**dict(zip(_SHOWN, rows[0], strict=True)), "scores": scores}

    def faults(self, offset: int, limit: int) -> dict[str, Any]:
        """Returns quarantined rows."""
        names = ("source", "key", "stage", "reason", "detail", "image_id")
        rows = self._rows(f"select {', '.join(names)} from fault order by rowid limit ? offset ?", (limit, offset))
        total = self._rows("select count(*) from fault")[0][0]
        return {"total": total, "faults": [dict(zip(names, row, strict=True)) for row in rows]}

    def thumbnail(self, image_id: str) -> bytes | None:
        """Returns a WebP file; None if there is no such image, or it cannot be decoded."""
        rows = self._rows("select data from thumb where image_id = ?", (image_id,))
        return rows[0][0] if rows else None

    def above(self, category: str, threshold: float) -> int:
        """Returns the number of images whose score is at least a threshold."""
        query = "select count(*) from score where category = ? and score >= ?"
        return int(self._rows(query, (category, threshold))[0][0])

    def histogram(self, category: str, bins: int = 50) -> list[int]:
        """Returns the number of images in each of equal ranges of scores from 0 to 1."""
        query = "select min(cast(score * ? as int), ? - 1), count(*) from score where category = ? group by 1"
        found = dict(self._rows(query, (bins, bins, category)))
        return [found.get(one, 0) for one in range(bins)]

    def near(self, hash_: bytes, count: int) -> list[tuple[str, int]]:
        """Returns the images whose perceptual hashes are nearest, with their distances in bits."""
        ids, hashes = self._all_hashes()
        if not ids:
            return []
        apart = distances(words(np.frombuffer(hash_, np.uint8)[None])[0], hashes)
        first = np.argsort(apart, kind="stable")[:count]
        return [(ids[place], int(apart[place])) for place in first]

    def hash_of(self, image_id: str) -> bytes | None:
        """Returns the perceptual hash of an image; None if it has none."""
        rows = self._rows("select hash from image where image_id = ?", (image_id,))
        return rows[0][0] if rows else None

    def decide(self, ids: Sequence[str], decision: str, why: str) -> None:
        """Notes a decision that `filter` does not know yet."""
        with self._lock:
            values = [(f"pending {decision}", why, one) for one in ids]
            self._open.executemany("update image set decision = ?, why = ? where image_id = ?", values)
            self._open.commit()

    def known(self, ids: Sequence[str]) -> list[str]:
        """Returns the ids that are images of the lake."""
        return [one for one in ids if self._rows("select 1 from image where image_id = ?", (one,))]

    def _source(self, view: View, nearest: int | None = None) -> tuple[str, dict[str, Any]]:
        """Returns the SQL from `from` to `where` of a view, and its values.

        Args:
            view: The view.
            nearest: How many of the images nearest to the threshold are needed, if the view has this order and no
                other condition: they are then found without a sort of all. None to find all.
        """
        joins, conditions = "from image", ["1"]
        values: dict[str, Any] = {"threshold": view.threshold}
        if view.category:
            alone = view == View(
                category=view.category, low=view.low, high=view.high, threshold=view.threshold, sort=_NEAREST
            )
            score = f"({_AROUND})" if alone and nearest else "score"
            values["nearest"] = nearest or 0
            joins += f" join {score} as score on score.image_id = image.image_id and score.category = :category"
            conditions.append("score.score between :low and :high")
            values |= {"category": view.category, "low": view.low, "high": view.high}
        wanted = _query_of(view.words)
        if wanted:
            joins += " join words on words.rowid = image.rowid"
            conditions.append("words match :words")
            values["words"] = wanted
        if view.state:
            conditions.append("image.state = :state")
            values["state"] = view.state
        if view.reason:
            whole = "char(10) || replace(image.reasons, ': ', char(10)) || char(10)"
            conditions.append(f"instr({whole}, char(10) || :reason || char(10)) > 0")
            values["reason"] = view.reason
        if view.keeper:
            conditions.append("(image.kept_id = :keeper or image.image_id = :keeper)")
            values["keeper"] = view.keeper
        if view.groups:
            conditions.append("(image.kept_id is not null or image.image_id in (select kept_id from image))")
        if view.pending:
            conditions.append("image.decision like 'pending %'")
        return f"{joins} where {' and '.join(conditions)}", values

    def _all_hashes(self) -> tuple[list[str], NDArray[np.uint64]]:
        if self._hashes is None:
            rows = self._rows("select image_id, hash from image where hash is not null order by image_id")
            hashes = np.frombuffer(b"".join(row[1] for row in rows), np.uint8).reshape(-1, 32)
            self._hashes = [row[0] for row in rows], words(hashes)
        return self._hashes

    def _rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        reader: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = sqlite3.connect(self.file, check_same_thread=False, timeout=_WAIT)
            reader.execute("pragma query_only = on")
            self._local.reader = reader
            self._readers.append(reader)
        return reader.execute(query, values).fetchall()


def _query_of(text: str) -> str:
    """Returns an FTS5 query for images that have all words; every word is literal.

    Examples:
        >>> print(_query_of('red AND sho*'))
        "red" "AND" "sho*"
    """
    text = "".join(one if one.isprintable() else " " for one in text)
    return " ".join('"' + word.replace('"', '""') + '"' for word in text.split())
