"""The tables of the lake: the columns of each with their types and descriptions, and the command that writes it.

Each description is also the comment of its column in Delta. `make docs` writes docs/tables.md from this module.
"""

from jobs.lake.table import Table as Table
from jobs.lake.table import columns

# The columns that name a pair of images.
_ENDS = (
    ("a_id", "string", "image of the pair with the smaller id"),
    ("b_id", "string", "image of the pair with the larger id"),
)

# Sources ------------------------------------------------------------------------------------------------------------

IMAGES = Table(
    name="images",
    maker="ingest",
    meaning="every image of the sources, with its caption; repeats are stored once",
    partition=("part",),
    later=frozenset({"part"}),
    schema=columns(
        ("image_id", "string", "id of the image: 32 hexadecimal digits, a hash of its bytes and caption"),
        ("key", "string", "name of the image in its source; its image_id if the source gives no name"),
        ("source", "string", "path or URI of the shard, Parquet file, image folder or Delta table"),
        ("caption", "string", "caption; null if the source has none"),
        ("image", "binary", "bytes of the image file, unchanged"),
        ("width", "int", "width as displayed (after EXIF orientation), in pixels"),
        ("height", "int", "height as displayed (after EXIF orientation), in pixels"),
        ("format", "string", "file format by content: JPEG, MPO, PNG, WEBP, GIF, BMP, TIFF or AVIF"),
        ("meta", "string", "all other fields of the source, as a JSON object; {} if there are none"),
        ("part", "int", "number of the part, from 0; score and export process images part by part"),
    ),
)
QUARANTINE = Table(
    name="quarantine",
    maker="ingest",
    also=("score",),
    meaning="rows and files that could not be read or decoded, and images on which a model failed, with the reason",
    later=frozenset({"image_id", "category", "model"}),
    schema=columns(
        ("source", "string", "path or URI of the shard, Parquet file, image folder or Delta table"),
        ("key", "string", "name of the row or file in its source"),
        (
            "stage",
            "string",
            "step that failed: read, decode, score, hash, embed or classify (docs/quarantine.md explains them)",
        ),
        ("reason", "string", "reason as a fixed phrase, such as truncated, not an image, missing file"),
        ("detail", "string", "what was found, in the words of the reader, decoder or model"),
        ("image_id", "string", "id of the image in images; null if stage is read or decode"),
        ("category", "string", "category of the classifier that failed; null unless stage is classify"),
        ("model", "string", "digest of the encoder or classifier that failed; null if stage is read or decode"),
    ),
)
SOURCES = Table(
    name="sources",
    maker="ingest",
    meaning="how many rows each source had, and what became of them; a row each time a source is read",
    later=frozenset({"format", "fingerprint", "run", "read_as", "whole"}),
    schema=columns(
        ("source", "string", "path or URI of the shard, Parquet file, image folder or Delta table"),
        ("rows_read", "long", "rows that were read: images + repeats + quarantined"),
        ("images", "long", "rows that were added to the table images"),
        ("repeats", "long", "rows with the bytes and caption of an image that was already there"),
        ("quarantined", "long", "rows that could not be read or decoded"),
        ("ingested_at", "timestamp", "time of the commit"),
        ("format", "string", "format of the source: folder, webdataset, parquet or delta"),
        ("fingerprint", "string", "digest of its files (names, sizes, times) and of the settings that read them"),
        ("run", "string", "id of the commit; sources that were committed together share it"),
        (
            "read_as",
            "string",
            "digest of the columns of ingest that were read; null if an earlier version read the source",
        ),
        (
            "whole",
            "boolean",
            "whether this reading found every row; then an image that it did not find is no longer in the source",
        ),
    ),
)
ORIGINS = Table(
    name="origins",
    maker="ingest",
    meaning="which source gave which image, repeats included; a row for each row of a source, each time it is read",
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("source", "string", "path or URI of the source, as in the table sources"),
        ("key", "string", "name of the image in this source"),
        ("is_image", "boolean", "whether this row became the one in the table images; false for repeats"),
        (
            "run",
            "string",
            "id of the commit, as in sources.run; a row whose run is not in the table sources does not count",
        ),
    ),
)
SUPERSEDED = Table(
    name="superseded",
    maker="ingest",
    meaning="images that no source holds any more with this caption; filter removes them",
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("source", "string", "path or URI of the source that gave it first"),
        ("key", "string", "name of the image in that source"),
    ),
)

# Signals and scores -------------------------------------------------------------------------------------------------

SIGNALS = Table(
    name="signals",
    maker="score",
    meaning="perceptual hashes, embedding and thumbnail of each image; a row for each image and encoder",
    later=frozenset(
        {"content", "thumbnail", "unframed", "sharpness", "noise", "colour", "jpeg_quality", "part", "edges"}
    ),
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("pdq", "binary", "PDQ hash: 256 bits in 32 bytes"),
        ("pdq_quality", "int", "quality of the PDQ hash, 0 to 100; low for plain images"),
        ("encoder", "string", "digest of the encoder: 16 hexadecimal digits"),
        ("embedding", "array<float>", "embedding of unit length; the encoder sets the number of dimensions"),
        ("embedding_hash", "binary", "perceptual hash by the encoder: 256 bits in 32 bytes"),
        ("content", "string", "first 32 hexadecimal digits of the SHA-256 of the image file"),
        ("thumbnail", "binary", "grey thumbnail of 64 x 64 pixels, row by row, one byte for each pixel"),
        ("unframed", "float", "share of the pixels that are not in a frame of one colour, above 0 and at most 1"),
        ("sharpness", "float", "share of the resolution, along an axis, up to which there is detail, 0 to 1"),
        ("noise", "float", "power of the highest frequencies in smooth parts, in dB relative to 0.01 × (grey level)²"),
        ("colour", "float", "mean difference between the largest and the smallest of red, green and blue, 0 to 255"),
        ("jpeg_quality", "int", "quality by the quantization tables, 1 to 100; null for other formats"),
        ("part", "int", "part of the table images that the image is in"),
        ("edges", "binary", "strength of the edges in 16 x 16 parts, row by row: 24 × log2(1 + grey levels a pixel)"),
    ),
)
MIRRORED = Table(
    name="mirrored",
    maker="score",
    also=("dedup",),
    meaning="perceptual hashes and embedding of the mirror image of each image; filled if `dedup.mirrored` is set",
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("encoder", "string", "digest of the encoder: 16 hexadecimal digits"),
        ("pdq", "binary", "PDQ hash of the mirror image: 256 bits in 32 bytes"),
        ("embedding", "array<float>", "embedding of the mirror image, of unit length"),
        ("embedding_hash", "binary", "perceptual hash of the mirror image by the encoder: 256 bits in 32 bytes"),
        ("part", "int", "part of the table images that the image is in"),
    ),
)
FEATURES = Table(
    name="features",
    maker="score",
    also=("label next", "train", "dedup", "weigh"),
    meaning="semantic embedding of each image, which says what it shows; filled when a command needs it",
    later=frozenset({"part"}),
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("encoder", "string", "digest of the semantic encoder: 16 hexadecimal digits"),
        ("embedding", "array<float>", "embedding of unit length; the encoder sets the number of dimensions"),
        ("part", "int", "part of the table images that the image is in"),
    ),
)
SCORES = Table(
    name="scores",
    maker="score",
    meaning="the score of each image for each category; a row for each image, category and classifier",
    later=frozenset({"part"}),
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("category", "string", "name of the category in the settings"),
        ("model", "string", "digest of the classifier: 16 hexadecimal digits"),
        ("score", "float", "score of the image, 0 to 1; higher means more likely in the category"),
        ("part", "int", "part of the table images that the image is in"),
    ),
)

# Labels and thresholds ----------------------------------------------------------------------------------------------

LABEL_QUEUE = Table(
    name="label_queue",
    maker="label next",
    also=("browse",),
    meaning="images to label, each with the reason why it was picked",
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("category", "string", "name of the category in the settings"),
        (
            "strategy",
            "string",
            "strategy that picked the image: seed (also: a person in browse), random, precision or recall",
        ),
        ("reason", "string", "why the strategy picked the image"),
        ("place", "int", "place in the batch, from 0: the order in which to label"),
        ("batch", "string", "name of the batch: category, strategy and time in UTC"),
        ("queued_at", "timestamp", "time when the batch was queued"),
    ),
)
LABELS = Table(
    name="labels",
    maker="label serve",
    also=("label import", "label simulate"),
    meaning="the answers of people: whether an image is in a category",
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("category", "string", "name of the category in the settings"),
        ("label", "boolean", "whether the image is in the category"),
        ("origin", "string", "how the image was picked: seed, random, precision, recall or import (unknown)"),
        ("annotator", "string", "name of the person; null if a label file does not name one"),
        ("labelled_at", "timestamp", "time of the answer; the time of the import if a label file gives none"),
    ),
)
UNSURE = Table(
    name="unsure",
    maker="label serve",
    meaning="images that a person looked at and could not label",
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("category", "string", "name of the category in the settings"),
        ("origin", "string", "how the image was picked: seed, random, precision or recall"),
        ("annotator", "string", "name of the person"),
        ("answered_at", "timestamp", "time of the answer"),
    ),
)
LABEL_FAULTS = Table(
    name="label_faults",
    maker="label import",
    meaning="rows of label files that could not be used, with the reason",
    schema=columns(
        ("file", "string", "path of the label file"),
        ("key", "string", "key of the image as the file gives it; null if the file gives none"),
        ("image_id", "string", "id of the image as the file gives it; null if the file gives none"),
        ("category", "string", "category as the file gives it; null if the file gives none"),
        ("label", "string", "label as the file gives it, or the whole line if it is unreadable; null if empty"),
        ("origin", "string", "origin as the file gives it, in lower case; import if the file gives none"),
        ("annotator", "string", "name of the person as the file gives it; null if the file gives none"),
        ("labelled_at", "string", "time as the file gives it; null if the file gives none"),
        ("reason", "string", "reason as a fixed phrase, such as unknown image, unreadable label"),
    ),
)
CHOSEN_BY_LABELS, SET = "labels", "settings"
"""Values of `thresholds.chosen_by`."""

THRESHOLDS = Table(
    name="thresholds",
    maker="calibrate",
    meaning="the threshold of each category, with a lower bound on its recall",
    later=frozenset({"unsure", "chosen_by"}),
    schema=columns(
        ("category", "string", "name of the category in the settings"),
        ("model", "string", "digest of the classifier whose scores the threshold applies to"),
        ("threshold", "double", "filter removes images with this score or a higher one; 0 to 1"),
        (
            "recall_lower",
            "double",
            "lower bound on the recall, 0 to 1; null if unknown (no positive label in the random sample)",
        ),
        ("confidence", "double", "confidence of the bound, 0 to 1"),
        ("positives", "int", "images of the random sample that are labelled positive"),
        ("negatives", "int", "images of the random sample that are labelled negative"),
        (
            "missed",
            "int",
            "positives of the random sample below the threshold, and images below it that people were unsure of",
        ),
        ("dropped_negatives", "int", "negatives of the random sample at or above the threshold, removed by mistake"),
        ("unsure", "int", "images of the random sample that people were unsure of, without a label"),
        ("chosen_by", "string", "what chose the threshold: labels (the random sample) or settings (used as set)"),
    ),
)
DECISIONS = Table(
    name="decisions",
    maker="keep",
    also=("drop", "browse"),
    meaning="people's decisions on images; the newest row of an image counts, and rows are only added",
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("decision", "string", "keep, drop or withdrawn; withdrawn cancels the decision before it"),
        ("why", "string", "reason for the decision, in the person's words"),
        ("decided_by", "string", "name of the person"),
        ("decided_at", "timestamp", "time of the decision"),
    ),
)
AGAINST = Table(
    name="against",
    maker="filter",
    meaning="the images that are near another set (`dedup.against`), each with the nearest image or hash of the sets",
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("source", "string", "path or URI of the source of the other image, or of the list of hashes"),
        (
            "key",
            "string",
            "name of the other image in its source; in a list of hashes, the text after it or its line number",
        ),
        ("distance", "int", "Hamming distance of the two hashes, 0 to 256 bits; 0 if both files have the same bytes"),
    ),
)
VERDICTS = Table(
    name="verdicts",
    maker="filter",
    meaning="the result of the filter for each image, with the reasons",
    later=frozenset({"kept_because"}),
    schema=columns(
        ("image_id", "string", "id of the image"),
        ("kept", "boolean", "whether the image passes the filter; dedup may still remove it"),
        ("reasons", "array<string>", "reasons to remove it as NAME: detail (cats: score 0.9 >= 0.4); empty if kept"),
        ("kept_because", "string", "who keeps it and why, and the reasons against it; null without such a decision"),
    ),
)

# Near-duplicates ----------------------------------------------------------------------------------------------------

SEMANTIC = "semantic"
"""The method of a semantic duplicate in the table duplicates (`dedup.semantic`)."""

PAIRS = Table(
    name="pairs",
    maker="dedup",
    meaning="pairs of near-duplicates that the search found, filtered images included",
    later=frozenset({"mirrored"}),
    schema=columns(
        *_ENDS,
        ("distance", "int", "Hamming distance of the two hashes, 0 to 256 bits; 0 if method is exact"),
        ("method", "string", "how the pair was found: exact (same hash or bytes), lsh, clusters or popular"),
        (
            "mirrored",
            "boolean",
            "whether the one is a copy of the mirror image of the other; false without `dedup.mirrored`",
        ),
    ),
)
DUPLICATES = Table(
    name="duplicates",
    maker="dedup",
    meaning="images removed as near-duplicates or semantic duplicates, each with the image that is kept",
    later=frozenset({"mirrored", "similarity"}),
    schema=columns(
        ("removed_id", "string", "image that passed the filter and is removed as a duplicate"),
        ("kept_id", "string", "image that is kept in its place"),
        ("distance", "int", "Hamming distance of the two hashes, 0 to 256 bits; 0 if method is exact"),
        (
            "method",
            "string",
            "how it was found: exact (same hash or bytes), lsh, clusters, popular, component or semantic",
        ),
        (
            "mirrored",
            "boolean",
            "whether the one is a copy of the mirror image of the other; false without `dedup.mirrored`",
        ),
        ("similarity", "float", "cosine similarity of the two semantic embeddings; null unless method is semantic"),
    ),
)
FILTERED_DUPLICATES = Table(
    name="filtered_duplicates",
    maker="dedup",
    meaning="filtered images that are near-duplicates, each with the image of which it is a near-duplicate",
    later=frozenset({"mirrored", "similarity"}),
    schema=columns(
        ("removed_id", "string", "filtered image that is a near-duplicate of another image"),
        ("kept_id", "string", "image of which it is a near-duplicate; may be filtered too"),
        ("distance", "int", "Hamming distance of the two hashes, 0 to 256 bits; 0 if method is exact"),
        (
            "method",
            "string",
            "how it was found: exact (same hash or bytes), lsh, clusters, popular, component or semantic",
        ),
        (
            "mirrored",
            "boolean",
            "whether the one is a copy of the mirror image of the other; false without `dedup.mirrored`",
        ),
        ("similarity", "float", "cosine similarity of the two semantic embeddings; null unless method is semantic"),
    ),
)
DEDUP_QUALITY = Table(
    name="dedup_quality",
    maker="dedup",
    meaning="the measured recall of the search for near-duplicates: of the whole search, and of 1, 2, … clusterings",
    later=frozenset({"compared", "skipped", "clusterings", "clusters", "whole", "told_apart", "both_kept", "decided"})
    | {"safe_distance", "looked", "told_apart_kept"},
    schema=columns(
        ("method", "string", "method of the search: lsh, clusters or both"),
        ("max_distance", "int", "largest Hamming distance of a near-duplicate, in bits of 256"),
        ("sampled", "long", "distinct hashes in the sample, which are compared with all others"),
        ("exhaustive_pairs", "long", "near-duplicate pairs of the sample that this comparison finds"),
        ("found_pairs", "long", "pairs of exhaustive_pairs that the search found"),
        ("recall", "double", "found_pairs / exhaustive_pairs, 0 to 1; null if there is no such pair"),
        ("recall_low", "double", "lower end of the 95 % interval of recall; 0 if recall is null"),
        ("recall_high", "double", "upper end of the 95 % interval of recall; 1 if recall is null"),
        ("distinct_hashes", "long", "distinct hashes of the lake that can be compared"),
        ("bands", "int", "number of MinHash bands; null if whole is false or method is clusters"),
        ("band_rows", "int", "rows of each MinHash band; null if whole is false or method is clusters"),
        ("compared", "long", "pairs that the search compared"),
        ("skipped", "long", "pairs that were skipped: one image resolved, or too many images under one key"),
        ("clusterings", "int", "number of clusterings whose pairs are united; null if method is lsh"),
        ("clusters", "int", "clusters in each clustering; null if method is lsh"),
        ("whole", "boolean", "true for the whole search, false for its first 1, 2, … clusterings alone"),
        (
            "told_apart",
            "long",
            "pairs counted in `looked` whose thumbnails show different images; null if `looked` is null",
        ),
        ("both_kept", "long", "missed pairs of which both images are kept; null if whole is false"),
        ("decided", "long", "found pairs of which people keep both images by decision; null if whole is false"),
        (
            "safe_distance",
            "int",
            "largest distance at which a pair counts without a look; null if all do, or if whole is false",
        ),
        ("looked", "long", "pairs whose thumbnails were compared; null if none had to be, or whole is false"),
        (
            "told_apart_kept",
            "long",
            "pairs of kept images that thumbnails told apart, estimated if the lake grew; null as `looked`",
        ),
    ),
)
STRANGERS = Table(
    name="strangers",
    maker="dedup",
    meaning="how many different images are near an image, at each distance; safe and outer distance follow from it",
    schema=columns(
        ("distance", "int", "Hamming distance of two hashes, 0 to 96 bits of 256"),
        (
            "pairs",
            "long",
            "pairs of the sampled hashes with all others, copies included; twice if both are sampled",
        ),
        (
            "expected",
            "double",
            "number of different images within this distance of an image, estimated from a fitted curve",
        ),
        ("expected_high", "double", "upper end of its one-sided 95 % interval, from which the distances follow"),
    ),
)
DEDUP_DISTANCES = Table(
    name="dedup_distances",
    maker="dedup",
    meaning="near-duplicate pairs of the sampled hashes with all others, by distance; above max_distance all pairs",
    schema=columns(
        ("distance", "int", "Hamming distance, 0 to max_distance + 24 bits"),
        ("exhaustive_pairs", "long", "pairs at this distance; an estimate if there are millions"),
        ("found_pairs", "long", "pairs at this distance that the search found; 0 above max_distance"),
    ),
)
NEAR_MISSES = Table(
    name="near_misses",
    maker="dedup",
    meaning="the nearest pairs of kept images above the threshold, from the sampled hashes: 200 at most",
    schema=columns(
        *_ENDS,
        ("distance", "int", "Hamming distance of the two hashes, max_distance + 1 to max_distance + 24 bits"),
    ),
)
TOLD_APART = Table(
    name="told_apart",
    maker="dedup",
    meaning="pairs of kept images whose thumbnails show different images: a random sample, 2,000 at most",
    schema=columns(
        *_ENDS,
        ("distance", "int", "Hamming distance of the two hashes, 0 to max_distance bits"),
        (
            "mirrored",
            "boolean",
            "whether one of them was mirrored for the comparison; false without `dedup.mirrored`",
        ),
    ),
)
PAIR_QUEUE = Table(
    name="pair_queue",
    maker="label next",
    meaning="pairs of images to label as the same or different (`label next duplicates`), each with the reason",
    schema=columns(
        *_ENDS,
        ("distance", "int", "Hamming distance of the two hashes when the pair was picked, 0 to 256 bits"),
        ("strategy", "string", "strategy that picked the pair: random, threshold or told-apart"),
        ("reason", "string", "why the strategy picked the pair"),
        ("seed", "long", "seed of the random order from which the pair was drawn; null if strategy is threshold"),
        ("place", "int", "place in the batch, from 0: the order in which to label"),
        ("batch", "string", "name of the batch: duplicates, strategy and time in UTC"),
        ("queued_at", "timestamp", "time when the batch was queued"),
    ),
)
PAIR_LABELS = Table(
    name="pair_labels",
    maker="label serve",
    meaning="the answers of people: whether the two images of a pair are the same image",
    schema=columns(
        *_ENDS,
        ("answer", "string", "same, different or unsure"),
        ("origin", "string", "how the pair was picked: random, threshold or told-apart"),
        ("annotator", "string", "name of the person"),
        ("labelled_at", "timestamp", "time of the answer"),
    ),
)

# Weights ------------------------------------------------------------------------------------------------------------

WEIGHTS = Table(
    name="weights",
    maker="weigh",
    meaning="the importance weight of each kept image",
    schema=columns(
        ("image_id", "string", "id of the kept image"),
        ("weight", "double", "importance weight; 1 on average"),
    ),
)
WEIGHT_QUALITY = Table(
    name="weight_quality",
    maker="weigh",
    meaning="effective sample size of the weights, and how well the probes predict: one row",
    schema=columns(
        ("kept", "long", "kept images"),
        ("reference", "long", "images of the reference: the unfiltered data without duplicates"),
        ("effective_sample_size", "double", "effective sample size: (sum of weights)^2 / sum of squared weights"),
        ("clipped", "long", "kept images whose weight was clipped at weigh.max_weight"),
        ("max_weight", "double", "largest weight, after scaling to an average of 1"),
        ("probe_auc", "double", "ROC AUC of the probes, 0 to 1; 0.5: the probes see no bias; null without a probe"),
        ("calibration_error", "double", "expected calibration error of the probes, 0 to 1; null without a probe"),
        ("beyond_reach", "double", "share of the sampled filtered images beyond reach, 0 to 1; null if unknown"),
        ("features", "array<string>", "features of the probes: caption, embedding; empty if nothing was filtered"),
    ),
)
RELIABILITY = Table(
    name="reliability",
    maker="weigh",
    meaning="calibration of the probes: predicted and observed shares; a row for each bin of predictions",
    schema=columns(
        ("low", "double", "lowest prediction in the bin: probability that an image is from the reference, 0 to 1"),
        ("high", "double", "highest prediction in the bin, 0 to 1"),
        ("images", "long", "images in the bin"),
        ("predicted", "double", "average prediction, 0 to 1"),
        (
            "observed",
            "double",
            "share from the reference, 0 to 1; the reference and the kept images have the same total weight",
        ),
    ),
)
BEYOND_REACH = Table(
    name="beyond_reach",
    maker="weigh",
    meaning="filtered images that resemble no kept image, so that no weight can replace them: 48 at most",
    schema=columns(
        ("image_id", "string", "id of the filtered image"),
        ("nearest_id", "string", "kept image that is most similar to it"),
        ("similarity", "double", "cosine similarity of the two embeddings, -1 to 1"),
    ),
)
CURATED = Table(
    name="curated",
    maker="weigh",
    meaning="the training set: the kept images with their weights; their bytes are in `images`, under the same part",
    later=frozenset({"part"}),
    schema=columns(
        ("image_id", "string", "id of the image: 32 hexadecimal digits, a hash of its bytes and caption"),
        ("part", "int", "number of the part of the table images that holds the bytes of the image"),
        ("weight", "double", "importance weight; 1 on average"),
        ("key", "string", "name of the image in its source; its image_id if the source gives no name"),
        ("source", "string", "path or URI of the shard, Parquet file, image folder or Delta table"),
        ("caption", "string", "caption; null if the source has none"),
        ("width", "int", "width as displayed (after EXIF orientation), in pixels"),
        ("height", "int", "height as displayed (after EXIF orientation), in pixels"),
        ("format", "string", "file format by content: JPEG, MPO, PNG, WEBP, GIF, BMP, TIFF or AVIF"),
        ("meta", "string", "all other fields of the source, as a JSON object; {} if there are none"),
    ),
)

# Audits -------------------------------------------------------------------------------------------------------------

KEYWORD_SHIFT = Table(
    name="keyword_shift",
    maker="audit",
    meaning="the share of captions with a keyword before the filter, after it, and weighted",
    later=frozenset({"topic", "mover", "adjusted", "looks"}),
    schema=columns(
        ("keyword", "string", "word or phrase"),
        ("unfiltered", "double", "share of the captions before the filter that contain it, 0 to 1"),
        ("filtered", "double", "share of the captions after the filter, 0 to 1"),
        ("weighted", "double", "share of the captions after the filter, by weight, 0 to 1"),
        ("shift", "double", "filtered / unfiltered - 1; -0.5 if the share was halved"),
        ("shift_low", "double", "lower end of the interval of shift; null if no caption was filtered"),
        ("shift_high", "double", "upper end of the interval of shift; null if no caption was filtered"),
        ("weighted_shift", "double", "weighted / unfiltered - 1: what is left of the shift after weighing"),
        ("weighted_low", "double", "lower end of the interval of weighted_shift; null if no caption was filtered"),
        ("weighted_high", "double", "upper end of the interval of weighted_shift; null if no caption was filtered"),
        ("captions", "long", "captions before the filter that contain it"),
        ("topic", "string", "topic of its keyword list, or own (from audit.keywords); null for a mover"),
        ("mover", "boolean", "whether audit chose the word by its false discovery rate; false if it is on a list"),
        (
            "adjusted",
            "double",
            "p-value of the shift, 0 to 1, corrected to a false discovery rate for the number of words",
        ),
        ("looks", "long", "frequent words that were tested to find movers; the same in all rows"),
    ),
)
REGURGITATION = Table(
    name="regurgitation",
    maker="regurgitation",
    meaning="generated images and the images of the lake that are nearest to them; a row for each pair",
    later=frozenset({"likeness"}),
    schema=columns(
        ("generated_key", "string", "name of the generated image in its source"),
        ("image_id", "string", "id of the image of the lake"),
        ("distance", "int", "Hamming distance of the two hashes, 0 to 256 bits"),
        ("similarity", "float", "cosine similarity of the two embeddings, -1 to 1"),
        ("rank", "int", "rank by similarity among the pairs of the generated image, from 1"),
        ("copy", "boolean", "whether the generated image is a copy of this image"),
        ("nearest_by", "string", "what found the pair: hash or embedding; the text 'embedding, hash' if both did"),
        ("generated_source", "string", "path or URI of the source of the generated image"),
        ("prompt_id", "string", "image whose caption was the prompt; null if the source does not say"),
        ("likeness", "float", "similarity after alignment, 1 for the same image; null if not aligned"),
    ),
)
REGURGITATION_PAIRS = Table(
    name="regurgitation_pairs",
    maker="regurgitation",
    meaning="the pairs that the page `regurgitation.html` and the report show",
    schema=columns(
        ("place", "int", "place on the page, from 0: copies first, then by falling similarity"),
        ("generated_key", "string", "name of the generated image in its source"),
        ("generated_source", "string", "path or URI of the source of the generated image"),
        ("generated_caption", "string", "first 240 characters of its caption; null if it has none"),
        ("thumbnail", "binary", "small WebP file of the generated image; null if the page has no room for it"),
        ("image_id", "string", "id of the image of the lake"),
        ("key", "string", "name of the image of the lake in its source"),
        ("fate", "string", "what became of the image of the lake: kept, filtered or duplicate"),
        ("distance", "int", "Hamming distance of the two hashes, 0 to 256 bits"),
        ("similarity", "float", "cosine similarity of the two embeddings, -1 to 1"),
        ("copy", "boolean", "whether the generated image is a copy of this image"),
        ("prompt_id", "string", "image whose caption was the prompt; null if the source does not say"),
        ("likeness", "float", "similarity after alignment, 1 for the same image; null if not aligned"),
    ),
)
REGURGITATION_FAULTS = Table(
    name="regurgitation_faults",
    maker="regurgitation",
    meaning="generated images that could not be read or decoded, with the reason",
    schema=columns(
        ("source", "string", "path or URI of the source of the generated image"),
        ("key", "string", "name of the generated image in its source"),
        (
            "stage",
            "string",
            "step that failed: read (the file), decode (the image), score (its second decoding or its hash)",
        ),
        ("reason", "string", "reason as a fixed phrase, such as truncated, not an image, missing file"),
        ("detail", "string", "what was found, in the words of the reader or decoder"),
    ),
)

ALL = (
    IMAGES, QUARANTINE, SOURCES, ORIGINS, SUPERSEDED, SIGNALS, MIRRORED, FEATURES, SCORES, LABEL_QUEUE, LABELS, UNSURE,
    LABEL_FAULTS, THRESHOLDS, DECISIONS, AGAINST, VERDICTS, PAIRS, DUPLICATES, FILTERED_DUPLICATES, DEDUP_QUALITY,
    STRANGERS, DEDUP_DISTANCES, NEAR_MISSES, TOLD_APART, PAIR_QUEUE, PAIR_LABELS, WEIGHTS, WEIGHT_QUALITY,
    RELIABILITY, BEYOND_REACH, CURATED, KEYWORD_SHIFT, REGURGITATION, REGURGITATION_PAIRS, REGURGITATION_FAULTS,
)  # fmt: skip
"""In the order of the pipeline."""
