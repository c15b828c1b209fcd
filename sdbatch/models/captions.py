"""Scenes become captions, in many phrasings.

A *full* caption says everything that is not plain, medium or in the middle; others leave things
out, as people do, so that the model learns to choose for itself. Every random choice comes from
the caller's generator.
"""

from __future__ import annotations

from random import Random

from sdbatch.models.world import AT, COLOUR_NAMES, LAYOUTS, PATTERNS, PLACES, SHAPES, SIZES

SYNONYMS = {
    "circle": ("circle", "circle", "circle", "disc", "ball"),
    "ring": ("ring", "ring", "donut"),
    "cross": ("cross", "cross", "plus"),
    "crescent": ("crescent", "crescent", "moon"),
    "diamond": ("diamond", "diamond", "rhombus"),
    "gray": ("gray", "grey"),
    "purple": ("purple", "purple", "violet"),
    "small": ("small", "small", "tiny", "little"),
    "large": ("large", "large", "big", "huge"),
    "striped": ("striped", "striped", "stripy"),
    "dotted": ("dotted", "dotted", "spotted"),
    "plain": ("plain", "solid"),
}
BESIDE = ("and", "and", "and", "next to", "left of", "to the left of", "beside")
BESIDE_REVERSED = ("to the right of", "right of")
ABOVE = ("above", "above", "over", "on top of")
ABOVE_REVERSED = ("below", "under")
OPENINGS = ("a picture of", "an image of", "a drawing of", "an icon of", "a photo of")
UNNAMED = "shape"
"""What an object is called whose shape is left open."""

OTHER_WORDS = (
    "masterpiece", "best", "quality", "highly", "detailed", "4k", "8k", "beautiful", "cute",
    "simple", "flat", "vector", "minimal", "sharp", "clean", "sticker", "logo", "icon", "art",
    "style", "cat", "dog", "house", "tree", "person", "woman", "man", "car", "city", "forest",
    "sea", "sky", "sun", "portrait", "landscape", "oil", "painting", "watercolor", "digital",
    "studio", "light", "very", "really", "nice", "pretty", "shiny", "glowing", "old", "new",
    "modern", "retro", "three", "four", "many",
)  # fmt: skip
"""Words of other worlds, so that a prompt with them still draws what it says of this one."""

_OTHER_SCRIPTS = (0x61, 0x7A), (0x3B1, 0x3C9), (0x4E00, 0x4EFF)


def full_caption(scene: list[int], random: Random) -> str:
    """A caption that says everything of a scene (one row of a table, as numbers)."""
    return _caption(scene, random, full=True)


def loose_caption(scene: list[int], random: Random) -> str:
    """A caption that may leave things out and may hold words that mean nothing here."""
    text = _caption(scene, random, full=False)
    chance = random.random()
    if chance < 0.08:
        return f"{text}, {', '.join(random.sample(OTHER_WORDS, random.randint(1, 3)))}"
    if chance < 0.12:
        return f"{random.choice(OTHER_WORDS)} {text}"
    if chance < 0.15:
        letters = (chr(random.randint(*random.choice(_OTHER_SCRIPTS))) for _ in range(4))
        return f"{text} {''.join(letters)}"
    return text


def fragment(scene: list[int], random: Random) -> str:
    """One or two words that are true of a scene."""
    shape = _word(SHAPES[scene[AT["shape_1"]]], random)
    colour = _word(COLOUR_NAMES[scene[AT["colour_1"]]], random)
    background = _word(COLOUR_NAMES[scene[AT["background"]]], random)
    pattern = PATTERNS[scene[AT["pattern_1"]]]
    return random.choice(
        [
            shape,
            colour,
            f"{colour} {shape}",
            f"{background} background",
            shape if pattern == "plain" else _word(pattern, random),
            f"a {shape}",
        ]
    )


def _word(word: str, random: Random) -> str:
    return random.choice(SYNONYMS.get(word, (word,)))


def _caption(scene: list[int], random: Random, *, full: bool) -> str:
    single = LAYOUTS[scene[AT["layout"]]] == "single"
    objects = _objects(scene, random, full=full)
    place = ""
    if single and (full or random.random() < (0.3 if scene[AT["place"]] == 0 else 0.8)):
        place = _place(PLACES[scene[AT["place"]]], random)
    background = _word(COLOUR_NAMES[scene[AT["background"]]], random)
    if not full and random.random() >= 0.8:
        background = ""
    style = random.random()
    if style < 0.62:
        text = _sentence(objects, place, background, random)
    elif style < 0.82:
        text = _list(objects, place, background, random)
    else:
        text = f"{objects} {place}".rstrip()
        if background:
            text = random.choice(
                [
                    f"{background} background, {text}",
                    f"on a {background} background, {text}",
                    f"{background} background with {text}",
                ]
            )
    return f"{text}." if random.random() < 0.05 else text


def _objects(scene: list[int], random: Random, *, full: bool) -> str:
    """The objects and how they lie to each other."""
    article = random.choice(("a ", "a ", "a ", ""))
    first = article + _object(scene, 1, random, full=full)
    layout = LAYOUTS[scene[AT["layout"]]]
    if layout == "single":
        return first
    second = article + _object(scene, 2, random, full=full)
    if layout == "horizontal":
        if random.random() < 0.15:
            return f"{second} {random.choice(BESIDE_REVERSED)} {first}"
        return f"{first} {random.choice(BESIDE)} {second}"
    if random.random() < 0.3:
        return f"{second} {random.choice(ABOVE_REVERSED)} {first}"
    return f"{first} {random.choice(ABOVE)} {second}"


def _object(scene: list[int], number: int, random: Random, *, full: bool) -> str:
    words = []
    size = SIZES[scene[AT[f"size_{number}"]]]
    pattern = PATTERNS[scene[AT[f"pattern_{number}"]]]
    if (full or random.random() < 0.75) and not (size == "medium" and random.random() < 0.6):
        words.append(_word(size, random))
    looks = []
    if random.random() < 0.1 if pattern == "plain" else full or random.random() < 0.9:
        looks.append(_word(pattern, random))
    if full or random.random() < 0.93:
        looks.append(_word(COLOUR_NAMES[scene[AT[f"colour_{number}"]]], random))
    if random.random() < 0.3:
        looks.reverse()
    shape = SHAPES[scene[AT[f"shape_{number}"]]]
    named = full or random.random() < 0.96
    return " ".join([*words, *looks, _word(shape, random) if named else UNNAMED])


def _place(name: str, random: Random) -> str:
    if name == "center":
        return random.choice(("in the center", "in the middle", "at the center", "centered"))
    if name in ("top", "bottom"):
        return random.choice((f"at the {name}", f"at the {name}", name))
    if name in ("left", "right"):
        return random.choice((f"on the {name}", f"at the {name}", name, f"on the {name} side"))
    height, side = name.split()
    height = random.choice((height, height, {"top": "upper", "bottom": "lower"}[height]))
    corner = f"{height} {side}"
    return random.choice(
        (f"at the {corner}", f"in the {corner}", f"in the {corner} corner", corner)
    )


def _sentence(objects: str, place: str, background: str, random: Random) -> str:
    text = objects
    if place:
        text += (" " if random.random() < 0.85 else ", ") + place
    if background:
        text += random.choice(
            (
                f" on a {background} background",
                f" on a {background} background",
                f" on {background}",
                f", {background} background",
                f" with a {background} background",
                f" on a {background} backdrop",
            )
        )
    return f"{random.choice(OPENINGS)} {text}" if random.random() < 0.2 else text


def _list(objects: str, place: str, background: str, random: Random) -> str:
    rest = [place] if place else []
    if background:
        rest.append(f"{background} background")
    if random.random() < 0.4:
        random.shuffle(rest)
    return ", ".join([objects, *rest])
