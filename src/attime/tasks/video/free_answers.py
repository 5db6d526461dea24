"""From what a model says in its own words to one of the options, by rules alone; what fits none of them is wrong.

The rules, in this order: it is an option; it names the letter (or, as `Option 2`, the number) of an option; it begins
with an option and a stop or comma; it mentions exactly one option, a longer one before a shorter one that it contains; its last line does.
"""

import re
from collections.abc import Callable, Sequence

from attime.tasks.quiz import Item, Observer

__all__ = ["choose", "lettered", "spoken"]

LABEL = re.compile(
    r"(?:(?:the )?(?:best |correct |right )?(?:answer|option|choice|caption|sentence|information)(?: is)?\s*:?\s*)*"
    r"(?:\((?P<enclosed>[a-z])\)?|(?P<letter>[a-z])(?=[).:,]|$))(?P<rest>.*)",
    re.DOTALL,
)
NUMBERED = re.compile(r"(?:the )?(?:best )?(?:option|caption|sentence) (?P<number>\d)\b")


def choose(text: str | None, options: Sequence[str]) -> str | None:
    """The option that the text stands for, or None."""
    said = _plain(text or "")
    plain = {_plain(option): option for option in options}
    if said in plain:
        return plain[said]
    place = _labelled(said, len(options))
    if place is not None:
        return options[place]
    for option in sorted(plain, key=len, reverse=True):
        if re.match(rf"{re.escape(option)}(?=[.,:;!]|$)", said):
            return plain[option]
    mentioned = []
    for option in sorted(plain, key=len, reverse=True):
        said, times = re.subn(rf"(?<!\w){re.escape(option)}(?!\w)", " | ", said)
        mentioned += [plain[option]] * bool(times)
    if len(mentioned) == 1:
        return mentioned[0]
    *before, last = (text or "").strip().split("\n")
    return choose(last, options) if before else None


def lettered(item: Item) -> str:
    """The question with its options behind letters, as one asks a language model."""
    options = [f"({chr(65 + number)}) {option}" for number, option in enumerate(item.options)]
    return "\n".join([item.question, *options, "Answer with the letter of the best option."])


def spoken(say: Callable[[Item], str | None]) -> Observer:
    """The observer made of a model that answers an item in its own words."""
    return lambda item: choose(say(item), item.options)


def _plain(text: str) -> str:
    return " ".join(re.sub(r"</s>|\*", " ", text.lower()).split()).strip(" .!\"'")


def _labelled(said: str, count: int) -> int | None:
    number = NUMBERED.match(said)
    if number and 1 <= int(number["number"]) <= count:
        return int(number["number"]) - 1
    found = LABEL.match(said)
    if found is None:
        return None
    place = ord(found["enclosed"] or found["letter"]) - ord("a")
    return place if place < count else None
