"""LASP-2: sequence parallelism for linear attention by one exchange of memories.

Claim:   with the sequence split over ranks, one all-gather of the ranks' memories (head_dim x head_dim) per pass is all
         the communication; its size does not depend on the length, where softmax attention exchanges keys and values.
Parts:   attention.kernels.recurrence.recur, attention.linear.Decay
Proof:   ranks that see their shard only, and exchange as the paper says, give the outputs and gradients of one rank on
         the whole sequence, with and without decay; softmax attention over gathered keys and values (LASP-2H; ring
         attention sends the same bytes one by one) likewise. Collectives and bytes are counted at two lengths.
Differs: ranks are threads of this process, or with processes=True processes that talk over gloo; the time saved on 64
         GPUs, and the overlap of exchange and work, are not measured.
"""

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn import functional as F

from attime.attention.kernels.recurrence import recur
from attime.attention.linear import Decay
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=217,
    title="LASP-2: Rethinking Sequence Parallelism for Linear Attention and Its Hybrid",
    url="https://arxiv.org/abs/2502.07563",
    parts=(recur, Decay),
)
Shard = tuple[Tensor, ...]
FULL = {"ranks": 4, "short": 1024, "long": 8192, "processes": True}


def run(
    *, ranks: int = 4, short: int = 256, long: int = 1024, size: int = 16, processes: bool = False, seed: int = 0
) -> Verdict:
    """All ranks against one, for three attentions at two lengths."""
    numbers, worst = {}, 0.0
    for length in (short, long):
        for name, slopes in (("plain", (0.0, 0.0)), ("decay", (-0.02, -0.3)), ("softmax", None)):
            torch.manual_seed(seed)
            q, k, v, weight = (torch.randn(1, 2, length, size, dtype=torch.float64) for _ in range(4))
            decay = None if slopes is None else torch.tensor(slopes, dtype=torch.float64)
            whole = [x.clone().requires_grad_() for x in (q, k, v)]
            if decay is None:
                out = F.scaled_dot_product_attention(whole[0], whole[1], whole[2], is_causal=True)
            else:
                out, _ = recur(whole[0], whole[1], whole[2], decay, q.new_zeros(1, 2, size, size))
            expected = [out, *torch.autograd.grad(out, whole, weight)]
            shards = list(zip(*(x.chunk(ranks, 2) for x in (q, k, v, weight)), strict=True))
            found, calls, sent = _spread(shards, decay, processes=processes)
            for place, ours in enumerate(zip(*found, strict=True)):
                worst = max(worst, float((torch.cat(ours, 2) - expected[place]).detach().abs().max()))
            numbers |= {f"{name}_bytes_{length}": float(sent), f"{name}_collectives_{length}": float(calls)}
    numbers["largest_error"] = worst
    same = all(numbers[f"{name}_bytes_{short}"] == numbers[f"{name}_bytes_{long}"] for name in ("plain", "decay"))
    once = all(numbers[f"{name}_collectives_{long}"] == 2 for name in ("plain", "decay"))  # forward, backward
    grows = numbers[f"softmax_bytes_{long}"] / numbers[f"softmax_bytes_{short}"] == long / short
    holds = (
        worst < 1e-10 and same and once and grows and numbers[f"decay_bytes_{long}"] < numbers[f"softmax_bytes_{long}"]
    )
    return Verdict(
        holds=holds, numbers=numbers, reason="" if holds else f"exact {worst:.1e}, bytes fixed {same}, {once}"
    )


def _spread(shards: list[Shard], decay: Tensor | None, *, processes: bool) -> tuple[list[Shard], int, int]:
    """What each rank found (outputs and gradients of q, k, v), and the collectives and bytes that left one rank."""
    ranks, slots = len(shards), [shards[0][0]] * len(shards)
    if not processes:
        meeting = threading.Barrier(ranks)
        with ThreadPoolExecutor(ranks) as pool:
            jobs = [pool.submit(_rank, rank, shards, decay, "", slots, meeting) for rank in range(ranks)]
            found = [job.result() for job in jobs]
    else:
        with tempfile.TemporaryDirectory() as folder:
            multiprocessing.start_processes(_rank, (shards, decay, folder, slots, None), nprocs=ranks)
            found = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(ranks)]
    return [each[0] for each in found], found[0][1], found[0][2]


def _rank(
    rank: int,
    shards: list[Shard],
    decay: Tensor | None,
    folder: str,
    slots: list[Tensor],
    meeting: threading.Barrier | None,
) -> tuple[Shard, int, int]:
    """One rank: its shard, and what it gathers."""
    ranks, sent = len(shards), []
    q, k, v, weight = (x.clone() for x in shards[rank])
    leaves = [x.requires_grad_() for x in (q, k, v)]
    if folder:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)

    def gather(x: Tensor, *, parts: int = 1) -> list[Tensor]:
        """Everybody's x. Of partial sums for all ranks (`parts`), the own one stays here."""
        sent.append(x.nbytes * (ranks - 1) // parts)
        if meeting is None:
            pieces = [torch.empty_like(x) for _ in shards]
            distributed.all_gather(pieces, x.contiguous())
            return pieces
        slots[rank] = x
        meeting.wait()
        pieces = list(slots)
        meeting.wait()
        return pieces

    length = q.shape[2]
    if decay is None:
        others = torch.cat(gather(torch.stack([k, v]).detach()), dim=3).requires_grad_()
        seen = torch.ones(length, length * ranks, dtype=torch.bool).tril(rank * length)
        out = F.scaled_dot_product_attention(q, others[0], others[1], attn_mask=seen)
        d_q, d_others = torch.autograd.grad(out, [q, others], weight)
        d_k, d_v = torch.stack(gather(d_others, parts=ranks)).sum(0).chunk(ranks, dim=3)[rank]
    else:
        start, shard = q.new_zeros(*q.shape[:2], q.shape[3], v.shape[3]), (length * decay).exp()[:, None, None]
        own = recur(q, k, v, decay, start)[1]
        before = after = start
        for memory in gather(own.detach())[:rank]:
            before = shard * before + memory
        before.requires_grad_()
        out = recur(q, k, v, decay, before)[0]
        d_q, d_k, d_v, d_before = torch.autograd.grad(out, [*leaves, before], weight)
        for wanted in gather(d_before)[:rank:-1]:
            after = shard * after + wanted
        more_k, more_v = torch.autograd.grad(own, [k, v], after.detach())
        d_k, d_v = d_k + more_k, d_v + more_v
    found = (out.detach(), d_q, d_k, d_v), len(sent), sum(sent)
    if folder:
        torch.save(found, Path(folder) / f"{rank}.pt")
        distributed.destroy_process_group()
    return found
