"""Reads and scores images that are not in the lake, such as generated ones, into a scratch folder of the lake."""

from dataclasses import dataclass, replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import image_files
from jobs.lake.lake import Lake
from jobs.models_in_use import distribute_encoder
from jobs.runtime.session import in_session
from jobs.scoring.decode_pass import scored
from jobs.sources import inspect
from udfs.inference.scoring import Scoring


@dataclass(frozen=True)
class OutsideImages:
    """The images of sources that are not in a lake.

    Attributes:
        lake: The lake in whose scratch folder they are.
        folder: The scratch folder, below `_staging/`.
        id_name: Name of the column of their ids: file and row in the scratch folder.
    """

    lake: Lake
    folder: str
    id_name: str

    def stage(self, job: Job, source_rows: DataFrame, command: str, what: str) -> None:
        """Reads, hashes and embeds images, and writes them to the scratch folder.

        Args:
            job: The settings, the progress display.
            source_rows: As `jobs.sources.inspect.source_rows` returns them.
            command: Name of the command.
            what: What the images are, as in `generated images`.
        """
        settings = job.settings
        self.lake.mark()
        self.lake.delete_staging(self.folder)
        small = replace(self, lake=self.lake.within(image_files.small_files(settings.ingest)))
        with job.progress.step(f"{command}: read {what}"):
            inspected = in_session(inspect.inspected(source_rows, settings.ingest.max_megapixels), small.lake.spark)
            inspected.write.parquet(self.lake.staging(f"{self.folder}/images"))
        with job.progress.step(f"{command}: hash and embed {what}"):
            score = settings.score
            scoring = Scoring(distribute_encoder(job), None, (), score.batch, score.threads, tuple(score.providers))
            named = small.images.where("info.width is not null")
            named = named.select(F.col(self.id_name).alias("image_id"), F.lit(None).cast("int").alias("part"), "image")
            results = scored(named, scoring).withColumnRenamed("image_id", self.id_name)
            results.drop("part").write.parquet(self.lake.staging(f"{self.folder}/signals"))

    @property
    def images(self) -> DataFrame:
        """The images, with what `jobs.sources.inspect.inspected` found, and their ids."""
        place = F.concat_ws(":", F.col("_metadata.file_name"), F.col("_metadata.row_index")).alias(self.id_name)
        return self.lake.read_staged(f"{self.folder}/images").select("*", place)

    @property
    def signals(self) -> DataFrame:
        """The signals of the images that can be decoded and hashed, as `decode_pass.scored` returns them."""
        return self.lake.read_staged(f"{self.folder}/signals").where("reason is null")

    @property
    def faults(self) -> DataFrame:
        """The images that could not be read, decoded or hashed: source, key, stage, reason, detail."""
        failed = self.lake.read_staged(f"{self.folder}/signals").where("reason is not null")
        of_image = failed.select(self.id_name, F.lit("score").alias("stage"), "reason", "detail")
        later = self.images.select(self.id_name, "source", "key").join(of_image, self.id_name)
        columns = "source", "key", "stage", "reason", "detail"
        return inspect.quarantine(self.images).select(*columns).unionByName(later.select(*columns))
