"""The rule by which two images are near-duplicates."""

from dataclasses import dataclass

from jobs.job import Job
from jobs.models_in_use import current_encoder
from models.errors import WinnowError
from udfs.hashes.pdq import PDQ_DISTANCE


@dataclass(frozen=True)
class Rule:
    """The rule for near-duplicates: the settings, with the defaults of the chosen hash.

    Attributes:
        hash: `embedding` or `pdq`.
        encoder: Digest of the encoder whose signals are compared.
        max_distance: Largest Hamming distance of two near-duplicates, in bits of 256.
        min_quality: PDQ quality below which an image only matches an image with the same bytes.
        strict: Whether images with the same hash may differ. Then a node holds only images with the same bytes.
        safe_distance: Largest distance at which a pair counts unseen; a farther pair counts if its thumbnails agree.
            None if all pairs within `max_distance` count unseen.
    """

    hash: str
    encoder: str
    max_distance: int
    min_quality: int
    strict: bool = False
    safe_distance: int | None = None

    @property
    def has_looks(self) -> bool:
        """Whether pairs beyond a safe distance count only if their thumbnails agree."""
        return not self.strict and self.safe_distance is not None and self.safe_distance < self.max_distance

    @property
    def compares_thumbnails(self) -> bool:
        """Whether the thumbnails of some pairs decide: of those beyond a safe distance or, in strict mode, of all."""
        return self.strict or self.has_looks

    @property
    def unseen_distance(self) -> int:
        """Largest distance, in bits, at which a pair counts unseen."""
        return self.max_distance if self.safe_distance is None else min(self.safe_distance, self.max_distance)

    @property
    def looked_beyond(self) -> int:
        """Distance, in bits, beyond which thumbnails decide about a pair; -1 in strict mode, where they always do."""
        return -1 if self.strict else self.unseen_distance


PDQ_QUALITY = 50
EMBEDDING_QUALITY = 4


def rule_for(job: Job) -> Rule:
    """Returns the rule from the settings, with the defaults of the chosen hash and encoder.

    Raises:
        WinnowError: The encoder's card gives no distance, and `dedup.max_distance` is not set.
    """
    settings, encoder = job.settings.dedup, current_encoder(job)
    distance = settings.max_distance
    if distance is None:
        distance = PDQ_DISTANCE if settings.hash == "pdq" else encoder.max_distance
    if distance is None:
        raise WinnowError(
            f"the card of encoder {encoder.digest} has no distance for duplicates: set one, as in "
            "`--set dedup.max_distance=54`"
        )
    quality = settings.min_quality
    if quality is None:
        quality = PDQ_QUALITY if settings.hash == "pdq" else EMBEDDING_QUALITY
    return Rule(settings.hash, encoder.digest, distance, quality, settings.strict)
