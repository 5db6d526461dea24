"""From the options of `attime compare` to a task, and the budget and shape that suit it."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attime.errors import AttimeError
from attime.streams.contract import Stream
from attime.streams.events import Events, read_events
from attime.streams.music import Pieces
from attime.streams.public import public
from attime.streams.series import Series, read_series
from attime.streams.text import Corpus, read_text, standard_library
from attime.streams.tracks import Tracks
from attime.tasks import Chorales, Forecast, Needle, NextEvent, NextItem, Recall, Text, Trajectories
from attime.tasks.contract import Task

__all__ = ["Source", "source_of"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """What to learn, in words and as a task; what a newcomer's machine trains on it in minutes."""

    task: Task
    data: str
    batch: int = 8
    seconds: float = 45.0
    shape: Mapping[str, Any] = field(default_factory=dict)


def source_of(options: argparse.Namespace) -> Source:
    """The task that the options ask for; by default the source of Python's own standard library."""
    _only_where_used(options)
    if options.task:
        return _made(options)
    if options.series:
        series = read_series(options.series, target=options.target, freq=options.freq, gaps=options.gaps)
        return _series(series, options)
    if options.events:
        user, item, time = options.columns or (None, None, None)
        return _events(read_events(options.events, user=user, item=item, time=time), options)
    if options.data:
        return _public(options)
    return _text(read_text(options.text) if options.text else standard_library(), options)


def _text(corpus: Corpus, options: argparse.Namespace) -> Source:
    length = options.length or 256
    return Source(task=Text.of(corpus, window=length, overlap=length // 4), data=corpus.about)


def _series(series: Series, options: argparse.Namespace) -> Source:
    lookback, horizon = options.lookback or 96, options.horizon or 96
    # A causal model forecasts from every place it has read: learn from those with half a window behind them.
    task = Forecast.of(series, target=options.target, lookback=lookback, horizon=horizon, dense=max(1, lookback // 2))
    return Source(task=task, data=series.about, batch=16, shape={"memory": float(lookback)})


def _events(events: Events, options: argparse.Namespace) -> Source:
    task = NextItem.of(events, length=options.length) if options.length else NextItem.of(events)
    return Source(task=task, data=events.about, batch=64)


def _made(options: argparse.Namespace) -> Source:
    made = {"recall": Recall, "needle": Needle}
    if options.task not in made:
        raise AttimeError(f"--task needs {' or '.join(made)}; got {options.task!r}.")
    task = made[options.task](length=options.length) if options.length else made[options.task]()
    return Source(task=task, data=f"{options.task}: made as it goes, with known truth", batch=64)


def _public(options: argparse.Namespace) -> Source:
    stream: Stream = public(options.data)
    if isinstance(stream, Corpus):
        return _text(stream, options)
    if isinstance(stream, Series):
        return _series(stream, options)
    if isinstance(stream, Events) and stream.part is not None:  # histories of event types that come already split
        return Source(task=NextEvent.of(stream), data=stream.about, batch=32)
    if isinstance(stream, Events):
        return _events(stream, options)
    if isinstance(stream, Pieces):
        return Source(task=Chorales.of(stream), data=stream.about)
    if isinstance(stream, Tracks):
        return Source(task=Trajectories.public(), data=stream.about, batch=64, shape={"memory": 2.0})
    raise AttimeError(f"{options.data} has no task for attime compare; attime data says what each set is good for.")


def _only_where_used(options: argparse.Namespace) -> None:
    """An option that would be ignored is a mistake worth a word."""
    series = options.series or options.data
    for name in ("target", "lookback", "horizon", "freq"):
        if getattr(options, name) is not None and not series:
            raise AttimeError(f"--{name} is about a series; give it with --series FILE.")
    if options.columns and not options.events:
        raise AttimeError("--columns is about events; give it with --events FILE.")
    if options.length and series and not options.data:
        raise AttimeError("--length is about text, events and tasks; a series takes --lookback and --horizon.")
