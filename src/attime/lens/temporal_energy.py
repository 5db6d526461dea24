r"""How peaked attention over frames is, and how much of that lies in slow and in fast changes along the keys.

    E = mean over queries of sum_j A_ij^2 = E_low + E_high        (Parseval over the Fourier transform along keys)

Source:  BroadWay, arXiv 2410.06241, sec. 3.2 to 3.4 (energy of temporal attention maps; high frequencies are those with
         |index - F/2| <= tau of F bins, that is waves of F/2 - tau cycles per clip and more).
Differs: in clips of under 16 frames the default tau is the largest with which the mean is slow; the paper has 16 and tau = 7.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["energy_split", "temporal_energy"]

Maps = Float[Tensor, "batch heads query key"]
Energies = Float[Tensor, "batch heads"]


def temporal_energy(maps: Maps) -> Energies:
    """From 1 / frames, where every frame is looked at alike, to 1, where each query looks at one frame alone."""
    return maps.square().sum(-1).mean(-1)


def energy_split(maps: Maps, *, tau: int | None = None) -> tuple[Energies, Energies]:
    """The parts of the temporal energy in low and in high frequencies; their sum is the energy. `tau` None: 7, or in clips of
    under 16 frames as many as leave the mean alone low."""
    frames = maps.shape[-1]
    tau = min(7, (frames - 1) // 2) if tau is None else tau
    if not 0 <= tau <= frames // 2:
        raise AttimeError(f"energy_split needs 0 <= tau <= half of the {frames} frames; got tau={tau}.")
    power = torch.fft.fft(maps, dim=-1).abs().square() / frames
    high = (torch.arange(frames, device=maps.device) - frames / 2).abs() <= tau
    return (power * ~high).sum(-1).mean(-1), (power * high).sum(-1).mean(-1)
