"""What a part may be given: values of the types that its fields are declared with, and numbers that are finite.

A whole number is a number, True is none, numbers of numpy will do, and so do lists for tuples.
"""

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from math import isfinite
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from torch import Tensor

from attime.errors import AttimeError

__all__ = ["WORDS", "Given", "fits", "in_words", "is_number"]

WORDS: dict[Any, str] = {
    float: "a finite number",
    int: "a whole number",
    bool: "True or False",
    str: "a text in quotes",
    range: "a range such as range(5)",
    NoneType: "None",
}


class Given:
    """A dataclass without weights: AttimeError, before it is made, for the first value that its field cannot hold."""

    def __new__(cls, *args: Any, **given: Any):
        for field in fields(cls):  # type: ignore[arg-type]
            if field.name in given and not fits(given[field.name], field.type):
                value = given[field.name]
                raise AttimeError(
                    f"{cls.__name__} needs {field.name} to be {in_words(field.type)}; got {_shown(value)}."
                )
        return super().__new__(cls)


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is what a type hint asks for; hints that are no types of ours are taken to be met."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        return len(kinds) == len(value) and all(map(fits, value, kinds))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(all(map(fits, pair, inner)) for pair in value.items())
    if origin is Sequence:
        return isinstance(value, (Sequence, Tensor)) and all(fits(each, inner[0]) for each in value)
    if kind is float:
        return is_number(value)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hasattr(kind, "dim_str"):  # a shape of jaxtyping, whose own check would bind the names of its caller's axes
        right = isinstance(value, Tensor) and str(value.dtype).removeprefix("torch.") in kind.dtypes
        return right and value.ndim == len(kind.dim_str.split())
    return not isinstance(kind, type) or isinstance(value, kind)


def in_words(kind: Any, named: Callable[[type], str] = lambda kind: f"a {kind.__name__}") -> str:
    """A type hint as a sentence has it; `named` tells of a class."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(repr, inner))
    said = ["..." if each is ... else in_words(each, named) for each in inner]
    if origin in (Union, UnionType):
        return " or ".join(said)
    if origin is tuple:
        return f"a tuple ({', '.join(said)})"
    if origin is Mapping:
        return f"a mapping of {said[0]} to {said[1]}"
    if origin is Sequence:
        return f"a sequence ({said[0]}, ...)"
    if hasattr(kind, "dim_str"):
        return f"a {kind.__name__.partition('[')[0].lower()} tensor ({kind.dim_str})"
    return WORDS.get(kind) or (named(kind) if isinstance(kind, type) else str(kind))


def _shown(value: Any) -> str:
    """A value in one short line."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return " ".join(reprlib.repr(value).split())
