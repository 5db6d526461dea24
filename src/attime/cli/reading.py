"""What `attime stream` and `attime compare --memory` share: the model and its reader, and how much it was made to have in sight."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from attime import zoo
from attime.errors import AttimeError, MissingExtra
from attime.memory.chained import Chain, chain
from attime.memory.named import find_policy
from attime.memory.retrieve import Retrieve

__all__ = [
    "Encode",
    "beyond",
    "check_useful",
    "in_sight",
    "in_words",
    "made_for",
    "need_hub",
    "own_memory",
    "reading_model",
]

MOST = 1024
"""Tokens in sight, where nobody says how many."""
SINKS = 4

Encode = Callable[[bytes], Tensor]
"""From one piece of a text after the other to token ids (time,); the empty piece is the end of it."""


def need_hub(command: str) -> None:
    """MissingExtra where what binds models of transformers is not installed."""
    try:
        import attime.hub  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "transformers", "hub", command) from error


def reading_model(name: str | None) -> tuple[Any, Encode]:
    """The model and its reader; the zoo's byte model without a name or by its own."""
    if name in (None, "bytes"):
        return zoo.load("bytes").model, lambda piece: torch.tensor(list(piece), dtype=torch.long)
    from attime.hub.opened import text_model

    return text_model(str(name))


def made_for(model: Any) -> int | None:
    """Tokens in sight that the model was made for, as its configuration says; None where that says nothing."""
    from attime.hub.attached import text_part

    found = getattr(text_part(model).config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def check_useful(model: Any, memory: Chain | None) -> None:
    """AttimeError where a memory is of no use, since the model's positions end before it would forget anything."""
    from attime.hub.attached import text_part
    from attime.hub.reach import find_reach

    reach = find_reach(text_part(model))
    if reach is not None and (memory is None or memory.evidence().rotary):
        raise AttimeError(
            f"{reach.why}, so it reads at most {reach.most} tokens whatever a memory forgets: give it a text as short with "
            f"--memory none, or take a model with rotary positions."
        )


def in_sight(policy: Chain) -> int | None:
    """The most tokens that one token sees, itself among them; None: all that have come."""
    counts = [policy.budget] if policy.evidence().bounded else []
    counts += [each.budget + each.blocks * each.block for each in policy.policies if isinstance(each, Retrieve)]
    return min(counts, default=None)


def beyond(names: Sequence[str], seen: int | None, most: int) -> str:
    """What to know where more is in sight than a model was made for."""
    count = "more" if seen is None else f"{seen:,}"
    return f"the model was made for {most:,} tokens in sight, and has {count} with {', '.join(names)}: fewer may serve it better."


def in_words(policy: Chain) -> str:
    """The policy as it would be typed."""
    return " + ".join(map(repr, policy.policies)) or "none"


def own_memory(model: Any) -> Chain:
    """Sinks and a window, together as long as what the model was made for, and everything where it cannot read more than that."""
    from attime.hub import attach
    from attime.hub.attached import text_part
    from attime.hub.reach import find_reach

    if find_reach(text_part(model)) is not None:
        return chain()
    length = min(made_for(model) or MOST, MOST)
    sinks = min(SINKS, length // 4)
    made = find_policy(f"sinks={sinks},window={max(2, length - sinks)}")
    try:
        attach(model, made).detach()
    except AttimeError:  # its keys cannot be moved
        return chain(*(left for each in made.policies if (left := each.unmoved()) is not None))
    return made
