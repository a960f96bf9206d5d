"""A lake of 600 captions with a filter that is biased, for the tests of `weigh` and `audit`."""

from jobs.job import Job
from jobs.lake import tables
from tests.builders.lake_rows import write_rows


def fill(job: Job) -> None:
    """Writes 600 captions; the filter removes a quarter of the women and nothing else; one man is a duplicate."""
    images, verdicts = [], []
    for number in range(600):
        word = ("woman", "man", "tree")[number % 3]
        image_id = f"{number:032x}"
        images.append((image_id, str(number), "s", f"A {word}, outside", b"x", 10, 10, "PNG", "{}", 0))
        verdicts.append((image_id, word != "woman" or number % 4 != 0, []))
    write_rows(job.lake, tables.IMAGES, images)
    write_rows(job.lake, tables.VERDICTS, verdicts)
    write_rows(job.lake, tables.DUPLICATES, [(f"{1:032x}", f"{4:032x}", 3, "lsh")])
    write_rows(job.lake, tables.FILTERED_DUPLICATES, [])
