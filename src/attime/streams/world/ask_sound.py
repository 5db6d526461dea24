"""Questions about what is heard in a shot: who sounds how, who sooner, what first, last and next, and the whole story.

A colour is heard and a shape is not, so answers name things by their colour.
"""

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np

from attime.errors import AttimeError
from attime.streams.world.ask import Question
from attime.streams.world.scene import CAMERA, COLOURS, Event, Shot
from attime.streams.world.tell import VERBS, span

__all__ = ["SOUND_QUESTIONS", "heard", "sound_questions"]


def heard(shot: Shot, event: Event) -> str:
    """Who does what, as far as one hears it: `the red thing moves`."""
    name = "camera" if event.who == CAMERA else f"{shot.things[event.who].colour} thing"
    return f"the {name} {VERBS[event.kind]}"


def sound_questions(shot: Shot, *, kinds: Sequence[str] | None = None, seed: int = 0) -> list[Question]:
    """Every question of these kinds (default: all) that has exactly one answer in this shot, in random order."""
    unknown = set(kinds or ()) - set(SOUND_QUESTIONS)
    if unknown:
        raise AttimeError(
            f"questions about sound are of kinds {', '.join(SOUND_QUESTIONS)}; got {', '.join(sorted(unknown))}."
        )
    found = [question for kind in kinds or SOUND_QUESTIONS for question in SOUND_QUESTIONS[kind](shot)]
    return [found[place] for place in np.random.default_rng(seed).permutation(len(found))]


def _which(shot: Shot) -> list[Question]:
    """The colour of who does something that only one thing does."""
    made = []
    for kind in sorted({event.kind for event in shot.events if event.who != CAMERA}):
        events = [event for event in shot.events if event.kind == kind]
        if len({event.who for event in events}) == 1:
            text = f"what colour is the thing which {VERBS[kind]} ?"
            colour = shot.things[events[0].who].colour
            made.append(_question("which", shot, text, colour, tuple(COLOURS), events))
    return made


def _order(shot: Shot) -> list[Question]:
    """Which of two is heard first, asked in both orders."""
    first = [events[0] for who in range(len(shot.things)) if (events := shot.of(who))]
    made = []
    for one, other in permutations(first, 2):
        if one.start_s != other.start_s:
            colours = [shot.things[event.who].colour for event in (one, other)]
            text = f"which sounds first : the {colours[0]} thing or the {colours[1]} thing ?"
            winner = colours[0] if one.start_s < other.start_s else colours[1]
            made.append(_question("order", shot, text, winner, tuple(colours), [one, other]))
    return made


def _ends(shot: Shot) -> list[Question]:
    """What is heard first, and what last."""
    told = tuple(sorted({heard(shot, event) for event in shot.events}))
    if len(told) < 2:
        return []
    return [
        _question("ends", shot, f"what sounds {place} ?", heard(shot, event), told, [event])
        for place, event in (("first", shot.events[0]), ("last", shot.events[-1]))
    ]


def _then(shot: Shot) -> list[Question]:
    """What is heard next after something that is heard once."""
    told = [heard(shot, event) for event in shot.events]
    made = []
    for event, later in zip(shot.events, shot.events[1:], strict=False):
        options = tuple(sorted(set(told) - {heard(shot, event)}))
        if told.count(heard(shot, event)) == 1 and len(options) > 1:
            text = f"what sounds next after {heard(shot, event)} ?"
            made.append(_question("then", shot, text, heard(shot, later), options, [event, later]))
    return made


def _story(shot: Shot) -> list[Question]:
    """Everything that is heard, in order, and when."""
    if not shot.events:
        return []
    told = [
        f"{heard(shot, event)} {span(event.start_s - shot.start_s, event.stop_s - shot.start_s)}"
        for event in shot.events
    ]
    return [_question("story", shot, "what sounds and when ?", " , ".join(told), (), shot.events)]


def _question(
    kind: str, shot: Shot, text: str, answer: str, options: tuple[str, ...], events: Sequence[Event]
) -> Question:
    start, stop = min(event.start_s for event in events), max(event.stop_s for event in events)
    about = tuple(dict.fromkeys(shot.name(event.who) for event in events))
    return Question(kind=kind, text=text, answer=answer, options=options, start_s=start, stop_s=stop, about=about)


SOUND_QUESTIONS: dict[str, Callable[[Shot], list[Question]]] = {
    "which": _which,
    "order": _order,
    "ends": _ends,
    "then": _then,
    "story": _story,
}
"""Kinds of questions."""
