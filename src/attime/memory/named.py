"""Policies from text, for the command line: `sinks=4,window=1020`, or `Evict(score=KeyNorm(), budget=512) + Contiguous()`."""

import ast
import importlib
import pkgutil
import re
from typing import Any

from attime.errors import AttimeError
from attime.memory.banks import FrameBank
from attime.memory.contract import Chain, chain
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
        options = {name: int(number) for name, number in re.findall(r"(\w+)\s*=\s*(\d+)", text)}
        wrong = sorted(set(options) - {"sinks", "window", "every"})
        if wrong:
            raise AttimeError(f"a memory such as sinks=4,window=1020 knows sinks, window and every; got {wrong[0]}.")
        window = options.get("window", SinkWindow.window)
        every = options.setdefault("every", max(1, min(SinkWindow.every, window // 4)))
        return chain(SinkWindow(**{**options, "every": every}), Contiguous())
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
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
        except ValueError:
            raise AttimeError(
                f"in {text!r}, {ast.unparse(tree)!r} is neither a value nor a part of the memory room."
            ) from None
    every = memory_parts()
    known = {each: part for each, part in every.items() if not issubclass(part, FrameBank)}
    if name.id in every and name.id not in known:
        raise AttimeError(
            f"{name.id} is a bank over frames, not a policy over keys and values; it is written and read from Python: "
            f"see attime.memory.banks."
        )
    if name.id not in known:
        raise AttimeError(f"the memory room has no {name.id}; it has {', '.join(sorted(known))}.")
    call = tree if isinstance(tree, ast.Call) else ast.Call(func=name, args=[], keywords=[])
    if call.args:
        raise AttimeError(f"options in {text!r} must read name=value.")
    try:
        return known[name.id](**{str(each.arg): _value(each.value, text) for each in call.keywords})
    except TypeError as error:
        raise AttimeError(f"{name.id} in {text!r}: {error}.") from None
