"""Compositions of parts by task; no new mixing, loss or policy is born here."""

from attime.models.contract import Model
from attime.models.inverted import InvertedModel
from attime.models.series import SeriesModel
from attime.models.stack import Block, Stack
from attime.models.tokens import TokenModel

__all__ = ["Block", "InvertedModel", "Model", "SeriesModel", "Stack", "TokenModel"]
