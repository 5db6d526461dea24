"""What happens in a shot as a caption, and the same caption with one detail in time edited so that it is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attime.streams.world import WAYS, Shot
from attime.streams.world.scene import CAMERA, heading
from attime.streams.world.tell import VERBS, pace

__all__ = ["EDITS", "Act", "acts", "deciding_question", "edited", "told"]

EDITS = (
    "action order",
    "action frequency",
    "action type",
    "motion magnitude",
    "motion direction",
    "action effector",
)
"""Details that are edited."""
TYPES = ("hop", "appear", "vanish", "turn", "grow", "shrink")  # what can be said without more words
MOST = 5  # the largest number of hops that is told


@dataclass(frozen=True, kw_only=True)
class Act:
    """What one thing does in a shot, of one kind."""

    who: str
    kind: str
    way: str = ""
    pace: str = ""
    times: int = 1

    def __str__(self) -> str:
        words = ["the", self.who, VERBS[self.kind], self.way, self.pace]
        return " ".join([word for word in words if word] + ([f"{self.times} times"] if self.kind == "hop" else []))


def told(happening: Sequence[Act]) -> str:
    """The caption."""
    return " then ".join(str(act) for act in happening)


def acts(shot: Shot) -> list[Act]:
    """What happens, in the order in which it begins; none if somebody does a thing twice that cannot be counted.

    Hops are counted, all hops of a thing being one act.
    """
    found: dict[tuple[int, str], Act] = {}
    for event in shot.happenings:
        key = (event.who, event.kind)
        if key in found and event.kind != "hop":
            return []
        if event.kind == "move" and heading(shot, event) != event.way:
            return []
        if key in found:
            found[key] = replace(found[key], times=found[key].times + 1)
        else:
            speed = pace(event) if event.kind in ("move", "pan") else ""
            found[key] = Act(who=shot.name(event.who), kind=event.kind, way=event.way, pace=speed)
    return list(found.values())


def edited(
    shot: Shot, true: Sequence[Act], random: np.random.Generator, *, possible: Sequence[str] = TYPES
) -> dict[str, list[Act]]:
    """For each detail that can be edited here, the acts with that one detail changed; `possible` kinds take others' places."""
    made: dict[str, list[Act]] = {}
    names = [shot.name(who) for who in range(len(shot.things))]
    kinds = {name: {act.kind for act in true if act.who == name} for name in (*names, shot.name(CAMERA))}
    firsts = {act.who: place for place, act in reversed(list(enumerate(true)))}
    for place in random.permutation(len(true)).tolist():
        act = true[place]

        def put(kind: str, new: Act, place: int = place) -> None:
            made.setdefault(kind, [*true[:place], new, *true[place + 1 :]])

        if act.way in WAYS and act.kind in ("move", "pan"):
            put("motion direction", replace(act, way=str(random.choice([way for way in WAYS if way != act.way]))))
            put("motion magnitude", replace(act, pace="slowly" if act.pace == "fast" else "fast"))
        if act.kind == "hop":
            near = [times for times in (act.times - 1, act.times + 1) if 1 <= times <= MOST]
            put("action frequency", replace(act, times=int(random.choice(near))))
            idle = [name for name in names if "hop" not in kinds[name]]
            if idle:
                put("action effector", replace(act, who=str(random.choice(idle))))
        other = [kind for kind in TYPES if kind in possible and kind != act.kind]
        if len(kinds[act.who]) == 1 and act.kind in TYPES and other:
            put("action type", Act(who=act.who, kind=str(random.choice(other))))
        if place + 1 < len(true) and firsts[act.who] == place and firsts[true[place + 1].who] == place + 1:
            made.setdefault("action order", [*true[:place], true[place + 1], act, *true[place + 2 :]])
    return made


def deciding_question(one: str, other: str) -> tuple[str, tuple[str, str]]:
    """The world's question on whose answer two captions differ by one edit, and the answers that they stand for."""
    ours, theirs = ([sentence.split() for sentence in text.split(" then ")] for text in (one, other))
    mine, yours = next((a, b) for a, b in zip(ours, theirs, strict=True) if a != b)
    names = (" ".join(mine[1:3]), " ".join(yours[1:3]))
    if sorted(ours) == sorted(theirs):
        return f"which happens first : the {names[0]} or the {names[1]} ?", names
    if names[0] != names[1]:
        return f"how many times does the {names[0]} hop ?", (mine[4], "0")
    if mine[3] != yours[3]:
        return f"what does the {names[0]} do ?", (mine[3], yours[3])
    verb = next(verb for verb, word in VERBS.items() if word == mine[3])
    if verb == "hop":
        return f"how many times does the {names[0]} hop ?", (mine[4], yours[4])
    asks = "which way" if mine[4] != yours[4] else "how fast"
    word = 4 if mine[4] != yours[4] else 5
    return f"{asks} does the {names[0]} {verb} ?", (mine[word], yours[word])
