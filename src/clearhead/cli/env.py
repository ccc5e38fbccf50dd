"""clearhead env: versions and machine, for a bug report and for choosing sizes."""

import os
import platform
from importlib import metadata
from typing import Any

from clearhead.cli.options import AsJson, print_json, print_table

PACKAGES = ("torch", "tokenizers", "safetensors", "numpy", "pydantic", "sacrebleu")


def command(json: AsJson = False) -> None:
    """Show versions, cores, number formats and what a training would choose by itself."""
    import torch

    import clearhead
    from clearhead.core.devices import matmul_seconds, pick_device, pick_dtype, set_threads

    threads = set_threads(0)
    device = pick_device("auto")
    work = 2 * 2048 * 256 * 1024 / 1e9
    facts: dict[str, Any] = {
        "clearhead": clearhead.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": threads,
        "device": str(device),
        "float32_gflops": work / matmul_seconds(torch.float32),
        "bfloat16_gflops": work / matmul_seconds(torch.bfloat16),
        "training_precision": str(pick_dtype("auto", device)).removeprefix("torch."),
    }
    print_table(facts)
    if json:
        print_json(facts)
