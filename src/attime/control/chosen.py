"""Heads, words and sites that a control is told of: what there is of them is used, and what there is not is an error."""

from collections.abc import Collection, Sequence

from attime.control.call import Call
from attime.errors import AttimeError
from attime.site import Site

__all__ = ["Head", "check_heads", "check_source", "check_words", "chosen_heads"]

Head = tuple[str, int]
"""The path of a site and the number of a head."""
Heads = Sequence[Head] | Sequence[tuple[int, int]] | None
"""Heads by the path of their site, or by its layer; None: all."""


def chosen_heads(chosen: Heads, call: Call) -> list[int]:
    """The numbers of those that are at the site of this call."""
    heads = call.q.shape[1]
    if chosen is None:
        return list(range(heads))
    here = [head for place, head in chosen if place in (call.site.name, call.site.layer)]
    if any(not 0 <= head < heads for head in here):
        raise AttimeError(f"{call.site.name} has heads 0 to {heads - 1}; got {here}.")
    return here


def check_heads(who: object, chosen: Heads, sites: Sequence[Site]) -> None:
    """AttimeError if some are at none of these sites."""
    there = {place for site in sites for place in (site.name, site.layer)}
    away = [head for head in chosen or () if head[0] not in there]
    if away:
        raise AttimeError(
            f"{type(who).__name__} was told of head {away[0]}, and none of the {len(sites)} sites that it is put on is there: "
            f"choose among heads such as {(sites[0].name if isinstance(away[0][0], str) else sites[0].layer, 0)}, or other "
            f"sites by where."
        )


def check_source(who: object, source: Collection[Site], sites: Sequence[Site]) -> None:
    """AttimeError if nothing that was watched is of one of these sites."""
    if not set(sites) & set(source):
        raise AttimeError(
            f"{type(who).__name__} has a source of sites such as {next(iter(source)).name}, and is put on others, such as "
            f"{sites[0].name}: watch and steer the same model, both inside its pipeline or both outside, at the same sites."
        )


def check_words(who: object, words: Sequence[int], site: Site, count: int) -> None:
    """AttimeError if some are not among so many."""
    if words and not 0 <= min(words) <= max(words) < count:
        raise AttimeError(
            f"{type(who).__name__} was told of words {tuple(words)}, and {site.name} sees words 0 to {count - 1}."
        )
