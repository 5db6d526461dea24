"""Family video: quizzes about what happens in clips and streams."""

from attime.tasks.video.annotations import read_mvbench, read_tempcompass, read_temporalbench, read_tomato
from attime.tasks.video.choices import Choices
from attime.tasks.video.coherence import Coherence, change, coherence, read_prompts
from attime.tasks.video.conflicts import ConflictingClips
from attime.tasks.video.edited_captions import EditedCaptions, central_caption
from attime.tasks.video.free_answers import choose, lettered, spoken
from attime.tasks.video.live import FrameMemory, Live, Witness, foresight, past_only
from attime.tasks.video.online import Online, read_online
from attime.tasks.video.point_tracks import trace, true_tracks
from attime.tasks.video.shot_questions import ShotQuestions
from attime.tasks.video.stage import STAGE, film
from attime.tasks.video.time_needed import TimeNeeded, time_needed
from attime.tasks.video.told_frames import Told, ToldFrames
from attime.tasks.video.told_reader import ToldReader

__all__ = [
    "STAGE",
    "Choices",
    "Coherence",
    "ConflictingClips",
    "EditedCaptions",
    "FrameMemory",
    "Live",
    "Online",
    "ShotQuestions",
    "TimeNeeded",
    "Told",
    "ToldFrames",
    "ToldReader",
    "Witness",
    "central_caption",
    "change",
    "choose",
    "coherence",
    "film",
    "foresight",
    "lettered",
    "past_only",
    "read_mvbench",
    "read_online",
    "read_prompts",
    "read_tempcompass",
    "read_temporalbench",
    "read_tomato",
    "spoken",
    "time_needed",
    "trace",
    "true_tracks",
]
