"""For every task of multiple choice a question, and a shot for each answer; all show the same picture at their middle."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from attime.streams.world import COLOURS, WAYS, Event, Shot, clause
from attime.streams.world.scene import CAMERA
from attime.streams.world.tell import VERBS, span
from attime.streams.world.world import HOP_S, SPEEDS

__all__ = ["CHOICES"]

Random = np.random.Generator
Shots = Mapping[str, Shot]
"""From each answer to the shot in which it is right."""

LENGTH, MIDDLE = 4.0, 2.0
SLOTS = tuple(0.5 * number for number in range(8))  # when a hop can begin that is not under way in the middle
CROSSINGS = ((1.0, "fast"), (2.0, "slowly"), (3.0, "slowly"), (2.0, "fast"))  # seconds and paces of moves


def _direction(stage: Shot, random: Random) -> tuple[str, Shots]:
    seconds, pace = CROSSINGS[int(random.integers(len(CROSSINGS)))]
    half = seconds * SPEEDS[pace] / 2
    low = stage.things[0].radius + half
    stage = _placed(stage, 0, random.uniform(low, 1 - low, 2))
    extra = _hops(1, random.choice([0.0, 3.5], 1))
    shots = {way: _acted(stage, *extra, crossing=(_move(0, way, seconds, pace),)) for way in WAYS}
    return f"which way does the {stage.name(0)} move ?", shots


def _navigation(stage: Shot, random: Random) -> tuple[str, Shots]:
    seconds, pace = CROSSINGS[int(random.integers(3))]
    extra = _hops(1, random.choice([0.0, 3.5], 1))
    pans = {way: replace(_move(CAMERA, way, seconds, pace), kind="pan") for way in WAYS}
    return "which way does the camera pan ?", {way: _acted(stage, *extra, crossing=(pan,)) for way, pan in pans.items()}


def _moving_attribute(stage: Shot, random: Random) -> tuple[str, Shots]:
    stage, moves = _roomy(stage, random)
    return "what colour is the thing which moves ?", {
        thing.colour: _acted(stage, crossing=(moves[who],)) for who, thing in enumerate(stage.things)
    }


def _moving_count(stage: Shot, random: Random) -> tuple[str, Shots]:
    stage, moves = _roomy(stage, random)
    first = random.permutation(len(moves)).tolist()
    return "how many things move ?", {
        str(count): _acted(stage, crossing=[moves[who] for who in first[:count]]) for count in range(len(moves) + 1)
    }


def _existence(stage: Shot, random: Random) -> tuple[str, Shots]:
    stage, moves = _roomy(stage, random)
    who, other = random.permutation(len(moves))[:2].tolist()
    shots = {"yes": _acted(stage, crossing=(moves[who],)), "no": _acted(stage, crossing=(moves[other],))}
    return f"does the {stage.name(who)} move ?", shots


def _count(stage: Shot, random: Random) -> tuple[str, Shots]:
    starts = np.arange(4.0) + 0.5 * random.integers(2)
    order = random.permutation(4)
    extra = random.random(4) < 0.3
    shots = {}
    for count in range(1, 5):
        own, rest = order[:count], [slot for slot in order[count:] if extra[slot]]
        shots[str(count)] = _acted(stage, *_hops(0, starts[own]), *_hops(1, starts[rest]))
    return f"how many times does the {stage.name(0)} hop ?", shots


def _order(stage: Shot, random: Random) -> tuple[str, Shots]:
    early, late = float(random.choice(SLOTS[:4])), float(random.choice(SLOTS[4:]))
    names = [stage.name(who) for who in random.permutation(2).tolist()]
    shots = {stage.name(first): _acted(stage, *_hops(first, [early]), *_hops(1 - first, [late])) for first in range(2)}
    return f"which happens first : the {names[0]} or the {names[1]} ?", shots


def _sequence(stage: Shot, random: Random) -> tuple[str, Shots]:
    begin, first, then = random.choice([0.0, 0.5, 1.0]), random.choice([2.0, 2.5]), random.choice([3.0, 3.5])
    shots = {}
    for who in (1, 2):
        hops = [*_hops(who, [first]), *_hops(3 - who, [then])]
        shots[clause(stage, hops[0])] = _acted(stage, *_hops(0, [begin]), *hops)
    return f"what happens next after the {stage.name(0)} hops ?", shots


def _localisation(stage: Shot, random: Random) -> tuple[str, Shots]:
    starts = sorted(random.choice(SLOTS, 4, replace=False).tolist())
    shots = {span(start, start + HOP_S): _acted(stage, *_hops(0, [start])) for start in starts}
    return f"when does the {stage.name(0)} hop ?", shots


def _action(stage: Shot, random: Random) -> tuple[str, Shots]:
    stage = _placed(stage, 0, random.uniform(0.44, 0.56, 2))
    start = float(random.choice([2.0, 2.5, 3.0]))
    times = {"who": 0, "start_s": start, "stop_s": start + 1.0}
    acts = [
        Event(kind="move", way=str(random.choice(list(WAYS))), speed=SPEEDS["fast"], **times),
        *_hops(0, [start]),
        Event(kind="vanish", **times),
        Event(kind="recolour", way=_others(stage, random)[0], **times),
    ]
    extra = _hops(1, random.choice([0.0, 0.5, 1.0], 1))
    return f"what does the {stage.name(0)} do ?", {VERBS[act.kind]: _acted(stage, act, *extra) for act in acts}


def _antonym(stage: Shot, random: Random) -> tuple[str, Shots]:
    half = float(random.choice([0.5, 1.0, 1.5]))
    extra = _hops(1, random.choice([0.0, 3.5], 1))
    shots = {
        VERBS[kind]: _acted(stage, Event(kind=kind, who=0, start_s=MIDDLE - half, stop_s=MIDDLE + half), *extra)
        for kind in ("appear", "vanish")
    }
    return f"what does the {stage.name(0)} do ?", shots


def _state(stage: Shot, random: Random) -> tuple[str, Shots]:
    start = float(random.choice([2.0, 2.5, 3.0]))
    extra = _hops(1, random.choice([0.0, 0.5, 1.0], 1))
    shots = {
        colour: _acted(stage, Event(kind="recolour", who=0, start_s=start, stop_s=start + 1.0, way=colour), *extra)
        for colour in _others(stage, random)[:4]
    }
    return f"what colour is the {stage.name(0)} at the end ?", shots


def _shuffle(stage: Shot, random: Random) -> tuple[str, Shots]:
    stage = _placed(stage, 0, random.uniform(0.45, 0.55, 2))
    times = ((2.0, 3.0), (3.0, 4.0))
    shots = {}
    for column in ("left", "right"):
        for row in ("up", "down"):
            ways = random.permutation([column, row]).tolist()
            moves = [
                Event(kind="move", who=0, start_s=start, stop_s=stop, way=way, speed=SPEEDS["fast"])
                for way, (start, stop) in zip(ways, times, strict=True)
            ]
            shots[f"{'top' if row == 'up' else 'bottom'} {column}"] = _acted(stage, *moves)
    return f"where is the {stage.name(0)} at the end ?", shots


CHOICES: dict[str, Callable[[Shot, Random], tuple[str, Shots]]] = {
    "action sequence": _sequence,
    "action antonym": _antonym,
    "fine-grained action": _action,
    "object existence": _existence,
    "object shuffle": _shuffle,
    "moving direction": _direction,
    "action localisation": _localisation,
    "action count": _count,
    "moving count": _moving_count,
    "moving attribute": _moving_attribute,
    "state change": _state,
    "character order": _order,
    "egocentric navigation": _navigation,
}
"""By task, what makes a question and its shots from a stage with three things on which nothing happens yet."""


def _acted(stage: Shot, *events: Event, crossing: Sequence[Event] = ()) -> Shot:
    """The stage with these events; who crosses starts so that the middle of the shot finds him where the stage has him."""
    shot = replace(stage, start_s=0.0, stop_s=LENGTH)
    for move in crossing:
        gone = np.array(WAYS[move.way]) * move.speed * move.seconds / 2
        if move.who == CAMERA:
            shot = replace(shot, camera=(-float(gone[0]), -float(gone[1])))
        else:
            shot = _placed(shot, move.who, np.array(shot.things[move.who].place) - gone)
    return replace(shot, events=tuple(sorted((*events, *crossing), key=lambda event: event.start_s)))


def _placed(shot: Shot, who: int, place: Sequence[float] | np.ndarray) -> Shot:
    things = list(shot.things)
    things[who] = replace(things[who], place=(float(place[0]), float(place[1])))
    return replace(shot, things=tuple(things))


def _roomy(stage: Shot, random: Random) -> tuple[Shot, list[Event]]:
    """The things further from the walls, and a move for each of them that stays between them."""
    for who, thing in enumerate(stage.things):
        stage = _placed(stage, who, 0.5 + 0.6 * (np.array(thing.place) - 0.5))
    return stage, [_move(who, str(random.choice(list(WAYS))), 2.0, "slowly") for who in range(len(stage.things))]


def _move(who: int, way: str, seconds: float, pace: str) -> Event:
    """A move that is half done in the middle of the shot."""
    start, stop = MIDDLE - seconds / 2, MIDDLE + seconds / 2
    return Event(kind="move", who=who, start_s=start, stop_s=stop, way=way, speed=SPEEDS[pace])


def _hops(who: int, starts: Sequence[float] | np.ndarray) -> list[Event]:
    return [Event(kind="hop", who=who, start_s=float(start), stop_s=float(start) + HOP_S) for start in starts]


def _others(stage: Shot, random: Random) -> list[str]:
    """Colours that nothing has."""
    return random.permutation([colour for colour in COLOURS if colour not in {t.colour for t in stage.things}]).tolist()
