r"""How much a head's output, and a word, owe to the picture.

    head divergence   d_i = || o_i(text, picture) - o_i(text) ||_2   of a head's output, before heads are mixed, at one token
    word divergence   sum over layers of the k greatest d_i          low: the word came from the language alone

Source:  VHR, arXiv 2412.13949, sec. 3.1 and 3.2 (VHD, T-VHD).
"""

from jaxtyping import Float
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["head_divergence", "word_divergence"]


def head_divergence(
    seeing: Float[Tensor, "*batch heads head_dim"], blind: Float[Tensor, "*batch heads head_dim"]
) -> Float[Tensor, "*batch heads"]:
    """0 or more, from the outputs of each head at the same token with the picture and without it."""
    if seeing.shape != blind.shape:
        raise AttimeError(
            f"head_divergence needs the same heads with and without the picture; got {tuple(seeing.shape)} and "
            f"{tuple(blind.shape)}."
        )
    return (seeing - blind).norm(dim=-1)


def word_divergence(divergence: Float[Tensor, "*batch layers heads"], *, best: int) -> Float[Tensor, "*batch"]:
    """0 or more: what the `best` heads of each layer say together."""
    if not 1 <= best <= divergence.shape[-1]:
        raise AttimeError(f"word_divergence needs best from 1 to {divergence.shape[-1]} heads; got best={best}.")
    return divergence.topk(best, dim=-1).values.sum((-1, -2))
