"""Questions asked at a time of a stream: about what is over, about what is happening, and about what has yet to come.

Backward tracing: what was in an earlier shot, and whether it was there at all. Real-time perception: what is there now.
Forward responding: the same question again and again, and before its clue has come the right answer is `not yet`. Each
query counts once; the score is the mean over the tasks of a scenario, and then over the scenarios.

Source:  OVO-Bench, arXiv 2501.05510, and its public scoring code and annotations.
Differs: no text to read in the world. Half of the questions that can be answered with `unable to answer` have another
         answer (in the annotations none has), and a clue asks for the answer, not whether it could be given. An annotated
         count is chosen among all numbers up to the largest of the file.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.contract import readable
from attime.streams.video import Video
from attime.streams.world import World
from attime.tasks.quiz import Clip, Item, Observer, Quiz
from attime.tasks.video.live import past_only
from attime.tasks.video.stage import HELD_OUT, STAGE
from attime.tasks.video.stream_questions import backward, forward, realtime

__all__ = ["SCENARIOS", "Online", "read_online"]

SCENARIOS: dict[str, tuple[str, ...]] = {
    "backward": ("episodic memory", "action sequence", "hallucination"),
    "real-time": ("text", "action", "attribute", "space", "future", "object"),
    "forward": ("repetition", "steps", "clue"),
}
"""The tasks of each scenario."""
CODES = dict(
    zip(
        ("EPM", "ASI", "HLD", "OCR", "ACR", "ATR", "STU", "FPD", "OJR", "REC", "SSR", "CRR"),
        [(scenario, task) for scenario, tasks in SCENARIOS.items() for task in tasks],
        strict=True,
    )
)
"""What the annotations call a task, and its scenario and name here."""


STREAM = replace(STAGE, name="stream", seconds=16.0)


@final
@dataclass(frozen=True, kw_only=True)
class Online(Quiz):
    """Questions about streams of the world, each at its second (see the module docstring).

    Whoever answers gets clips that end when the question is asked; `attime.tasks.video.Live` is for those who are to see
    them frame by frame.
    """

    world: World = STREAM
    streams: int = 12
    fps: float = 4.0
    size: tuple[int, int] = (32, 32)

    def __post_init__(self) -> None:
        if self.streams < 1 or self.fps <= 0 or self.world.count < 2 or "pan" in self.world.kinds:
            raise AttimeError(
                f"Online needs streams >= 1, fps above 0, and a world of two shots or more in which the camera does not pan; "
                f"got streams={self.streams}, fps={self.fps}, {self.world.count} shots of kinds {self.world.kinds}."
            )

    @property
    def protocol(self) -> str:
        return f"online/{self.world.name}-{self.streams}-streams-of-{self.world.seconds:g}-s-at-{self.fps:g}-fps"

    def items(self, *, seed: int = 0) -> Sequence[Item]:
        """Stream after stream, in order of time."""
        made: list[Item] = []
        for number in range(self.streams):
            stream: list[Item] = []
            world = replace(self.world, seed=HELD_OUT + 1_000 * seed + number)
            random = np.random.default_rng([seed, number])
            clip = Clip(partial(self._painted, world), 1 / self.fps)
            for scenario, ask in (("backward", backward), ("real-time", realtime), ("forward", forward)):
                for each in ask(world, self.fps, random):
                    item = Item(
                        clip=clip,
                        question=each.text,
                        options=tuple(random.permutation(each.options).tolist()),
                        answer=each.answer,
                        aspect=each.task,
                        form=scenario,
                        group=f"stream {number} : {each.text}",
                        asked_s=each.asked_s,
                    )
                    stream.append(item)
            made += sorted(stream, key=lambda item: item.asked_s or 0.0)
        return made

    def grade(self, items: Sequence[Item], observer: Observer) -> dict[str, float]:
        """`accuracy` (the mean of the scenarios), each scenario (the mean of its tasks), and each task."""
        return super().grade([past_only(item) for item in items], observer)

    def _totals(self, items: Sequence[Item], shares: Sequence[float]) -> dict[str, float]:
        tasks: dict[tuple[str, str], list[float]] = defaultdict(list)
        for item, share in zip(items, shares, strict=True):
            tasks[item.form, item.aspect].append(share)
        means = {task: float(np.mean(each)) for task, each in tasks.items()}
        scenarios = {
            scenario: float(np.mean([mean for (form, _), mean in means.items() if form == scenario]))
            for scenario in dict.fromkeys(form for form, _ in means)
        }
        return {
            "accuracy": float(np.mean(list(scenarios.values()))),
            **scenarios,
            **{task: mean for (_, task), mean in means.items()},
        }

    @classmethod
    def examples(cls) -> Sequence["Online"]:
        calm = World(name="calm", seconds=10, shot_s=5, kinds=("move", "hop"), backdrops=("plain",), events=(2, 4))
        return [cls(streams=6), cls(world=calm, streams=3, fps=2, size=(16, 16))]

    def _painted(self, world: World) -> NDArray[np.uint8]:
        return np.concatenate([frames for frames, _ in world.frames(fps=self.fps, size=self.size)])


def read_online(
    path: str | Path, clips: str | Path, *, fps: float = 1.0, size: tuple[int, int] | None = None, present: bool = False
) -> list[Item]:
    """Items of OVO-Bench's annotation file (data/ovo_bench_new.json), one for each query, in the order of the file.

    Its videos lie below `clips` at `<video>`. Each is decoded when somebody first looks at it, whole, `fps` frames a
    second, `size` (height, width) if that is given. With `present` queries about videos not on disk are left out.
    """
    folder = Path(clips).expanduser()
    if not folder.is_dir() or fps <= 0:
        raise AttimeError(f"read_online needs fps above 0 and the folder of the videos; got fps={fps}, {folder}.")
    try:
        rows = json.loads(readable(path, "read_online").read_text(encoding="utf-8"))
        rows = [row for row in rows if not present or (folder / row["video"]).is_file()]
        most = max(
            (query["count"] for row in rows for query in row.get("test_info", ()) if "count" in query), default=0
        )
        films = {
            name: Clip(partial(_decoded, folder / name, fps, size), 1 / fps) for name in {row["video"] for row in rows}
        }
        return [item for row in rows for item in _items_of(row, films[row["video"]], most)]
    except (KeyError, IndexError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AttimeError(
            f"{Path(path).name} is not OVO-Bench's list of objects with task, video and their queries: "
            f"{type(error).__name__} {error}; give the benchmark's own file."
        ) from None


def _decoded(path: Path, fps: float, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    return Video(path).read(fps=fps, size=size)[0]


def _items_of(row: Mapping[str, Any], clip: Clip, most: int) -> list[Item]:
    scenario, task = CODES[row["task"]]
    numbers, yes_no = tuple(str(number) for number in range(most + 1)), ("No", "Yes")
    asked: list[tuple[str, tuple[str, ...], str, float]]
    if scenario != "forward":
        options = tuple(row["options"])
        asked = [(row["question"], options, options[row["gt"]], row["realtime"])]
    elif task == "repetition":
        text = f"How many times has it happened until now: {row['activity']}?"
        asked = [(text, numbers, str(query["count"]), query["realtime"]) for query in row["test_info"]]
    elif task == "steps":
        asked = [
            (f"Is this step being done now: {query['step']}?", yes_no, yes_no[query["type"]], query["realtime"])
            for query in row["test_info"]
        ]
    else:
        text = f"Is there enough to answer yet: {row['question']}"
        asked = [(text, yes_no, yes_no[query["type"]], query["realtime"]) for query in row["test_info"]]
    return [
        Item(
            clip=clip,
            question=text,
            options=options,
            answer=answer,
            aspect=task,
            form=scenario,
            group=str(row["id"]),
            asked_s=float(when),
        )
        for text, options, answer, when in asked
    ]
