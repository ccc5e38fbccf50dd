"""What a user may say about generation: how tokens are sampled, and how the best continuation is searched."""

from clearhead.generate.sampling.config import SamplingConfig
from clearhead.generate.searches.config import SearchConfig

__all__ = ["SamplingConfig", "SearchConfig"]
