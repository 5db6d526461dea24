"""A tiny video language model whose eye gives the vectors of captions, so that what it learns from text it knows of video.

Every name (`red square`) is one token, the sum of the vectors of its words, in captions and in questions; a frame is one
token too. The vectors of words are random and never change, so that the eye's target does not move. The language half
is attention in both directions over frames, then the question, and answers by the option most like its last output.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.softmax import Bidirectional
from attime.streams.world import COLOURS, SHAPES, paint_many
from attime.tasks.video.told_frames import Told

__all__ = ["ToldReader"]

PLAIN = "first next last start end come comes become which what in is there at colour frame or does yes no 1 2 3 4 5 6"
WORDS = {word: number for number, word in enumerate(("", *COLOURS, *SHAPES, *PLAIN.split()))}
NAMES = (1, 1 + len(COLOURS), 1 + len(COLOURS) + len(SHAPES))  # where colours and shapes begin, and where they end
NAME = re.compile(rf"(?:({'|'.join(COLOURS)}) )?({'|'.join(SHAPES)})|\w+")
SIZE, MOST = (12, 12), 6


class ToldReader(nn.Module):
    """Learns from told clips (`study`) and from single captioned pictures (`look`); answers about told or seen clips."""

    words: Tensor

    def __init__(self, *, frames: int, dim: int = 48, layers: int = 2, seed: int = 0) -> None:
        super().__init__()
        self.frames, self.generator = frames, torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            words = torch.randn(len(WORDS), dim)
            words[0] = 0
            self.register_buffer("words", words)
            self.eye = nn.Sequential(nn.Linear(SIZE[0] * SIZE[1] * 3, 128), nn.GELU(), nn.Linear(128, dim))
            self.places = nn.Parameter(torch.randn(frames, dim))
            self.mixers = nn.ModuleList(Bidirectional(dim, heads=4) for _ in range(layers))
            self.norms = nn.ModuleList(nn.RMSNorm(dim) for _ in range(2 * layers + 1))
            self.channels = nn.ModuleList(
                nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)) for _ in range(layers)
            )
            self.out = nn.Linear(dim, dim)

    def forward(
        self, frames: Float[Tensor, "batch time dim"], question: Tensor, options: Tensor
    ) -> Float[Tensor, "batch options"]:
        """Scores of the options; questions and options are word numbers (batch, tokens, 2) and (batch, options, 2)."""
        x = torch.cat([frames + self.places, self.words[question].sum(-2)], dim=1)
        for number, mixer in enumerate(self.mixers):
            x = x + mixer(self.norms[2 * number](x))[0]
            x = x + self.channels[number](self.norms[2 * number + 1](x))
        wanted = self.out(self.norms[-1](x[:, -1]))
        scores = torch.einsum("bod,bd->bo", self.words[options].sum(-2), wanted) / wanted.shape[1] ** 0.5
        return scores.masked_fill((options == 0).all(-1), -1e9)

    def study(self, items: Sequence[Told], *, steps: int, rate: float = 4e-3, batch: int = 64) -> None:
        """Train the language half on told clips; names are exchanged for others at every step."""
        data, answers = _numbers(items), torch.tensor([item.options.index(item.answer) for item in items])
        learns = [weight for name, weight in self.named_parameters() if not name.startswith("eye")]
        optimiser = torch.optim.AdamW(learns, lr=rate, betas=(0.9, 0.98), fused=True)
        for step in range(steps):
            rows = torch.randint(len(items), (batch,), generator=self.generator)
            other = torch.arange(len(WORDS)).repeat(batch, 1)
            for first, last in pairwise(NAMES):
                order = torch.rand(batch, last - first, generator=self.generator).argsort(dim=1)
                other[:, first:last] = first + order
            captions, question, options = (other.gather(1, each[rows].flatten(1)).view_as(each[rows]) for each in data)
            optimiser.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 30) * (1 - 0.9 * step / steps)
            optimiser.zero_grad()
            F.cross_entropy(self(self.words[captions].sum(-2), question, options), answers[rows]).backward()
            nn.utils.clip_grad_norm_(learns, 1.0)
            optimiser.step()

    def look(self, items: Sequence[Told], *, steps: int = 250, batch: int = 256) -> None:
        """Train the eye: from one picture to the vector of its caption."""
        pictures, target = _pixels(items).flatten(0, 1), self.words[_numbers(items)[0]].sum(-2).flatten(0, 1)
        optimiser = torch.optim.AdamW(self.eye.parameters(), lr=2e-3, fused=True)
        for _ in range(steps):
            rows = torch.randint(len(pictures), (batch,), generator=self.generator)
            optimiser.zero_grad()
            F.mse_loss(self.eye(pictures[rows]), target[rows]).backward()
            optimiser.step()

    @torch.no_grad()
    def see(self, items: Sequence[Told]) -> Float[Tensor, "items time dim"]:
        """The visual tokens of the painted clips."""
        return self.eye(_pixels(items))

    @torch.no_grad()
    def read(self, seen: Float[Tensor, "items time dim"]) -> list[tuple[str, ...]]:
        """The nearest captions of visual tokens."""
        names = [(colour, shape) for colour in COLOURS for shape in SHAPES]
        vectors = torch.stack([self.words[WORDS[colour]] + self.words[WORDS[shape]] for colour, shape in names])
        nearest = torch.cdist(seen, vectors).argmin(-1).tolist()
        return [tuple(f"a {' '.join(names[each])}" for each in row) for row in nearest]

    @torch.no_grad()
    def answer(self, items: Sequence[Told], seen: Float[Tensor, "items time dim"] | None = None) -> list[str]:
        """One option for each question, about clips as they are told, or about visual tokens."""
        captions, question, options = _numbers(items)
        scores = self(self.words[captions].sum(-2) if seen is None else seen, question, options)
        return [item.options[best] for item, best in zip(items, scores.argmax(1).tolist(), strict=True)]


def _pixels(items: Sequence[Told]) -> Tensor:
    """(items, time, pixels), about 0, a little noisy."""
    clips = paint_many([item.shot for item in items], items[0].when_s, size=SIZE, noise=0.05)
    return (torch.from_numpy(clips).float() / 255 - 0.3).flatten(2)


def _numbers(items: Sequence[Told]) -> tuple[Tensor, Tensor, Tensor]:
    """Captions (items, time, 2), questions (items, tokens, 2), filled up in front, and options (items, 6, 2)."""
    captions = [[_token(caption) for caption in item.captions] for item in items]
    questions = [[_word(found) for found in NAME.finditer(item.question)] for item in items]
    questions = [[each for each in row if each != (0, 0)] for row in questions]
    width = max(map(len, questions))
    questions = [[(0, 0)] * (width - len(row)) + row for row in questions]
    options = [[*map(_token, item.options), *[(0, 0)] * MOST][:MOST] for item in items]
    return torch.tensor(captions), torch.tensor(questions), torch.tensor(options)


def _token(text: str) -> tuple[int, int]:
    """The token of a caption or an option: its name, or its only word."""
    return next(token for found in NAME.finditer(text) if (token := _word(found)) != (0, 0))


def _word(found: re.Match[str]) -> tuple[int, int]:
    """A name's two words, or one word and nothing; words that say nothing are nothing."""
    if found[2]:
        return WORDS[found[1] or ""], WORDS[found[2]]
    return WORDS.get(found[0], 0), 0
