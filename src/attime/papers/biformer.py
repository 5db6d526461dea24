"""BiFormer: bi-level routing attention, regions first, places second.

Claim:   content-adaptive sparse attention is more accurate for its cost than attention to local windows.
Parts:   attention.sparse.BiLevelRouting
Proof:   with all regions chosen it is full attention to rounding. Trained alike to name the colour of the same glyph
         elsewhere on an image, it comes within a point of full attention with under a quarter of the scores, a local
         window stays 20 points or more behind it, and the chosen regions hold the match in 9 cases of 10.
Differs: images of 14 x 14 drawn here and one layer, where the paper trains ImageNet models; scores counted, not timed.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Mixer
from attime.attention.sparse import BiLevelRouting, Neighbourhood
from attime.papers.card import Paper, Verdict

__all__ = ["FULL", "PAPER", "run"]

PAPER = Paper(
    number=195,
    title="BiFormer: Vision Transformer with Bi-Level Routing Attention",
    url="https://arxiv.org/abs/2303.08810",
    parts=(BiLevelRouting,),
)

FULL = dict(side=28, steps=600)

GLYPHS, COLOURS, PAIRS = 16, 4, 4


def run(*, side: int = 14, topk: int = 4, steps: int = 150, dim: int = 32, seed: int = 0) -> Verdict:
    """Train routed, full and window attention alike; see where the routes lead."""
    torch.manual_seed(seed)
    every = BiLevelRouting(16, regions=(1, 3, 4), topk=12).double()
    x = torch.randn(2, 1, 7, 9, 16, dtype=torch.float64)
    q, k, v = every.inputs(x.flatten(1, 3)).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    full = F.scaled_dot_product_attention(q, k, v, scale=16**-0.5).transpose(1, 2).reshape_as(x)
    near = every.local(v.transpose(1, 2).reshape(2, 7, 9, 16).movedim(-1, 1)).movedim(1, -1)[:, None]
    numbers = {"topk_all_is_full": (every(x)[0] - every.output(full + near)).abs().max().item()}

    forms: dict[str, Callable[[], Mixer]] = {
        "routed": lambda: BiLevelRouting(dim, regions=(1, 7, 7), topk=topk, local=3),
        "full": lambda: BiLevelRouting(dim, regions=(1, 1, 1), topk=1, local=3),
        "window": lambda: Neighbourhood(dim, kernel=(1, 7, 7)),
    }
    for name, make in forms.items():
        numbers[f"accuracy_{name}"], found = _train(make, side, dim, steps, seed)
        if name == "routed":
            numbers["match_in_chosen_regions"] = found
    numbers["scores_routed"], numbers["scores_window"] = topk / 49, 49 / side**2
    missed = [
        name
        for name, good in {
            "full attention at topk = all": numbers["topk_all_is_full"] < 1e-10,
            "near full attention": numbers["accuracy_routed"] >= numbers["accuracy_full"] - 0.01,
            "under a quarter of the scores": numbers["scores_routed"] < 0.25,
            "window behind": numbers["accuracy_window"] <= numbers["accuracy_routed"] - 0.2,
            "routes hold the match": numbers["match_in_chosen_regions"] >= 0.9,
        }.items()
        if not good
    ]
    return Verdict(holds=not missed, numbers=numbers, reason=f"missed: {', '.join(missed)}" if missed else "")


def _train(make: Callable[[], Mixer], side: int, dim: int, steps: int, seed: int) -> tuple[float, float]:
    """Accuracy on fresh images, and how often the chosen regions hold the match."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    into, mixer, head = nn.Linear(GLYPHS + COLOURS + 1, dim, bias=False), make(), nn.Linear(dim, COLOURS)
    model = nn.ModuleList([into, mixer, head])
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, steps)

    def answer(count: int) -> tuple[Tensor, ...]:
        images, asked, match, colour = _draw(count, side, generator)
        hidden = into(images)
        mixed = (hidden + mixer(hidden)[0]).flatten(1, 3)
        return head(mixed.gather(1, asked[..., None].expand(-1, -1, dim))), hidden, asked, match, colour

    for _ in range(steps):
        answers, *_, colour = answer(16)
        optimiser.zero_grad()
        F.cross_entropy(answers.flatten(0, 1), colour.flatten()).backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        answers, hidden, asked, match, colour = answer(256)
        accuracy = (answers.argmax(-1) == colour).float().mean().item()
        if not isinstance(mixer, BiLevelRouting):
            return accuracy, 0.0
        seen = mixer.reads(hidden).gather(1, asked[..., None].expand(-1, -1, side**2)).gather(2, match[..., None])
        return accuracy, seen.float().mean().item()


def _draw(count: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images with pairs of equal glyphs, one of each pair coloured; places asked about, their matches, colours."""
    place = torch.rand(count, side**2, generator=generator).topk(2 * PAIRS, 1).indices
    glyph = torch.rand(count, GLYPHS, generator=generator).topk(PAIRS, 1).indices
    colour = torch.randint(COLOURS, (count, PAIRS), generator=generator)
    asked, match = place.chunk(2, dim=1)
    row = torch.arange(count)[:, None]
    images = torch.zeros(count, side**2, GLYPHS + COLOURS + 1)
    images[row, asked, glyph] = images[row, match, glyph] = 1
    images[row, asked, -1] = images[row, match, GLYPHS + colour] = 1
    return images.view(count, 1, side, side, -1), asked, match, colour
