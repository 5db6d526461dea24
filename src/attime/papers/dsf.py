"""Understanding the differences in foundation models: attention, state space models and recurrent networks.

Claim:   attention, SSMs and gated recurrences are one linear time-varying system h_i = L_i h_{i-1} + B_i u_i,
         y_i = C_i h_i + D_i u_i, and differ in L, B, C, D and in the size of h alone.
Parts:   attention.softmax.Softmax, attention.linear.Taylor, .Decay, .GatedDelta, attention.ssm.Selective
Proof:   write the matrices of each part down, play the system and compare with the part's own forward, to 1e-9. Softmax
         needs an infinite h: with features of order 1, 2, 4 and 8 the distance falls each time, over 1000 times in all.
         A selective scan with one scalar rate and steps of one is linear attention with decay, to 1e-9.
Differs: the features of softmax are the powers of its Taylor series; recall against state size is shown in `based`; the
         paper's attention with a learnt normaliser has no part here.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.attention.heads import split_heads
from attime.attention.kernels.recurrence import recur
from attime.attention.kernels.scan import selective_scan
from attime.attention.linear import Decay, GatedDelta, Taylor
from attime.attention.linear.taylor import taylor_features
from attime.attention.short_conv import short_conv
from attime.attention.softmax.full import Softmax
from attime.attention.ssm import Selective
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=44,
    title="Understanding the differences in Foundation Models: Attention, State Space Models, and Recurrent Neural Networks",
    url="https://arxiv.org/abs/2405.15731",
    parts=(Softmax, Taylor, Decay, GatedDelta, Selective),
)
FULL = dict(dim=16, tokens=128)


@torch.no_grad()
def run(*, dim: int = 8, tokens: int = 24, seed: int = 0) -> Verdict:
    """Play every mixer as an explicit system of matrices."""
    torch.manual_seed(seed)
    x, numbers, heads = torch.randn(1, tokens, dim, dtype=torch.float64) / 2, dict[str, float](), dim // 2

    def compare(name: str, played: Tensor, mixer: torch.nn.Module) -> None:
        own = mixer(x)[0]
        numbers[name] = float((played - own).norm() / own.norm())

    softmax = Softmax(dim, heads=heads, rope=False).double()
    key, value = softmax.keys_values.weight.chunk(2)
    q, k = (split_heads(each, heads) for each in (softmax.queries(x), x @ key.T))
    for order in (1, 2, 4, 8):
        powers = [[torch.ones_like(each[..., :1])] for each in (q, k)]
        for n in range(1, order + 1):
            for each, lower in zip((q, k), powers, strict=True):
                scaled = each * (2**-0.25 * n**-0.5)  # heads of two channels; powers of x share 1 / sqrt(n!)
                lower.append((lower[-1][..., None] * scaled[..., None, :]).flatten(-2))
        phi_q, phi_k = (torch.cat(each, dim=-1) for each in powers)
        compare(f"softmax_order_{order}", softmax.output(attend(phi_q, phi_k, value, x, None)), softmax)

    taylor = Taylor(dim, heads=heads, feature_dim=3).double()
    q, k, _ = (split_heads(each, heads) for each in taylor.inputs(x).split([3 * heads, 3 * heads, dim], -1))
    played = attend(taylor_features(q), taylor_features(k), taylor.inputs.weight[6 * heads :], x, None)
    compare("taylor_error", taylor.output(played), taylor)

    decay = Decay(dim, heads=2).double()
    q, k, _, gate = decay.inputs(x).chunk(4, dim=-1)
    q, k = (split_heads(F.silu(each), 2) for each in (q, k))
    played = attend(q, k, decay.inputs.weight[2 * dim : 3 * dim], x, decay.log_decay.exp())
    compare(
        "decay_error", decay.output(F.rms_norm(played.unflatten(-1, (2, -1)), (dim // 2,)).flatten(-2) * gate), decay
    )

    delta, size = GatedDelta(dim, heads=1).double(), torch.eye(dim, dtype=x.dtype)
    mixed, _ = short_conv(delta.inputs(x), delta.taps, x.new_zeros(1, delta.width - 1, 3 * dim))
    q, k, v, log_decay, beta = (each[0, 0] for each in delta._tokens(x, mixed))
    keep = log_decay.exp()[:, None, None] * (size - beta[:, None, None] * k[:, :, None] * k[:, None])
    transition = torch.stack([torch.kron(each, size) for each in keep])
    write, read = (torch.stack([torch.kron(row[:, None], size) for row in each]) for each in (beta[:, None] * k, q))
    compare("gated_delta_error", delta._read(x, play(transition, write, read.mT, None, v)[None, None]), delta)

    ssm = Selective(dim, slots=4, expand=1).double()
    u, gate = ssm.inputs(x).chunk(2, dim=-1)
    u = F.silu(short_conv(u, ssm.taps, x.new_zeros(1, ssm.width - 1, dim))[0] + ssm.tap_bias)
    step, into, out = ssm._chosen(u, x.dtype)
    rate = -ssm.log_rate.exp()
    transition = (step[0, :, None] * rate).exp().flatten(1)
    write = (into[0, :, :, None, None] * torch.diag_embed(step[0])[:, None]).flatten(1, 2)
    read = (out[0, :, :, None, None] * size).flatten(1, 2).mT
    played = play(transition, write, read, torch.diag(ssm.skip).expand(tokens, -1, -1), u[0])
    compare("selective_error", ssm.output(played[None] * F.silu(gate)), ssm)

    shared = torch.full((4, dim), -0.1, dtype=x.dtype)
    scanned, _ = selective_scan(u, torch.ones_like(u), shared, into, out, x.new_zeros(1, 4, dim))
    linear, _ = recur(out[:, None], into[:, None], u[:, None], shared[0, :1], x.new_zeros(1, 1, 4, dim))
    numbers["tied_scan_error"] = float((scanned - linear[:, 0]).abs().max())

    falls = [numbers[f"softmax_order_{order}"] for order in (1, 2, 4, 8)]
    worst = max(error for name, error in numbers.items() if name.endswith("_error"))
    holds = worst < 1e-9 and falls == sorted(falls, reverse=True) and falls[0] > 1000 * falls[-1]
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"identities {worst:.1e}; softmax {falls}")


def play(transition: Tensor, write: Tensor, read: Tensor, skip: Tensor | None, inputs: Tensor) -> Tensor:
    """h_i = L_i h_{i-1} + B_i u_i, y_i = C_i h_i + D_i u_i, one token at a time; L may be given by its diagonal."""
    h, outputs = torch.zeros_like(write[0, :, 0]), []
    for i, u in enumerate(inputs):
        h = (transition[i] * h if transition.dim() == 2 else transition[i] @ h) + write[i] @ u
        outputs.append(read[i] @ h + (0 if skip is None else skip[i] @ u))
    return torch.stack(outputs)


def attend(q: Tensor, k: Tensor, value: Tensor, x: Tensor, decay: Tensor | None) -> Tensor:
    """Attention with features q, k as systems, one per head: L = (eta_{i-1} / eta_i) I, or I times a decay."""
    rows = []
    for head, weight in enumerate(value.chunk(q.shape[1])):
        q_h, k_h, size = q[0, head], k[0, head], weight.shape[0]
        eta = (q_h * k_h.cumsum(0)).sum(1) if decay is None else torch.ones_like(q_h[:, 0])
        kept = torch.cat([eta[:1], eta[:-1]]) / eta if decay is None else decay[head].expand_as(eta)
        write = torch.stack([torch.kron(row[:, None], weight) for row in k_h / eta[:, None]])
        read = torch.stack([torch.kron(row, torch.eye(size, dtype=x.dtype)) for row in q_h[:, None]])
        rows.append(play(kept[:, None].expand(-1, write.shape[1]), write, read, None, x[0]))
    return torch.cat(rows, dim=1)[None]
