"""r1kit: the DeepSeek-R1 system, whole, from a laptop to a cluster."""

__version__ = "0.1.0"
