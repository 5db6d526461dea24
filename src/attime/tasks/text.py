"""The next byte of a text.

Protocol: every byte of the held-out text is predicted once. It is read in windows of `window` bytes that overlap by
          `overlap`: a byte is scored where at least that many bytes stand before it in its window (or the text begins).
          The first byte is predicted after a newline.
Floors:   Witten-Bell n-grams of orders 1 to 6 (see `witten_bell.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.streams.public import public
from attime.streams.text import Corpus, cut
from attime.tasks.contract import Batch, Metric, Predictor, Task, Tokens
from attime.tasks.scores import certain, chance_of_tokens, tally_of_tokens
from attime.tasks.witten_bell import UNKNOWN, Counts, counted, witten_bell

__all__ = ["Text"]

BYTES, NEWLINE = 256, 10


@final
@dataclass(frozen=True, kw_only=True)
class Text(Task):
    """Bytes after bytes (see the module docstring)."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="nats", unit="nats per byte", better="lower"),
        Metric(name="accuracy", unit="accuracy", better="higher"),
    )
    corpus: Corpus = field(repr=False)
    window: int = 256
    overlap: int = 64
    orders: int = 6
    """The floors are n-grams of orders 1 to this."""

    def __post_init__(self) -> None:
        if self.window < 1 or not 0 <= self.overlap < self.window or not 1 <= self.orders <= 7:
            raise AttimeError(
                f"Text needs window >= 1, 0 <= overlap < window and 1 <= orders <= 7; got window={self.window}, "
                f"overlap={self.overlap}, orders={self.orders}."
            )
        if len(self.corpus.train) <= self.window or not len(self.corpus.valid) or not len(self.corpus.test):
            raise AttimeError(
                f"Text needs more than window={self.window} bytes to train on and one in each held-out part; "
                f"got {self.corpus.about}: give more text or a smaller window."
            )

    @classmethod
    def of(cls, corpus: Corpus, **options: Any) -> "Text":
        """The task on a corpus."""
        return cls(corpus=corpus, **options)

    @classmethod
    def public(cls, name: str = "tinyshakespeare", **options: Any) -> "Text":
        """The task on a public text."""
        corpus = public(name)
        if not isinstance(corpus, Corpus):
            raise AttimeError(f"Text needs a text; {name} is not one: take tinyshakespeare.")
        return cls(corpus=corpus, **options)

    @property
    def protocol(self) -> str:
        return f"{self.corpus.name}/bytes-{self.window}-{self.overlap}"

    @property
    def space(self) -> Tokens:
        return Tokens(vocabulary=BYTES)

    def train(self, *, seed: int, batch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        windows = sliding_window_view(self.corpus.train, self.window + 1)
        scored = torch.ones(batch, self.window, dtype=torch.bool)
        while True:
            starts = torch.randint(len(windows), (batch,), generator=generator)
            tokens = torch.from_numpy(windows[starts.numpy()]).long()
            yield Batch(inputs=tokens[:, :-1], targets=tokens[:, 1:].flatten(), scored=scored)

    def split(self, name: Literal["valid", "test"], *, batch: int = 32) -> Iterator[Batch]:
        held_out = self.corpus.valid if name == "valid" else self.corpus.test
        tokens = np.concatenate([np.array([NEWLINE], np.uint8), held_out])
        window = min(self.window, len(held_out))
        stride = window - min(self.overlap, window - 1)
        count = 1 + -(-(len(held_out) - window) // stride)
        starts = np.minimum(np.arange(count) * stride, len(held_out) - window)  # the last window ends with the text
        done = np.concatenate([[0], starts[:-1] + window])  # bytes predicted before each window
        windows = sliding_window_view(tokens, window + 1)
        for rows in torch.arange(count).split(batch):
            at = starts[rows.numpy()]
            tokens = torch.from_numpy(windows[at]).long()
            scored = torch.from_numpy(at[:, None] + np.arange(window) >= done[rows.numpy(), None])
            yield Batch(inputs=tokens[:, :-1], targets=tokens[:, 1:][scored], scored=scored, rows=rows)

    def floors(self) -> Mapping[str, Predictor]:
        tables: list[Counts] = []  # filled when first needed, shared by all orders
        return {
            f"{order}-gram": partial(self._after, tables=tables, order=order) for order in range(1, self.orders + 1)
        }

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets)

    def tally(self, outputs: Tensor, batch: Batch) -> Mapping[str, tuple[float, float]]:
        return tally_of_tokens(outputs, batch.targets)

    def oracle(self, batch: Batch) -> Tensor:
        return certain(batch.targets, BYTES)

    def chance(self) -> Mapping[str, float]:
        return chance_of_tokens(BYTES)

    def reading(self) -> Mapping[str, Any]:
        return {"kind": "text"}

    @classmethod
    def examples(cls) -> Sequence["Text"]:
        words = np.random.default_rng(0).choice(["time ", "and ", "attention ", "wait\n", "for "], size=900)
        corpus = cut("words", "".join(words).encode(), edges=(0.8, 0.9))
        return [cls(corpus=corpus, window=40, overlap=8, orders=4), cls(corpus=corpus, window=7, overlap=0, orders=2)]

    def _after(self, batch: Batch, *, tables: list[Counts], order: int) -> Tensor:
        """Log-probabilities by counting; a window's first places have shorter contexts."""
        while len(tables) < order:
            before = len(tables)
            tables.append(counted(_keys(self.corpus.train, before)[:-1], self.corpus.train[before:], BYTES))
        window = batch.inputs.shape[1]
        flat: NDArray[np.uint8] = batch.inputs.numpy().astype(np.uint8).ravel()
        at = np.flatnonzero(batch.scored.numpy().ravel())
        contexts = []
        for before in range(order):
            keys = np.full(len(flat) + 1, UNKNOWN)
            keys[before:] = _keys(flat, before)  # keys[i]: the bytes before byte i
            contexts.append(np.where(at % window + 1 >= before, keys[at + 1], UNKNOWN))
        return torch.from_numpy(witten_bell(tables[:order], contexts, BYTES)).log()


def _keys(text: NDArray[np.uint8], before: int) -> NDArray[np.int64]:
    """Every run of `before` bytes as one number, in order."""
    keys = np.zeros(len(text) - before + 1, dtype=np.int64)
    for place in range(before):
        keys = (keys << 8) | text[place : len(keys) + place]
    return keys
