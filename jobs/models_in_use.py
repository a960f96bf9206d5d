"""The encoder and the classifiers that the settings and the lake name, loaded and checked."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from jobs.job import Job
from jobs.lake.model_recipe import ModelRecipe
from jobs.runtime.config import Settings
from models.errors import ModelError, OtherEncoderError, WinnowError
from models.inference import classifier, encoder, onnx_session
from models.inference.classifier import ImageModel
from models.inference.encoder import Encoder
from models.inference.head import Head
from models.inference.onnx_image_spec import ImageInput
from udfs.inference.model_files import distribute_model

HEAD, _HEAD_RECIPE = "models/head-{}.onnx", "models/head-{}.json"


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
    """Returns the perceptual encoder that the settings name or describe, loaded and checked.

    Raises:
        ModelError: The file is not a valid encoder.
    """
    with _naming(job.settings.encoder.model):
        return _loaded(job, *_perceptual(job))


def semantic_encoder(job: Job) -> Encoder:
    """Returns the semantic encoder that the settings name or describe, loaded and checked.

    Raises:
        ModelError: The file is not a valid encoder.
    """
    with _naming(job.settings.semantic.model):
        return _loaded(job, *_semantic(job))


def distribute_encoder(job: Job) -> str | ImageInput:
    """Sends the perceptual encoder's file to the workers; returns its name there, or its description with that path."""
    return _distributed(job, *_perceptual(job))


def distribute_semantic_encoder(job: Job) -> str | ImageInput:
    """Sends the semantic encoder's file to the workers; returns its name there, or its description with that path."""
    return _distributed(job, *_semantic(job))


@contextmanager
def _naming(choice: str | ImageInput) -> Iterator[None]:
    """Adds the name of an encoder's file, or `shipped`, to the messages of errors that lack it."""
    name = choice if isinstance(choice, str) else choice.path
    try:
        yield
    except ModelError as error:
        raise error if name in str(error) else ModelError(f"{name}: {error}") from error


def _loaded(job: Job, data: bytes, description: ImageInput | None) -> Encoder:
    score = job.settings.score
    return Encoder.load(data, score.threads, tuple(score.providers), score.batch, description)


def _distributed(job: Job, data: bytes, description: ImageInput | None) -> str | ImageInput:
    name = distribute_model(job.lake.spark, data)
    return name if description is None else replace(description, path=name)


def _perceptual(job: Job) -> tuple[bytes, ImageInput | None]:
    """Returns the perceptual encoder's file, and its description if it has one."""
    choice = job.settings.encoder.model
    if choice == "auto" and job.lake.has_file(encoder.FITTED):
        return job.lake.read_file(encoder.FITTED), None
    return (encoder.shipped(), None) if choice in ("auto", "shipped") else _own(choice)


def _semantic(job: Job) -> tuple[bytes, ImageInput | None]:
    """Returns the semantic encoder's file, and its description if it has one."""
    choice = job.settings.semantic.model
    return (encoder.shipped_semantic(), None) if choice == "shipped" else _own(choice)


def _own(choice: str | ImageInput) -> tuple[bytes, ImageInput | None]:
    if isinstance(choice, str):
        return onnx_session.read(choice), None
    return onnx_session.read(choice.path), choice


def image_classifiers(job: Job) -> tuple[ImageClassifier, ...]:
    """Returns the image models of the categories, each tested on an example input.

    Raises:
        ModelError: A file is missing or does not match its description in the settings.
    """
    classifiers = []
    for category, settings in job.settings.categories.items():
        if settings.model is not None:
            data = onnx_session.read(settings.model.path)
            score = job.settings.score
            classifier.check(data, settings.model, score.threads, score.providers)
            classifiers.append(ImageClassifier(category, settings.model, data))
    return tuple(classifiers)


def distribute_classifiers(job: Job, classifiers: Iterable[ImageClassifier]) -> tuple[ImageModel, ...]:
    """Sends the files of image classifiers to the workers; returns their descriptions with the names there as paths."""
    return tuple(replace(one.model, path=distribute_model(job.lake.spark, one.data)) for one in classifiers)


def category_heads(job: Job, current: Encoder) -> dict[str, Head]:
    """Returns the trained heads of all categories that have one.

    Args:
        job: The running command.
        current: The semantic encoder.

    Raises:
        ModelError: A file is not a valid head, or was trained on another encoder.
    """
    return {category: _head(job, category, current) for category in _trained_categories(job)}


def compatible_heads(job: Job, current: Encoder) -> dict[str, Head]:
    """Returns the heads that were trained on the current semantic encoder; warns of the others."""
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


def head_files(category: str) -> ModelRecipe:
    """Returns the files of the head that `train` makes for a category."""
    return ModelRecipe(HEAD.format(category), _HEAD_RECIPE.format(category), "model", "trained_at")


def head_categories(settings: Settings) -> list[str]:
    """Returns the categories that a head of Winnow scores, not an image model of the user."""
    return [name for name, category in settings.categories.items() if category.model is None]


def _trained_categories(job: Job) -> list[str]:
    return [category for category in head_categories(job.settings) if job.lake.has_file(HEAD.format(category))]


def _head(job: Job, category: str, current: Encoder) -> Head:
    return Head.load(job.lake.read_file(HEAD.format(category)), current.digest, current.dims)


def current_models(job: Job) -> dict[str, str]:
    """Returns the digest of the current classifier of each category.

    Raises:
        WinnowError: A category has neither an image model nor a trained head.
    """
    digests = known_models(job)
    untrained = sorted(set(job.settings.categories) - set(digests))
    if untrained:
        names, name = ", ".join(untrained), untrained[0]
        raise WinnowError(
            f"no classifier for {names}: import labels and run `winnow train {name}`, or set categories.{name}.model"
        )
    return digests


def known_models(job: Job) -> dict[str, str]:
    """Returns the digest of the current classifier of each category that has one."""
    digests = {one.category: one.digest for one in image_classifiers(job)}
    if _trained_categories(job):
        digests |= {category: head.digest for category, head in category_heads(job, semantic_encoder(job)).items()}
    return digests
