"""`attime zoo`: the small trained models in the package; their cards, their recipes, and their numbers measured again."""

import argparse
import json
from textwrap import shorten
from typing import Any

import torch
from rich.console import Console

from attime.errors import AttimeError
from attime.report import listing
from attime.zoo import find, load, names, save

__all__ = ["zoo"]

FRESH_SEED = 2_000_003  # neither training nor the card has drawn from it


def zoo(options: argparse.Namespace) -> int:
    """List, show a card, train a model by its recipe, or check its goals on another seed."""
    if options.action == "list":
        return _list(options)
    if options.name is None:
        raise AttimeError(f"attime zoo {options.action} needs a name: {', '.join(names())}.")
    return {"show": _show, "train": _train, "check": _check}[options.action](options)


def _list(options: argparse.Namespace) -> int:
    cards = [_card(name, options.out) for name in names()]
    if options.json:
        print(json.dumps({"zoo": cards}))
        return 0
    rows = [
        (card["name"], card["class"], f"{card['parameters']:,}", "yes" if card["met"] else "no", card["about"])
        if "class" in card
        else (card["name"], "", "", "", f"no weights yet: attime zoo train {card['name']}")
        for card in cards
    ]
    Console().print(listing(("name", "class", "parameters", "goals met", "what"), rows))
    return 0


def _card(name: str, folder: str | None) -> dict[str, Any]:
    """The card of a model, or its name alone if there are no weights of it."""
    try:
        return dict(load(name, folder).card)
    except AttimeError:
        return {"name": name}


def _show(options: argparse.Namespace) -> int:
    card = load(options.name, options.out).card
    if options.json:
        print(json.dumps(card))
        return 0
    for key, value in card.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {number:g}" for name, number in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        print(f"{key.replace('_', ' '):14} {value}")
    return 0


def _train(options: argparse.Namespace) -> int:
    kind = find(options.name)
    made = kind.train(
        steps=options.steps, seed=options.seed or 0, device=_device(options), log=_quiet if options.json else print
    )
    path = save(made, options.out or "attime-zoo")
    if options.json:
        print(json.dumps({"weights": str(path), **made.card}))
    else:
        print(f"{path}: {_numbers(made.card['numbers'])}")
        print(f"goals {'met' if made.card['met'] else 'NOT met'}: {', '.join(made.card['goals'])}")
    return 0 if made.card["met"] else 1


def _check(options: argparse.Namespace) -> int:
    made = load(options.name, options.out, device=_device(options))
    seed = FRESH_SEED if options.seed is None else options.seed
    numbers = made.measure(seed=seed)
    unmet = [str(goal) for goal in made.goals if not goal.met(numbers)]
    if options.json:
        print(json.dumps({"name": options.name, "seed": seed, "numbers": numbers, "unmet": unmet}))
    else:
        print(f"{options.name}, seed {seed}: {_numbers(numbers)}")
        print(f"not met: {', '.join(unmet)}" if unmet else f"goals met: {', '.join(map(str, made.goals))}")
    return 1 if unmet else 0


def _device(options: argparse.Namespace) -> str:
    """The device that was named, which is there."""
    try:
        torch.zeros(1, device=options.device).item()
    except (RuntimeError, AssertionError) as error:
        why = shorten(str(error).partition("\n")[0].rstrip("."), 160, placeholder=" ...")
        raise AttimeError(
            f"--device needs one that torch has here, such as cpu; got {options.device}: {why}."
        ) from None
    return options.device


def _numbers(numbers: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def _quiet(line: str) -> None:
    """Progress is not wanted where one JSON object is."""
