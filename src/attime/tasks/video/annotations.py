"""Readers of the annotation files of four benchmarks, so that the same observers and scores serve them.

| reader            | file                                     | clips lie at, below `clips`          |
| ----------------- | ---------------------------------------- | ------------------------------------ |
| read_tempcompass  | questions/multi-choice.json, yes_no, ... | <video>.mp4                          |
| read_tomato       | data/direction.json, count.json, ...     | <demonstration_type>/<key>.mp4       |
| read_mvbench      | json/moving_direction.json, ...          | <video>, from `start` to `end` if so |
| read_temporalbench| temporalbench_short_qa.json, ..._long_qa | <video_name>                         |

Each gives items whose clips are decoded when somebody looks at them, at `frames` moments in the middle of as many equal
parts of the clip. With `present` items without a clip on disk are left out. The files are not part of attime.

Source:  the public repositories llyx97/TempCompass, yale-nlp/TOMATO, OpenGVLab/Ask-Anything and mu-cai/TemporalBench.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from attime.errors import AttimeError
from attime.streams.contract import readable
from attime.streams.video import Video
from attime.tasks.quiz import Clip, Item

__all__ = ["read_mvbench", "read_tempcompass", "read_temporalbench", "read_tomato"]

Size = tuple[int, int] | None
LETTERED = re.compile(r"^\(?([A-Z])[.)] (.*)$", re.MULTILINE)
INFORMATION = re.compile(r"^Information ([A-Z]): \{.*, '\w+': ['\"](.*)['\"]\}$", re.MULTILINE)
MATCHING = re.compile(r"^(?:Option|Sentence|Caption) (\w): (.*)$", re.MULTILINE)


def read_tempcompass(
    path: str | Path, clips: str | Path, *, frames: int = 16, size: Size = None, present: bool = False
) -> list[Item]:
    """One of TempCompass' four files of questions; the form is told from each question."""
    film, items = _films(clips, frames, size), []
    with _reading(path, "TempCompass' questions {video: {aspect: [{question, answer}]}}"):
        for video, aspects in _load(path, dict).items():
            for aspect, asked in aspects.items():
                for each in asked:
                    form, question, options = _compass(each["question"])
                    answer, clip = each["answer"], film(f"{video}.mp4", None, None, present)
                    if clip is None:
                        continue
                    if form == "captioning":
                        answer = options[ord(answer[0]) - ord("A")]  # the letter is right where the words are not
                    elif form == "caption matching":
                        answer = answer.split(": ", 1)[1]
                    elif form == "multiple choice":
                        answer = answer.split(" ", 1)[1]
                    items.append(
                        Item(
                            clip=clip, question=question, options=options, answer=answer, aspect=aspect.replace("_", " "),
                            form=form, group=f"{video}, {aspect}, {form}",
                        )
                    )  # fmt: skip
    return items


def read_tomato(
    path: str | Path, clips: str | Path, *, frames: int = 16, size: Size = None, present: bool = False
) -> list[Item]:
    """One of TOMATO's six files."""
    film, items = _films(clips, frames, size), []
    with _reading(path, "TOMATO's {number: {question, options, answer, key, demonstration_type, motion_type}}"):
        for each in _load(path, dict).values():
            clip = film(f"{each['demonstration_type']}/{each['key']}.mp4", None, None, present)
            if clip:
                options = tuple(each["options"])
                answer, aspect = options[each["answer"]], each["motion_type"]
                items.append(Item(clip=clip, question=each["question"], options=options, answer=answer, aspect=aspect))
    return items


def read_mvbench(
    path: str | Path, clips: str | Path, *, frames: int = 16, size: Size = None, present: bool = False
) -> list[Item]:
    """One of MVBench's twenty files; the aspect is the file's name. A folder of pictures is not a clip that can be read."""
    film, items = _films(clips, frames, size), []
    aspect = Path(path).stem.replace("_", " ")
    with _reading(path, "MVBench's [{video, question, candidates, answer}]"):
        for each in _load(path, list):
            clip = film(each["video"], each.get("start"), each.get("end"), present)
            if clip:
                options = tuple(each["candidates"])
                item = Item(clip=clip, question=each["question"], options=options, answer=each["answer"], aspect=aspect)
                items.append(item)
    return items


def read_temporalbench(
    path: str | Path, clips: str | Path, *, frames: int = 16, size: Size = None, present: bool = False
) -> list[Item]:
    """TemporalBench's short or long questions; the questions about one clip are a group."""
    film, items = _films(clips, frames, size), []
    with _reading(path, "TemporalBench's [{video_name, question, GT, ...}]"):
        for each in _load(path, list):
            clip = film(each["video_name"], None, None, present)
            if clip:
                options = tuple(option.strip() for _, option in LETTERED.findall(each["question"]))
                items.append(
                    Item(
                        clip=clip,
                        question=each["question"].split("\n")[0],
                        options=options,
                        answer=options[ord(each["GT"].strip()[0].upper()) - ord("A")],
                        aspect=str(each.get("category") or "all"),
                        form="one of two",
                        group=each["video_name"],
                    )
                )
    return items


def _compass(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Form, question and options."""
    question = text.split("\n")[0]
    for form, pattern in (("captioning", INFORMATION), ("caption matching", MATCHING), ("multiple choice", LETTERED)):
        found = pattern.findall(text)
        if found:
            return form, question, tuple(option for _, option in found)
    return "yes or no", question, ("yes", "no")


def _films(
    clips: str | Path, frames: int, size: Size
) -> Callable[[str, float | None, float | None, bool], Clip | None]:
    folder = Path(clips).expanduser()
    if not folder.is_dir():
        raise AttimeError(f"clips needs the folder of the benchmark's videos; {folder} is none.")
    if frames < 1:
        raise AttimeError(f"clips need at least one frame; got frames={frames}.")

    @cache
    def film(name: str, start: float | None, stop: float | None, present: bool) -> Clip | None:
        if present and not (folder / name).is_file():
            return None
        video = Video(folder / name)
        first, last = start or 0.0, min(video.duration_s, video.duration_s if stop is None else stop)
        step = (last - first) / frames
        when = first + step * (np.arange(frames) + 0.5)

        return Clip(partial(video.at, when, size=size), seconds_per_frame=step)

    return film


@contextmanager
def _reading(path: str | Path, form: str) -> Iterator[None]:
    """Turns whatever goes wrong over a file that is not of the format into one sentence."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AttimeError(
            f"{Path(path).name} is not {form}: {type(error).__name__} {error}; give the benchmark's own file."
        ) from None


def _load(path: str | Path, kind: type) -> Any:
    found: Mapping[str, Any] | list[Any] = json.loads(readable(path, "a reader of annotations").read_text("utf-8"))
    if not isinstance(found, kind) or not found:
        raise TypeError(f"it holds a {type(found).__name__}" if found else "it is empty")
    return found
