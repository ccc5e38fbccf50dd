"""How the processes of a run hold its model: each a whole one, one for all, or each a share of every matrix."""

from clearhead.train.parallel.base import PARALLELS, Parallel, parallel_of
from clearhead.train.parallel.lesson import Lesson
from clearhead.train.parallel.replicate import Replicate
from clearhead.train.parallel.shard import Shard
from clearhead.train.parallel.shared_memory import SharedMemory

__all__ = ["PARALLELS", "Lesson", "Parallel", "Replicate", "Shard", "SharedMemory", "parallel_of"]
