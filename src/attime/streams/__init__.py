"""Room streams: data with time. Readers of your own files, and public data sets by name."""

from attime.streams.audio import Audio
from attime.streams.contract import TEST, TRAIN, VALID, Stream, Traits
from attime.streams.events import Events, read_events
from attime.streams.film import write_film, write_sound
from attime.streams.music import Pieces, read_pieces
from attime.streams.public import local_files, public, public_files, public_names
from attime.streams.recording import Track
from attime.streams.series import Series, read_series
from attime.streams.sounds import Sounds, read_sounds
from attime.streams.text import Corpus, read_text, standard_library
from attime.streams.tracks import Tracks, read_tracks
from attime.streams.video import Video

__all__ = [
    "TEST",
    "TRAIN",
    "VALID",
    "Audio",
    "Corpus",
    "Events",
    "Pieces",
    "Series",
    "Sounds",
    "Stream",
    "Track",
    "Tracks",
    "Traits",
    "Video",
    "local_files",
    "public",
    "public_files",
    "public_names",
    "read_events",
    "read_pieces",
    "read_series",
    "read_sounds",
    "read_text",
    "read_tracks",
    "standard_library",
    "write_film",
    "write_sound",
]
