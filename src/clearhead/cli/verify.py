"""clearhead verify: the laws that a right model obeys, checked on this model and this machine."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from clearhead.cli.options import AsJson, Device, ModelFolder, print_json

if TYPE_CHECKING:
    from clearhead.train.checks import Finding, Skipped


def command(
    model: ModelFolder,
    length: Annotated[int, typer.Option(min=4, help="Tokens of the longest text that is tried.")] = 24,
    device: Device = "cpu",
    json: AsJson = False,
) -> None:
    """Prove that a model computes the same however it is asked; exit status 1 if it does not.

    Each check computes one thing in two ways and prints their largest relative difference: with and without a cache,
    alone and in a batch, with padding left and right, packed and separate, ...

    Example: clearhead verify runs/demo --json
    """
    from clearhead.bundle import Bundle
    from clearhead.core.devices import pick_device
    from clearhead.train.checks import Skipped, verify

    bundle = Bundle.load(model)
    bundle.model.to(pick_device(device))
    results: list[Finding | Skipped] = []
    for each in verify(bundle, length=length):
        print(_line(each), flush=True)
        results.append(each)
    skipped = [asdict(each) for each in results if isinstance(each, Skipped)]
    checks = [asdict(each) for each in results if not isinstance(each, Skipped)]
    passed = sum(each["passed"] for each in checks)
    if json:
        print_json({"checks": checks, "skipped": skipped, "passed": passed, "failed": len(checks) - passed})
    if passed < len(checks):
        raise typer.Exit(1)


def _line(result: "Finding | Skipped") -> str:
    from clearhead.train.checks import Skipped

    if isinstance(result, Skipped):
        return f"left out  {result.title}: {result.reason}"
    mark = "holds   " if result.passed else "BROKEN  "
    if result.error:
        return f"{mark}  {result.title}: {result.error}"
    found = "no number" if result.largest_difference is None else f"{result.largest_difference:.1e}"
    return f"{mark}  {result.title}: largest difference {found}, at most {result.tolerance:.0e} allowed"
