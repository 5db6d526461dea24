"""Room tasks: batches with a known truth, scores, and the floors that any model must beat."""

from attime.tasks.chorales import Chorales
from attime.tasks.contract import Task
from attime.tasks.forecast import Forecast
from attime.tasks.needle import Needle
from attime.tasks.next_event import NextEvent
from attime.tasks.next_item import NextItem
from attime.tasks.recall import Recall
from attime.tasks.text import Text
from attime.tasks.trajectories import Trajectories

__all__ = ["Chorales", "Forecast", "Needle", "NextEvent", "NextItem", "Recall", "Task", "Text", "Trajectories"]
