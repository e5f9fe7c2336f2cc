"""Where problems come from: generated families, files, data sets.

problems = sample_problems([ChainsTask(terms=6)], 16, seed="0/iteration-3", split="train")
"""

from r1kit.tasks.families import FAMILIES, Family, Split, mutilations, split_of, validate
from r1kit.tasks.source import ProblemSource, make_source, sample_problems

__all__ = [
    "FAMILIES",
    "Family",
    "ProblemSource",
    "Split",
    "make_source",
    "mutilations",
    "sample_problems",
    "split_of",
    "validate",
]
