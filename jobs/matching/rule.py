"""What makes two images near-duplicates."""

from dataclasses import dataclass

from jobs.job import Job
from jobs.models_in_use import current_encoder
from models.errors import WinnowError
from udfs.hashes.pdq import PDQ_DISTANCE


@dataclass(frozen=True)
class Rule:
    """What counts as a duplicate: the settings, with the defaults that depend on the hash filled in.

    Attributes:
        hash: `embedding` or `pdq`.
        encoder: Digest of the encoder whose signals are compared.
        max_distance: Bits of 256.
        min_quality: PDQ quality below which an image only matches the same bytes.
        strict: Whether pictures of one hash may still differ: then only the same bytes make one node.
    """

    hash: str
    encoder: str
    max_distance: int
    min_quality: int
    strict: bool = False


PDQ_QUALITY = 50
EMBEDDING_QUALITY = 4


def rule_for(job: Job) -> Rule:
    """The settings with the defaults of the chosen hash and encoder.

    Raises:
        WinnowError: The encoder's card gives no distance and none is set.
    """
    settings, encoder = job.settings.dedup, current_encoder(job)
    distance = settings.max_distance
    if distance is None:
        distance = PDQ_DISTANCE if settings.hash == "pdq" else encoder.max_distance
    if distance is None:
        raise WinnowError(
            f"encoder {encoder.digest} does not say which distance makes a duplicate: set dedup.max_distance"
        )
    quality = settings.min_quality
    if quality is None:
        quality = PDQ_QUALITY if settings.hash == "pdq" else EMBEDDING_QUALITY
    return Rule(settings.hash, encoder.digest, distance, quality, settings.strict)
