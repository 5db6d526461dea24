"""How does attention work in vision transformers: what heads are worth, how far they look, and what their maps look like.

Claim:   pruning one head at a time tells which heads matter; the mass of attention k hops away tells how far a head looks; an
         autoencoder of maps finds the few patterns that heads have learnt, and names heads by them.
Parts:   control.language.PrunedHeads, lens.importance, lens.rank_agreement, lens.hop_profile, lens.map_patterns, lens.purity,
         hub.steer, hub.watch; zoo "watcher"
Proof:   each of the 20 heads of the watcher (a vision tower and what reads its patches) is taken out while it answers
         questions. The Jensen-Shannon divergence, which needs no labels, on one half of the clips ranks heads as the drop of
         accuracy on the other half does (Spearman > 0.7), and better than how peaked a head's maps are does. Of the tower's
         maps over 8 x 8 patches the hops sum to one. Local, row, column and uniform maps, mixed with up to half of a map of the
         tower, and lying among 64 maps as the tower made them, are told apart with a purity of 95 % or more.
Differs: the tower has one layer and no class token, so there is no trend over layers (hops over layers: attime lens on any ViT;
         sums with a class token are in the tests); heads that read patches are counted with it. Experts and case studies are not
         to be had. The autoencoder is not needed at this size: k-means of the maps' square roots does as well, k-means of
         the maps themselves does not.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from attime import zoo
from attime.control.language import PrunedHeads
from attime.hub import sites, steer, watch
from attime.lens import hop_profile, importance, map_patterns, purity, rank_agreement, temporal_energy
from attime.papers.card import Paper, Verdict
from attime.streams.world import World, paint_many
from attime.streams.world.tell import encode
from attime.zoo.qwen_video import patchify
from attime.zoo.watching import exam

PAPER = Paper(
    number=135,
    title="How Does Attention Work in Vision Transformers? A Visual Analytics Attempt",
    url="https://arxiv.org/abs/2303.13731",
    parts=(PrunedHeads, importance, rank_agreement, hop_profile, map_patterns, purity, steer, watch),
)
FULL = {"each": 60, "maps": 480}
KINDS = ("direction", "count", "what")  # questions that the first word answers, three to eight words to choose from
SIDE = 8  # patches of a side of the pictures that are larger than those it has learnt from


def run(*, each: int = 16, maps: int = 96, types: int = 6, seed: int = 0) -> Verdict:
    """Prune heads over `each` questions of three kinds, then catalogue `maps` planted maps among those of the tower."""
    made: Any = zoo.load("watcher")
    numbers = _pruned(made.model, made, each, seed)
    world = World(seed=seed, seconds=1e9, shot_s=4.0, things=(2, 3), events=(2, 4), backdrops=("plain",))
    frames = paint_many([world.shot(number) for number in range(16)], [0.0, 0.25], size=(64, 64), noise=0.02, seed=seed)
    pixels, grid = patchify(torch.from_numpy(frames), made.model.config.vision_config)
    with torch.no_grad(), watch(made.model.model.visual) as seen:
        made.model.model.visual(pixels, grid_thw=grid)
    real = torch.cat([record.value for record in seen])
    hops = hop_profile(real, height=SIDE, width=SIDE, first=0)
    numbers["hops, sum off by"] = float((hops.sum(-1) - 1).abs().max())
    far = (hops * torch.arange(SIDE)).sum(-1).mean(0)
    numbers |= {"hops away, nearest head": float(far.min()), "hops away, furthest head": float(far.max())}
    planted, kinds = _planted(real.flatten(0, 1), maps, seed)
    found = map_patterns(torch.cat([planted, real.flatten(0, 1)]), types=types, steps=150, seed=seed)
    numbers["purity of planted maps"] = purity(found.types[:maps], kinds)
    numbers["purity, types at random"] = purity(found.types[:maps].roll(1), kinds.sort().values)
    ranked = numbers["divergence ranks as the drop of accuracy"]
    matters = ranked > 0.7 and ranked > numbers["peakedness ranks as the drop of accuracy"]
    summed, told = numbers["hops, sum off by"] < 1e-5, numbers["purity of planted maps"] >= 0.95
    told = told and numbers["purity, types at random"] < 0.95
    holds = matters and summed and told
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{matters=}, {summed=}, {told=}")


@torch.no_grad()
def _pruned(model: Any, made: Any, each: int, seed: int) -> dict[str, float]:
    """How well measures over one half of the clips rank heads as the drop of accuracy over the other half does."""
    sheet = exam(1_000_003 + seed, each=each)
    places = [place for place, question in enumerate(sheet.asked) if question.kind in KINDS]
    asked = [sheet.asked[place] for place in places]
    inputs = made.inputs(sheet.frames[places], [question.text for question in asked])
    true = torch.tensor([encode(question.answer)[0] for question in asked])
    with watch(model, keep=lambda call: temporal_energy(call.maps).mean(0)) as seen:
        whole = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
    peaked = {site.name: torch.stack(seen[site]).mean(0) for site in seen.sites}
    half, rows = torch.arange(len(true)) % 2 == 0, list[list[Tensor]]()
    for site in sites(model):
        for head in range(site.heads):
            with steer(model, PrunedHeads(chosen=((site.name, head),))):
                less = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
            worth = importance(whole, less, true)
            rows.append([*(one[half].mean() for one in worth), peaked[site.name][head], worth.mistakes[~half].mean()])
    *first, dropped = torch.tensor(rows).T
    names = ("probability", "flips", "surprise", "divergence", "accuracy", "peakedness")
    found = {"accuracy": float((whole.argmax(-1) == true).double().mean()), "greatest drop": float(dropped.max())}
    return found | {
        f"{name} ranks as the drop of accuracy": rank_agreement(one, dropped)
        for name, one in zip(names, first, strict=True)
    }


def _planted(real: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Maps of four kinds, wide or narrow, each with a share of a real one, and their kinds."""
    random = np.random.default_rng(seed)
    place = torch.arange(SIDE**2)
    down, across = (each[:, None] - each.float() for each in (place // SIDE, place % SIDE))
    made = list[Tensor]()
    for number in range(count):
        wide, share = random.uniform(0.7, 1.5), random.uniform(0, 0.5)
        away = (down.square() + across.square(), 9 * down.square(), 9 * across.square(), torch.zeros_like(down))
        fixed = (-away[number % 4] / (2 * wide**2)).softmax(-1)
        made.append(torch.lerp(fixed, real[int(random.integers(len(real)))], share))
    return torch.stack(made), torch.arange(count) % 4
