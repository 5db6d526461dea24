"""Site: a named place in a model where attention happens, and the words and predicates that select some of them.

kind("temporal") & layer(range(8, 12))        named("up_blocks.1") | ~part("decoder")        "temporal up_blocks.1"
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from attime.errors import AttimeError

__all__ = ["KINDS", "Chosen", "Kind", "Site", "Where", "kind", "layer", "named", "part", "select"]

Kind = Literal["self", "cross", "temporal", "spatial", "joint"]
"""What sees what: tokens of one sequence, another sequence, the same place over time, places of one frame, or places of
all frames (with the words, in some models)."""
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True, order=True)
class Site:
    """One attention in a model."""

    name: str
    """The module's path, as in `model.get_submodule(name)`."""
    part: str
    """The part of the model: language, vision, encoder, decoder, unet, transformer, ..."""
    kind: str
    """One of `KINDS`."""
    layer: int
    """Its number among the attentions of this part and kind, from 0."""
    heads: int

    def __str__(self) -> str:
        return f"{self.part} {self.kind} {self.layer}  ({self.name}, {self.heads} heads)"


@dataclass(frozen=True)
class Where:
    """A predicate on sites; combine with &, | and ~."""

    test: Callable[[Site], bool]
    words: str

    def __call__(self, site: Site) -> bool:
        return self.test(site)

    def __and__(self, other: Callable[[Site], bool]) -> "Where":
        return Where(lambda site: self(site) and other(site), f"({self} & {other})")

    def __or__(self, other: Callable[[Site], bool]) -> "Where":
        return Where(lambda site: self(site) or other(site), f"({self} | {other})")

    def __invert__(self) -> "Where":
        return Where(lambda site: not self(site), f"~{self.words}")

    def __repr__(self) -> str:
        return self.words


Chosen = Where | str | Callable[[Site], bool] | Site | Iterable[Site] | None
"""What selects sites: words, a predicate, the sites themselves, or None for all."""


def kind(*kinds: Kind) -> Where:
    """Sites of these kinds."""
    unknown = [each for each in kinds if each not in KINDS]
    if unknown or not kinds:
        raise AttimeError(f"a site is of kind {', '.join(KINDS)}; got {', '.join(unknown) or 'none'}.")
    return Where(lambda site: site.kind in kinds, f"kind({', '.join(map(repr, kinds))})")


def layer(*layers: int | Iterable[int]) -> Where:
    """Sites with these numbers: `layer(3)`, `layer(1, 2)`, `layer(range(8, 12))`."""
    numbers = {number for each in layers for number in ([each] if isinstance(each, int) else each)}
    shown = ", ".join(map(str, layers))
    return Where(lambda site: site.layer in numbers, f"layer({shown})")


def named(text: str) -> Where:
    """Sites whose path has this text in it, whole names only: `up_blocks.1` is not in `up_blocks.10`."""
    return Where(lambda site: f".{text}." in f".{site.name}.", f"named({text!r})")


def part(name: str) -> Where:
    """Sites of this part of the model."""
    return Where(lambda site: site.part == name, f"part({name!r})")


def select(sites: Sequence[Site], where: Chosen) -> list[Site]:
    """Those of `sites` that `where` selects; AttimeError, with what there is, if it selects none.

    Words are kinds, parts, numbers of layers (`3` or `8-11`) and pieces of paths; a site must fit each kind of word.
    """
    if where is None:
        found = list(sites)
    elif isinstance(where, str):
        found = [site for site in sites if _fits(site, where.split(), sites)]
    elif callable(where):
        found = [site for site in sites if where(site)]
    else:
        wanted = list(where) if isinstance(where, Iterable) else [where]
        if not all(isinstance(each, Site) for each in wanted):
            raise AttimeError(
                f"where selects sites by words ('temporal 8-11'), by a predicate (kind, layer, named, part or a function of a "
                f"site), or is a site or several; got {where!r}."
            )
        found = [site for site in sites if site in wanted]
    if not found:
        there = sorted({f"{site.part} {site.kind}" for site in sites})
        raise AttimeError(
            f"where={where!r} selects none of the {len(sites)} sites; there are: {', '.join(there) or 'none'}; "
            f"the paths begin with {sites[0].name if sites else 'nothing'}."
        )
    return found


def _fits(site: Site, words: Sequence[str], sites: Sequence[Site]) -> bool:
    """Of the words that are kinds, one must be its kind; likewise parts and numbers; every other word is in its path."""
    parts = {each.part for each in sites}
    kinds = [word for word in words if word in KINDS]
    owners = [word for word in words if word in parts]
    numbers = {number for word in words for number in _numbers(word)}
    rest = [
        word for word in words if word not in KINDS and word not in parts and not _numbers(word) and word != "layer"
    ]
    return (
        (not kinds or site.kind in kinds)
        and (not owners or site.part in owners)
        and (not numbers or site.layer in numbers)
        and all(named(word)(site) for word in rest)
    )


def _numbers(word: str) -> list[int]:
    """3 and 8-11 are numbers of layers."""
    first, _, last = word.partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()):
        return []
    return list(range(int(first), int(last or first) + 1))
