"""Which encoder and which classifiers the settings and the lake name, loaded and checked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.job import Job
from models.errors import OtherEncoderError, WinnowError
from models.inference import classifier, encoder, onnx_session
from models.inference.classifier import ImageModel
from models.inference.encoder import Encoder
from models.inference.head import Head
from models.inference.onnx_image_spec import ImageInput
from udfs.inference.model_files import distribute_model
from udfs.inference.scoring import Scoring

HEAD = "models/head-{}.onnx"


@dataclass(frozen=True)
class ImageClassifier:
    """A category's own image model: its description, bytes and digest."""

    category: str
    model: ImageModel
    data: bytes

    @property
    def digest(self) -> str:
        """The name by which tables know it."""
        return self.model.digest(self.data)


def current_encoder(job: Job) -> Encoder:
    """The encoder that the settings name or describe, loaded and checked.

    Raises:
        ModelError: It is no encoder.
    """
    data = _encoder_file(job)
    score, choice = job.settings.score, job.settings.encoder.model
    described = None if isinstance(choice, str) else choice
    return Encoder.load(data, score.threads, tuple(score.providers), score.batch, described)


def distribute_encoder(job: Job) -> str | ImageInput:
    """Sends the encoder's file to the workers: its name there, or its description with that name as its path."""
    data, choice = _encoder_file(job), job.settings.encoder.model
    name = distribute_model(job.lake.spark, data)
    return name if isinstance(choice, str) else replace(choice, path=name)


def decode_pass_of(job: Job, classifiers: Sequence[ImageClassifier]) -> Scoring:
    """The decode pass with the encoder and image classifiers in use, their files sent to the workers."""
    encoder_file, settings = distribute_encoder(job), job.settings.score
    own = tuple(replace(one.model, path=distribute_model(job.lake.spark, one.data)) for one in classifiers)
    return Scoring(encoder_file, own, settings.batch, settings.threads, tuple(settings.providers))


def _encoder_file(job: Job) -> bytes:
    choice = job.settings.encoder.model
    if choice == "auto":
        fitted = job.lake.has_file(encoder.FITTED)
        return job.lake.read_file(encoder.FITTED) if fitted else encoder.shipped()
    if choice == "shipped":
        return encoder.shipped()
    return onnx_session.read(choice if isinstance(choice, str) else choice.path)


def image_classifiers(job: Job) -> list[ImageClassifier]:
    """The categories' own image models, each checked with one picture.

    Raises:
        ModelError: A file is missing or is not what the settings say.
    """
    found = []
    for category, settings in job.settings.categories.items():
        if settings.model is not None:
            data = onnx_session.read(settings.model.path)
            score = job.settings.score
            session = onnx_session.start(data, score.threads, score.providers, settings.model.path)
            classifier.check(session, settings.model)
            found.append(ImageClassifier(category, settings.model, data))
    return found


def category_heads(job: Job, current: Encoder) -> dict[str, Head]:
    """The trained heads of the categories that have one.

    Raises:
        ModelError: One is no head, or was trained on another encoder.
    """
    return {category: _head(job, category, current) for category in _with_head(job)}


def fitting_heads(job: Job, current: Encoder) -> dict[str, Head]:
    """The heads that read the current encoder; `train` makes the others anew, from the signals that are stored here."""
    heads = {}
    for category in _with_head(job):
        try:
            heads[category] = _head(job, category, current)
        except OtherEncoderError:
            job.progress.note(
                f"score: the head of {category} is for another encoder: `winnow train {category}`, then score again"
            )
    return heads


def headed(job: Job) -> list[str]:
    """The categories that are scored by a head, which Winnow trains."""
    return [name for name, category in job.settings.categories.items() if category.model is None]


def _with_head(job: Job) -> list[str]:
    return [category for category in headed(job) if job.lake.has_file(HEAD.format(category))]


def _head(job: Job, category: str, current: Encoder) -> Head:
    return Head.load(job.lake.read_file(HEAD.format(category)), current.digest, current.dims)


def current_models(job: Job) -> dict[str, str]:
    """The digest of each category's classifier.

    Raises:
        WinnowError: A category has neither an image model nor a trained head.
    """
    digests = {found.category: found.digest for found in image_classifiers(job)}
    digests |= {category: head.digest for category, head in category_heads(job, current_encoder(job)).items()}
    untrained = sorted(set(job.settings.categories) - set(digests))
    if untrained:
        what = ", ".join(untrained)
        raise WinnowError(f"no classifier for {what}: import labels and run `winnow train`, or set its model")
    return digests
