"""The words a class name is composed of: patterns, colours and shapes, with their synonyms and families."""

from __future__ import annotations

from dataclasses import dataclass

#: Near-white and near-black: the second tone of a pattern, whichever contrasts with the colour.
LIGHT, DARK = (244, 244, 240), (24, 24, 30)


@dataclass(frozen=True)
class Attribute:
    """One word of a class name.

    Attributes:
        word: the word in class names.
        synonyms: words that can stand in its place; no word stands for two attributes.
        definition: what it means, a phrase.
        plural: plural of a shape, empty for adjectives.
        family: kind of shape, empty for adjectives.
        rgb: a colour's mean value, 0 … 255, None for patterns and shapes.
        second: the tone that a pattern adds to this colour, None for patterns and shapes.
    """

    word: str
    synonyms: tuple[str, ...]
    definition: str
    plural: str = ""
    family: str = ""
    rgb: tuple[int, int, int] | None = None
    second: tuple[int, int, int] | None = None


PATTERNS = (
    Attribute("solid", ("plain", "uniform"), "of one colour"),
    Attribute("striped", ("stripy", "streaked"), "with parallel bars"),
    Attribute("dotted", ("spotted", "polka-dot"), "with round dots"),
    Attribute("checkered", ("chequered", "checked"), "with a chessboard of squares"),
    Attribute("outlined", ("bordered", "edged"), "with a contrasting border"),
)
EXTRA_PATTERNS = (
    Attribute("gridded", ("latticed", "crosshatched"), "with crossing thin lines"),
    Attribute("halved", ("bisected", "half-and-half"), "with two halves of different tone"),
    Attribute("zigzag", ("chevroned", "jagged"), "with zigzag bars"),
)

COLOURS = (
    Attribute("red", ("scarlet", "crimson"), "red", rgb=(208, 28, 34), second=LIGHT),
    Attribute("orange", ("tangerine", "amber"), "orange", rgb=(248, 132, 12), second=DARK),
    Attribute("yellow", ("lemon", "golden"), "yellow", rgb=(246, 222, 30), second=DARK),
    Attribute("green", ("emerald", "verdant"), "green", rgb=(26, 146, 46), second=LIGHT),
    Attribute("cyan", ("turquoise", "aqua"), "cyan", rgb=(52, 214, 222), second=DARK),
    Attribute("blue", ("azure", "cobalt"), "blue", rgb=(30, 66, 214), second=LIGHT),
    Attribute("purple", ("violet", "lilac"), "purple", rgb=(126, 34, 168), second=LIGHT),
    Attribute("pink", ("rose", "rosy"), "pink", rgb=(252, 142, 192), second=DARK),
    Attribute("brown", ("chestnut", "umber"), "brown", rgb=(112, 64, 26), second=LIGHT),
    Attribute("white", ("ivory", "snowy"), "white", rgb=(240, 240, 236), second=DARK),
)
EXTRA_COLOURS = (
    Attribute("teal", ("petrol", "sea-green"), "teal", rgb=(0, 104, 108), second=LIGHT),
    Attribute("lime", ("chartreuse", "yellow-green"), "lime", rgb=(160, 232, 40), second=DARK),
)

SHAPES = (
    Attribute("circle", ("disc", "disk"), "a round disc", "circles", "round figure"),
    Attribute("ring", ("donut", "annulus"), "a disc with a round hole", "rings", "round figure"),
    Attribute("crescent", ("sickle", "new moon"), "a disc with a round bite", "crescents", "round figure"),
    Attribute("heart", ("valentine", "love symbol"), "two lobes above one tip", "hearts", "curved figure"),
    Attribute("flower", ("blossom", "rosette"), "round petals about a centre", "flowers", "curved figure"),
    Attribute("drop", ("teardrop", "droplet"), "round below, one tip above", "drops", "curved figure"),
    Attribute("square", ("box", "quadrangle"), "four equal sides and right angles", "squares", "polygon"),
    Attribute("triangle", ("wedge", "trigon"), "three sides", "triangles", "polygon"),
    Attribute("hexagon", ("honeycomb cell", "six-sided polygon"), "six equal sides", "hexagons", "polygon"),
    Attribute("star", ("pentagram", "starlet"), "five points about a centre", "stars", "pointed figure"),
    Attribute("arrow", ("pointer", "arrow sign"), "a shaft with a head that points up", "arrows", "pointed figure"),
    Attribute("cross", ("plus sign", "plus"), "two crossing bars of equal length", "crosses", "pointed figure"),
)
EXTRA_SHAPES = (
    Attribute("semicircle", ("half disc", "half circle"), "half a disc, flat below", "semicircles", "round figure"),
    Attribute("leaf", ("lens", "almond"), "two arcs that meet in two tips", "leaves", "curved figure"),
    Attribute("trapezoid", ("trapezium", "flowerpot"), "four sides, the lower one longer", "trapezoids", "polygon"),
    Attribute("bolt", ("lightning", "flash"), "a zigzag stroke with two tips", "bolts", "pointed figure"),
)
