"""clearhead env: versions and machine, for a bug report and for choosing sizes."""

import math
import os
import platform
from importlib import metadata
from typing import Any

from clearhead.cli.options import AsJson, print_json, print_table

PACKAGES = ("torch", "tokenizers", "safetensors", "numpy", "pydantic", "sacrebleu")


def command(json: AsJson = False) -> None:
    """Show versions, cores, number formats, what a training chooses by itself on this machine, and whether texts are
    written by the compiled step.

    A recipe says otherwise with train.device, precision, threads, processes and parallel.
    """
    import torch

    import clearhead
    from clearhead.core.devices import USUAL, matmul_seconds, pick_device, set_threads
    from clearhead.model.packing.library import why_not
    from clearhead.train.machine import automatic

    threads, device, work = set_threads(0), pick_device("auto"), 2 * math.prod(USUAL) / 1e9
    facts: dict[str, Any] = {
        "clearhead": clearhead.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": threads,
        "device": str(device),
        "gpus": torch.cuda.device_count(),
        "float32_gflops": work / matmul_seconds(torch.float32),
        "bfloat16_gflops": work / matmul_seconds(torch.bfloat16),
        "compiled_step": why_not() or "yes",
        **automatic(device),
    }
    print_table(facts)
    if json:
        print_json(facts)
