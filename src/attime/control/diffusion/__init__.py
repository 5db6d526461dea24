"""Controls of attention in models that generate pictures and clips."""

from attime.control.diffusion.attention_fusion import AttentionFusion
from attime.control.diffusion.caption_path import CaptionPath
from attime.control.diffusion.fourier_gain import FourierGain
from attime.control.diffusion.frame_order import FrameOrder
from attime.control.diffusion.frame_queue import coherent_tail, frame_queue
from attime.control.diffusion.from_first import FromFirst
from attime.control.diffusion.harmonic import harmonic_fill
from attime.control.diffusion.perturbed_heads import PerturbedHeads, hunt
from attime.control.diffusion.scene_captions import SceneCaptions
from attime.control.diffusion.score_transfer import ScoreTransfer
from attime.control.diffusion.self_guidance import SelfGuidance
from attime.control.diffusion.subject_keys import SubjectKeys
from attime.control.diffusion.temporal_prior import TemporalPrior
from attime.control.diffusion.window import Windows
from attime.control.diffusion.word_weight import WordWeight

__all__ = [
    "AttentionFusion",
    "CaptionPath",
    "FourierGain",
    "FrameOrder",
    "FromFirst",
    "PerturbedHeads",
    "SceneCaptions",
    "ScoreTransfer",
    "SelfGuidance",
    "SubjectKeys",
    "TemporalPrior",
    "Windows",
    "WordWeight",
    "coherent_tail",
    "frame_queue",
    "harmonic_fill",
    "hunt",
]
