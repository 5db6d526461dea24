"""What the report calls things: mixers that were trained, or memories under which one trained model has read a text."""

from dataclasses import dataclass

from attime.tasks.result import Comparison

__all__ = ["Words", "words"]


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words of one kind of comparison."""

    question: str
    one: str
    """What a row is."""
    table: str
    state: str
    rate: str
    """The column of tokens per second; may hold one line break."""
    speed: str
    curves: str
    curves_note: str
    where: str
    """On what the curves were measured."""
    loss: str
    seconds: str
    tokens: str
    legend: str
    """What the numbers of the table are."""
    saved: str
    """Where the winner is."""
    hint: str


ATTENTION = Words(
    question="Which attention for",
    one="mixer",
    table="Every mixer and every floor",
    state="State",
    rate="Train\ntok/s",
    speed="Training",
    curves="Learning curves",
    curves_note="Each line ends where its training ended; dotted lines are trials that did not finish. "
    "Floors are measured on the test split.",
    where=" on validation",
    loss="training loss",
    seconds="CPU seconds of training",
    tokens="Tokens of training",
    legend="on the test split. State is what the whole model keeps of one stream after so many tokens, Step is the time of its "
    "next token. A mixer is Pareto-optimal if no other is at least as good in quality and in state, and better in one. A floor "
    "is a predictor that needs no attention: what does not beat it has learnt nothing worth its cost.",
    saved="trained in this run, is saved beside this page.",
    hint="generate() continues text, forecast() continues a series and recommend() names the next items, whichever the model "
    "was trained for.",
)
MEMORY = Words(
    question="Which memory for",
    one="memory",
    table="Every memory",
    state="Held",
    rate="Tokens /\nCPU s",
    speed="Reading",
    curves="Along the text",
    curves_note="Each point is the perplexity of all that was read so far, or the loss of the last piece alone.",
    where=" so far",
    loss="nats per token",
    seconds="CPU seconds of reading",
    tokens="Tokens read",
    legend="over the whole text; every token is predicted from all that is remembered of what came before it. Held is what the "
    "memory really holds after so many tokens, spare room and evidence included. Needle recall is how often the zoo's recall "
    "model, under the same policy, finds the value of a key somewhere in 256 tokens. A memory is Pareto-optimal if no other is "
    "at least as good in perplexity and in bytes, and better in one.",
    saved="is built by its name, for any model of transformers.",
    hint="cache() makes a memory for a conversation of several turns: pass it as past_key_values.",
)


def words(comparison: Comparison) -> Words:
    """The words for a comparison."""
    return MEMORY if comparison.kind == "memory" else ATTENTION
