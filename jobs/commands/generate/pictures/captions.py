"""Writes captions that read like alt texts, from varied templates and words."""

from jobs.commands.generate.pictures.motifs.clocks import spoken
from jobs.commands.generate.pictures.motifs.props import ACTIVITIES
from jobs.commands.generate.pictures.plan import PERSONS
from jobs.commands.generate.pictures.primitives.randomness import Purpose, Rng, chance, pick, stream
from jobs.commands.generate.pictures.scenes import OUTDOORS, PLACES, Scene

_NUMBERS = ("no", "one", "two", "three", "four", "five")
_TIMES = {"day": ("", "", "", "on a sunny day", "in the morning", "in summer", "in autumn", "in spring"),
          "sunset": ("at sunset", "in the evening", "at dusk", ""),
          "night": ("at night", "by night", "under the stars", "")}  # fmt: skip
_LOOKS = ("", "", "", "young", "old", "smiling", "tall", "happy", "cheerful", "quiet", "elegant", "friendly")
_CHILD_LOOKS = ("", "", "little", "small", "smiling", "happy", "cheerful", "curious", "playful")
_STYLES = {
    "photo": ("photo of {}", "{}, photo", "{} - photography"),
    "watercolor": ("{}, watercolor style", "watercolor painting of {}", "{} in watercolor"),
    "black and white": ("black and white picture of {}", "{}, black and white", "{} in black and white"),
    "vintage": ("vintage picture of {}", "{}, vintage style", "{}, faded old print"),
    "pixel art": ("{}, pixel art", "pixel art of {}", "8-bit {}"),
    "pencil sketch": ("pencil sketch of {}", "{}, pencil drawing", "hand drawn {}"),
    "cartoon": ("{}, cartoon", "cartoon of {}", "{}, comic style"),
    "": ("{}", "{}", "{}", "{}", "illustration of {}", "{}, flat vector illustration", "{} clip art", "drawing of {}"),
}  # fmt: skip
_FIREWORKS = {
    "burst": ("watching fireworks", "with fireworks in the sky", "under bright fireworks", "and colourful fireworks"),
    "sparkler": ("holding a sparkler", "with a burning sparkler", "waving a fireworks sparkler"),
    "fountain": ("beside a fireworks fountain", "next to fountain fireworks", "with ground fireworks"),
    "rocket": ("and a fireworks rocket", "with a fireworks rocket taking off"),
}
_SLIME = {
    "splat": ("covered in {} slime", "hit by {} slime", "splashed with {} slime"),
    "drips": ("with {} slime dripping down", "below dripping {} slime"),
    "puddle": ("standing in {} slime", "with a puddle of {} slime", "in a pool of {} slime"),
    "bucket": ("and a bucket of {} slime", "with {} slime poured from a bucket"),
}
_SLIME_WORDS = ("green", "sticky", "gooey", "bright", "wet")


def caption(seed: int, scene: Scene) -> str:
    """Returns the caption of a drawing.

    Args:
        seed: Seed of the picture set.
        scene: The scene of the drawing.

    Returns:
        One line that names the subject. `woman`, `man`, `girl`, `boy` and `child` appear only for these kinds.
    """
    rng = stream(seed, scene.role.original, Purpose.CAPTION)
    if scene.role.kind in PERSONS:
        words = _person(rng, scene)
    elif scene.role.kind in _WORDS:
        words = _WORDS[scene.role.kind](rng, scene)
    else:
        words = _thing(rng, scene)
    styled = pick(rng, _STYLES[scene.style]).format(words)
    return styled[0].upper() + styled[1:] if chance(rng, 0.4) else styled


def copied_caption(rng: Rng, original: str) -> str:
    """Returns the caption of a copy: usually the same, sometimes slightly changed, always with the subject.

    Examples:
        >>> import numpy as np
        >>> sorted({copied_caption(np.random.default_rng(k), "A cat, photo") for k in range(30)})
        ['A cat', 'A cat, photo', 'A cat, photo - stock image', 'A cat, photo.', 'a cat, photo']
    """
    if chance(rng, 0.6):
        return original
    shorter = original.split(", ")[0]
    return pick(rng, (original.lower(), shorter, f"{original} - stock image", f"{original}."))


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _person(rng: Rng, scene: Scene) -> str:
    noun = "child" if scene.role.kind == "child" and chance(rng, 0.4) else scene.subject
    looks = _CHILD_LOOKS if scene.role.kind == "child" else _LOOKS
    who = _article(_joined(pick(rng, looks), noun))
    if chance(rng, 0.25):
        who = f"{who} in {scene.colour}"
    doing = pick(rng, ACTIVITIES[scene.doing].words)
    where = pick(rng, PLACES[scene.place].words)
    if scene.role.category:
        flagged = _flagged(rng, scene)
        return pick(rng, (f"{who} {doing} {where} {flagged}", f"{who} {flagged} {where}", f"{who} {doing} {flagged}"))
    when = _when(rng, scene)
    return _joined(who, doing, *pick(rng, ((where, when), (where, ""), (when, where))))


def _when(rng: Rng, scene: Scene) -> str:
    if scene.place not in OUTDOORS:
        return ""
    return pick(rng, ("", "in winter", "on a winter day") if scene.place == "snow" else _TIMES[scene.time])


def _flagged(rng: Rng, scene: Scene) -> str:
    if scene.role.category == "fireworks":
        return pick(rng, _FIREWORKS[scene.role.mode])
    return pick(rng, _SLIME[scene.role.mode]).format(pick(rng, _SLIME_WORDS))


def _thing(rng: Rng, scene: Scene) -> str:
    where = pick(rng, PLACES[scene.place].words)
    when = _when(rng, scene) if chance(rng, 0.5) else ""
    look = pick(rng, ("", "", "little", "old", "lovely", "bright", "simple"))
    if scene.things == 1:
        what = _article(_joined(look, scene.colour, scene.subject))
    else:
        what = _joined(_NUMBERS[scene.things], look, scene.colour, _plural(scene.subject))
    return _joined(what, where, when)


def _plural(noun: str) -> str:
    if " of " in noun:
        head, rest = noun.split(" of ", 1)
        return f"{head}s of {rest}"
    if noun in ("sheep", "fish"):
        return noun
    if noun.endswith(("s", "sh", "ch")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"


def _clock(rng: Rng, scene: Scene) -> str:
    time = spoken(*scene.clock)
    name = _article(_joined(pick(rng, ("", "round", "old", "modern")), scene.subject))
    return pick(rng, (f"{name} showing {time}", f"{name} at {time}", f"{scene.subject}, time is {time}"))


def _sign(rng: Rng, scene: Scene) -> str:
    where = pick(rng, PLACES[scene.place].words)
    return pick(
        rng,
        (
            f'a sign that says "{scene.words}" {where}',
            f'{scene.colour} sign "{scene.words}"',
            f"sign reading {scene.words} {where}",
        ),
    )


def _logo(rng: Rng, scene: Scene) -> str:
    return pick(
        rng,
        (
            f"{scene.words} {scene.subject} logo",
            f"logo of the {scene.subject} {scene.words}",
            f"modern {scene.subject} logo design, {scene.words}",
        ),
    )


def _texture(rng: Rng, scene: Scene) -> str:
    return pick(
        rng,
        (
            f"{scene.words} texture",
            f"seamless texture of {scene.words}",
            f"background with {scene.words}",
            f"{scene.words}, abstract pattern",
        ),
    )


def _gradient(rng: Rng, scene: Scene) -> str:
    return pick(
        rng,
        (
            f"{scene.colour} gradient background",
            f"{scene.words} abstract gradient wallpaper",
            f"abstract {scene.words} light background",
        ),
    )


def _landscape(rng: Rng, scene: Scene) -> str:
    where, when = pick(rng, PLACES[scene.place].words), _when(rng, scene)
    if scene.role.category:
        return _joined(pick(rng, ("a view", "a scene", "an empty place")), where, _flagged(rng, scene))
    what = pick(rng, ("a view", "a wide view", "a calm scene", "scenery"))
    return _joined(what, where, when)


_WORDS = {
    "clock": _clock,
    "sign": _sign,
    "logo": _logo,
    "texture": _texture,
    "gradient": _gradient,
    "landscape": _landscape,
}
