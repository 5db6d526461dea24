"""CAB: every attention against the patterns of its use, and the length from which it is worth its price.

Claim:   efficient attentions do not serve the patterns {noncausal, causal} x {self, cross} alike, and become cheaper than
         full attention at lengths (efficiency lengths) that lie far apart, some beyond what they are used at.
Parts:   all mixers of the attention room, against softmax.Softmax
Proof:   the pattern is probed: the last input is moved, and all earlier outputs stay (causal) or some other moves (noncausal); all
         probes must agree with what the mixers declare. The efficiency length is the first length at which what a
         mixer counts for one more token, in operations or in bytes held, is not above full attention. By operations one of
         these lengths must be `spread` times the median of them, and beyond `used` tokens.
Differs: counted and not timed, and nothing is trained: the paper also ranks nine attentions on seven tasks. A house mixer
         serves one pattern, so a mechanism that serves two has two classes. Mixers that need the sizes of a grid are
         probed and not counted. The length that lies apart is that of LSSL, which solves a dense system per token;
         without it the spread would not be reached.
"""

import inspect
import statistics
from collections.abc import Callable

import torch

from attime.attention.contract import Mixer
from attime.attention.softmax import Softmax
from attime.laws import parts_of
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=35,
    title="CAB: Comprehensive Attention Benchmarking on Long Sequence Modeling",
    url="https://arxiv.org/abs/2210.07661",
    parts=(Softmax, Mixer),
)
FULL = {"dim": 256}


def run(*, dim: int = 64, spread: float = 16.0, used: int = 1024, limit: int = 2**20, seed: int = 0) -> Verdict:
    """Probe every mixer's pattern, and count from where on it costs less than full attention of `dim` channels."""
    torch.manual_seed(seed)
    kinds = [kind for kind in parts_of("attention") if issubclass(kind, Mixer)]
    examples = [kind.examples()[0] for kind in kinds]
    agrees = [_as_declared(mixer) for mixer in examples if isinstance(mixer, Mixer)]
    numbers = {
        "mixers, causal self": float(sum(kind.traits.causal for kind in kinds)),
        "mixers, noncausal self": float(sum(not kind.traits.causal for kind in kinds)),
        "mixers, cross": float(sum(kind.traits.context for kind in kinds)),
        "mixers that are not what they declare": float(len(agrees) - sum(agrees)),
    }
    full, lengths, never = Softmax(dim), list[int](), 0
    for kind in kinds:
        needs = [each for each in inspect.signature(kind).parameters.values() if each.default is each.empty]
        if kind.traits.grid or kind is Softmax or len(needs) > 1:
            continue
        mixer: Mixer = kind(dim)  # pyright: ignore[reportCallIssue]
        if mixer.cost(2 * limit).operations > 1.5 * mixer.cost(limit).operations:
            continue  # it grows as full attention does: not an efficient one
        by_work = _first(lambda n, m=mixer: m.cost(n).operations <= full.cost(n).operations, limit)
        by_bytes = _first(lambda n, m=mixer: m.cost(n).state_bytes <= full.cost(n).state_bytes, limit)
        lengths.append(by_work)
        never += by_work > limit
        numbers[f"{kind.__name__}, cheaper from"] = float(by_work)
        numbers[f"{kind.__name__}, smaller from"] = float(by_bytes)
    numbers["efficient mixers"] = float(len(lengths))
    numbers[f"never cheaper up to {limit}"] = float(never)
    return Verdict(
        holds=all(agrees) and len(lengths) > 1 and max(lengths) >= max(used, spread * statistics.median(lengths)),
        numbers=numbers,
        reason="" if all(agrees) else "a mixer is not what it declares",
    )


@torch.no_grad()
def _as_declared(mixer: Mixer) -> bool:
    """Move the last input (of a grid: its last cell): are earlier time steps untouched, or some other outputs moved?"""
    mixer = mixer.double().eval()
    x = torch.randn((1, 2, 7, 6, mixer.dim) if mixer.traits.grid else (1, 24, mixer.dim), dtype=torch.float64)
    moved = x.clone()
    moved.flatten(0, -2)[-1] += 1.0
    change = (mixer(moved)[0] - mixer(x)[0]).abs()
    if mixer.traits.causal:
        return float(change[:, :-1].max()) < 1e-10
    return float(change.flatten(0, -2)[:-1].max()) > 1e-10


def _first(cheap: Callable[[int], bool], limit: int) -> int:
    """The first length that is cheap, by doubling and then halving; twice the limit if there is none."""
    high = 1
    while not cheap(high):
        high *= 2
        if high > limit:
            return 2 * limit
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cheap(middle) else (middle, high)
    return high
