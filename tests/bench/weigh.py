"""Measures `weigh` and `audit`: the correction of a planted bias on a held-out half, and the speed on many rows.

python -m tests.bench.weigh                  the planted bias, in numpy
python -m tests.bench.weigh --rows 500000    the commands on synthetic captions and embeddings, without images
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from jobs.commands.audit import command as audit
from jobs.commands.audit.keyword_shift import KeywordShiftRow, shift_rows
from jobs.commands.audit.tracked_keywords import TrackedKeywords
from jobs.commands.weigh import command as weigh
from jobs.facts import sentences
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.models_in_use import current_encoder
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from models.stats import probe
from tests.bench.dedup import PeakMemory
from udfs.text.bootstrap import WEIGHT_UNIT, poisson_counts, resampled_sums
from udfs.text.captions import Keywords

DIMS = 64
WHO = ("woman", "man", "tree")
OTHERS = tuple(f"word{number:02d}" for number in range(60))
KEPT = np.array([0.774, 0.846, 0.96])  # of women, men and trees: -14 %, -6 %, +6.7 %
HEADER = "| rows | command | seconds | of 5 min | peak GB |\n|---:|---|---:|---:|---:|"


@dataclass(frozen=True)
class Planted:
    """Captioned embeddings, and a filter that depends on neither.

    Attributes:
        words: Captions with each word, bool of shape (n, 3 + others); first WHO, then OTHERS.
        embeddings: float64 of shape (n, DIMS).
        kept: What the filter left.
    """

    words: NDArray[np.bool_]
    embeddings: NDArray[np.float64]
    kept: NDArray[np.bool_]


def planted(count: int, carried: bool, seed: int) -> Planted:
    """Returns a removal rule by a hidden mark, which women have more often than men, and men more often than trees.

    Args:
        count: Images.
        carried: Whether the embedding shows who is pictured.
        seed: Of all.
    """
    draw = np.random.default_rng(seed)
    who = draw.choice(3, count, p=[0.2, 0.2, 0.6])
    lean = np.random.default_rng(99).dirichlet([0.4, 0.4, 0.8], len(OTHERS)) * 0.6
    others = draw.random((count, len(OTHERS))) < lean.T[who]
    directions = np.linalg.qr(np.random.default_rng(98).normal(size=(DIMS, DIMS)))[0][:3]
    embeddings = draw.normal(0, 0.1, (count, DIMS)) + (directions[who] if carried else 0)
    return Planted(np.column_stack([np.eye(3, dtype=bool)[who], others]), embeddings, draw.random(count) < KEPT[who])


def held_out_weights(data: Planted) -> NDArray[np.float64]:
    """Returns weights of the second half from a probe fitted to the first half; 0 for images that are not kept."""
    half = len(data.kept) // 2
    seen, kept = data.embeddings[:half], data.kept[:half]
    features = sparse.csr_matrix(np.concatenate([seen, seen[kept]]))
    fitted = probe.fit_probe(features, np.repeat([True, False], [half, int(kept.sum())]), 30.0)
    return np.exp(fitted.log_odds(data.embeddings[half:])) * data.kept[half:]


def audited(data: Planted, weights: NDArray[np.float64]) -> list[KeywordShiftRow]:
    """Returns the rows of keyword_shift for the second half, most frequent first."""
    half = len(data.kept) // 2
    words, kept = data.words[half:], data.kept[half:]
    ids = np.random.default_rng(7).integers(0, 2**63, len(kept), dtype=np.uint64)
    sides = np.stack([np.ones(len(kept)), kept, np.rint(weights * WEIGHT_UNIT)])
    sums = sum(
        resampled_sums(sides[:, part], (*np.nonzero(words[part]), words.shape[1]), poisson_counts(ids[part], 200, 0))
        for part in (slice(begin, begin + 4096) for begin in range(0, len(kept), 4096))
    )
    names = (*WHO, *OTHERS)
    watched = TrackedKeywords(Keywords(names), ("own",) * len(names), len(names), np.zeros(0))
    return shift_rows(np.moveaxis(np.asarray(sums, float), 0, -1), watched, config.load().audit)


def fill(lake: Lake, count: int, encoder: str, folder: Path) -> None:
    """Writes the tables that `weigh` and `audit` read: captions of about ten words, small embeddings, no images."""
    import pyarrow.parquet as pq

    for begin in range(0, count, 100_000):
        size = min(100_000, count - begin)
        data = planted(size, carried=True, seed=begin)
        names = np.array([*WHO, *OTHERS], dtype=object)
        captions = [f"A {' '.join(names[row])}, photo number {begin + i}" for i, row in enumerate(data.words)]
        embeddings = (data.embeddings / np.linalg.norm(data.embeddings, axis=1, keepdims=True)).astype(np.float32)
        offsets = pa.array(np.arange(size + 1, dtype=np.int32) * DIMS)
        table = {
            "image_id": [f"{begin + i:016x}" * 2 for i in range(size)], "caption": captions, "kept": data.kept,
            "embedding": pa.ListArray.from_arrays(offsets, embeddings.ravel()),
        }  # fmt: skip
        pq.write_table(pa.table(table), folder / f"{begin:09d}.parquet")
    rows = lake.spark.read.parquet(str(folder))
    known = {"image_id": "image_id", "caption": "caption", "kept": "kept", "embedding": "embedding",
             "encoder": f"'{encoder}'", "image": "cast('' as binary)", "part": "0"}  # fmt: skip
    for table in (tables.IMAGES, tables.SIGNALS, tables.VERDICTS):
        columns = [f"{known.get(f.name, 'null')} as {f.name}" for f in table.schema.fields]
        lake.append(table, rows.selectExpr(*columns), Recipe("bench"))
    for table in (tables.DUPLICATES, tables.FILTERED_DUPLICATES):
        lake.append(table, lake.spark.createDataFrame([], table.schema), Recipe("bench"))


def measured(count: int) -> None:
    """Prints the seconds and the memory of both commands."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = config.load(overrides=['spark.master="local[2]"'])
        job = Job(Lake(get_session(settings.spark), f"{scratch}/lake"), settings, Progress())
        Path(scratch, "rows").mkdir()
        fill(job.lake, count, current_encoder(job).digest, Path(scratch, "rows"))
        print(HEADER)
        for name, run in (("weigh", weigh.run), ("audit", audit.run)):
            memory = PeakMemory()
            memory.start()
            started = time.perf_counter()
            summary = run(job)
            seconds = time.perf_counter() - started
            print(f"| {count:,} | {name} | {seconds:.0f} | {seconds / 300:.2f} | {memory.stop():.1f} |", flush=True)
            print(summary)
        job.lake.spark.stop()


def main() -> None:
    """Prints rows of the tables in docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="number of rows for the speed measurement")
    options = parser.parse_args()
    if options.rows:
        measured(options.rows)
        return
    for carried in (True, False):
        data = planted(100_000, carried, seed=3)
        rows = audited(data, held_out_weights(data))
        before, after = (np.median([abs(getattr(r, s)) for r in rows[:20]]) for s in ("shift", "weighted_shift"))
        print(f"embedding {'shows' if carried else 'does not show'} who is pictured")
        print("\n".join(sentences.shift_sentence(row) for row in rows if row.keyword in WHO))
        print(
            f"median |shift| of the 20 most frequent words {before:.2%} -> {after:.2%}: {before / after:.1f} times less"
        )
        left = sentences.not_undone(rows, 0.01, 0.8)
        print((sentences.not_undone_sentence(left, 0.01) if left else "nothing is left off by more than 1 %") + "\n")


if __name__ == "__main__":
    main()
