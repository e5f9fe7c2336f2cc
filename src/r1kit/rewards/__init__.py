"""What a completion is worth: verifiers that know the truth, checks of the form, and their weighted sum."""

from r1kit.rewards.combine import score_completion
from r1kit.rewards.format import check_format
from r1kit.rewards.verifiers import VERIFIERS, verify

__all__ = ["VERIFIERS", "check_format", "score_completion", "verify"]
