"""Typed settings: conf/winnow.toml has the defaults, this module the types and limits."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from jobs.runtime import keyword_lists, settings_files, settings_reference
from jobs.runtime.addresses import secret_in
from jobs.runtime.wording import did_you_mean
from models.errors import SettingsError, WinnowError
from models.inference.classifier import ImageModel
from models.inference.onnx_image_spec import ImageInput

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]

_SPARK_CONF = "spark.conf."
PAIRS = "duplicates"
"""What `label next` and `label serve` call pairs of near-duplicates, so that no category may have this name."""

_CATEGORY = r"^[a-z][a-z0-9_]*$"
_FIELD = r"^[\w-]+$"
_NAMED, _DESCRIBED = "named", "described"
_SHOWN_CHARACTERS = 200

_NamedOrDescribed = Annotated[
    Annotated[str, Tag(_NAMED)] | Annotated[ImageInput, Tag(_DESCRIBED)],
    Discriminator(lambda value: _NAMED if isinstance(value, str) else _DESCRIBED),
]


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _or_one(schema: dict[str, Any]) -> None:
    """Makes the JSON schema of a list say that one item is allowed too."""
    listed = {key: schema.pop(key) for key in ("type", "items", "minItems")}
    schema["anyOf"] = [{"type": listed["items"]["type"]}, listed]


_Item = TypeVar("_Item")
_Candidates = Annotated[list[_Item], Field(min_length=1, json_schema_extra=_or_one), BeforeValidator(_listed)]


def _each_once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("each name may appear once")
    return names


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SparkSettings(_Section):
    """Settings of the Spark session."""

    master: Annotated[str, Field(min_length=1)] | None = None
    driver_memory: Annotated[str, Field(pattern=r"^[1-9]\d*[mg]$")]
    shuffle_partitions: Positive | None = None
    conf: dict[str, str] = {}


class IngestSettings(_Section):
    """Settings for reading sources."""

    image_columns: list[str]
    caption_columns: list[str]
    key_columns: list[str]
    max_megapixels: Annotated[float, Field(gt=0, le=1000)]
    file_mb: Positive
    chunk_gb: Positive


class EncoderSettings(_Section):
    """The perceptual encoder, by name or by description, and how to fit one."""

    model: _NamedOrDescribed
    fit: bool
    images: Positive
    minutes: Annotated[float, Field(gt=0)]
    steps: Positive | None = None
    batch: Annotated[int, Field(ge=8)]

    @model_validator(mode="after")
    def _fitted_encoder_is_used(self) -> Self:
        if self.fit and self.model != "auto":
            raise ValueError('fit = true needs model = "auto": another model would not use the fitted encoder')
        return self


class SemanticSettings(_Section):
    """The semantic encoder, by name or by description."""

    model: _NamedOrDescribed


class ScoreSettings(_Section):
    """Settings for scoring images."""

    batch: Positive
    threads: Positive
    providers: Annotated[list[str], Field(min_length=1)]


class CategorySettings(_Section):
    """One category of images to filter out."""

    definition: str
    include: list[str] = []
    exclude: list[str] = []
    recall: Fraction = 0.95
    confidence: Fraction = 0.95
    dropped_negatives: Annotated[float, Field(ge=0, lt=1)] = 0.002
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    model: ImageModel | None = None


class LabelPageSettings(_Section):
    """Settings of the label page."""

    flush_seconds: Annotated[float, Field(gt=0)]
    flush_labels: Positive
    lease_minutes: Annotated[float, Field(gt=0)]
    ahead: Annotated[int, Field(ge=10, le=2000)]
    picture: Annotated[int, Field(ge=128, le=8192)]


class LabelsSettings(_Section):
    """Settings for reading labels."""

    contradictions: Literal["newest", "majority"]


class LabelNextSettings(_Section):
    """Settings for picking images to label."""

    sample: Positive
    folds: Annotated[int, Field(ge=2)]
    repeats: Positive
    queries: Positive


class TrainSettings(_Section):
    """Settings for training a head."""

    hidden: _Candidates[Annotated[int, Field(ge=0)]]
    weight_decay: _Candidates[Annotated[float, Field(ge=0)]]
    epochs: Positive


class FilterSettings(_Section):
    """Rules that remove images, limits on what classifiers may remove, and what is no longer wanted."""

    max_dropped_ratio: Annotated[float, Field(gt=0)] = 3.0
    max_dropped: Annotated[float, Field(gt=0, le=1)] = 0.5
    rules: dict[Annotated[str, Field(pattern=_CATEGORY)], str] = {}
    words: dict[Annotated[str, Field(pattern=_CATEGORY)], Annotated[list[str], Field(min_length=1)]] = {}
    keep_top: dict[Annotated[str, Field(pattern=_FIELD)], Fraction] = {}
    forget: list[str] = []

    @property
    def kinds(self) -> dict[str, dict[str, Any]]:
        """Returns the rules of each kind by name."""
        return {"rules": dict(self.rules), "words": dict(self.words), "keep_top": dict(self.keep_top)}

    @property
    def names(self) -> list[str]:
        """Returns the names of all rules, sorted; the reasons of verdicts begin with them."""
        return sorted(name for rules in self.kinds.values() for name in rules)


RankCriterion = Literal[
    "detail", "overlay", "border", "sharpness", "colour", "jpeg", "noise", "resolution", "saved", "caption"
]


class DedupSettings(_Section):
    """What counts as a duplicate, and how to find candidate pairs."""

    hash: Literal["embedding", "pdq"]
    max_distance: Annotated[int, Field(ge=0, le=128)] | None = None
    strangers: Annotated[float, Field(gt=0)]
    looks: Annotated[float, Field(ge=0)]
    strict: bool
    mirrored: bool
    semantic: Annotated[float, Field(gt=0, lt=1)] | None = None
    method: Literal["lsh", "clusters", "both"]
    recall: Fraction
    clusterings: Positive
    nearest: Positive
    keep: Literal["independent", "component"]
    keep_kept: bool
    min_quality: Annotated[int, Field(ge=0, le=100)] | None = None
    max_bucket: Annotated[int, Field(ge=2)]
    rank: Annotated[list[RankCriterion], AfterValidator(_each_once)]
    sample: Annotated[int, Field(ge=0)]
    against: list[str] = []
    in_memory: Annotated[int, Field(ge=0, le=1_000_000)]


class WeighSettings(_Section):
    """Settings for estimating importance weights."""

    max_weight: Annotated[float, Field(gt=1)]
    features: list[Literal["caption", "embedding"]]
    regularisation: Annotated[float, Field(gt=0)]
    folds: Annotated[int, Field(ge=2)]
    sample: Positive
    words: Positive
    min_support: Fraction
    reach_sample: Annotated[int, Field(ge=0, le=20_000)]


class AuditSettings(_Section):
    """Which words the audit counts."""

    lists: list[str]
    keywords: list[str]
    movers: Annotated[int, Field(ge=0, le=1000)]
    least_captions: Annotated[int, Field(ge=10)]
    words: Positive
    resamples: Annotated[int, Field(ge=20)]
    confidence: Fraction
    tolerance: Annotated[float, Field(ge=0, lt=1)]

    @field_validator("lists")
    @classmethod
    def _lists_exist(cls, lists: list[str]) -> list[str]:
        for name in lists:
            keyword_lists.read(name)
        return lists


class RegurgitationSettings(_Section):
    """Settings for comparing generated images with the lake."""

    neighbours: Annotated[int, Field(ge=1, le=100)]
    max_distance: Annotated[int, Field(ge=0, le=128)] | None = None
    min_likeness: Annotated[float, Field(ge=0, le=1)]
    confidence: Fraction
    pairs: Annotated[int, Field(ge=1, le=400)]


class ReportSettings(_Section):
    """Sizes in the report."""

    groups: Positive
    thumbnail: Annotated[int, Field(ge=32, le=512)]


class CardSettings(_Section):
    """Facts about an exported set that only its owner knows; None is written as unknown."""

    name: str | None = None
    description: str | None = None
    license: str | None = None
    creator: str | None = None
    url: str | None = None


class ExportSettings(_Section):
    """Settings for writing the curated set."""

    shard_samples: Positive
    card: CardSettings


class Settings(_Section):
    """All settings of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]  # Spark and torch accept no larger seed.
    spark: SparkSettings
    ingest: IngestSettings
    encoder: EncoderSettings
    semantic: SemanticSettings
    score: ScoreSettings
    label_page: LabelPageSettings
    categories: dict[Annotated[str, Field(pattern=_CATEGORY)], CategorySettings] = {}
    labels: LabelsSettings
    label_next: LabelNextSettings
    train: TrainSettings
    filter: FilterSettings
    dedup: DedupSettings
    weigh: WeighSettings
    audit: AuditSettings
    regurgitation: RegurgitationSettings
    report: ReportSettings
    export: ExportSettings

    def category(self, name: str | None) -> CategorySettings:
        """Returns the settings of a category.

        Args:
            name: Name of the category; None if the user gave none.

        Raises:
            WinnowError: The settings have no such category; the message names the existing ones.
        """
        if name in self.categories:
            return self.categories[name]
        if name == PAIRS:
            raise WinnowError(
                f"{PAIRS} is no category: it names pairs of near-duplicates, only for `label next` and `label serve`"
            )
        have = f"they have {', '.join(self.categories)}" if self.categories else "they have none"
        if name in ready_made_categories():
            raise WinnowError(
                f"no category {name!r} in the settings, {have}: add --category {name}, which is ready-made"
            )
        if meant := did_you_mean(name or "", [*self.categories, *ready_made_categories()]):
            raise WinnowError(f"no category {name!r} in the settings, {have}{meant}")
        raise WinnowError(
            f"no category '{name or ''}' in the settings, {have}: give its file or folder with --conf FILE, or add "
            f"[categories.{name or 'NAME'}] to your settings file"
        )

    @model_validator(mode="after")
    def _rules_and_categories_differ_in_name(self) -> Self:
        kinds: dict[str, Mapping[str, Any]] = {
            "a category": self.categories,
            "a rule": self.filter.rules,
            "a list of words": self.filter.words,
            "a field of keep_top": self.filter.keep_top,
        }
        uses = {
            name: [kind for kind, names in kinds.items() if name in names] for names in kinds.values() for name in names
        }
        shared = [f"{name} is {' and '.join(used)}" for name, used in sorted(uses.items()) if len(used) > 1]
        if shared:
            raise ValueError(f"{', '.join(shared)}: give them different names")
        for name, whose in (("decision", "that people drop"), ("superseded", "that no source holds any more")):
            if name in uses:
                raise ValueError(f"{name} is the reason of images {whose}: name the category or rule otherwise")
        if PAIRS in self.categories:
            raise ValueError(
                f"{PAIRS} cannot be a category: `winnow label next {PAIRS}` labels pairs of near-duplicates; name the "
                "category otherwise"
            )
        return self


def ready_made_categories() -> list[str]:
    """Returns the names of the categories that ship with Winnow, in alphabetical order.

    Examples:
        >>> ready_made_categories()
        ['nsfw']
    """
    return _ready_made_names("categories")


def ready_made_rules() -> list[str]:
    """Returns the names of the rules that ship with Winnow, in alphabetical order.

    Examples:
        >>> ready_made_rules()
        ['aesthetic', 'punsafe', 'pwatermark', 'similarity']
    """
    return _ready_made_names("rules")


def setting_names() -> list[str]:
    """Returns the dotted names of all settings and sections; NAME stands for the name of a category.

    Examples:
        >>> {"dedup", "dedup.recall", "categories.NAME.recall", "encoder.model.size"} <= set(setting_names())
        True
    """
    return settings_reference.names(Settings.model_json_schema())


DEFAULT = "default"
"""The origin of settings that nothing changes."""


class Layer(NamedTuple):
    """Settings from one place.

    Attributes:
        origin: Where they were set: `default`, the name of a file, or the option.
        tree: The settings as a tree of sections.
    """

    origin: str
    tree: dict[str, Any]


def load(
    files: Iterable[str | Path] = (),
    overrides: Iterable[str] = (),
    rules: Iterable[str] = (),
    categories: Iterable[str] = (),
    trust_conf: bool = False,
) -> Settings:
    """Loads the default settings, then ready-made rules and categories, then files in order, then single settings.

    Args:
        files: TOML files; later ones win, tables are merged key by key. A file with a `definition` at its top is one
            category, named like the file. A folder means all category files in it, except names that begin with `_`.
        overrides: `section.key=value`; the value is parsed as TOML, else used as text.
        rules: Names of ready-made rules in conf/rules.
        categories: Names of ready-made categories in conf/categories.
        trust_conf: Whether files may set every Spark setting, also those that load code. Overrides always may.

    Raises:
        SettingsError: A file cannot be read or would make Spark load code, there is no such ready-made rule or
            category, or a setting is wrong; the message names all wrong settings.

    Examples:
        >>> load(overrides=["dedup.hash=pdq"]).dedup.hash
        'pdq'
        >>> load(overrides=["spark.conf.spark.executor.cores=4"]).spark.conf
        {'spark.executor.cores': '4'}
    """
    return validated(layers(files, overrides, rules, categories, trust_conf))


def layers(
    files: Iterable[str | Path] = (),
    overrides: Iterable[str] = (),
    rules: Iterable[str] = (),
    categories: Iterable[str] = (),
    trust_conf: bool = False,
) -> list[Layer]:
    """Returns the settings of each place, in the order in which `validated` puts them above each other.

    Args:
        files: As for `load`, like the other arguments.
        overrides: Single settings.
        rules: Names of ready-made rules.
        categories: Names of ready-made categories.
        trust_conf: Whether files may set every Spark setting.

    Raises:
        SettingsError: A file cannot be read or would make Spark load code, or there is no such ready-made rule or
            category. Only `validated` checks the settings themselves.
    """
    defaults = tomllib.loads(resources.files("conf").joinpath("winnow.toml").read_text("utf-8"))
    ready_made = [Layer(f"--rule {name}", _ready_made("rules", name, "rule")) for name in rules]
    for name in categories:
        category = _ready_made("categories", name, "category")
        ready_made.append(Layer(f"--category {name}", {"categories": {name: category}}))
    overlays = [overlay for file in files for overlay in _overlays(Path(file))]
    typed = [_override(text) for text in overrides]
    if not trust_conf:
        _require_no_code(overlays, typed)
    return [
        Layer(DEFAULT, defaults),
        *ready_made,
        *(Layer(str(file), content) for file, content in overlays),
        *(Layer("--set", tree) for tree in typed),
    ]


def validated(layers: Iterable[Layer]) -> Settings:
    """Returns the settings of several places; later ones win, tables are merged key by key.

    Args:
        layers: As the function `layers` returns them.

    Raises:
        SettingsError: A setting is wrong; the message names all wrong settings.
    """
    tree: dict[str, Any] = {}
    for layer in layers:
        tree = _merged(tree, layer.tree)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_faults(error)) from error


def overrides_of(section: str, changes: Mapping[str, object]) -> list[str]:
    """Returns changed settings of one section in the form that `load` takes.

    Args:
        section: Name of the section, such as `weigh`.
        changes: Values by name of the setting: numbers, text, booleans, and lists of these.

    Examples:
        >>> overrides_of("audit", {"movers": 5, "keywords": ["old man"]})
        ['audit.movers=5', 'audit.keywords=["old man"]']
    """
    return [f"{section}.{name}={json.dumps(value, ensure_ascii=False)}" for name, value in changes.items()]


def fingerprint(section: BaseModel) -> dict[str, Any]:
    """Returns a section as JSON values, for the recipe of a table that depends on it."""
    return dict(json.loads(section.model_dump_json()))


def _ready_made_names(folder: str) -> list[str]:
    """Returns the names of the files in a folder of the package `conf`, which may be in a zip."""
    names = (file.name for file in resources.files("conf").joinpath(folder).iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml") and not name.startswith("_"))


def _ready_made(folder: str, name: str, kind: str) -> dict[str, Any]:
    names = _ready_made_names(folder)
    if name not in names:
        own = f": give the file of your own {kind} with --conf FILE"
        raise SettingsError(
            f"there is no ready-made {kind} {name!r}, only {', '.join(names)}{did_you_mean(name, names) or own}"
        )
    return tomllib.loads(resources.files("conf").joinpath(folder, f"{name}.toml").read_text("utf-8"))


def _overlays(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Returns the content of a settings file, a category file or each category file of a folder."""
    if not path.is_dir():
        tree = _read(path)
        return _categories([path]) if "definition" in tree else [(path, tree)]
    files = sorted(file for file in path.glob("*.toml") if not file.name.startswith("_"))
    if not files:
        raise SettingsError(f"folder {path} holds no category: copy conf/categories/_example.toml to {path}/NAME.toml")
    return _categories(files)


def _categories(files: Iterable[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """Returns the content of category files; checks each file alone, so that an error names its file."""
    found, faults = [], []
    for file in files:
        name, tree = file.stem, _read(file)
        if not re.fullmatch(_CATEGORY, name):
            faults.append(f"category file {file}: rename it: use lower-case letters, digits and _, a letter first")
        try:
            CategorySettings.model_validate(tree)
        except ValidationError as error:
            faults.append(f"category file {file}: {_faults(error, 'categories.NAME.')}")
        found.append((file, {"categories": {name: tree}}))
    if faults:
        raise SettingsError("; ".join(faults))
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        return settings_files.read_toml(file)
    except OSError as error:
        raise SettingsError(f"settings file {file}: it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"settings file {file}: {error}") from error


def _require_no_code(overlays: Iterable[tuple[Path, dict[str, Any]]], typed: Iterable[dict[str, Any]]) -> None:
    """Checks that no file names code for Spark to load, except in settings that an override replaces."""
    replaced = {name for tree in typed for name in settings_files.session_settings(tree)}
    faults = []
    for file, tree in overlays:
        given = settings_files.session_settings(tree).items()
        names = sorted(name for name, value in given if settings_files.loads_code(name, value) and name not in replaced)
        if names:
            one = len(names) == 1
            faults.append(
                f"settings file {file}: {', '.join(names)} {'is' if one else 'are'} not on the list of settings that "
                f"load no code, so a file may not set {'it' if one else 'them'}: give {'it' if one else 'each one'} as "
                f"`--set {names[0] if one else 'NAME'}=VALUE`, or add --trust-conf if you trust the file"
            )
    if faults:
        raise SettingsError("; ".join(faults))


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        shown = "…" if secret_in(text) else repr(_short(text))
        raise SettingsError(f"--set {shown} does not have the form section.key=value, such as dedup.max_distance=31")
    try:
        tree = _tree_of(key.strip(), value)
    except ValueError as error:
        raise SettingsError(f"--set {_short(key.strip())}: {error}") from error
    try:
        settings_files.require_usable(tree)
    except ValueError as error:
        raise SettingsError(f"--set {error}") from error
    return tree


def _tree_of(key: str, value: str) -> dict[str, Any]:
    if key.startswith(_SPARK_CONF):
        # Names of Spark settings contain dots, and all their values are text.
        return {"spark": {"conf": {key.removeprefix(_SPARK_CONF): value.strip()}}}
    try:
        tree: Any = settings_files.parsed(f"value = {value}")["value"]
    except settings_files.NotTomlError:
        tree = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return dict(tree)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _faults(error: ValidationError, above: str = "") -> str:
    """Returns all faults as one line.

    Args:
        error: What pydantic found.
        above: The name of the section that was checked, with a dot at its end; empty for all settings.
    """
    faults = []
    for fault in error.errors():
        # The tag of a union (name or description) is not part of the key.
        key = ".".join(str(part) for part in fault["loc"] if part not in (_NAMED, _DESCRIBED))
        if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            faults.append(_unknown(key, fault["input"], above))
        elif fault["type"] == "missing":
            faults.append(f"{key}: missing")
        elif not key:
            faults.append(fault["msg"].removeprefix("Value error, "))
        else:
            given = "" if isinstance(fault["input"], Mapping) else f" = {_short(repr(fault['input']))}"
            faults.append(f"{key}{given}: {fault['msg'][0].lower()}{fault['msg'][1:]}")
    return f"{len(faults)} wrong setting{'s' if len(faults) > 1 else ''}: " + "; ".join(faults)


def _unknown(key: str, value: object, above: str) -> str:
    """Says that there is no such setting, and which one may be meant; a section with one setting is named by that."""
    while isinstance(value, Mapping) and len(value) == 1:
        [(name, value)] = value.items()
        key = f"{key}.{name}"
    category = re.match(r"categories\.([^.]+)\.", key)
    known = (name.removeprefix(above) for name in setting_names() if name.startswith(above))
    meant = did_you_mean(key, [name.replace("NAME", category[1]) if category else name for name in known])
    return f"{key}: there is no such setting{meant}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
