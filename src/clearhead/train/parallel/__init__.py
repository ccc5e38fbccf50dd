"""How the processes of a run hold its model: each a whole one, or each a share of every matrix."""

from clearhead.train.parallel.base import PARALLELS, Parallel, parallel_of
from clearhead.train.parallel.lesson import Lesson
from clearhead.train.parallel.replicate import Replicate
from clearhead.train.parallel.shard import Shard

__all__ = ["PARALLELS", "Lesson", "Parallel", "Replicate", "Shard", "parallel_of"]
