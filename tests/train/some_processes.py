"""One of some processes that hold a model together: what they compute is what one process computes.

Started by test_parallel.py with rank, number of processes and port; prints the name of each check that holds.
"""

import os
import sys
from pathlib import Path
from tempfile import mkdtemp

import torch

from clearhead.bundle.weights import weights_of
from clearhead.core.processes import World, joined
from clearhead.core.registry import Choice
from clearhead.data.text_batches import shifted
from clearhead.model import ModelConfig, Transformer
from clearhead.model.inventory import freeze
from clearhead.model.recompute import recompute
from clearhead.train.checkpoint import Checkpoints, State, optimizer_tensors
from clearhead.train.guards import update_ratios
from clearhead.train.objectives import OBJECTIVES
from clearhead.train.optimizers import OPTIMIZERS, parameter_groups
from clearhead.train.parallel import PARALLELS, Lesson

CPU = torch.device("cpu")
SIZES = {"encoder_layers": 0, "decoder_layers": 4, "d_model": 10, "heads": 2, "d_ff": 7, "length": 9, "dropout": 0.0}
MODELS = {  # odd sizes: neither 23 words nor 7 features divide by two
    "tied": {"tie": "output"},
    "untied, layers shared in twos": {"tie": "none", "layer_groups": 2},
    "feed-forward networks shared in twos": {"layer_groups": 2, "shared": "feedforward", "position": "t5"},
    "mixture, frozen": {"feedforward": "mixture", "freeze": ["decoder.*.attention"]},
    "recomputed": {"recompute": True},
}


def lesson_of(changes: dict) -> Lesson:
    torch.manual_seed(1)
    changes = dict(changes)
    frozen, again = changes.pop("freeze", []), changes.pop("recompute", False)
    model = Transformer(ModelConfig(**{**SIZES, "source_vocab": 23, "target_vocab": 23, **changes})).double().train()
    freeze(model, frozen)
    if again:
        recompute(model)
    return Lesson(model, OBJECTIVES.build(Choice(kind="causal")))


def batches() -> list:
    random = torch.Generator().manual_seed(2)
    rows = [[torch.randint(1, 23, (length,), generator=random).numpy()] for length in (9, 4, 6, 9, 2, 7, 3)]
    return [
        shifted(rows[part], 8, 0)
        for part in (slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 5), slice(5, 6), slice(6, 7))
    ]


def trained(lesson, parallel, world: World, updates: int = 2):
    """Gradients of the last update, their norm, optimiser and ratios after some updates of six batches each."""
    parallel.spread(lesson, CPU)
    optimizer = OPTIMIZERS.build(Choice(kind="adam"))(parameter_groups(lesson.learner))
    total = sum(each.tokens for each in batches())
    for _ in range(updates):
        optimizer.zero_grad()
        for batch in batches()[world.rank :: world.size]:
            (lesson(batch)[0] / total).backward()
        norm = parallel.norm(parallel.collect())
        gradients = {name: each.grad for name, each in lesson.learner.named_parameters() if each.grad is not None}
        gradients = copied(parallel.bring(gradients))
        for group in optimizer.param_groups:
            group["lr"] = 0.01
        ratios = update_ratios(lesson.learner, optimizer.step, parallel)
        parallel.stepped()
    return gradients, norm, optimizer, ratios


def copied(tensors: dict) -> dict:
    return {name: each.clone() for name, each in tensors.items()}


def weights_in(learner, parallel) -> dict:
    return copied({name: parallel.whole(each) for name, each in weights_of(learner).items()})


def kept_in(optimizer, parallel) -> dict:
    return copied(parallel.bring(optimizer_tensors(optimizer)))


def check(kind: str, changes: dict, world: World) -> None:
    alone = PARALLELS.build(Choice(kind="replicate"), World())
    one = lesson_of(changes)
    gradients, norm, _, ratios = trained(one, alone, World())
    parallel, lesson = PARALLELS.build(Choice(kind=kind), world), lesson_of(changes)
    own_gradients, own_norm, optimizer, own_ratios = trained(lesson, parallel, world)
    weights, kept = weights_in(lesson.learner, parallel), kept_in(optimizer, parallel)
    assert abs(norm - own_norm) < 1e-12
    assert ratios.keys() == own_ratios.keys()
    assert all(abs(ratios[name] - own_ratios[name]) < 1e-12 for name in ratios)
    if world.first:
        assert gradients.keys() == own_gradients.keys()
        for name, each in gradients.items():
            torch.testing.assert_close(each, own_gradients[name], rtol=0, atol=1e-12)
        for name, each in weights_of(one.learner).items():
            torch.testing.assert_close(each, weights[name], rtol=0, atol=1e-9)
        with parallel.plain(weights) as plain:
            for name, each in weights_of(plain).items():
                assert torch.equal(each, weights[name])
    reads_back(kind, changes, weights, kept, parallel)
    ends(lesson, parallel, weights)
    unequal(kind, world)


def ends(lesson: Lesson, parallel, weights: dict) -> None:
    """What is left is an ordinary model."""
    if parallel.world.first and "gradients" not in parallel.divides:
        with parallel.plain() as plain:
            assert all(torch.equal(each, weights[name]) for name, each in weights_of(plain).items())
            plain.float()
            lesson(batches()[0])[0].backward()
    parallel.world.wait()


def unequal(kind: str, world: World) -> None:
    """A parameter that has a gradient in one process only, and one that has none anywhere."""
    if kind == "shard":  # which knows only whole passes
        return
    parallel = PARALLELS.build(Choice(kind=kind), world)
    parts = torch.nn.ModuleDict({name: torch.nn.Linear(3, 1, bias=False) for name in ("all", "one", "none")})
    parts["empty"] = torch.nn.Linear(0, 3, bias=False)
    parallel.spread(Lesson(parts, None), CPU)
    for _ in range(2):
        loss = parts["all"].weight.sum() + (parts["one"].weight.sum() if world.first else 0)
        loss.backward()
        parallel.collect()
        told = {name: each.weight.grad for name, each in parts.items() if each.weight.grad is not None}
        found = copied(parallel.bring(told))
        parallel.stepped()
        for each in parts.parameters():
            each.grad = None
        if world.first:
            assert found.keys() == {"all", "one"}
            assert torch.equal(found["all"], torch.full((1, 3), float(world.size)))
            assert torch.equal(found["one"], torch.ones(1, 3))


def reads_back(kind: str, changes: dict, weights: dict, kept: dict, parallel) -> None:
    """What is written comes back bit for bit, here and in one process."""
    world, folder = parallel.world, [Path(mkdtemp())]
    torch.distributed.broadcast_object_list(folder, src=0)
    checkpoints = Checkpoints(folder[0], keep=1, every=1)
    if world.first:
        checkpoints.save(weights, kept, State(update=3), {"cpu": torch.get_rng_state()})
    names = world.gather(sorted(kept))[0]  # the first one's: others may have only their own
    for other, others in ((PARALLELS.build(Choice(kind=kind), world), world), (PARALLELS.build(ALONE, World()), None)):
        lesson = lesson_of({**changes, "recompute": False})
        other.spread(lesson, CPU)
        optimizer = OPTIMIZERS.build(Choice(kind="adam"))(parameter_groups(lesson.learner))
        assert checkpoints.restore(lesson.learner, optimizer, other).update == 3
        back, back_kept = weights_in(lesson.learner, other), kept_in(optimizer, other)
        if world.first or others is None:
            again = weights if world.first else back
            assert all(torch.equal(back[name], each) for name, each in again.items())
            assert sorted(back_kept) == names
        if world.first:
            assert all(torch.equal(back_kept[name].double(), each.double()) for name, each in kept.items())


ALONE = Choice(kind="replicate")

if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, count, port = sys.argv[1:]
    os.environ |= {"RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with joined(CPU) as world:
        for kind in PARALLELS.names():
            for name, changes in MODELS.items():
                check(kind, changes, world)
                sys.stdout.write(f"{kind}: {name}\n")
