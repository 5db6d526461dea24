"""One long context, several queries: what is left of it after the first answer.

A session is a context and queries about it, in one of two modes. Multi-turn: one after the other in one conversation,
each with the right answers to those before it. Multi-request: each on its own, after the same reading of the context.
Whoever throws away what the first query did not need is found out by the second, so accuracy is told for every turn.

    key-value        a long list of keys and values; a key is asked for
    prefix-suffix    a long list of strings of three parts, many with the same first or last part; both are asked for
    variables        variables set to a number or to another variable; one is asked for, `hops` away from its number

Source:  SCBench, arXiv 2412.10319 (string retrieval, both modes), and its public code and data format.
Differs: a variable's number is asked for and not all variables with a number; the strings are short.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np

from attime.errors import AttimeError
from attime.part import Part
from attime.tasks.contract import Traits
from attime.tasks.sessions import Mode, Rereader, Session, SessionReader, Text, Turn

__all__ = ["SharedContext"]

Fact = tuple[int, ...]


@final
@dataclass(frozen=True, kw_only=True)
class SharedContext(Part):
    """Sessions about random strings or tokens (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(needs_time=False, batches=False)

    kind: Literal["key-value", "prefix-suffix", "variables"] = "key-value"
    symbols: Literal["characters", "tokens"] = "characters"
    facts: int = 32
    """Entries of the context."""
    turns: int = 5
    sessions: int = 40
    hops: int = 2
    """Between a variable that is asked for and its number."""
    keys: int = 64
    """Kinds of tokens for keys, parts and variables: 0 to keys - 1."""
    values: int = 64
    """Kinds of tokens for values: keys to keys + values - 1."""

    def __post_init__(self) -> None:
        chains = self.facts // (self.hops + 1) if self.kind == "variables" else self.facts
        if self.kind not in SOLVE or self.symbols not in ("characters", "tokens"):
            raise AttimeError(
                f"SharedContext has no kind {self.kind!r} of {self.symbols!r}; kinds are {', '.join(SOLVE)}."
            )
        if not 1 <= self.turns <= chains or self.hops < 1 or self.sessions < 1 or self.values < 2:
            raise AttimeError(
                f"SharedContext needs 1 <= turns <= what can be asked for ({chains}), hops >= 1, sessions >= 1 and "
                f"values >= 2; got turns={self.turns}, hops={self.hops}, sessions={self.sessions}, values={self.values}."
            )
        if self.keys < self.facts:
            raise AttimeError(f"SharedContext needs a key for each fact; got keys={self.keys}, facts={self.facts}.")

    @property
    def protocol(self) -> str:
        """The name under which results are comparable."""
        asked = f"{self.facts}-facts-{self.turns}-turns" + (f"-{self.hops}-hops" if self.kind == "variables" else "")
        kinds = f"{self.keys}-keys-{self.values}-values-as-{self.symbols}"
        return f"shared-context/{self.kind}-{asked}-{kinds}"

    def items(self, *, seed: int = 0) -> list[Session]:
        """All sessions, the same for the same seed."""
        return [self._session(np.random.default_rng([seed, number])) for number in range(self.sessions)]

    def score(self, reader: SessionReader, *, mode: Mode = "multi-turn", seed: int = 0) -> dict[str, float]:
        """`accuracy`, and the accuracy of every turn (`turn 1` ...), each 0 to 1."""
        return self.grade(self.items(seed=seed), reader, mode=mode)

    @staticmethod
    def grade(sessions: Sequence[Session], reader: SessionReader, *, mode: Mode = "multi-turn") -> dict[str, float]:
        """The same for any sessions, such as those of `read_sessions`."""
        if not sessions:
            raise AttimeError("shared contexts need at least one session; got none.")
        marks: dict[str, list[float]] = defaultdict(list)
        for session in sessions:
            for number, mark in enumerate(session.play(reader, mode=mode), start=1):
                marks["accuracy"].append(mark)
                marks[f"turn {number}"].append(mark)
        return {name: float(np.mean(each)) for name, each in marks.items()}

    def chance(self) -> Mapping[str, float]:
        """The accuracy of somebody who answers with any of the answers that the context holds."""
        held = self.facts // (self.hops + 1) if self.kind == "variables" else self.facts
        return {"accuracy": 1 / held}

    def oracle(self) -> "Rereader":
        """A reader that looks everything up in all that it has read."""
        return Rereader(SOLVE[self.kind][self.symbols])

    @classmethod
    def examples(cls) -> Sequence["SharedContext"]:
        return [
            cls(sessions=6, facts=12, turns=3),
            cls(kind="prefix-suffix", sessions=6, facts=12, turns=3),
            cls(kind="variables", sessions=6, facts=12, turns=3),
            cls(symbols="tokens", sessions=6, facts=12, turns=4),
            cls(kind="prefix-suffix", symbols="tokens", sessions=6, facts=12, turns=3),
            cls(kind="variables", symbols="tokens", sessions=6, facts=12, turns=3, hops=1),
        ]

    def _session(self, random: np.random.Generator) -> Session:
        keys = random.permutation(self.keys)[: self.facts].tolist()
        values = (self.keys + random.permutation(self.values)).tolist()
        values = [values[number % self.values] for number in range(self.facts)]
        if self.kind == "key-value":
            facts = list(zip(keys, values, strict=True))
            asked = [((key,), (value,)) for key, value in facts]
        elif self.kind == "prefix-suffix":
            parts = max(2, int(np.ceil(self.facts**0.5)))
            ends = [(keys[place // parts], keys[-1 - place % parts]) for place in range(self.facts)]
            facts = [(first, value, last) for (first, last), value in zip(ends, values, strict=True)]
            asked = [((first, last), (value,)) for first, value, last in facts]
        else:
            chains = [keys[place : place + self.hops + 1] for place in range(0, self.facts, self.hops + 1)]
            chains = [chain for chain in chains if len(chain) == self.hops + 1]
            facts = [
                (name, [value, *chain][place])
                for chain, value in zip(chains, values, strict=False)
                for place, name in enumerate(chain)
            ]
            asked = [((chain[-1],), (value,)) for chain, value in zip(chains, values, strict=False)]
        facts = [facts[place] for place in random.permutation(len(facts))]
        asked = [asked[place] for place in random.permutation(len(asked))[: self.turns]]
        if self.symbols == "tokens":
            turns = [Turn(query=query, answer=answer) for query, answer in asked]
            return Session(context=tuple(symbol for fact in facts for symbol in fact), turns=tuple(turns))
        words = _words(self.keys, self.values, random)
        lines, turns = _written(self.kind, [[words[each] for each in fact] for fact in facts]), []
        for query, answer in asked:
            turns.append(_asked(self.kind, [words[each] for each in query], words[answer[0]]))
        return Session(context="".join(f"{line}\n" for line in lines), turns=tuple(turns))


def _words(keys: int, values: int, random: np.random.Generator) -> list[str]:
    """A random word for each key, a random number for each value, all different."""
    made: dict[str, None] = {}
    while len(made) < keys:
        made["".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), 6))] = None
    numbers = random.choice(900_000, values, replace=False) + 100_000
    return [*made, *(str(number) for number in numbers.tolist())]


def _written(kind: str, facts: Sequence[Sequence[str]]) -> list[str]:
    if kind == "prefix-suffix":
        return ["-".join(fact) for fact in facts]
    return [f"{name} = {value}" for name, value in facts]


def _asked(kind: str, query: Sequence[str], value: str) -> Turn:
    if kind == "prefix-suffix":
        return Turn(query=f"{query[0]}-?-{query[1]} is ", answer=f"{query[0]}-{value}-{query[1]}")
    return Turn(query=f"{query[0]} is ", answer=value)


def _look_up(text: str) -> str:
    """Follow the name that is asked for until there is a number."""
    found = re.findall(r"(\w+) is $", text)[0]
    facts = dict(reversed(re.findall(r"^(\w+) = (\w+)$", text, re.MULTILINE)))
    while found in facts:
        found = facts[found]
    return found


def _look_between(text: str) -> str:
    first, last = re.findall(r"(\w+)-\?-(\w+) is $", text)[0]
    return re.findall(rf"^{first}-\w+-{last}$", text, re.MULTILINE)[0]


def _follow(tokens: Fact) -> Fact:
    """The token after the first place, among pairs, that holds the last token; and so on from there."""
    found, facts = tokens[-1], {}
    for key, value in zip(tokens[:-1:2], tokens[1::2], strict=False):
        facts.setdefault(key, value)
    while found in facts:
        found = facts[found]
    return (found,)


def _between(tokens: Fact) -> Fact:
    first, last = tokens[-2:]
    return next(
        (tokens[place + 1],)
        for place in range(0, len(tokens) - 2, 3)
        if tokens[place] == first and tokens[place + 2] == last
    )


SOLVE: dict[str, dict[str, Callable[[Any], Text]]] = {
    "key-value": {"characters": _look_up, "tokens": _follow},
    "prefix-suffix": {"characters": _look_between, "tokens": _between},
    "variables": {"characters": _look_up, "tokens": _follow},
}
