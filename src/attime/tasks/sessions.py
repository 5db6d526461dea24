"""Sessions: a long context and several queries about it, played in one conversation or as separate requests.

Source:  SCBench, arXiv 2412.10319, and its public code: in a conversation every query follows the right answers to those
         before it, and the context is read together with the first query; requests follow the same reading of the context.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from attime.errors import AttimeError
from attime.streams.contract import readable

__all__ = ["Mode", "Rereader", "Session", "SessionReader", "Text", "Turn", "joined", "read_sessions"]

Text = str | tuple[int, ...]
"""Characters, or numbers of tokens."""
Mode = Literal["multi-turn", "multi-request"]


class SessionReader(Protocol):
    """What answers: it reads, and says what comes next. States are values, so a reading can be gone on from twice."""

    def read(self, text: Text, state: Any = None) -> Any:
        """The state after reading `text` in this state, or at the start."""
        ...

    def say(self, length: int, state: Any) -> Text:
        """The next `length` characters or tokens."""
        ...


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A query and its answer; several answers are all to be found in what is said, each for its share."""

    query: Text
    answer: Text | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Session:
    """A context and what is asked about it."""

    context: Text
    turns: tuple[Turn, ...]

    def play(self, reader: SessionReader, *, mode: Mode = "multi-turn") -> list[float]:
        """What each answer is worth, 0 to 1."""
        if mode not in ("multi-turn", "multi-request"):
            raise AttimeError(f"a session is played in mode multi-turn or multi-request; got {mode!r}.")
        state = reader.read(self.context) if mode == "multi-request" else None
        marks, before = [], self.context
        for turn in self.turns:
            if mode == "multi-request":
                marks.append(_mark(reader.say(_length(turn.answer), reader.read(turn.query, state)), turn.answer))
            else:
                state = reader.read(joined(before, turn.query), state)
                marks.append(_mark(reader.say(_length(turn.answer), state), turn.answer))
                before = turn.answer if _is_one(turn.answer) else " ".join(map(str, turn.answer))
        return marks


class Rereader:
    """A reader whose state is all that it has read; `answer` gets it whole at every turn."""

    def __init__(self, answer: Callable[[Any], Text]) -> None:
        self.answer = answer

    def read(self, text: Text, state: Text | None = None) -> Text:
        return text if state is None else joined(state, text)

    def say(self, length: int, state: Text) -> Text:
        return self.answer(state)[:length]


def read_sessions(path: str | Path) -> list[Session]:
    """Sessions of a JSON-lines file in the format of SCBench: context (or input) and multi_turns with input and answer."""
    sessions = []
    for number, line in enumerate(readable(path, "read_sessions").read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            context = row["context"] if "context" in row else row["input"]
            turns = [Turn(query=str(each["input"]), answer=_answers(each["answer"])) for each in row["multi_turns"]]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise AttimeError(
                f"line {number} of {path} is not a session, an object with context and multi_turns of input and answer: "
                f"{type(error).__name__} {error}."
            ) from None
        sessions.append(
            Session(context=context if isinstance(context, str) else json.dumps(context), turns=tuple(turns))
        )
    return sessions


def _answers(answer: Any) -> str | tuple[str, ...]:
    return tuple(str(each) for each in answer) if isinstance(answer, list) else str(answer)


def _is_one(answer: Any) -> bool:
    return isinstance(answer, str) or all(isinstance(each, int) for each in answer)


def _length(answer: Any) -> int:
    return len(answer) if _is_one(answer) else 2 * sum(len(each) + 1 for each in answer)


def joined(one: Any, other: Any) -> Any:
    """Two texts after each other: characters on lines of their own, tokens end to end."""
    return f"{one}\n{other}" if isinstance(one, str) else (*one, *other)


def _mark(said: Any, answer: Any) -> float:
    if isinstance(answer, str):
        return float(answer in said)
    if _is_one(answer):
        return float(tuple(said) == answer)
    return float(np.mean([each.lower() in said.lower() for each in answer]))
