"""What the memory allows: the time that nothing but reading takes."""

import time

import torch

WIDTH = 1024
TRIES = 20


def read_seconds(count: float, step: float) -> float:
    """Seconds to read so many bytes: the best of some products of a matrix and a vector, with one thread and with two.

    The matrix is as large as what a step reads, so it comes from where weights come from: memory, or a large cache.
    """
    matrix, vector = torch.ones(max(1, int(step / 4 / WIDTH)), WIDTH), torch.ones(WIDTH)
    best = float("inf")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for _ in range(TRIES):
            start = time.perf_counter()
            torch.mv(matrix, vector)
            best = min(best, time.perf_counter() - start)
    return best * count / (matrix.numel() * 4)
