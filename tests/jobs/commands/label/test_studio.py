"""Label Studio tasks; if a server is given, also their import there and the export of labels."""

import io
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from PIL import Image
from pyspark.sql import functions as F
from rich.console import Console

from jobs.commands.label import import_file, label_studio
from jobs.commands.label.label_studio import TaskImages
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.lake_rows import write_rows
from tests.builders.sources import encoded

SERVER = os.environ.get("WINNOW_LABEL_STUDIO")
BOATS = 'categories.boats={definition="Pictures of \\"boats\\" & ships.", include=["Canoes."], exclude=["Drawings."]}'
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def append(lake: Lake, table: tables.Table, *rows: dict[str, Any]) -> None:
    filled = [tuple(row.get(name) for name in table.schema.names) for row in rows]
    write_rows(lake, table, filled)


@pytest.fixture(scope="module")
def job(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Seven images, six of them queued. Two have labels, but the random one no random label; one cannot be decoded."""
    lake = Lake(spark, str(tmp_path_factory.mktemp("studio") / "lake"))
    images = [{"image_id": f"id{n}", "key": f"a b/{n}+.jpg", "caption": f"<b>{n}</b>", "part": 0} for n in range(7)]
    for n, row in enumerate(images):
        row["image"] = b"broken" if n == 5 else encoded("red", "JPEG", (400, 100))
    own = {"category": "boats", "batch": "b", "queued_at": NOW}
    queue = [{**own, "image_id": f"id{n}", "strategy": "recall", "reason": "near", "place": 9 - n} for n in range(6)]
    queue[1]["strategy"] = "random"
    given = {"category": "boats", "label": True, "labelled_at": NOW, "origin": "seed", "annotator": "ann"}
    scores = [("id3", "m2", 0.75), ("id3", "m1", 0.25), ("id3", "m1", 0.25), ("id2", "m1", 0.3)]
    append(lake, tables.IMAGES, *images)
    append(lake, tables.LABEL_QUEUE, *queue)
    append(lake, tables.LABELS, {**given, "image_id": "id0"}, {**given, "image_id": "id1"})
    named = [{"category": "boats", "image_id": i, "model": m, "score": s} for i, m, s in scores]
    append(lake, tables.SCORES, *named)
    append(lake, tables.THRESHOLDS, {"category": "boats", "model": "m1", "threshold": 0.3})
    return Job(lake, config.load(overrides=[BOATS]), Progress(Console(file=io.StringIO(), width=500)))


def tasks_of(file: Path) -> dict[str, dict[str, Any]]:
    return {one["data"]["image_id"]: one for one in json.loads(file.read_text())}


@pytest.mark.slow
def test_waiting_images_become_tasks_with_predictions_of_each_model(job: Job, tmp_path: Path) -> None:
    summary = label_studio.export_tasks(job, str(tmp_path / "t.json"), None, TaskImages(side=64))

    tasks = tasks_of(tmp_path / "t.json")
    # In the order of the queue. id0 has a label, id1 lacks a random label, id5 cannot be decoded.
    assert list(tasks) == ["id4", "id3", "id2", "id1"] and summary["tasks exported"] == 4
    predictions = {
        image: [(p["model_version"], p["score"], p["result"][0]["value"]["choices"]) for p in one["predictions"]]
        for image, one in tasks.items()
    }
    assert predictions == {
        "id1": [],
        "id2": [("m1", 0.3, ["yes"])],
        "id3": [("m1", 0.25, ["no"]), ("m2", 0.75, ["yes"])],
        "id4": [],
    }
    data = tasks["id1"]["data"]
    assert (data["origin"], data["reason"], data["caption"]) == ("random", "near", "<b>1</b>")
    with urllib.request.urlopen(data["image"]) as image:
        assert Image.open(image).size == (64, 16)


def test_interface_has_the_definition_and_the_controls_of_the_predictions(job: Job, tmp_path: Path) -> None:
    label_studio.export_tasks(job, str(tmp_path / "t.json"), "boats", TaskImages("http://127.0.0.1:1/"))

    view = ElementTree.parse(tmp_path / "t.xml").getroot()
    result = tasks_of(tmp_path / "t.json")["id3"]["predictions"][0]["result"][0]
    choices = view.find("Choices")
    assert choices is not None
    assert (choices.get("name"), choices.get("toName")) == (result["from_name"], result["to_name"])
    assert [choice.get("value") for choice in choices] == ["yes", "no"]
    heads = [head.get("value") for head in view.findall("Header")]
    assert heads == ['boats: Pictures of "boats" & ships.', "Counts: Canoes.", "Does not count: Drawings."]
    assert tasks_of(tmp_path / "t.json")["id3"]["data"]["image"] == "http://127.0.0.1:1/a%20b/3%2B.jpg"


def test_only_waiting_images_are_read_and_each_is_resized_once(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.mkdir()

    def data_uris(side: int) -> Any:
        def convert(image: pd.Series) -> pd.Series:
            (log / f"{uuid.uuid4()}").write_text("\n" * len(image))
            return image.map(lambda _: "data:,")

        return F.pandas_udf(convert, "string")  # type: ignore[call-overload]

    monkeypatch.setattr(label_studio, "data_uris", data_uris)
    label_studio.export_tasks(job, str(tmp_path / "t.json"), "boats", TaskImages())

    # id0 has a label; id6 was never queued.
    assert list(tasks_of(tmp_path / "t.json")) == ["id5", "id4", "id3", "id2", "id1"]
    assert sum(len(file.read_text()) for file in log.iterdir()) == 5


@pytest.mark.slow
def test_other_files_beside_the_tasks_are_not_replaced(job: Job, tmp_path: Path) -> None:
    mine = {"t.xml": "<annotation/>", "t.json.part": "half"}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)

    with pytest.raises(
        WinnowError, match=r"t\.xml is not a labelling interface, .*`winnow label export .*/t-tasks\.json`"
    ):
        label_studio.export_tasks(job, str(tmp_path / "t.json"), "boats", TaskImages())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == mine
    (tmp_path / "t.xml").unlink()
    label_studio.export_tasks(job, str(tmp_path / "t.json"), "boats", TaskImages())

    assert (tmp_path / "t.json.part").read_text() == "half"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.json", "t.json.part", "t.xml"]


def test_export_without_queue_or_category_says_what_to_do(job: Job, tmp_path: Path) -> None:
    more = Job(job.lake, config.load(overrides=[BOATS, 'categories.cars={definition="Cars."}']), job.progress)

    with pytest.raises(
        WinnowError, match="tasks need a category: the settings have boats, cars; add `--category NAME`"
    ):
        label_studio.export_tasks(more, str(tmp_path / "t.json"), None, TaskImages())
    with pytest.raises(WinnowError, match="no image waits for a label of cars: run `winnow label next cars --strategy"):
        label_studio.export_tasks(more, str(tmp_path / "t.json"), "cars", TaskImages())
    assert list(tmp_path.iterdir()) == []


# A real server ------------------------------------------------------------------------------------------------------


class Studio:
    """A client of a Label Studio server with a logged-in user."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.cookies = CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def ask(self, path: str, body: Any = None, form: str | None = None, method: str | None = None) -> Any:
        data = form.encode() if form else None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded" if form else "application/json"}
        headers["X-CSRFToken"] = next((c.value or "" for c in self.cookies if c.name == "csrftoken"), "")
        headers["Referer"] = self.address
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with self.opener.open(request, timeout=60) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read()[:500]!r}") from error
        return json.loads(text) if text[:1] in ("{", "[") else text

    def sign_in(self, email: str, password: str) -> None:
        self.ask("/user/login/")
        token = next(c.value for c in self.cookies if c.name == "csrftoken")
        self.ask("/user/login/", form=f"email={email}&password={password}&csrfmiddlewaretoken={token}")


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    assert SERVER
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    login = ("--username", "ann@example.org", "--password", "only-for-this-test")
    command = [SERVER, "start", "--no-browser", "--port", str(port), "--internal-host", "127.0.0.1",
               "--data-dir", str(tmp_path / "data"), *login]  # fmt: skip
    environment = {**os.environ, "LABEL_STUDIO_BASE_DATA_DIR": str(tmp_path / "data"), "COLLECT_ANALYTICS": "false"}
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=tmp_path)
    try:
        found = Studio(f"http://127.0.0.1:{port}")
        for _ in range(300):
            try:
                found.sign_in(login[1], login[3])
                break
            except (OSError, AssertionError, StopIteration):
                assert server.poll() is None, (tmp_path / "server.log").read_text()[-2000:]
                time.sleep(1)
        yield found
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.label_studio
@pytest.mark.skipif(not SERVER, reason="WINNOW_LABEL_STUDIO names no label-studio executable")
def test_real_server_imports_the_tasks_and_exports_labels(studio: Studio, job: Job, tmp_path: Path) -> None:
    label_studio.export_tasks(job, str(tmp_path / "t.json"), "boats", TaskImages(side=64))
    project = studio.ask("/api/projects", {"title": "boats", "label_config": (tmp_path / "t.xml").read_text()})["id"]
    imported = studio.ask(f"/api/projects/{project}/import", json.loads((tmp_path / "t.json").read_text()))
    assert (imported["task_count"], imported["prediction_count"]) == (4, 3)

    tasks = studio.ask(f"/api/tasks?project={project}&fields=all&page_size=100")["tasks"]
    numbers = {one["data"]["image_id"]: one["id"] for one in tasks}
    for image, choice, skipped in (("id1", "yes", 0), ("id2", "no", 0), ("id2", "yes", 0), ("id3", "yes", 1)):
        value = {"choices": [choice]}
        result = [{"from_name": "boats", "to_name": "image", "type": "choices", "value": value, "id": "x"}]
        annotation = {"result": result, "was_cancelled": bool(skipped)}
        studio.ask(f"/api/tasks/{numbers[image]}/annotations", annotation)
    exported = studio.ask(f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")
    (tmp_path / "back.json").write_text(json.dumps(exported))
    first = import_file.import_labels(job, str(tmp_path / "back.json"))
    second = import_file.import_labels(job, str(tmp_path / "back.json"))

    new = job.lake.read(tables.LABELS).where("annotator != 'ann'").collect()
    assert sorted((r.image_id, r.label, r.origin) for r in new) == [
        ("id1", True, "random"),
        ("id2", False, "recall"),
        ("id2", True, "recall"),
    ]
    assert (first["labels added"], second["labels added"], second["already there"]) == (3, 0, 3)
    assert first["contradicted images"] == 1
