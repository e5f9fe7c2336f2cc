"""What length alone is worth."""


def overlong_penalty(num_tokens: int, *, max_new_tokens: int, cache_tokens: int) -> float:
    """0 up to the cache, then falling to -1 at the limit: soft overlong punishment (arXiv:2503.14476, equation 13).

    `cache_tokens` of the limit are the cache; 0 means a fifth of it, and never less than one token.
    """
    cache = min(cache_tokens or max_new_tokens // 5, max_new_tokens) or 1
    return 0.0 - min(1.0, max(0, num_tokens - (max_new_tokens - cache)) / cache)
