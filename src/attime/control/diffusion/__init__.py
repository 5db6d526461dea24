"""Controls of attention in models that generate pictures and clips."""

from attime.control.diffusion.temporal_prior import TemporalPrior

__all__ = ["TemporalPrior"]
