"""What a control may be given: values of the types that its fields are declared with, and numbers that are finite."""

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field
from math import isfinite
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from torch import Tensor

from attime.errors import AttimeError

__all__ = ["check_given", "is_number"]

WORDS: dict[Any, str] = {
    float: "a finite number",
    int: "a whole number",
    bool: "True or False",
    range: "a range such as range(5)",
    NoneType: "None",
}


def check_given(who: str, fields: Iterable["Field[Any]"], given: Mapping[str, Any]) -> None:
    """AttimeError for the first of the given values that its field cannot hold."""
    for field in fields:
        if field.name in given and not _fits(given[field.name], field.type):
            raise AttimeError(f"{who} needs {field.name} to be {_words(field.type)}; got {_shown(given[field.name])}.")


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, Real) and isfinite(value)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; lists do for tuples, and a Literal is left to the control that has it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(each, inner[1]) for key, each in value.items()
        )
    if origin is Sequence:
        return isinstance(value, (Sequence, Tensor)) and all(_fits(each, inner[0]) for each in value)
    if kind is float:
        return is_number(value)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hasattr(kind, "dim_str"):  # a shape of jaxtyping, whose own check would bind the names of its caller's axes
        right = isinstance(value, Tensor) and str(value.dtype).removeprefix("torch.") in kind.dtypes
        return right and value.ndim == len(kind.dim_str.split())
    return not isinstance(kind, type) or isinstance(value, kind)


def _words(kind: Any) -> str:
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_words, get_args(kind)))
    if hasattr(kind, "dim_str"):
        return f"a {kind.__name__.partition('[')[0].lower()} tensor ({kind.dim_str})"
    return WORDS.get(kind) or re.sub(r"\b(?:\w+\.)+", "", str(kind))


def _shown(value: Any) -> str:
    """A value in one short line."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return " ".join(reprlib.repr(value).split())
