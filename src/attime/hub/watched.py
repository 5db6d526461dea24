"""`with watch(model, where="temporal", keep="maps") as seen:` what attention computes at some sites, while the model runs as ever."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from attime.control.call import Call
from attime.errors import AttimeError
from attime.hub.tap import Listener
from attime.site import Chosen, Site

__all__ = ["Record", "Watched", "watch"]

Keep = str | Callable[[Call], Tensor | None]
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was kept of one call."""

    site: Site
    step: int
    value: Tensor


def watch(
    model: object, *, where: Chosen = None, keep: Keep = "maps", most_bytes: int = 2 * GIB, detach: bool = True
) -> "Watched":
    """Look at attention in a model, or in the models of a pipeline, inside a `with`.

    `keep` is maps, scores, outputs, queries, keys or values (batch heads query key, or batch heads time head_dim), or a
    function of a `Call` that makes a tensor, or None, so that no more is held than that. With `detach=False` gradients flow through
    what is kept. More than `most_bytes` is an error. Outputs of the model are the same, bit for bit; those of a model whose
    attention is "eager" are those of "sdpa" meanwhile.
    """
    return Watched(model, where, keep, most_bytes, detach)


class Watched(Listener):
    """What has been seen: `seen.records` in the order of the calls, `seen[site]` the tensors of one site."""

    KEPT: ClassVar[dict[str, Callable[[Call, Tensor], Tensor]]] = {
        "maps": lambda call, out: call.maps,
        "scores": lambda call, out: call.scores,
        "outputs": lambda call, out: out,
        "queries": lambda call, out: call.q,
        "keys": lambda call, out: call.k,
        "values": lambda call, out: call.v,
    }

    def __init__(self, model: object, where: Chosen, keep: Keep, most_bytes: int, detach: bool) -> None:
        super().__init__(model, where)
        if isinstance(keep, str) and keep not in self.KEPT:
            raise AttimeError(f"watch keeps {', '.join(self.KEPT)} or what a function of a call makes; got {keep!r}.")
        self.keep, self.most_bytes, self.detach = keep, most_bytes, detach
        self.explicit = not detach
        self.records: list[Record] = []
        self.nbytes = 0

    def see(self, call: Call, out: Tensor) -> None:
        if self.keep in ("maps", "scores"):
            self._allow(call, call.q.shape[:3].numel() * call.k.shape[2] * max(4, call.q.element_size()))
        value = self.KEPT[self.keep](call, out) if isinstance(self.keep, str) else self.keep(call)
        if value is None:
            return
        if not isinstance(value, Tensor):
            raise AttimeError(
                f"what watch keeps must be a tensor; keep made a {type(value).__name__} at {call.site.name}."
            )
        self._allow(call, value.nbytes)
        if self.detach:
            value = value.detach()
            larger = value.untyped_storage().nbytes() > value.nbytes  # a view would keep all of what it is of
            value = value.clone() if larger or self.keep in ("outputs", "queries", "keys", "values") else value
        self.nbytes += value.nbytes
        self.records.append(Record(site=call.site, step=call.step, value=value))

    def _allow(self, call: Call, more: int) -> None:
        """AttimeError if so many bytes are too many."""
        if self.nbytes + more > self.most_bytes:
            self.records = []
            raise AttimeError(
                f"watch would hold more than most_bytes={self.most_bytes:,}, at {call.site.name} in step {call.step}: select "
                f"fewer sites, keep a statistic (keep=lambda call: call.maps.mean(0)), or allow more."
            )

    def __getitem__(self, site: Site | str) -> list[Tensor]:
        """What one site has made, call after call; a site or its path."""
        name = site if isinstance(site, str) else site.name
        if name not in {each.name for each in self.sites}:
            raise AttimeError(
                f"nobody watched {name}; watched are {', '.join(each.name for each in self.sites[:4])} ..."
            )
        return [record.value for record in self.records if record.site.name == name]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __enter__(self) -> "Watched":
        super().__enter__()
        return self
