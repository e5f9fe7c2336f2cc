"""The mathematics of the paper: pure functions of tensors, without state, logging or settings.

B: completions   T: token positions, padded   P: problems   G: completions a problem   V: vocabulary
"""
