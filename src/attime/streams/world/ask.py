"""Questions about a shot with exact answers: what, which way, how often, when, in which order, how fast, what next, where."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from attime.errors import AttimeError
from attime.streams.world.scene import CAMERA, COLOURS, SHAPES, WAYS, Event, Shot, heading
from attime.streams.world.tell import VERBS, clause, pace, span

__all__ = ["QUESTIONS", "Question", "questions"]

ACTS = ("move", "turn", "hop", "appear", "vanish", "recolour", "grow", "shrink")
MOST = 5  # the largest count that is asked for


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question in the world's language. `options` are all answers of its kind that can be right, the true one among them."""

    kind: str
    text: str
    answer: str
    options: tuple[str, ...] = ()
    """Empty for `when`, which is answered by an interval."""
    start_s: float
    """When what answers it begins ..."""
    stop_s: float
    """... and when it is over: nobody can know before."""
    about: tuple[str, ...] = ()
    """Names of the things it is about."""

    @property
    def needs_time(self) -> bool:
        """Whether one frame of the clip is not enough."""
        return self.kind not in STATIC

    @property
    def chance(self) -> float:
        """The share of right answers of somebody who guesses among the options; 0 for an interval."""
        return 1 / len(self.options) if self.options else 0.0


def questions(shot: Shot, *, kinds: Sequence[str] | None = None, seed: int = 0) -> list[Question]:
    """Every question of these kinds (default: all) that has exactly one answer in this shot, in random order."""
    unknown = set(kinds or ()) - set(QUESTIONS)
    if unknown:
        raise AttimeError(f"questions are of kinds {', '.join(QUESTIONS)}; got {', '.join(sorted(unknown))}.")
    random = np.random.default_rng(seed)
    found = [question for kind in kinds or QUESTIONS for question in QUESTIONS[kind](shot, random)]
    return [found[place] for place in random.permutation(len(found))]


def _what(shot: Shot, random: np.random.Generator) -> list[Question]:
    """What somebody does who does one kind of thing."""
    made = []
    for who in range(len(shot.things)):
        events = shot.of(who, *ACTS)
        if len({event.kind for event in events}) == 1:
            name, options = shot.name(who), tuple(VERBS[kind] for kind in ACTS)
            made.append(_question("what", f"what does the {name} do ?", VERBS[events[0].kind], options, events, name))
    return made


def _direction(shot: Shot, random: np.random.Generator) -> list[Question]:
    """Which way somebody (or the camera) goes who goes once; which way somebody turns who turns once."""
    made = []
    for who in (*range(len(shot.things)), CAMERA):
        events = shot.of(who, "move", "pan")
        if len(events) == 1 and (who == CAMERA or heading(shot, events[0]) == events[0].way):
            name = shot.name(who)
            text = f"which way does the {name} {'move' if who != CAMERA else 'pan'} ?"
            made.append(_question("direction", text, events[0].way, tuple(WAYS), events, name))
        turns = shot.of(who, "turn")
        if len(turns) == 1:
            text, ways = f"which way does the {shot.name(who)} turn ?", ("clockwise", "anticlockwise")
            made.append(_question("direction", text, turns[0].way, ways, turns, shot.name(who)))
    return made


def _order(shot: Shot, random: np.random.Generator) -> list[Question]:
    """Who of two acts first."""
    first = {who: events for who in range(len(shot.things)) if (events := shot.of(who, *ACTS))}
    made = []
    for one in first:
        for other in first:
            early, late = (first[each][0] for each in (one, other))
            if one < other and early.start_s != late.start_s:
                names = [shot.name(each) for each in random.permutation([one, other]).tolist()]
                winner = shot.name(one if early.start_s < late.start_s else other)
                text = f"which happens first : the {names[0]} or the {names[1]} ?"
                made.append(_question("order", text, winner, tuple(names), [early, late], *names))
    return made


def _count(shot: Shot, random: np.random.Generator) -> list[Question]:
    """How often somebody hops, also when never (half as often as the others are asked)."""
    made = []
    if not any(event.kind == "hop" for event in shot.happenings):
        return made
    for who in range(len(shot.things)):
        hops = shot.of(who, "hop")
        if len(hops) <= MOST and (hops or random.random() < 0.5):
            name, options = shot.name(who), tuple(str(number) for number in range(MOST + 1))
            text = f"how many times does the {name} hop ?"
            made.append(_question("count", text, str(len(hops)), options, _whole(shot, hops), name))
    return made


def _when(shot: Shot, random: np.random.Generator) -> list[Question]:
    """When somebody does what he does once: from when to when, in seconds from the start of the shot."""
    made = []
    for event in _single(shot):
        text = f"when does the {shot.name(event.who)} {event.kind} ?"
        answer = span(event.start_s - shot.start_s, event.stop_s - shot.start_s)
        made.append(_question("when", text, answer, (), [event], shot.name(event.who)))
    return made


def _speed(shot: Shot, random: np.random.Generator) -> list[Question]:
    """How fast somebody (or the camera) goes who goes once."""
    made = []
    for who in (*range(len(shot.things)), CAMERA):
        events = shot.of(who, "move", "pan")
        if len(events) == 1:
            name, options = shot.name(who), ("slowly", "fast")
            text = f"how fast does the {name} {events[0].kind} ?"
            made.append(_question("speed", text, pace(events[0]), options, events, name))
    return made


def _next(shot: Shot, random: np.random.Generator) -> list[Question]:
    """What happens after something that happens once: one of the other clauses of the shot."""
    clauses = {id(event): clause(shot, event) for event in shot.happenings}
    made = []
    for event in _single(shot):
        after = [each for each in shot.happenings if each.start_s >= event.stop_s]
        others = sorted({text for text in clauses.values() if text != clauses[id(event)]})
        if after and len(others) > 1:
            text = f"what happens next after the {shot.name(event.who)} {VERBS[event.kind]} ?"
            options = tuple(random.permutation(others).tolist())
            made.append(
                _question("next", text, clauses[id(after[0])], options, [event, after[0]], shot.name(event.who))
            )
    return made


def _where(shot: Shot, random: np.random.Generator) -> list[Question]:
    """In which quarter of the stage somebody is at the end who has moved and is clearly in one."""
    made = []
    last = shot.at([shot.stop_s])
    for who in range(len(shot.things)):
        x, y = (last.place[0, who] - last.camera[0]).tolist()
        if shot.of(who, "move") and last.alpha[0, who] == 1 and min(abs(x - 0.5), abs(y - 0.5)) > 0.08:
            answer = f"{'top' if y < 0.5 else 'bottom'} {'left' if x < 0.5 else 'right'}"
            options = ("top left", "top right", "bottom left", "bottom right")
            name = shot.name(who)
            made.append(
                _question("where", f"where is the {name} at the end ?", answer, options, _whole(shot, []), name)
            )
    return made


def _change(shot: Shot, random: np.random.Generator) -> list[Question]:
    """Which colour somebody gets."""
    made = []
    for who, thing in enumerate(shot.things):
        events = shot.of(who, "recolour")
        if len(events) == 1:
            options = tuple(colour for colour in COLOURS if colour != thing.colour)
            text = f"what colour is the {thing.name} at the end ?"
            made.append(_question("change", text, events[0].way, options, events, thing.name))
    return made


def _needle(shot: Shot, random: np.random.Generator) -> list[Question]:
    """The colour of what flashes."""
    flashes = [event for event in shot.happenings if event.kind == "flash"]
    if len(flashes) != 1:
        return []
    thing = shot.things[flashes[0].who]
    return [
        _question(
            "needle", "what colour is the thing which flashes ?", thing.colour, tuple(COLOURS), flashes, thing.name
        )
    ]


def _colour(shot: Shot, random: np.random.Generator) -> list[Question]:
    """The colour of the only thing of its shape that is there all the time and keeps its colour: no time needed."""
    made = []
    for who, thing in enumerate(shot.things):
        alone = sum(other.shape == thing.shape for other in shot.things) == 1
        if alone and not shot.of(who, "appear", "vanish", "flash", "recolour"):
            text = f"what colour is the {thing.shape} ?"
            made.append(_question("colour", text, thing.colour, tuple(COLOURS), _whole(shot, []), thing.name))
    return made


def _exists(shot: Shot, random: np.random.Generator) -> list[Question]:
    """Whether there is a thing: one that is there, and one that is not."""
    names = [
        thing.name for who, thing in enumerate(shot.things) if not shot.of(who, "appear", "vanish", "flash", "recolour")
    ]
    changed = {event.way for event in shot.happenings if event.kind == "recolour"}
    taken = {thing.colour for thing in shot.things} | changed
    absent = [f"{colour} {shape}" for colour in COLOURS if colour not in taken for shape in SHAPES]
    if not names or not absent:
        return []
    yes, no = str(random.choice(names)), str(random.choice(absent))
    return [
        _question("exists", f"is there a {name} ?", answer, ("yes", "no"), _whole(shot, []), name)
        for name, answer in ((yes, "yes"), (no, "no"))
    ]


def _single(shot: Shot) -> list[Event]:
    """Events of things that are the only one of their kind that this thing does."""
    return [event for event in shot.happenings if event.kind in ACTS and len(shot.of(event.who, event.kind)) == 1]


def _whole(shot: Shot, events: Sequence[Event]) -> Sequence[Event]:
    """These events, and the whole shot, since nobody knows before its end that no more will come."""
    return [*events, Event(kind="pan", who=CAMERA, start_s=shot.start_s, stop_s=shot.stop_s, way="left")]


def _question(
    kind: str, text: str, answer: str, options: tuple[str, ...], events: Sequence[Event], *about: str
) -> Question:
    start, stop = min(event.start_s for event in events), max(event.stop_s for event in events)
    return Question(kind=kind, text=text, answer=answer, options=options, start_s=start, stop_s=stop, about=about)


QUESTIONS: dict[str, Callable[[Shot, np.random.Generator], list[Question]]] = {
    "what": _what,
    "direction": _direction,
    "order": _order,
    "count": _count,
    "when": _when,
    "speed": _speed,
    "next": _next,
    "where": _where,
    "change": _change,
    "needle": _needle,
    "colour": _colour,
    "exists": _exists,
}
"""Kinds of questions."""
STATIC = ("colour", "exists")
