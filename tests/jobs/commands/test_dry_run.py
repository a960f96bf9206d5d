"""A dry run counts what the command would write, says what changes, and writes no table."""

import pytest

from jobs.commands.dedup import command as dedup
from jobs.commands.filter import command as filter
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.models_in_use import current_encoder
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.hash_lakes import Picture, fill, hashes, job_of, near

ALL = (tables.VERDICTS, tables.DUPLICATES, tables.PAIRS, tables.DEDUP_QUALITY, tables.STRANGERS)


def pictures() -> list[Picture]:
    one, two = hashes(2)
    return [
        Picture(1, one.tobytes(), 900),
        Picture(2, near(one, 5, seed=1).tobytes(), 300),
        Picture(3, near(one, 40, seed=2).tobytes(), 200),
        Picture(4, two.tobytes(), 100),
    ]


def versions(lake: Lake) -> list[int | None]:
    return [lake.snapshot().version(table) for table in ALL]


def with_rule(lake: Lake, width: int) -> Job:
    return Job(lake, config.load(overrides=[f"filter.rules.small='width < {width}'"]), Progress())


def test_filter_says_what_another_rule_would_change(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    fill(lake, pictures(), current_encoder(job_of(lake)).digest)
    lake.drop(tables.VERDICTS)
    filter.run(with_rule(lake, 250))
    before = versions(lake)

    found = filter.preview(with_rule(lake, 150))

    assert versions(lake) == before
    assert (found["kept"], found["filtered, small"], found["newly removed"], found["brought back"]) == (3, 1, 0, 1)
    assert found["brought back, 1."] == f"3 ({3:032x}): small: width < 250"
    assert "filter: this was a dry run, so no table was written" in capsys.readouterr().err
    again = filter.preview(with_rule(lake, 500))
    assert again["newly removed, 1."] == f"2 ({2:032x}): small: width < 500" and again["newly removed"] == 1
    # The run writes what the dry run counted.
    written = filter.run(with_rule(lake, 150))
    assert written == {key: value for key, value in found.items() if not key.startswith(("newly", "brought"))}


def test_dedup_says_what_another_distance_would_change(lake: Lake) -> None:
    job = job_of(lake)
    fill(lake, pictures(), current_encoder(job).digest)
    first = dedup.preview(job)
    assert not lake.exists(tables.DUPLICATES) and first["newly removed"] == first["duplicates removed"] == 1
    dedup.run(job)
    before = versions(lake)

    found = dedup.preview(job_of(lake, "dedup.max_distance=45"))

    assert versions(lake) == before
    assert (found["duplicates removed"], found["newly removed"], found["brought back"]) == (2, 1, 0)
    assert found["newly removed, 1."] == f"3 ({3:032x}): 40 bits from {1:032x}"
    none = dedup.preview(job_of(lake, "dedup.max_distance=0"))
    assert none["brought back, 1."] == f"2 ({2:032x}): 5 bits from {1:032x}"
    assert dedup.preview(job)["newly removed"] == 0


def test_a_dry_run_needs_what_the_command_needs(lake: Lake) -> None:
    fill(lake, pictures()[:1], "another")
    with pytest.raises(WinnowError, match="1 of 1 images have no signals"):
        dedup.preview(job_of(lake))
    category = 'categories.boats={definition="d"}'
    with pytest.raises(WinnowError, match="no classifier for boats"):
        filter.preview(Job(lake, config.load(overrides=[category]), Progress()))
