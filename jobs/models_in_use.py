"""The encoder and the classifiers that the settings and the lake name, loaded and checked."""

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
        """Returns the digest that names the model in tables."""
        return self.model.digest(self.data)


def current_encoder(job: Job) -> Encoder:
    """Returns the encoder that the settings name or describe, loaded and checked.

    Raises:
        ModelError: The file is not a valid encoder.
    """
    data = _encoder_file(job)
    score, choice = job.settings.score, job.settings.encoder.model
    description = None if isinstance(choice, str) else choice
    return Encoder.load(data, score.threads, tuple(score.providers), score.batch, description)


def distribute_encoder(job: Job) -> str | ImageInput:
    """Sends the encoder's file to the workers; returns its name there, or its description with that name as path."""
    data, choice = _encoder_file(job), job.settings.encoder.model
    name = distribute_model(job.lake.spark, data)
    return name if isinstance(choice, str) else replace(choice, path=name)


def decode_pass_of(job: Job, classifiers: Sequence[ImageClassifier]) -> Scoring:
    """Returns the decode pass with the current encoder and image classifiers; sends their files to the workers."""
    encoder_file, settings = distribute_encoder(job), job.settings.score
    models = tuple(replace(one.model, path=distribute_model(job.lake.spark, one.data)) for one in classifiers)
    return Scoring(encoder_file, models, settings.batch, settings.threads, tuple(settings.providers))


def _encoder_file(job: Job) -> bytes:
    choice = job.settings.encoder.model
    if choice == "auto":
        fitted = job.lake.has_file(encoder.FITTED)
        return job.lake.read_file(encoder.FITTED) if fitted else encoder.shipped()
    if choice == "shipped":
        return encoder.shipped()
    return onnx_session.read(choice if isinstance(choice, str) else choice.path)


def image_classifiers(job: Job) -> list[ImageClassifier]:
    """Returns the image models of the categories, each tested on an example input.

    Raises:
        ModelError: A file is missing or does not match its description in the settings.
    """
    classifiers = []
    for category, settings in job.settings.categories.items():
        if settings.model is not None:
            data = onnx_session.read(settings.model.path)
            score = job.settings.score
            session = onnx_session.start(data, score.threads, score.providers, settings.model.path)
            classifier.check(session, settings.model)
            classifiers.append(ImageClassifier(category, settings.model, data))
    return classifiers


def category_heads(job: Job, current: Encoder) -> dict[str, Head]:
    """Returns the trained heads of all categories that have one.

    Raises:
        ModelError: A file is not a valid head, or was trained on another encoder.
    """
    return {category: _head(job, category, current) for category in _trained_categories(job)}


def compatible_heads(job: Job, current: Encoder) -> dict[str, Head]:
    """Returns the heads that were trained on the current encoder; warns of the others, which need `train` again."""
    heads = {}
    for category in _trained_categories(job):
        try:
            heads[category] = _head(job, category, current)
        except OtherEncoderError:
            job.progress.note(
                f"score: the head of {category} is for another encoder: run `winnow train {category}`, "
                "then `winnow score` again"
            )
    return heads


def head_categories(job: Job) -> list[str]:
    """Returns the categories that a head of Winnow scores, not an image model of the user."""
    return [name for name, category in job.settings.categories.items() if category.model is None]


def _trained_categories(job: Job) -> list[str]:
    return [category for category in head_categories(job) if job.lake.has_file(HEAD.format(category))]


def _head(job: Job, category: str, current: Encoder) -> Head:
    return Head.load(job.lake.read_file(HEAD.format(category)), current.digest, current.dims)


def current_models(job: Job) -> dict[str, str]:
    """Returns the digest of the current classifier of each category.

    Raises:
        WinnowError: A category has neither an image model nor a trained head.
    """
    digests = {one.category: one.digest for one in image_classifiers(job)}
    digests |= {category: head.digest for category, head in category_heads(job, current_encoder(job)).items()}
    untrained = sorted(set(job.settings.categories) - set(digests))
    if untrained:
        names, name = ", ".join(untrained), untrained[0]
        raise WinnowError(
            f"no classifier for {names}: import labels and run `winnow train {name}`, or set categories.{name}.model"
        )
    return digests
