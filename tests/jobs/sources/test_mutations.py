"""Hundreds of mutated files of each kind; `tests/bench/mutations.py` reads tens of thousands."""

import json
import random
from pathlib import Path

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.labels import files
from models.errors import WinnowError
from tests.builders.mutations import TOKENS, TRIALS, mutated

COUNTS = {"image": 600, "tar": 150, "parquet": 100, "metadata": 100, "settings": 200}
LABELS = [{"image_id": f"{n:032x}", "category": "cats", "label": n % 2 == 0, "annotator": "Zoë"} for n in range(8)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", COUNTS)
def test_mutated_files_lose_nothing_and_stop_nothing(kind: str, tmp_path: Path) -> None:
    fates = {TRIALS[kind](seed, tmp_path) for seed in range(COUNTS[kind])}
    assert len(fates) > 1  # some are read and some are refused, or the mutations are none


def test_a_mutation_says_how_much_it_left() -> None:
    data = bytes(range(256)) * 8
    changed = 0
    for seed in range(200):
        found, start, end = mutated(data, random.Random(seed))
        assert found[:start] == data[:start] and found[len(found) - end :] == data[len(data) - end :]
        changed += found != data
    assert changed > 150


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json", ".parquet"])
def test_mutated_label_files_are_read_or_refused_in_one_line(spark: SparkSession, ending: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{'.jsonl' if ending == '.json' else ending}"
    files.write(({name: row.get(name) for name in files.COLUMNS} for row in LABELS), str(whole))
    data = whole.read_bytes() if ending != ".json" else _label_studio()
    for seed in range(12):
        file = tmp_path / f"{seed}{ending}"
        file.write_bytes(mutated(data, random.Random(seed), TOKENS)[0])
        try:
            rows = files.read(spark, str(file))
        except WinnowError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            continue
        try:
            assert len(rows.collect()) < 50
        except Py4JJavaError as error:  # a damaged page, of which the command line says the cause in one line
            assert file.name in str(error)


def _label_studio() -> bytes:
    tasks = [
        {
            "data": {"image_id": row["image_id"]},
            "annotations": [
                {"result": [{"from_name": "cats", "type": "choices", "value": {"choices": ["yes"]}}], "completed_by": 1}
            ],
        }
        for row in LABELS
    ]
    return json.dumps(tasks).encode()
