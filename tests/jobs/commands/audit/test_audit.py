import io

from pyspark.sql import SparkSession
from rich.console import Console

from jobs.commands.audit import command as audit
from jobs.commands.weigh import command as weigh
from jobs.job import Job
from jobs.lake import tables
from jobs.runtime import config
from jobs.runtime.progress import Progress
from tests.builders.biased_lake import fill


def test_phrases_match_across_punctuation_and_keywords_without_a_word_are_reported(
    job: Job, spark: SparkSession
) -> None:
    fill(job)
    weigh.run(job)
    progress = Progress(Console(file=io.StringIO(), width=500))
    audit.run(Job(job.lake, config.load(overrides=['audit.keywords=["woman/outside", "&"]']), progress))

    # The captions have a comma between both words.
    captions = {row.keyword: row.captions for row in job.lake.read(tables.KEYWORD_SHIFT).collect()}
    assert captions["woman/outside"] == captions["woman"] > 0
    assert "audit: skipped keywords without a letter or digit: '&'" in progress.console.file.getvalue()
