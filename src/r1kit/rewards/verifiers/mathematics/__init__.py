"""Is one mathematical answer another? Extraction, own arithmetic, structure, and a fenced computer algebra system."""
