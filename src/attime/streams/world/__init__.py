"""The world: one seeded scene yields video, sound, words, questions, logs, tracks and maps of the same happenings."""

from attime.streams.world.ask import QUESTIONS, Question, questions
from attime.streams.world.paint import flow, masks, paint, paint_many, top_map
from attime.streams.world.scene import COLOURS, KINDS, SHAPES, WAYS, Event, Shot, Thing
from attime.streams.world.tell import WORDS, Caption, captions, clause, decode, encode
from attime.streams.world.world import World

__all__ = [
    "COLOURS",
    "KINDS",
    "QUESTIONS",
    "SHAPES",
    "WAYS",
    "WORDS",
    "Caption",
    "Event",
    "Question",
    "Shot",
    "Thing",
    "World",
    "captions",
    "clause",
    "decode",
    "encode",
    "flow",
    "masks",
    "paint",
    "paint_many",
    "questions",
    "top_map",
]
