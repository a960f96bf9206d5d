"""Says what a search will cost before it starts."""

from collections.abc import Iterator

from jobs.commands.dedup.candidates.pair_search import Search
from udfs.hashes.minhash import AFFORDABLE, affordable_distance
from udfs.search.cost_model import Cost, cluster_cost, minhash_cost

_DIMENSIONS = 512
"""Numbers in the vectors of the shipped encoder; those of PDQ have half as many."""


def estimates(search: Search, hashes: int) -> Iterator[Cost]:
    """Yields what the bands and the clusters of a search cost.

    Args:
        search: The methods and their parameters.
        hashes: Number of distinct hashes.
    """
    if search.lsh:
        yield minhash_cost(search.lsh.bands, hashes, search.max_distance)
    if grouped := search.clusters:
        levels = (grouped.clusters,) if grouped.coarse is None else (grouped.coarse, grouped.clusters // grouped.coarse)
        yield cluster_cost(hashes, _DIMENSIONS, grouped.clusterings, grouped.nearest, levels)


def note(cost: Cost) -> str:
    """Returns a line with an estimate.

    Examples:
        >>> note(Cost("MinHash, 33 × 10", 0.99, 33e6, 1.452e9, 4.6e8, 0.0118, 1e6))
        'dedup: estimate for MinHash, 33 × 10: 1.5 GB of shuffle, 4.6e+08 candidates, 0.012 core-hours'
    """
    work = f"{cost.candidates:.2g} candidates, {cost.core_hours:,.2g} core-hours"
    return f"dedup: estimate for {cost.method}: {_bytes(cost.shuffled)} of shuffle, {work}"


def warning(cost: Cost, search: Search, hashes: int, recall: float) -> str | None:
    """Returns a line that says what to change if a search is too expensive; None if it is not.

    Args:
        cost: The estimate.
        search: The methods and their parameters.
        hashes: Number of distinct hashes.
        recall: `dedup.recall`.

    Examples:
        >>> search = Search("lsh", 54, None, None, None)
        >>> print(warning(Cost("MinHash", 0.99, 6e11, 2.8e13, 1e14, 580, 2e9), search, 650_000_000, 0.99))
        dedup: 650,000,000 hashes at 54 bits are expensive, about 580 core-hours and 28.0 TB of shuffle: set \
dedup.max_distance to 34 or less, lower dedup.recall, or set dedup.method="clusters"
    """
    if cost.per_hash(hashes) <= AFFORDABLE:
        return None
    largest = affordable_distance(1 << max(hashes - 1, 1).bit_length(), recall)
    price = f"about {cost.core_hours:,.0f} core-hours and {_bytes(cost.shuffled)} of shuffle"
    other = "" if search.clusters else ', or set dedup.method="clusters"'
    return (
        f"dedup: {hashes:,} hashes at {search.max_distance} bits are expensive, {price}: set dedup.max_distance to "
        f"{largest} or less, lower dedup.recall{other}"
    )


def _bytes(count: float) -> str:
    return f"{count / 1e12:.1f} TB" if count >= 1e12 else f"{count / 1e9:.1f} GB"
