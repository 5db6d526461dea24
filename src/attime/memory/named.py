"""Policies from text, for the command line: `sinks=4,window=1020`, or `Evict(score=KeyNorm(), budget=512) + Contiguous()`."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from attime.errors import AttimeError
from attime.given import WORDS, fits, in_words
from attime.memory.banks import FrameBank
from attime.memory.chained import Chain, chain
from attime.memory.evict import SinkWindow
from attime.memory.place import Contiguous
from attime.part import Part

__all__ = ["find_policy", "memory_parts"]

SHORT = re.compile(r"\s*\w+\s*=\s*\d+\s*(,\s*\w+\s*=\s*\d+\s*)*")


def memory_parts() -> dict[str, type[Part]]:
    """Everything that the families of the memory room list, by class name."""
    package = importlib.import_module("attime.memory")
    found: dict[str, type[Part]] = {}
    for family in pkgutil.iter_modules(package.__path__, "attime.memory."):
        if family.ispkg:
            module = importlib.import_module(family.name)
            listed = {name: getattr(module, name) for name in module.__all__}
            found |= {name: each for name, each in listed.items() if isinstance(each, type) and issubclass(each, Part)}
    return found


def find_policy(text: str) -> Chain:
    """The chain that a text names: parts joined by +, `none` for keeping everything, or sinks and window alone.

    `sinks=4,window=1020` stands for SinkWindow(sinks=4, window=1020) + Contiguous().
    """
    if text.strip() in ("none", ""):
        return chain()
    if SHORT.fullmatch(text):
        given = re.findall(r"(\w+)\s*=\s*(\d+)", text)
        options = {name: int(number) for name, number in given}
        wrong = sorted(set(options) - {"sinks", "window", "every"})
        if wrong:
            raise AttimeError(f"a memory such as sinks=4,window=1020 knows sinks, window and every; got {wrong[0]}.")
        if len(options) < len(given):
            raise AttimeError(f"a memory such as sinks=4,window=1020 takes each option once; got {text.strip()}.")
        window = options.get("window", SinkWindow.window)
        every = options.setdefault("every", max(1, min(SinkWindow.every, window // 4)))
        return chain(SinkWindow(**{**options, "every": every}), Contiguous())
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise AttimeError(
            f"{text!r} is no memory; write sinks=4,window=1020 or Evict(score=KeyNorm(), budget=512)."
        ) from None
    return chain(*_sum(tree, text))


def _sum(tree: ast.expr, text: str) -> list[Any]:
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        return [*_sum(tree.left, text), *_sum(tree.right, text)]
    return [_value(tree, text)]


def _value(tree: ast.expr, text: str) -> Any:
    """A plain value, or a part of the room built with keywords."""
    name = tree.func if isinstance(tree, ast.Call) else tree
    if not isinstance(name, ast.Name):
        try:
            return ast.literal_eval(tree)
        except (ValueError, TypeError):
            raise AttimeError(
                f"in {text!r}, {ast.unparse(tree)!r} is neither a value nor a part of the memory room."
            ) from None
    every = memory_parts()
    known = {each: part for each, part in every.items() if not issubclass(part, FrameBank) and not _missing(part)}
    if name.id not in known:
        raise AttimeError(_absent(name.id, every.get(name.id), known))
    call = tree if isinstance(tree, ast.Call) else ast.Call(func=name, args=[], keywords=[])
    if call.args or any(each.arg is None for each in call.keywords):
        raise AttimeError(f"options in {text!r} must read name=value.")
    return _made(known[name.id], call, text)


def _made(part: type[Part], call: ast.Call, text: str) -> Part:
    """The part with the options of this call, if they are what it takes."""
    hints, options, given = get_type_hints(part), _options(part), dict[str, Any]()
    for each in call.keywords:
        option = str(each.arg)
        if option not in options:
            has = ", ".join(options) or "none"
            raise AttimeError(f"{part.__name__} in {text!r} has no option {option}; it has {has}.")
        if option in given:
            raise AttimeError(f"{part.__name__} in {text!r} is given {option} twice: leave one out.")
        given[option] = _value(each.value, text)
        if not fits(given[option], hints[option]):
            raise AttimeError(
                f"{part.__name__} in {text!r} needs {option} to be {_said(hints[option])}; got {given[option]!r}."
            )
    if left := [option for option, needed in options.items() if needed and option not in given]:
        raise AttimeError(f"{part.__name__} in {text!r} needs {left[0]}: {_said(hints[left[0]])}; got none.")
    return part(**given)


def _absent(name: str, part: type[Part] | None, known: Mapping[str, type[Part]]) -> str:
    """Why no such part can be made from text."""
    if part is None:
        return f"the memory room has no {name}; it has {', '.join(sorted(known))}."
    if issubclass(part, FrameBank):
        return (
            f"{name} is a bank over frames, not a policy over keys and values; it is written and read from Python: "
            f"see attime.memory.banks."
        )
    if inspect.isabstract(part):
        return f"{name} is a kind of part, not one that can be made; take {_said(part)}."
    return f"{name} needs {_missing(part)} made in Python, which no text can name; give it to attime.hub.attach from there."


def _options(part: type[Part]) -> dict[str, bool]:
    """What can be given to a part, and whether it has to be."""
    known = fields(part) if not inspect.isabstract(part) else ()  # type: ignore[arg-type]
    return {each.name: each.default is MISSING and each.default_factory is MISSING for each in known if each.init}


def _missing(part: type[Part]) -> str:
    """What a part needs that no text can give, itself if it is only a kind of parts; nothing as a rule."""
    hints = get_type_hints(part)
    needed = [hints[option] for option, needed in _options(part).items() if needed]
    strange = [each for each in needed if isinstance(each, type) and each not in WORDS and not issubclass(each, Part)]
    return part.__name__ if inspect.isabstract(part) else ", ".join(each.__name__ for each in strange)


def _said(hint: Any) -> str:
    """A type hint in words, which name the parts that can be given."""
    return in_words(hint, _one_of)


def _one_of(kind: type) -> str:
    made = [name for name, part in memory_parts().items() if issubclass(part, kind) and not _missing(part)]
    return f"one of {', '.join(sorted(made))}" if made else f"a {kind.__name__}"
