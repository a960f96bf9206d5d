"""The local index of `browse`: an SQLite file, so that no Spark job lies between a click and an image."""

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.commands.browse import condition
from jobs.commands.browse.distances import Distances
from jobs.commands.browse.facts import PENDING, WITHDRAW
from jobs.commands.browse.likeness import CHUNK, likeness
from jobs.commands.browse.view import View
from models.stats import thresholds
from udfs.hashes.hamming import distances, words

SCHEMA_VERSION = "2"

_WAIT = 30.0  # seconds, while another thread writes a decision

IMAGE_COLUMNS = (
    "image_id", "key", "source", "caption", "width", "height", "format", "meta", "state", "reasons", "kept_id",
    "distance", "weight", "sharpness", "noise", "quality", "colour", "jpeg_quality", "unframed", "hash", "decision",
    "followed", "why",
)  # fmt: skip

_SCHEMA = """
create table thumb (image_id text primary key, data blob) without rowid;
create table image (
  image_id text primary key, key text, source text, caption text, width int, height int, format text, meta text,
  state text, reasons text, kept_id text, distance int, weight real, sharpness real, noise real, quality int,
  colour real, jpeg_quality int, unframed real, hash blob, decision text, followed text, why text);
create table score (category text, image_id text, score real);
create table fault (source text, key text, stage text, reason text, detail text, image_id text);
create table queued (image_id text, category text, primary key (image_id, category)) without rowid;
create table label (category text, score real, label int);
create table pair (a_id text, b_id text, distance int, kind text);
create table embedded (place integer primary key, image_id text unique);
create table vectors (chunk integer primary key, data blob);
create virtual table words using fts5(caption, key, content='');
"""
_INDEXES = """
update image set meta = null where not json_valid(coalesce(meta, '{}'));
create index by_state on image (state, image_id);
create index by_keeper on image (kept_id);
create index by_score on score (category, score, image_id);
create index by_decision on image (decision) where decision is not null;
create index by_image on score (image_id);
create index by_label on label (category, label, score);
create index by_distance on pair (distance);
insert into words (rowid, caption, key) select rowid, coalesce(caption, ''), key from image;
analyze;
"""

_MOST_REASONS, _MOST_FIELDS = 100, 200
_FIELDS_OF = 2_000  # images whose fields of meta are listed
_MOST_QUERIES = 32
_MOST_SORTED = 4

_SHOWN = (
    "image_id", "key", "caption", "width", "height", "state", "reasons", "kept_id", "distance", "weight", "sharpness",
    "noise", "quality", "decision", "why", "source", "format",
)  # fmt: skip


HOW_TO_GET_FEATURES = (
    "features say what images show, and `winnow score` computes them with "
    '`--set \'weigh.features=["caption","embedding"]\'`'
)


class NotComparableError(Exception):
    """An image that cannot be compared with others; the text says why and what to do."""


@dataclass(frozen=True)
class _Images:
    """Images that can be compared: their ids, and their rows in the table image."""

    ids: Sequence[str]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class _Sorted:
    """Images by similarity.

    Attributes:
        images: The images that can be compared.
        order: Their places, the most similar first.
        values: Distance or likeness of each place.
    """

    images: _Images
    order: NDArray[np.intp]
    values: NDArray[Any]


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
        self._hashed: _Images | None = None
        self._hashes = np.zeros((0, 4), np.uint64)
        self._embedded: _Images | None = None
        # Files that were dropped in, and the last results, so that the next part of a view is not searched again.
        self._dropped: dict[str, tuple[bytes, NDArray[np.float16] | None]] = {}
        self._sorted: dict[tuple[str, str], _Sorted] = {}
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

    def add_queued(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows: image_id, category."""
        self._add("queued", 2, rows)

    def add_labels(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows: category, score, label (None if a person was unsure)."""
        self._add("label", 3, rows)

    def add_pairs(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows: a_id, b_id, distance, kind."""
        self._add("pair", 4, rows)

    def add_vectors(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows: image_id, vector (float16, as bytes; all of the same length)."""
        place, waiting = 0, iter(rows)
        while chunk := list(islice(waiting, CHUNK)):
            if not place:
                self.note("vector_bytes", len(chunk[0][1]))
            self._open.executemany(
                "insert into embedded values (?, ?)", [(place + n, row[0]) for n, row in enumerate(chunk)]
            )
            self._open.execute("insert into vectors values (?, ?)", (place, b"".join(row[1] for row in chunk)))
            self._open.commit()
            place += len(chunk)

    def note(self, name: str, value: Any) -> None:
        """Stores a value under a name; `noted` returns it."""
        self._open.execute("insert or replace into meta values (?, ?)", (name, json.dumps(value)))
        self._open.commit()

    def noted(self, name: str) -> Any:
        """Returns the value that `note` stored; None if there is none."""
        rows = self._rows("select value from meta where name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

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
        self.note("overview", self._counted())
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
            states, reasons, quarantined, histograms (by category), fields (names of meta), alike (images with a
            vector), pending (decisions that `filter` does not know yet), queued (images to label).
        """
        found: dict[str, Any] = self.noted("overview")
        query = "select count(*) from image where decision is not null and decision like 'pending %'"
        queued = self._rows("select count(distinct image_id) from queued")[0][0]
        return {**found, "pending": self._rows(query)[0][0], "queued": queued}

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
        few = f"(select meta from image where meta is not null order by image_id limit {_FIELDS_OF})"
        fields = f"select key, count(*) from {few} few, json_each(few.meta) group by 1 order by 2 desc, 1 limit ?"
        return {
            "states": states, "reasons": ordered, "quarantined": quarantined, "histograms": histograms,
            "fields": [row[0] for row in self._rows(fields, (_MOST_FIELDS,))],
            "alike": self._rows("select count(*) from embedded")[0][0],
        }  # fmt: skip

    def images(self, view: View, offset: int, limit: int) -> dict[str, Any]:
        """Returns a part of a view: the total, and the facts of the images from `offset` on."""
        if view.like:
            return self._alike(view, offset, limit)
        source, values = view.source(self.categories(), offset + limit)
        whole = view.source(self.categories())[0]
        total = self._rows(f"select count(*) {whole}", values)[0][0]
        order = f"{view.order()}, image.image_id limit :n offset :from"
        rows = self._shown(view, f"{source} order by {order}", {**values, "n": limit, "from": offset})
        return {"total": total, "images": rows}

    def _shown(self, view: View, source: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        score = "score.score" if view.category else "null"
        columns = ", ".join(f"image.{name}" for name in _SHOWN)
        members = "(select count(*) from image m where m.kept_id = image.image_id)"
        waiting = "(select group_concat(category, ', ') from queued where queued.image_id = image.image_id)"
        rows = self._rows(f"select {columns}, {score}, {members}, {waiting} {source}", values)
        names = (*_SHOWN, "score", "copies", "queued")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _alike(self, view: View, offset: int, limit: int) -> dict[str, Any]:
        """Returns a part of a view in the order of similarity to an image."""
        found = self._similarities(view.like or "", view.by)
        source, values = view.source(self.categories())
        places = np.arange(len(found.values))
        if view != View(like=view.like, by=view.by):
            rows = np.array(self._rows(f"select image.rowid {source}", values), np.int64).reshape(-1)
            places = np.flatnonzero(np.isin(found.images.rows[found.order], rows))
        part = found.order[places[offset : offset + limit]]
        images = self._some(view, [found.images.ids[place] for place in part])
        name = "apart" if view.by == "copies" else "likeness"
        each = {found.images.ids[place]: found.values[place].item() for place in part}
        return {"total": len(places), "images": [{**one, name: each[one["image_id"]]} for one in images]}

    def some(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Returns the facts of some images, in the order of their ids."""
        return self._some(View(), ids)

    def _some(self, view: View, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Returns the facts of some images, in the order of their ids in the list."""
        found = View(category=view.category, like=view.like)
        source, values = found.source(self.categories())
        wanted = "image.image_id in (select value from json_each(:ids))"
        rows = self._shown(found, f"{source} and {wanted}", {**values, "ids": json.dumps(list(ids))})
        by_id = {row["image_id"]: row for row in rows}
        return [by_id[one] for one in ids if one in by_id]

    def categories(self) -> list[str]:
        """Returns the names of the categories that have scores."""
        return list(self.noted("overview")["histograms"])

    def image(self, image_id: str) -> dict[str, Any] | None:
        """Returns all facts of an image, with its scores."""
        rows = self._some(View(), [image_id])
        if not rows:
            return None
        scores = self._rows("select category, score from score where image_id = ? order by 1", (image_id,))
        [[meta]] = self._rows("select meta from image where image_id = ?", (image_id,))
        return {**rows[0], "scores": scores, "meta": meta}

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

    def recall(self, category: str, threshold: float, confidence: float) -> dict[str, Any] | None:
        """Returns what the labels of the random sample say of a threshold; None without such labels.

        Args:
            category: Name of the category.
            threshold: The threshold.
            confidence: Confidence of the bound.

        Returns:
            positives, missed, removed (negatives at or above the threshold), at_least (lower bound on the recall, which
            holds if no label chose this threshold; None if unknown), precision (None if nothing is removed). An image
            that a person was unsure of counts as missed if it is below the threshold.
        """
        query = "select score, label from label where category = ?"
        rows = self._rows(query, (category,))
        if not rows:
            return None
        positive = [score for score, label in rows if label]
        unsure = [score for score, label in rows if label is None]
        negative = [score for score, label in rows if label == 0]
        # The lowest of both, as many as there are positives: `bounds_with_unsure` of calibrate proves this.
        lowest = sorted([*positive, *unsure])[: len(positive)]
        found = thresholds.bounds_at(threshold, lowest, negative, confidence)
        dropped = sum(score >= threshold for score in positive)
        every = dropped + found.dropped_negatives
        return {
            "positives": found.positives, "missed": found.missed, "removed": found.dropped_negatives,
            "at_least": found.recall_lower, "precision": dropped / every if every else None,
        }  # fmt: skip

    # Similar images -------------------------------------------------------------------------------------------------

    def drop_in(self, hash_: bytes, vector: NDArray[np.float16] | None) -> str:
        """Keeps what a file looks like while the page is open, and returns a name of it for `View.like`.

        Args:
            hash_: Its perceptual hash.
            vector: Its vector, as `likeness.packed` makes them; None if the lake has no features.
        """
        name = secrets.token_hex(16)
        with self._lock:
            self._dropped[name] = hash_, vector
            for oldest in list(self._dropped)[:-_MOST_QUERIES]:
                del self._dropped[oldest]
        return name

    def _similarities(self, name: str, by: str) -> "_Sorted":
        """Returns all images that can be compared with one, the most similar first."""
        with self._lock:
            found = self._sorted.get((name, by))
        if found is None:
            found = self._near(self._hash_of(name)) if by == "copies" else self._like(self._vector_of(name))
            with self._lock:
                self._sorted[name, by] = found
                for oldest in list(self._sorted)[:-_MOST_SORTED]:
                    del self._sorted[oldest]
        return found

    def _near(self, hash_: bytes) -> "_Sorted":
        if self._hashed is None:
            query = "select image_id, rowid, hash from image where hash is not null order by image_id"
            ids, rows, hashes = list(zip(*self._rows(query), strict=True)) or ((), (), ())
            self._hashed = _Images(ids, np.array(rows, np.int64))
            self._hashes = words(np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32))
        apart = distances(words(np.frombuffer(hash_, np.uint8)[None])[0], self._hashes)
        return _Sorted(self._hashed, np.argsort(apart, kind="stable"), apart)

    def _like(self, vector: NDArray[np.float16]) -> "_Sorted":
        if self._embedded is None:
            query = "select image_id, image.rowid from embedded join image using (image_id) order by place"
            ids, rows = list(zip(*self._rows(query), strict=True)) or ((), ())
            self._embedded = _Images(ids, np.array(rows, np.int64))
        chunks = (row[0] for row in self._cursor("select data from vectors order by chunk", ()))
        found = likeness(chunks, vector)
        return _Sorted(self._embedded, np.argsort(-found, kind="stable"), found.round(4))

    def _hash_of(self, name: str) -> bytes:
        if name in self._dropped:
            return self._dropped[name][0]
        rows = self._rows("select hash from image where image_id = ?", (name,))
        return self._comparable(name, rows, "this image has no perceptual hash: run `winnow score`")

    def _vector_of(self, name: str) -> NDArray[np.float16]:
        if name in self._dropped:
            vector = self._dropped[name][1]
            if vector is None:
                raise NotComparableError(f"this lake has no features: {HOW_TO_GET_FEATURES}")
            return vector
        query = (
            "select substr(vectors.data, 1 + (place - chunk) * :size, :size) from embedded "
            "join vectors on chunk = place - place % :chunk where image_id = :name"
        )
        rows = self._rows(query, {"size": self.noted("vector_bytes") or 0, "chunk": CHUNK, "name": name})
        fault = f"this image has no features: {HOW_TO_GET_FEATURES}"
        return np.frombuffer(self._comparable(name, rows, fault), np.float16)

    def _comparable(self, name: str, rows: Sequence[Sequence[Any]], fault: str) -> bytes:
        """Returns the value of one row; raises a fault if there is none."""
        if rows and rows[0][0] is not None:
            found: bytes = rows[0][0]
            return found
        raise NotComparableError(
            fault if self.known([name]) else "this image is not in the index: drop its file in again"
        )

    # Pairs ----------------------------------------------------------------------------------------------------------

    def distances(self) -> Distances | None:
        """Returns what `dedup` counted by distance; None if there is nothing to show."""
        fields = self.noted("distances")
        return None if fields is None else Distances.of_json(fields)

    def pairs(self, bits: int, threshold: int, limit: int) -> list[dict[str, Any]]:
        """Returns pairs around a distance to try: those that would change sides, the nearest to it first.

        Args:
            bits: The distance to try.
            threshold: The distance that `dedup` uses. If both are equal, the nearest pairs on both sides are returned.
            limit: Largest number of pairs.

        Returns:
            a and b (facts of both images), distance, kind.
        """
        low, high = min(bits, threshold), max(bits, threshold)
        between = "1" if low == high else "distance > :low and distance <= :high"
        query = (
            f"select a_id, b_id, distance, kind from pair where {between} "
            "order by abs(distance - :bits), kind, a_id, b_id limit :n"
        )
        rows = self._rows(query, {"low": low, "high": high, "bits": bits, "n": limit})
        facts = {one["image_id"]: one for one in self._some(View(), list({i for row in rows for i in row[:2]}))}
        return [
            {"a": facts[a], "b": facts[b], "distance": distance, "kind": kind}
            for a, b, distance, kind in rows
            if a in facts and b in facts
        ]

    # What people do on the page --------------------------------------------------------------------------------------

    def decide(self, ids: Sequence[str], decision: str, why: str) -> None:
        """Notes a decision that `filter` does not know yet; a withdrawal matters only where there was a decision."""
        with self._lock:
            for one in ids:
                [[followed]] = self._open.execute("select followed from image where image_id = ?", (one,)).fetchall()
                new = followed and f"{PENDING}{WITHDRAW}" if decision == WITHDRAW else f"{PENDING}{decision}"
                new = decision if decision == followed else new
                values = new, why if new else None, one
                self._open.execute("update image set decision = ?, why = ? where image_id = ?", values)
            self._open.commit()

    def queue(self, ids: Sequence[str], category: str) -> None:
        """Notes that images are queued for labelling."""
        with self._lock:
            self._open.executemany("insert or ignore into queued values (?, ?)", [(one, category) for one in ids])
            self._open.commit()

    def known(self, ids: Sequence[str]) -> list[str]:
        """Returns the ids that are images of the lake."""
        return [one for one in ids if self._rows("select 1 from image where image_id = ?", (one,))]

    def _rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        return self._cursor(query, values).fetchall()

    def _cursor(self, query: str, values: Sequence[Any] | Mapping[str, Any]) -> sqlite3.Cursor:
        reader: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = sqlite3.connect(self.file, check_same_thread=False, timeout=_WAIT)
            reader.execute("pragma query_only = on")
            reader.create_function("as_number", 1, condition.as_number, deterministic=True)
            self._local.reader = reader
            self._readers.append(reader)
        return reader.execute(query, values)
