"""Captioned embeddings with a filter of known bias: the truth that weights are held against."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from jobs.commands.audit.keyword_shift import KeywordShiftRow, shift_rows
from jobs.commands.audit.tracked_keywords import TrackedKeywords
from jobs.runtime import config
from models.stats import probe
from udfs.text.bootstrap import WEIGHT_UNIT, poisson_counts, resampled_sums
from udfs.text.captions import Keywords

DIMS = 64
WHO = ("woman", "man", "tree")
OTHERS = tuple(f"word{number:02d}" for number in range(60))
KEPT = np.array([0.774, 0.846, 0.96])  # of women, men and trees: -14 %, -6 %, +6.7 %


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
    watched = TrackedKeywords(Keywords(names), ("own",) * len(names), len(names), np.zeros(0), np.zeros(0))
    return shift_rows(np.moveaxis(np.asarray(sums, float), 0, -1), watched, config.load().audit)
