"""Commands and their options. What a command does is imported only when it is called."""

import argparse
import importlib
from collections.abc import Callable
from typing import Any

from attime import __version__

__all__ = ["parser"]


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="attime", description="Attention over time, as parts that run.")
    top.add_argument("--version", action="version", version=f"attime {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _compare(commands)

    papers = _command(
        commands, "papers", "attime.cli.papers:papers", "the 274 papers, their parts, and whether each claim holds here"
    )
    papers.add_argument(
        "words", nargs="*", help="show only papers whose number, slug, title or status has all these words"
    )
    papers.add_argument("--known", action="store_true", help="run nothing: show the verdicts that are already known")
    papers.add_argument("--json", action="store_true", help="one JSON object")

    run = _command(
        commands, "run", "attime.cli.papers:run", "run a paper's proof: exit code 0 if the claim holds, 1 if not"
    )
    run.add_argument(
        "slug", help="the paper, such as aaren; options are those of its run(): attime run aaren --help-options"
    )
    run.add_argument("--full", action="store_true", help="the larger setting")
    run.add_argument("--json", action="store_true", help="one JSON object")
    run.add_argument("--help-options", action="store_true", help="list the paper's own options")
    run.add_argument("options", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)

    parts = _command(commands, "parts", "attime.cli.parts:parts", "the parts of the house, by room")
    parts.add_argument("room", nargs="?", help="only this room")
    parts.add_argument("--json", action="store_true", help="one JSON object")

    show = _command(
        commands, "show", "attime.cli.parts:show", "what a part or paper is: equation, source, traits, options, laws"
    )
    show.add_argument("name", help="a part (Decay, attention.linear.Decay, my_module:MyMixer) or a paper's slug")

    draw = _command(commands, "draw", "attime.cli.parts:draw", "which past token moves which output of a mixer")
    draw.add_argument("name", help="a mixer, with options: 'SlidingWindow(window=8)'")
    draw.add_argument("--length", type=int, default=32, help="tokens (default 32)")

    cite = _command(commands, "cite", "attime.cli.parts:cite", "BibTeX for a part or a paper")
    cite.add_argument("name", help="a part or a paper's slug")

    check = _command(commands, "check", "attime.cli.check:check", "hold a part of yours against the laws of its room")
    check.add_argument("name", help="my_module:MyMixer, or a part of the house")
    check.add_argument("--law", help="only this law")
    check.add_argument("--json", action="store_true", help="one JSON object")

    data = _command(
        commands, "data", "attime.cli.data:data", "named public data sets: which are here, and fetching one"
    )
    data.add_argument("name", nargs="?", help="fetch this one (into $ATTIME_DATA or the cache) and check its SHA-256")
    data.add_argument("--json", action="store_true", help="one JSON object")

    _world(commands)

    stream = _command(
        commands, "stream", "attime.cli.stream:stream", "read an endless text with a language model, in bounded memory"
    )
    stream.add_argument("file", metavar="FILE", help="a text file, or - for standard input")
    stream.add_argument(
        "--model", metavar="PATH_OR_ID", help="a language model of transformers (default: the zoo's, over bytes)"
    )
    stream.add_argument(
        "--memory",
        metavar="POLICY",
        help="such as sinks=4,window=1020, none, 'SinkWindow() + Contiguous()' (default: sinks and a window, as many tokens "
        "together as the model was made for, at most 1024)",
    )
    stream.add_argument(
        "--quantize", type=int, choices=(2, 4, 8), metavar="BITS", help="keep what is not recent in 2, 4 or 8 bits"
    )
    stream.add_argument(
        "--disk",
        metavar="DIR",
        help="park what leaves the window there, and bring back what a token asks for, in half of the window's place; the "
        "disk fills without limit, and memory grows by the mean key of each parked block",
    )
    stream.add_argument("--chunk", type=int, default=512, help="bytes read at a time (default 512, at most 65536)")
    stream.add_argument("--json", action="store_true", help="one JSON object")

    zoo = _command(
        commands,
        "zoo",
        "attime.cli.zoo:zoo",
        "small models of real classes, trained on the world: cards, recipes, checks",
    )
    zoo.add_argument("action", nargs="?", choices=("list", "show", "train", "check"), default="list")
    zoo.add_argument("name", nargs="?", help="a model of the zoo")
    zoo.add_argument("--steps", type=int, help="train: optimiser steps (default: the recipe's)")
    zoo.add_argument(
        "--seed", type=int, help="train: of weights and data (default 0); check: of the data (default: a fresh one)"
    )
    zoo.add_argument("--device", default="cpu", help="cpu, cuda, ... (default cpu)")
    zoo.add_argument(
        "--out", metavar="DIR", help="where weights and card are (default: the package; train: attime-zoo)"
    )
    zoo.add_argument("--json", action="store_true", help="one JSON object")

    sites = _command(commands, "sites", "attime.cli.lens:sites", "where a model attends: parts, kinds, layers, heads")
    sites.add_argument("model", metavar="MODEL", help="zoo:NAME, or a folder or id of transformers or diffusers")
    sites.add_argument("--where", help="only these: 'temporal up_blocks.1', 'decoder cross 2-3'")
    sites.add_argument("--json", action="store_true", help="one JSON object")

    lens = _command(commands, "lens", "attime.cli.lens:lens", "one page to look at attention over time in a model")
    lens.add_argument("model", metavar="MODEL", help="zoo:NAME, or a folder or id of a model of transformers")
    lens.add_argument(
        "input", metavar="INPUT", help="a text, or a file: text, picture, film or sound; of a painter, what it paints"
    )
    lens.add_argument("-o", "--out", default="lens.html", metavar="PAGE", help="the page (default lens.html)")
    lens.add_argument("--ask", help="a question about a film, picture or sound; of CLIP and its like, words")
    lens.add_argument("--where", help="only these sites (attime sites MODEL)")
    lens.add_argument("--tokens", type=int, help="most tokens along a side of a map, 8 to 1024 (default 256)")
    lens.add_argument("--seconds", type=float, help="of a film or sound so much (default 4; Whisper: what it hears)")
    lens.add_argument("--step", type=int, help="of the zoo's painters: the denoising step (default 8 of 20)")
    lens.add_argument("--json", action="store_true", help="one JSON object: notes, roles and measures of every head")

    bench = _command(commands, "bench", "attime.cli.bench:bench", "a mixer's cost and speed against full attention")
    bench.add_argument("names", nargs="+", help="mixers, such as Decay 'SlidingWindow(window=128)'")
    bench.add_argument("--dim", type=int, default=256)
    bench.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    bench.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    bench.add_argument("--train", action="store_true", help="time forward and backward")
    bench.add_argument("--json", action="store_true", help="one JSON object")
    return top


def _world(commands: Any) -> None:
    world = _command(
        commands,
        "world",
        "attime.cli.world:world",
        "render a procedural world: a film with sound, and its truth as JSON",
    )
    world.add_argument("out", metavar="FILE", help="mp4, mkv, webm or gif; the truth goes beside it as .json")
    world.add_argument("--seconds", type=float, default=60.0, help="length of the film (default 60)")
    world.add_argument("--seed", type=int, default=0)
    world.add_argument("--fps", type=float, default=25.0, help="frames per second (default 25)")
    world.add_argument("--size", type=int, default=256, help="pixels on each side (default 256)")
    world.add_argument("--silent", action="store_true", help="no sound")
    knobs = world.add_argument_group("how hard it is")
    knobs.add_argument("--shot", type=float, default=8.0, metavar="SECONDS", help="length of a shot (default 8)")
    knobs.add_argument("--things", type=int, nargs=2, default=(2, 4), metavar=("FEWEST", "MOST"), help="per shot")
    knobs.add_argument("--events", type=int, nargs=2, default=(3, 6), metavar=("FEWEST", "MOST"), help="per shot")
    knobs.add_argument("--speed", type=float, default=1.0, help="factor on the speed of moves (default 1)")
    knobs.add_argument("--redundancy", type=float, default=0.3, help="share of the time in which nothing happens")
    knobs.add_argument("--clutter", type=int, default=0, help="grey things in the background of each shot")
    knobs.add_argument("--noise", type=float, default=0.0, help="deviation of the noise on each pixel, of 0 to 1")
    knobs.add_argument("--needle", type=float, metavar="SECOND", help="when a star flashes, once in the film")
    world.add_argument("--json", action="store_true", help="one JSON object")


def _compare(commands: Any) -> None:
    compare = _command(
        commands,
        "compare",
        "attime.cli.compare:compare",
        "which attention should I use? Train one small backbone with different mixers on your data",
        "Without an input, the text is the source of Python's own standard library. With --memory: which memory should I "
        "use? Policies side by side under one trained model.",
    )
    source = compare.add_argument_group("input (one of)").add_mutually_exclusive_group()
    source.add_argument("--text", metavar="FILE|DIR", help="bytes to predict; a folder is split by file")
    source.add_argument("--series", metavar="FILE", help="CSV or Parquet to forecast")
    source.add_argument("--events", metavar="FILE", help="CSV, Parquet or .inter with user, item and time: next item")
    source.add_argument("--task", metavar="NAME", help="a task of the house: recall, needle")
    source.add_argument("--data", metavar="NAME", help="a named public data set (attime data)")
    about = compare.add_argument_group("about the input")
    about.add_argument(
        "--target", nargs="+", metavar="COLUMN", help="series: columns to forecast (default: all numbers)"
    )
    about.add_argument("--lookback", type=int, help="series: time steps that are read (default 96)")
    about.add_argument("--horizon", type=int, help="series: time steps that are forecast (default 96)")
    about.add_argument("--freq", help="series: time steps in a day, or h, min, d, w (default: from the time column)")
    about.add_argument(
        "--gaps", choices=("refuse", "fill"), default="refuse", help="series: what to do with missing values"
    )
    about.add_argument("--columns", nargs=3, metavar=("USER", "ITEM", "TIME"), help="events: names of the columns")
    about.add_argument("--length", type=int, help="text and tasks: tokens per training sequence (default 256)")
    memories = compare.add_argument_group("memories: instead of training, one trained model reads a text")
    memories.add_argument(
        "--memory",
        nargs="*",
        metavar="POLICY",
        help="such as none 'sinks=4,window=124' 'Evict(score=KeyNorm(), budget=128)' (default: five of 128 tokens)",
    )
    memories.add_argument(
        "--model", metavar="PATH_OR_ID", help="a language model of transformers (default: the zoo's, over bytes)"
    )
    memories.add_argument("--tokens", type=int, default=8192, help="tokens of the text that are read (default 8192)")
    memories.add_argument("file", nargs="?", metavar="FILE", help="the text (default: held-out files of the library)")
    models = compare.add_argument_group("models")
    models.add_argument(
        "--mixers",
        nargs="+",
        metavar="MIXER",
        help="such as Softmax 'SlidingWindow(window=128)' Taylor+SlidingWindow my_module:MyMixer; or all",
    )
    models.add_argument("--dim", type=int, default=64, help="channels (default 64)")
    models.add_argument("--heads", type=int, default=4, help="heads (default 4)")
    models.add_argument("--layers", type=int, default=2, help="blocks (default 2)")
    models.add_argument("--block", type=float, default=16.0, help="parameters per block in units of dim^2 (default 16)")
    budget = compare.add_argument_group("budget: the same for all")
    amount = budget.add_mutually_exclusive_group()
    amount.add_argument("--steps", type=int, help="optimiser steps")
    amount.add_argument("--seconds", type=float, help="CPU seconds of training each")
    budget.add_argument("--batch", type=int, help="sequences per step (default 8; series 16, events and tasks 64)")
    budget.add_argument("--learning-rate", type=float, default=1e-2)
    budget.add_argument("--seed", type=int, default=0)
    budget.add_argument(
        "--threads", type=int, default=1, help="threads per trial (default 1: faster on small machines)"
    )
    budget.add_argument("--jobs", type=int, help="trials at a time (default: cores / threads)")
    budget.add_argument(
        "--ray", metavar="ADDRESS", help="run the trials on a Ray cluster ('auto', 'local' or an address)"
    )
    limits = compare.add_argument_group("limits on the answer")
    limits.add_argument(
        "--max-state-bytes", type=float, help="bytes of state of one stream after 64k tokens, or held by a memory"
    )
    limits.add_argument("--max-step-ms", type=float, help="milliseconds of one streaming step after a long past")
    output = compare.add_argument_group("output")
    output.add_argument(
        "--out", default="attime-compare", help="folder (default attime-compare); the same command resumes"
    )
    output.add_argument("--fresh", action="store_true", help="forget finished trials and start again")
    output.add_argument("--json", action="store_true", help="one JSON object instead of the table")


def _command(commands: Any, name: str, target: str, text: str, more: str = "") -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}")
    command.set_defaults(run=_later(target))
    return command


def _later(target: str) -> Callable[[argparse.Namespace], int]:
    module, function = target.split(":")
    return lambda options: getattr(importlib.import_module(module), function)(options)
