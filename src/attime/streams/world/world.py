"""The director: from a seed and some knobs to shot after shot, for as long as one likes, in constant memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.contract import Stream, Traits
from attime.streams.world.paint import paint
from attime.streams.world.scene import CAMERA, COLOURS, KINDS, SHAPES, WAYS, Event, Shot, Thing

__all__ = ["SPEEDS", "World"]

SPEEDS = {"slowly": 0.12, "fast": 0.3}
"""Stage widths per second, before the knob `speed`."""
HOP_S, FLASH_S = 0.5, 1.0


@final
@dataclass(frozen=True, kw_only=True)
class World(Stream):
    """A procedural world: shot number n depends on the seed and n alone, so a longer world starts with the shorter one.

    All knobs are ranges or amounts that make it harder; the same shots yield frames, sound, words and questions.
    """

    traits: ClassVar[Traits] = Traits(scenes=True)

    name: str = "world"
    seed: int = 0
    seconds: float = 60.0
    shot_s: float = 8.0
    """Length of a shot; shots follow each other by a cut."""
    things: tuple[int, int] = (2, 4)
    """Fewest and most things in a shot."""
    events: tuple[int, int] = (3, 6)
    """Fewest and most events in a shot; they follow each other."""
    kinds: tuple[str, ...] = tuple(kind for kind in KINDS if kind != "flash")
    """What may happen, each kind as likely as the others where it is possible."""
    speed: float = 1.0
    """Factor on the speeds of moves and pans."""
    redundancy: float = 0.3
    """Share of the time in which nothing happens."""
    grid_s: float = 0.25
    """Events start and stop at multiples of this."""
    clutter: int = 0
    """Grey things in the background of each shot."""
    noise: float = 0.0
    """Deviation of the noise on every pixel, of 0 to 1."""
    radius: tuple[float, float] = (0.08, 0.14)
    backdrops: tuple[str, ...] = ("plain", "checker", "stripes", "dots")
    bounces: bool = True
    """Whether a move may meet a wall and turn back."""
    needle_s: float | None = None
    """When a star of a random colour flashes for a second, once in the whole world."""

    def __post_init__(self) -> None:
        unknown = set(self.kinds) - set(KINDS)
        if unknown or not self.kinds:
            raise AttimeError(
                f"World needs kinds among {', '.join(KINDS)}; got {', '.join(sorted(unknown)) or 'none'}."
            )
        most = len(COLOURS) - 2
        if not 1 <= self.things[0] <= self.things[1] <= most or not 0 <= self.events[0] <= self.events[1]:
            raise AttimeError(
                f"World needs 1 <= fewest <= most <= {most} things and 0 <= fewest <= most events; "
                f"got things={self.things}, events={self.events}."
            )
        if min(self.seconds, self.shot_s, self.grid_s, self.speed) <= 0 or not 0 <= self.redundancy < 1:
            raise AttimeError(
                f"World needs seconds, shot_s, grid_s and speed above 0 and 0 <= redundancy < 1; got seconds={self.seconds}, "
                f"shot_s={self.shot_s}, grid_s={self.grid_s}, speed={self.speed}, redundancy={self.redundancy}."
            )
        if self.events[1] * 2 > self.ticks:
            raise AttimeError(
                f"World needs two ticks of grid_s for every event of a shot; {self.events[1]} events do not fit into "
                f"{self.ticks} ticks: make shot_s longer or grid_s shorter."
            )

    @property
    def ticks(self) -> int:
        """Multiples of `grid_s` in a shot."""
        return round(self.shot_s / self.grid_s)

    @property
    def about(self) -> str:
        return f"{self.name}: {self.count:,} shots of {self.shot_s:g} s, {self.seconds:,.0f} s in all, seed {self.seed}"

    @property
    def count(self) -> int:
        """How many shots there are, the last one perhaps cut short."""
        return int(np.ceil(self.seconds / self.shot_s))

    def shot(self, number: int) -> Shot:
        """Shot `number` (from 0), whole, wherever the world ends."""
        start = number * self.shot_s
        random = np.random.default_rng([self.seed, number])
        things = _things(random, self)
        events = _events(random, things, self, start)
        if self.needle_s is not None and start <= self.needle_s < start + self.shot_s:
            flash, star = _needle(np.random.default_rng([self.seed, number, 1]), things, self.needle_s)
            events, things = [*events, flash], [*things, star]
        clutter = [
            Thing(colour="white", shape=str(random.choice(SHAPES)), place=tuple(random.random(2).tolist()), radius=0.07)
            for _ in range(self.clutter)
        ]
        return Shot(
            start_s=start,
            stop_s=start + self.shot_s,
            things=tuple(things),
            events=tuple(sorted(events, key=lambda event: event.start_s)),
            clutter=tuple(clutter),
            backdrop=str(random.choice(self.backdrops)),
            shade=float(random.uniform(0.08, 0.2)),
        )

    def shots(self, start_s: float = 0.0, stop_s: float | None = None) -> Iterator[Shot]:
        """The shots that lie at least partly between these seconds; the world's last is cut off at its end."""
        end = self.seconds if stop_s is None else min(stop_s, self.seconds)
        for number in range(int(start_s / self.shot_s), int(np.ceil(end / self.shot_s))):
            shot = self.shot(number)
            if shot.stop_s > self.seconds:
                shot = replace(shot, stop_s=self.seconds)
            yield shot

    def frames(
        self,
        start_s: float = 0.0,
        stop_s: float | None = None,
        *,
        fps: float = 8.0,
        size: tuple[int, int] = (64, 64),
        chunk: int = 64,
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
        """Frames (time, height, width, 3) and their seconds (time,), at multiples of 1 / fps, in pieces of a shot or less."""
        if fps <= 0:
            raise AttimeError(f"frames need fps above 0; got {fps}.")
        for shot in self.shots(start_s, stop_s):
            end = min(shot.stop_s, self.seconds if stop_s is None else stop_s)
            ticks = np.arange(np.ceil(max(shot.start_s, start_s) * fps - 1e-9), np.ceil(end * fps - 1e-9))
            for piece in np.split(ticks, range(chunk, len(ticks), chunk)):
                if len(piece):
                    yield paint(shot, piece / fps, size=size, noise=self.noise, seed=self.seed), piece / fps

    @classmethod
    def examples(cls) -> Sequence["World"]:
        busy = cls(name="busy", seed=3, seconds=20, things=(3, 5), events=(5, 6), clutter=4, noise=0.05, needle_s=9.0)
        return [
            cls(seconds=18.5),
            busy,
            cls(name="calm", seed=1, seconds=8, kinds=("move", "hop"), backdrops=("plain",)),
        ]


def _things(random: np.random.Generator, world: World) -> list[Thing]:
    """Things of different colours and, as far as there are enough, different shapes, apart from each other."""
    count = int(random.integers(world.things[0], world.things[1] + 1))
    colours = random.permutation(list(COLOURS))[:count]
    shapes = np.resize(random.permutation(SHAPES), count)
    things: list[Thing] = []
    for colour, shape in zip(colours.tolist(), shapes.tolist(), strict=True):
        radius = float(random.uniform(*world.radius))
        places = random.uniform(radius, 1 - radius, (30, 2))
        gaps = [
            min((float(np.hypot(*(place - np.array(other.place)))) for other in things), default=1.0)
            for place in places
        ]
        free = [place for place, gap in zip(places, gaps, strict=True) if gap > 2.4 * world.radius[1]]
        place = free[0] if free else places[int(np.argmax(gaps))]
        things.append(Thing(colour=colour, shape=shape, place=(float(place[0]), float(place[1])), radius=radius))
    return things


def _events(random: np.random.Generator, things: Sequence[Thing], world: World, start: float) -> list[Event]:
    """One event after the other, at random lengths and gaps that are multiples of the grid."""
    count = int(random.integers(world.events[0], world.events[1] + 1))
    events: list[Event] = []
    for begin, end in _slots(random, count, world):
        made = _event(random, things, events, world, start + begin * world.grid_s, start + end * world.grid_s)
        events += [made] if made else []
    return events


def _slots(random: np.random.Generator, count: int, world: World) -> list[tuple[int, int]]:
    """`count` stretches of two ticks or more, together about 1 - redundancy of the shot, the gaps shared out at random."""
    busy = max(2 * count, round((1 - world.redundancy) * world.ticks))
    lengths = 2 + random.multinomial(busy - 2 * count, np.full(count, 1 / count)) if count else np.zeros(0, int)
    gaps = random.multinomial(world.ticks - busy, np.full(count + 1, 1 / (count + 1)))
    begins = np.cumsum(gaps[:-1]) + np.concatenate([[0], np.cumsum(lengths)[:-1]]) if count else []
    return [(int(begin), int(begin + length)) for begin, length in zip(begins, lengths, strict=True)]


def _event(
    random: np.random.Generator,
    things: Sequence[Thing],
    before: Sequence[Event],
    world: World,
    start: float,
    stop: float,
) -> Event | None:
    """Something possible: who is gone does nothing, who is round is not seen to turn, who has done nothing can appear."""
    choices: list[tuple[int, str]] = []
    for who in range(len(things)):
        past = {event.kind for event in before if event.who == who}
        if "vanish" not in past:
            round_ = things[who].shape in ("circle", "ring")
            choices += [
                (who, kind) for kind in world.kinds if _possible(kind, past) and not (round_ and kind == "turn")
            ]
    possible = sorted({kind for _, kind in choices} | ({"pan"} & set(world.kinds)))
    if not possible:
        return None
    kind = str(random.choice(possible))
    who = CAMERA if kind == "pan" else int(random.choice([who for who, able in choices if able == kind]))
    way, speed = "", 0.0
    if kind == "hop":
        stop = min(stop, start + HOP_S)
    elif kind == "turn":
        way, speed = str(random.choice(["clockwise", "anticlockwise"])), 0.5
    elif kind == "recolour":
        taken = {thing.colour for thing in things} | {event.way for event in before}
        way = str(random.choice([colour for colour in COLOURS if colour not in taken] or list(COLOURS)))
    elif kind in ("move", "pan"):
        speed = float(random.choice(list(SPEEDS.values()))) * world.speed
        ways = [
            way for way in WAYS if kind == "pan" or world.bounces or _fits(things, before, who, way, speed, start, stop)
        ]
        if not ways:
            return None
        way = str(random.choice(ways))
    return Event(kind=kind, who=who, start_s=start, stop_s=stop, way=way, speed=speed)


def _needle(random: np.random.Generator, things: Sequence[Thing], when_s: float) -> tuple[Event, Thing]:
    """A star in a colour that nobody else has; the rest of the shot is as it would be without it."""
    colour = str(random.choice([name for name in COLOURS if name not in {thing.colour for thing in things}]))
    x, y = random.uniform(0.15, 0.85, 2).tolist()
    flash = Event(kind="flash", who=len(things), start_s=when_s, stop_s=when_s + FLASH_S)
    return flash, Thing(colour=colour, shape="star", place=(x, y), radius=0.12)


def _possible(kind: str, past: set[str]) -> bool:
    once = {"appear": past, "grow": past & {"grow"}, "shrink": past & {"shrink"}}
    return kind not in ("pan", "flash") and not once.get(kind)


def _fits(
    things: Sequence[Thing], before: Sequence[Event], who: int, way: str, speed: float, start: float, stop: float
) -> bool:
    """Whether the move ends before it meets a wall."""
    event = Event(kind="move", who=who, start_s=start, stop_s=stop, way=way, speed=speed)
    shot = Shot(start_s=start, stop_s=stop, things=tuple(things), events=(*before, event))
    return not shot.bounces(event)
