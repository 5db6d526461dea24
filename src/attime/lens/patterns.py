r"""A catalogue of what maps look like: an autoencoder of maps as pictures, and clusters of what it keeps of them.

    z = encode(sqrt(A))        min || decode(z) - sqrt(A) ||^2        types: k-means of z

Source:  How does attention work in vision transformers?, arXiv 2303.13731, sec. 4 (a convolutional autoencoder of maps; patterns
         are told apart by where maps lie in its latent space; heads are named by the type that most of their maps are of).
Names:   maps are whatever of (maps query key), of one size; a head's maps over many images are many maps.
Cost:    `steps` of `batch` maps of N^2 numbers.
Differs: the paper looks at clusters with t-SNE and by hand; here k-means names them. Maps go in as square roots, which shows what
         is faint.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attime.errors import AttimeError

__all__ = ["Patterns", "dominant", "map_patterns", "purity"]

Maps = Float[Tensor, "maps query key"]


class Patterns(NamedTuple):
    """A catalogue of maps."""

    types: Int[Tensor, " maps"]
    """The number of each map's type, the most frequent type first."""
    latents: Float[Tensor, "maps latent"]
    typical: Float[Tensor, "types query key"]
    """The mean map of each type."""


def map_patterns(
    maps: Maps, *, types: int, latent: int = 8, steps: int = 100, batch: int = 32, seed: int = 0
) -> Patterns:
    """Train the autoencoder on these maps and cluster them; the same seed makes the same catalogue."""
    if not 1 <= types <= len(maps) or latent < 1 or steps < 1 or min(maps.shape[1:]) < 8:
        raise AttimeError(
            f"map_patterns needs maps of 8 x 8 or more, at least one for each type, latent >= 1 and steps >= 1; got maps "
            f"{tuple(maps.shape)}, types={types}, latent={latent}, steps={steps}."
        )
    pictures = (maps.detach().float().cpu() * maps.shape[2]).clamp(min=0).sqrt()[:, None]
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encode, decode = _autoencoder(maps.shape[1], maps.shape[2], latent)
    both = nn.Sequential(encode, decode)
    optimiser = torch.optim.Adam(both.parameters(), lr=3e-3)
    for _ in range(steps):
        seen = pictures[torch.randint(len(pictures), (min(batch, len(pictures)),), generator=random)]
        loss = F.mse_loss(both(seen), seen)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        latents = torch.cat([encode(each) for each in pictures.split(256)])
    found = _clustered((latents - latents.mean(0)) / latents.std(), types, random)
    order = found.bincount(minlength=types).argsort(descending=True, stable=True)
    named = order.argsort()[found]
    typical = torch.stack([maps[(named == number).to(maps.device)].mean(0) for number in range(types)])
    return Patterns(types=named.to(maps.device), latents=latents.to(maps.device), typical=typical)


def dominant(types: Int[Tensor, "heads maps"]) -> tuple[Int[Tensor, " heads"], Float[Tensor, " heads"]]:
    """The type that most maps of each head are of, and the share of its maps that are."""
    counts = F.one_hot(types.long()).sum(1)
    most, which = counts.max(1)
    return which, most / types.shape[1]


def purity(found: Int[Tensor, " maps"], true: Int[Tensor, " maps"]) -> float:
    """The share of maps that are of the kind which is most frequent in their type, 0 to 1."""
    if found.shape != true.shape or not len(found):
        raise AttimeError(
            f"purity needs a type and a kind for each map; got {tuple(found.shape)}, {tuple(true.shape)}."
        )
    table = torch.zeros(int(found.max()) + 1, int(true.max()) + 1)
    table.index_put_((found.long().cpu(), true.long().cpu()), torch.ones(len(found)), accumulate=True)
    return float(table.amax(1).sum() / len(found))


def _autoencoder(height: int, width: int, latent: int) -> tuple[nn.Module, nn.Module]:
    down = [nn.Conv2d(1, 8, 3, 2, 1), nn.GELU(), nn.Conv2d(8, 16, 3, 2, 1), nn.GELU(), nn.Conv2d(16, 16, 3, 2, 1)]
    deep = (-(-height // 8), -(-width // 8))
    size = 16 * deep[0] * deep[1]
    encode = nn.Sequential(*down, nn.GELU(), nn.Flatten(), nn.Linear(size, latent))
    up: list[nn.Module] = []
    for wide, narrow in ((16, 8), (8, 8), (8, 1)):
        up += [nn.GELU(), nn.ConvTranspose2d(wide, narrow, 4, 2, 1)]
    cut = nn.ZeroPad2d((0, width - 8 * deep[1], 0, height - 8 * deep[0]))
    return encode, nn.Sequential(nn.Linear(latent, size), nn.Unflatten(1, (16, *deep)), *up, cut)


def _clustered(points: Float[Tensor, "maps latent"], count: int, random: torch.Generator) -> Int[Tensor, " maps"]:
    """k-means with seeds far from each other, the best of eight runs."""
    best, least = torch.zeros(len(points), dtype=torch.long), float("inf")
    for _ in range(8):
        centres = points[torch.randint(len(points), (1,), generator=random)]
        while len(centres) < count:
            away = torch.cdist(points, centres).amin(1).square()
            place = torch.multinomial(away + 1e-12, 1, generator=random)
            centres = torch.cat([centres, points[place]])
        for _ in range(50):
            near = torch.cdist(points, centres).argmin(1)
            made = torch.stack(
                [points[near == each].mean(0) if (near == each).any() else centres[each] for each in range(count)]
            )
            if torch.equal(made, centres):
                break
            centres = made
        far, near = torch.cdist(points, centres).min(1)
        if float(far.square().sum()) < least:
            best, least = near, float(far.square().sum())
    return best
