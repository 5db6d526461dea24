"""Test-time learners: tokens per second against softmax and against one token at a time; steps and states on long streams.

Where titans-pytorch (lucidrains) is installed its memory runs in turn, with a network of the same size; it has one rate
of decay and momentum per chunk and reads the last full chunk, ours one per token, read within the chunk. `projections`
are the five products that any such layer begins and ends with: what no form of the memory can be faster than.
"""

import importlib.util
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.kernels.fit import Fitted, descend, descend_naive
from attime.attention.kernels.ridge import local_ridge, local_ridge_cg
from attime.attention.testtime import LocalLinear, NeuralMemory, RobustMemory
from timing import Table, forward_backward, medians, quick

DIM, HEADS = 512, 8


class Softmax(nn.Module):
    """Causal attention with the same projections; without `attend` only these, a gate's included."""

    def __init__(self, *, attend: bool = True) -> None:
        super().__init__()
        self.attend = attend
        self.inputs, self.output = (
            nn.Linear(DIM, (3 if attend else 4) * DIM, bias=False),
            nn.Linear(DIM, DIM, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        if not self.attend:
            return self.output(self.inputs(x)[..., :DIM])
        q, k, v = (each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in self.inputs(x).chunk(3, dim=-1))
        return self.output(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


def layers(table: Table, time: int, rounds: int) -> None:
    """Whole layers, batch 1, projections included."""
    x = torch.randn(1, time, DIM)
    shapes = {"1 layer": {"layers": 1}, "2 layers": {"layers": 2}, "2 layers x4": {"layers": 2, "expand": 4}}
    built: dict[str, nn.Module] = {"projections": Softmax(attend=False), "softmax": Softmax()}
    for name, shape in shapes.items():
        for chunk in (64, 16):
            built[f"memory {name} b{chunk}"] = NeuralMemory(DIM, heads=HEADS, chunk=chunk, **shape)
    built["robust 2 layers b64"] = RobustMemory(DIM, heads=HEADS, chunk=64)
    if importlib.util.find_spec("titans_pytorch"):
        from titans_pytorch import NeuralMemory as Theirs  # pyright: ignore[reportMissingImports]

        for name, expand in (("2 layers", 1.0), ("2 layers x4", 4.0)):
            for chunk in (64, 16):
                model = {"depth": 2, "expansion_factor": expand}
                built[f"theirs {name} b{chunk}"] = Theirs(
                    DIM, heads=HEADS, dim_head=DIM // HEADS, chunk_size=chunk, default_model_kwargs=model
                )
    with torch.no_grad():
        forward = medians({name: partial(mixer, x) for name, mixer in built.items()}, rounds=rounds)
    training = medians(
        {
            name: forward_backward(lambda x, mixer=mixer: out if isinstance(out := mixer(x), Tensor) else out[0], x)
            for name, mixer in built.items()
        },
        rounds=rounds,
    )
    for name in built:
        speeds = f"{time / forward[name] / 1e3:8.1f}k forward {time / training[name] / 1e3:8.1f}k training"
        table.note(f"{name:<28} tokens/s {speeds}")
    for name in built:
        if name.startswith("theirs"):
            ours = name.replace("theirs", "memory")
            table.ratio(f"{ours} over titans-pytorch, fwd", forward[name] / forward[ours], at_least=5.0)
            table.ratio(f"{ours} over titans-pytorch, f+b", training[name] / training[ours], at_least=5.0)
            table.ratio("  of at most (projections alone), fwd", forward[name] / forward["projections"])


def kernels(table: Table, time: int, rounds: int) -> None:
    """Chunks against one token at a time; solvers against each other and softmax."""
    dim = DIM // HEADS
    q, k = (F.normalize(torch.randn(1, HEADS, time, dim), dim=-1) for _ in range(2))
    v, gates = torch.randn(1, HEADS, time, dim), [F.logsigmoid(torch.randn(1, HEADS, time) + 3) for _ in range(2)]
    start = Fitted.start([torch.randn(1, HEADS, dim, dim) for _ in range(2)])
    arguments = (q, k, v, torch.full_like(gates[0], 1 / 64), *gates, start)
    for chunk in (64, 16):
        runs = {
            "fast": partial(descend, *arguments, chunk=chunk),
            "slow": partial(descend_naive, *arguments, chunk=chunk),
        }
        seconds = medians(runs, rounds=rounds)
        table.ratio(f"descent b{chunk}: chunks over tokens, fwd", seconds["slow"] / seconds["fast"], at_least=5.0)
    for dim in (16, 32, 64):
        q, k, v = (torch.randn(1, HEADS, time, dim) for _ in range(3))
        ridge, scaled = torch.ones(HEADS), q * dim**-0.5
        seconds = medians(
            {
                "direct": partial(local_ridge, scaled, q, k, v, ridge),
                "cg": partial(local_ridge_cg, scaled, q, k, v, ridge, iterations=16),
                "softmax": partial(F.scaled_dot_product_attention, q, k, v, is_causal=True),
            },
            rounds=1,
        )
        table.ratio(f"local linear d{dim}: direct over 16 steps of cg", seconds["cg"] / seconds["direct"])
        table.ratio(f"local linear d{dim}: times softmax", seconds["direct"] / seconds["softmax"])


def streaming(table: Table, pasts: tuple[int, ...]) -> None:
    """One token after a long past, and the state that it needs."""
    dim, heads = 256, 4
    for mixer in (NeuralMemory(dim, heads=heads), LocalLinear(dim, heads=heads)):
        name, token, steps = type(mixer).__name__, torch.randn(1, 1, dim), {}
        for past in pasts if mixer.traits.bounded else pasts[:1]:
            state = None
            for start in range(0, past, 1024):
                _, state = mixer(torch.randn(1, min(1024, past - start), dim), state)
            steps[past] = medians({"step": partial(mixer, token, state)}, rounds=9, least_s=0.01)["step"]
            table.note(f"{name} step after {past} tokens: {steps[past] * 1e3:.2f} ms")
        for past in (1024, 65536, 1048576):
            table.note(f"{name} state after {past} tokens: {mixer.cost(past).state_bytes / 2**20:.1f} MiB")
        if len(steps) > 1:
            table.ratio(
                f"{name}: step after {pasts[-1]} over {pasts[0]} tokens",
                steps[pasts[-1]] / steps[pasts[0]],
                at_most=1.25,
            )


def main() -> None:
    short, table = quick(__doc__), Table()
    torch.manual_seed(0)
    layers(table, 512 if short else 1024, 1 if short else 3)
    with torch.no_grad():
        kernels(table, 256 if short else 1024, 1 if short else 3)
        streaming(table, (1024, 4096) if short else (1024, 65536))
    table.show()


if __name__ == "__main__":
    main()
