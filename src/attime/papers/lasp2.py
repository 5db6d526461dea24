"""LASP-2: sequence parallelism for linear attention by one exchange of memories.

Claim:   with the sequence split over ranks, one all-gather of their memories (head_dim x head_dim) per pass is all the
         communication; its size does not depend on the length, as that of softmax attention's keys and values does.
Parts:   attention.kernels.recurrence.recur, attention.linear.Decay
Proof:   ranks that hold one shard each give the outputs and gradients of one rank, with and without decay, and so does
         softmax attention over gathered keys and values (LASP-2H; ring attention sends as much, in turns: the
         baseline). Collectives, and bytes that leave a rank, are counted at two lengths.
Differs: ranks are threads, or with processes=True processes over gloo; overlap and speed on 64 GPUs are not measured.
"""

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import scaled_dot_product_attention as dense

from attime.attention.kernels.recurrence import recur
from attime.attention.linear import Decay
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=217,
    title="LASP-2: Rethinking Sequence Parallelism for Linear Attention and Its Hybrid",
    url="https://arxiv.org/abs/2502.07563",
    parts=(recur, Decay),
)
FULL = {"short": 1024, "long": 8192, "processes": True}
DECAYS = {"plain": torch.zeros(2).double(), "decay": torch.tensor([-0.02, -0.3]).double(), "softmax": None}
Work = tuple[str, list[tuple[Tensor, ...]]]
Shared = tuple[list[Tensor], threading.Barrier]
Found = tuple[tuple[Tensor, ...], int, int]


def run(*, ranks: int = 4, short: int = 256, long: int = 1024, processes: bool = False, seed: int = 0) -> Verdict:
    """All ranks against one, for three attentions at two lengths."""
    torch.manual_seed(seed)
    work: dict[tuple[str, int], Work] = {}
    expected = {}
    for name, length in ((name, length) for name in DECAYS for length in (short, long)):
        q, k, v, weight = (torch.randn(1, 2, length, 16, dtype=torch.float64) for _ in range(4))
        work[name, length] = name, list(zip(*(x.chunk(ranks, 2) for x in (q, k, v, weight)), strict=True))
        leaves = q, k, v = [x.requires_grad_() for x in (q, k, v)]
        empty = q.new_zeros(1, 2, 16, 16)
        out = dense(q, k, v, is_causal=True) if name == "softmax" else recur(q, k, v, DECAYS[name], empty)[0]
        expected[name, length] = [out.detach(), *torch.autograd.grad(out, leaves, weight)]
    found = dict(zip(work, zip(*_spread(list(work.values()), ranks, processes), strict=True), strict=True))
    numbers, worst = {}, 0.0
    for (name, length), shards in found.items():
        ours = [torch.cat(parts, 2) for parts in zip(*(shard[0] for shard in shards), strict=True)]
        worst = max(worst, *(float((a - b).abs().max()) for a, b in zip(ours, expected[name, length], strict=True)))
        numbers[f"{name}_collectives_{length}"], numbers[f"{name}_bytes_{length}"] = map(float, shards[0][1:])
    linear = {numbers[f"{name}_bytes_{length}"] for name in ("plain", "decay") for length in (short, long)}
    once = all(numbers[f"{name}_collectives_{long}"] == 2 for name in ("plain", "decay"))  # forward, backward
    grows = numbers[f"softmax_bytes_{long}"] / numbers[f"softmax_bytes_{short}"] == long / short
    holds = worst < 1e-10 and len(linear) == 1 and once and grows and max(linear) < numbers[f"softmax_bytes_{long}"]
    reason = "" if holds else f"largest error {worst:.1e}, bytes {sorted(linear)}, one collective a pass: {once}"
    return Verdict(holds=holds, numbers=numbers | {"largest_error": worst}, reason=reason)


def _spread(work: list[Work], ranks: int, processes: bool) -> list[list[Found]]:
    """For each rank and piece of work: outputs and gradients of q, k, v; the collectives and bytes that left it."""
    if not processes:
        shared = [torch.empty(0)] * ranks, threading.Barrier(ranks)
        with ThreadPoolExecutor(ranks) as pool:
            jobs = [pool.submit(_rank, rank, work, ranks, "", shared) for rank in range(ranks)]
            return [job.result() for job in jobs]
    with tempfile.TemporaryDirectory() as folder:
        spawn(_rank, (work, ranks, folder), nprocs=ranks)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(ranks)]


def _rank(rank: int, work: list[Work], ranks: int, folder: str, shared: Shared | None = None) -> list[Found]:
    """One rank: its shards, and what it gathers."""

    def gather(x: Tensor, *, parts: int = 1) -> list[Tensor]:
        """Everybody's x. Where it holds parts for all ranks, the own one stays here."""
        sent.append(x.nbytes * (ranks - 1) // parts)
        if shared is None:
            pieces = [torch.empty_like(x) for _ in range(ranks)]
            distributed.all_gather(pieces, x.contiguous())
            return pieces
        slots, meeting = shared
        slots[rank] = x
        meeting.wait()
        pieces = list(slots)
        meeting.wait()  # nobody goes on before all have read
        return pieces

    if shared is None:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    found = []
    for name, shards in work:
        sent, decay, (q, k, v, weight) = [], DECAYS[name], (x.detach().clone() for x in shards[rank])
        leaves, length = [x.requires_grad_() for x in (q, k, v)], q.shape[2]
        if decay is None:
            others = torch.cat(gather(torch.stack([k, v]).detach()), dim=3).requires_grad_()
            seen = torch.ones(length, length * ranks, dtype=torch.bool).tril(rank * length)
            out = dense(q, others[0], others[1], attn_mask=seen)
            d_q, d_others = torch.autograd.grad(out, [q, others], weight)
            d_k, d_v = torch.stack(gather(d_others, parts=ranks)).sum(0).chunk(ranks, dim=3)[rank]
        else:
            before = after = q.new_zeros(*q.shape[:2], q.shape[3], v.shape[3])
            shard, own = (length * decay).exp()[:, None, None], recur(q, k, v, decay, before)[1]
            for memory in gather(own.detach())[:rank]:
                before = shard * before + memory
            out = recur(q, k, v, decay, before := before.detach().requires_grad_())[0]
            d_q, d_k, d_v, d_before = torch.autograd.grad(out, [*leaves, before], weight)
            for wanted in gather(d_before)[:rank:-1]:
                after = shard * after + wanted
            d_k, d_v = (d + more for d, more in zip((d_k, d_v), torch.autograd.grad(own, [k, v], after), strict=True))
        found.append(((out.detach(), d_q, d_k, d_v), len(sent), sum(sent)))
    if shared is None:
        torch.save(found, Path(folder) / f"{rank}.pt")
        distributed.destroy_process_group()
    return found
