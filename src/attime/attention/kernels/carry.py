"""A recurrence walked in blocks of time: each block is dense work that stays in cache, a memory goes from one to the next.

The backward pass walks the blocks in reverse and computes them again from the memories at their starts: nothing else
is kept. Blocks are never stored and never change a result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Form", "carry"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """What happens in one block.

    `forward(memory, q, k, v, *more)` gives (outputs, memory) and is differentiable. `backward(memory, inputs, d_out,
    d_memory, needs)` gives the gradients of (memory, *inputs) in closed form; `needs` says which of the inputs have
    one. Without it autograd goes through the block, computed once more.
    """

    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., Sequence[Tensor | None]] | None = None


def carry(form: Form, memory: Tensor, inputs: Sequence[Tensor], *, block: int) -> tuple[Tensor, Tensor]:
    """Outputs, in the layout and dtype of `v`, and the memory after the last token.

    `inputs` are q, k, v and more; those of three axes or more have time on axis 2, others hold for all times.
    """
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (memory, *inputs))
    if wanted and torch.compiler.is_compiling():
        return _traced(form, memory, inputs, block)
    if wanted:
        return _Carry.apply(form, block, memory, *inputs)
    return _walk(form, memory, inputs, block)


def _walk(
    form: Form, memory: Tensor, inputs: Sequence[Tensor], block: int, starts: list[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    values = inputs[2]
    out = torch.empty_like(values)
    for start in range(0, values.shape[2], block):
        if starts is not None:
            starts.append(memory)
        here, memory = form.forward(memory, *_cut(inputs, start, block))
        out[:, :, start : start + block] = here
    return out, memory


def _traced(form: Form, memory: Tensor, inputs: Sequence[Tensor], block: int) -> tuple[Tensor, Tensor]:
    """Every step known to autograd: for gradients of gradients, and for compilers."""
    length = inputs[2].shape[2]
    pieces = [x.split(block, 2) if x.dim() > 2 else [x] * -(-length // block) for x in inputs]
    outputs = []
    for piece in zip(*pieces, strict=True):
        here, memory = form.forward(memory, *piece)
        outputs.append(here)
    return torch.cat(outputs, dim=2).to(inputs[2].dtype), memory


class _Carry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, form: Form, block: int, memory: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        starts: list[Tensor] = []
        out, last = _walk(form, memory, inputs, block, starts)
        ctx.form, ctx.block, ctx.count = form, block, len(inputs)
        ctx.save_for_backward(memory, *inputs, *starts[1:])
        return out, last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_out, d_memory = gradients
        form, block = ctx.form, ctx.block
        memory, *rest = ctx.saved_tensors
        inputs, starts = rest[: ctx.count], [memory, *rest[ctx.count :]]
        with torch.autocast(memory.device.type, enabled=False):  # it would round the memory
            if torch.is_grad_enabled():  # gradients of gradients
                known = [x for x in (memory, *inputs) if x.requires_grad]
                ends = _traced(form, memory, inputs, block)
                found = iter(torch.autograd.grad(ends, known, (d_out, d_memory), create_graph=True))
                return None, None, *(next(found) if x.requires_grad else None for x in (memory, *inputs))
            needs = ctx.needs_input_grad[3:]
            found = [
                torch.empty_like(x) if x.dim() > 2 and need else torch.zeros_like(x) if need else None
                for x, need in zip(inputs, needs, strict=True)
            ]
            for number in reversed(range(len(starts))):
                place = slice(number * block, (number + 1) * block)
                piece = _cut(inputs, number * block, block)
                here = d_out[:, :, place].to(memory.dtype)
                d_memory, *parts = (form.backward or _again(form))(starts[number], piece, here, d_memory, needs)
                for whole, part in zip(found, parts, strict=True):
                    if whole is not None and part is not None:
                        if whole.dim() > 2:
                            whole[:, :, place] = part
                        else:
                            whole += part
            return None, None, d_memory, *found


def _again(form: Form) -> Callable[..., Sequence[Tensor | None]]:
    """The backward pass of a block by autograd."""

    def backward(
        memory: Tensor, inputs: Sequence[Tensor], d_out: Tensor, d_memory: Tensor, needs: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        with torch.enable_grad():
            memory = memory.detach().requires_grad_()
            inputs = [x.detach().requires_grad_(need) for x, need in zip(inputs, needs, strict=True)]
            ends = form.forward(memory, *inputs)
        known = [memory, *(x for x in inputs if x.requires_grad)]
        found = iter(torch.autograd.grad(ends, known, (d_out, d_memory), allow_unused=True))
        return [next(found), *(next(found) if need else None for need in needs)]

    return backward


def _cut(inputs: Sequence[Tensor], start: int, block: int) -> list[Tensor]:
    return [x[:, :, start : start + block] if x.dim() > 2 else x for x in inputs]
