"""Rules of `filter`: SQL conditions, words of captions, and the top share by a field."""

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.filter import caption_words, keep_top, sql_rules
from jobs.runtime.config import FilterSettings
from models.errors import SettingsError


def check(images: DataFrame, settings: FilterSettings) -> None:
    """Checks that all rules can be applied to the images.

    Args:
        images: Table images; may be empty.
        settings: The section `filter` of the settings.

    Raises:
        SettingsError: Some rules cannot; the message names all of them.
    """
    faults = [
        *sql_rules.faults(images, settings.rules),
        *caption_words.faults(settings.words),
        *keep_top.faults(images, settings.keep_top),
    ]
    if faults:
        raise SettingsError("; ".join(faults))


def removed(images: DataFrame, settings: FilterSettings, cutoffs: Mapping[str, float]) -> DataFrame:
    """Returns the images that rules remove.

    Args:
        images: Table images.
        settings: The section `filter` of the settings.
        cutoffs: Lowest value to keep of each field of `keep_top`; see `keep_top.cutoffs`.

    Returns:
        image_id, why: a row for each image and reason.
    """
    found = [images.select("image_id", F.lit("").alias("why")).limit(0)]
    if settings.rules:
        found.append(sql_rules.broken(images, settings.rules))
    if settings.words:
        found.append(caption_words.found(images, settings.words))
    if settings.keep_top:
        found.append(keep_top.below(images, settings.keep_top, cutoffs))
    return reduce(DataFrame.unionByName, found)
