"""A model of tokens: text, items, events, notes."""

from collections.abc import Sequence
from typing import final

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attime.attention.state import State
from attime.errors import AttimeError
from attime.models.contract import Model
from attime.models.stack import Block, Stack

__all__ = ["TokenModel"]


@final
class TokenModel(Model):
    """Embedding, stack, and the embedding again as the head (tied)."""

    def __init__(self, stack: Stack, *, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.stack = vocabulary, stack
        self.embedding = nn.Embedding(vocabulary, stack.dim)
        nn.init.normal_(self.embedding.weight, std=stack.dim**-0.5)
        self.scale = stack.dim**0.5

    def forward(
        self,
        inputs: Int[Tensor, "batch time"],
        state: State | None = None,
        *,
        valid: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time dim"], State]:
        if inputs.dim() != 2 or inputs.is_floating_point():
            raise AttimeError(
                f"TokenModel needs whole numbers (batch time); got {inputs.dtype} of sizes {tuple(inputs.shape)}."
            )
        return self.stack(self.scale * self.embedding(inputs), state, valid=valid)

    def head(self, hidden: Float[Tensor, "places dim"]) -> Float[Tensor, "places vocabulary"]:
        return hidden @ self.embedding.weight.T

    @classmethod
    def examples(cls) -> Sequence["TokenModel"]:
        from attime.attention.linear import Decay

        return [cls(Stack([Block(Decay(8), hidden=12)]), vocabulary=11)]
