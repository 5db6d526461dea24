"""Words for what happens: a small closed language, its vocabulary, and captions with time stamps."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from attime.errors import AttimeError
from attime.streams.world.scene import COLOURS, SHAPES, WAYS, Event, Shot

__all__ = ["VERBS", "WORDS", "Caption", "captions", "clause", "decode", "encode", "pace", "span"]

VERBS = {
    "move": "moves",
    "turn": "turns",
    "hop": "hops",
    "appear": "appears",
    "vanish": "vanishes",
    "recolour": "becomes",
    "grow": "grows",
    "shrink": "shrinks",
    "flash": "flashes",
    "pan": "pans",
}
FAST = 0.2  # stage widths per second from which on people say fast

PLAIN = """
    the a camera scene changes bounces bounce slowly fast clockwise anticlockwise from to yes no top bottom
    what which when where who how many times way colour is does do are there thing things first last next after
    before at end start happens or and of in it second seconds not yet sound sounds hear then
    . , ? :
"""
MORE = "become unable answer frame frames caption video still between both none shows"


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One sentence about one event."""

    start_s: float
    stop_s: float
    text: str


def pace(event: Event) -> str:
    """slowly or fast."""
    return "fast" if event.speed >= FAST else "slowly"


def clause(shot: Shot, event: Event) -> str:
    """Who does what: `the red square moves left slowly`."""
    words = ["the", shot.name(event.who), VERBS[event.kind], event.way]
    if event.kind in ("move", "pan"):
        words.append(pace(event))
    return " ".join(word for word in words if word)


def span(start_s: float, stop_s: float) -> str:
    """`from 1.25 to 3`, in seconds."""
    return f"from {round(start_s, 2):g} to {round(stop_s, 2):g}"


def captions(shot: Shot) -> list[Caption]:
    """What happens in the shot, in order; a bounce is told where it happens, and a shot after the first begins with a cut."""
    told = [Caption(start_s=shot.start_s, stop_s=shot.start_s, text="the scene changes")] if shot.start_s > 0 else []
    for event in shot.happenings:
        stop = min(event.stop_s, shot.stop_s)
        told.append(Caption(start_s=event.start_s, stop_s=stop, text=clause(shot, event)))
        if event.kind == "move":
            for when in shot.bounces(event):
                if when < shot.stop_s:
                    told.append(Caption(start_s=when, stop_s=when, text=f"the {shot.name(event.who)} bounces"))
    return sorted(told, key=lambda caption: caption.start_s)


def encode(text: str) -> list[int]:
    """Word numbers of a text of the world's language."""
    try:
        return [NUMBER[word] for word in re.findall(r"[a-z]+|\d{1,2}|[^\sa-z\d]", text.lower())]
    except KeyError as error:
        raise AttimeError(f"the world's language has no word {error}; it has: {' '.join(WORDS)}.") from None


def decode(numbers: Sequence[int]) -> str:
    """The text of word numbers; times are written as numbers again: `from 1.25 to 3`."""
    text = " ".join(WORDS[number] for number in numbers)
    return re.sub(r"(\d+) \. (\d+)", r"\1.\2", text)


WORDS: tuple[str, ...] = (
    "<pad>",
    "<start>",
    "<end>",
    *COLOURS,
    *SHAPES,
    *WAYS,
    *VERBS,
    *VERBS.values(),
    *PLAIN.split(),
    *(str(number) for number in range(100)),
    *MORE.split(),
)
"""The whole vocabulary; the first three are for padding, start and end."""
NUMBER = {word: number for number, word in enumerate(WORDS)}
