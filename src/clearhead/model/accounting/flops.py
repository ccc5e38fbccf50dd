"""Floating-point operations of a model in closed form: what its matrix products cost, forward and backward.

A product of (rows, inner) and (inner, columns) takes 2 * rows * inner * columns operations, and its backward pass two
such products, one for each factor that has a gradient. Sums, norms and activations are left out, as is customary: they
grow with the width, products with its square. `cost` tells what one module does for one sequence; without a rule of its
own a module costs what its children cost. Rules for kernels and position schemes are in `pairs.py`.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import singledispatch

from torch import Tensor, nn

from clearhead.model.accounting.cost import Cost, Work, product, total
from clearhead.model.accounting.pairs import mixing, relating
from clearhead.model.attention import SelfAttention
from clearhead.model.attention.identity import Identity
from clearhead.model.attention.multihead import MultiHead
from clearhead.model.attention.projections import Projections
from clearhead.model.attention.shared_qk import SharedQK
from clearhead.model.block import Block
from clearhead.model.embedding import Patches
from clearhead.model.feedforward.low_rank import Blocks as Grouped
from clearhead.model.feedforward.mixture import Mixture
from clearhead.model.head import Classify, Head
from clearhead.model.head.mlm import Pretraining
from clearhead.model.mask import CAUSAL, OPEN, AttentionMask
from clearhead.model.position import Untied
from clearhead.model.stack import Stack
from clearhead.model.stack.base import Blocks
from clearhead.model.stack.convolution import Convolution
from clearhead.model.stack.recurrent import Layer, Reading, Recurrent
from clearhead.model.transformer import Transformer


def flops(model: Transformer, source: int, target: int) -> dict[str, Cost]:
    """Operations for one sequence by component: forward with logits, and backward to every parameter.

    Args:
        model: may be on the meta device.
        source, target: tokens of each side that the model has.
    """
    costs: dict[str, Cost] = defaultdict(Cost)
    config, window = model.config, AttentionMask(window=model.config.window)
    lines: list[tuple[str, Cost]] = []
    if config.encoder_layers:
        lines += parts_of(model.encoder, Work(source, source, OPEN & window), Work(0, 0))
    if config.decoder_layers:
        lines += parts_of(model.decoder, Work(target, target, CAUSAL & window), Work(target, source, crosses=True))
    last = target if config.decoder_layers else source
    for name, each in [*lines, ("head", cost(model.head, Work(last, last)))]:
        costs[name] += each
    return dict(costs)


@singledispatch
def parts_of(stack: Stack, own: Work, crossing: Work) -> Iterator[tuple[str, Cost]]:
    """The components of a stack with their costs; the work among its own tokens, and with those it reads besides."""
    yield "embedding", cost(stack.embedding, own) + cost(stack.embedding_sum, own)
    yield "body", total(cost(each, own) for name, each in stack.named_children() if not name.startswith("embedding"))


@parts_of.register
def _(stack: Blocks, own: Work, crossing: Work) -> Iterator[tuple[str, Cost]]:
    yield "embedding", cost(stack.embedding, own) + cost(stack.embedding_sum, own)
    for block in stack.blocks:  # a shared block as often as it is used
        assert isinstance(block, Block)
        yield "attention", cost(block.attention, own)
        yield "cross", cost(block.cross, crossing)
        yield "feedforward", cost(block.feedforward, own)


@parts_of.register
def _(stack: Recurrent, own: Work, crossing: Work) -> Iterator[tuple[str, Cost]]:
    yield "embedding", cost(stack.embedding, own) + cost(stack.embedding_sum, own)
    yield "body", total(cost(each, own) for each in stack.layers)
    if len(stack.starts):  # the first state has a gradient: it comes from the memory
        yield "body", total(cost(each, Work(1, 1)) + Cost(0, _first_step(layer)) for each, layer in _started(stack))
    if isinstance(stack.reading, Reading):
        yield "cross", cost(stack.reading.cross, crossing)
        yield "body", cost(stack.reading.join, own)


def _started(stack: Recurrent) -> Iterator[tuple[nn.Linear, Layer]]:
    return zip(stack.starts, stack.layers, strict=True)  # type: ignore[arg-type]


def _first_step(layer: Layer) -> int:
    """Operations of the gradient to the state before the first token."""
    return 2 * _hidden_to_gates(layer.cell).numel()


def _hidden_to_gates(cell: nn.RNNBase) -> Tensor:
    """(gates * hidden, hidden), of the first direction."""
    return cell.all_weights[0][1]


@singledispatch
def cost(module: nn.Module, work: Work) -> Cost:
    """What a module does for one sequence; without a rule of its own, what its children do."""
    return total(cost(each, work) for each in module.children())


@cost.register
def _(module: nn.Linear, work: Work) -> Cost:
    return product(work.queries, module.in_features, module.out_features)


@cost.register
def _(module: Grouped, work: Work) -> Cost:
    groups, inputs, outputs = module.weight.shape
    return product(groups * work.queries, inputs, outputs)


@cost.register
def _(module: Mixture, work: Work) -> Cost:
    """Every token meets the router, and as many experts as are active."""
    expert = cost(module.experts[0], work)
    return total([cost(module.router, work), *[expert] * module.router.active])


@cost.register
def _(module: Convolution, work: Work) -> Cost:
    outputs, inputs, width = module.weight.shape
    return product(work.queries, inputs * width, outputs)


@cost.register
def _(module: nn.RNNBase, work: Work) -> Cost:
    """Both maps of each gate at each token; the state before the first one is zero and has no gradient."""
    directions = 2 if module.bidirectional else 1
    recurrent = _hidden_to_gates(module)
    steps = product(directions * work.queries, module.input_size + module.hidden_size, len(recurrent))
    return Cost(steps.forward, steps.backward - directions * 2 * recurrent.numel())


@cost.register
def _(module: Projections, work: Work) -> Cost:
    query, *others = module.sizes.rows
    width = module.sizes.d_model
    return product(work.queries, width, query) + total(product(work.keys, width, each) for each in others)


@cost.register
def _(module: SharedQK, work: Work) -> Cost:
    """All features of every token, whoever asks: in cross-attention those of both texts."""
    return product(work.queries + work.crosses * work.keys, module.sizes.d_model, len(module.weight))


@cost.register
def _(module: Identity, work: Work) -> Cost:
    return Cost()


@cost.register
def _(module: MultiHead, work: Work) -> Cost:
    sizes = module.projections.sizes
    return cost(module.projections, work) + cost(module.output, work) + mixing(module.kernel, sizes, work)


@cost.register
def _(module: SelfAttention, work: Work) -> Cost:
    return cost.dispatch(MultiHead)(module, work) + relating(module.position, module.projections.sizes, work)


@cost.register
def _(module: Untied, work: Work) -> Cost:
    """Once for all blocks."""
    width, features = module.query.shape[1], len(module.query)
    return product(2 * work.queries, width, features) + product(work.queries, features, work.keys)


@cost.register
def _(module: Patches, work: Work) -> Cost:
    patches = work.queries - len(module.first)
    return product(patches, module.projection.in_features, module.projection.out_features, gradients=1)  # not of pixels


@cost.register
def _(module: Head, work: Work) -> Cost:
    return _last(module, work) + total(cost(each, work) for each in module.children())


@cost.register
def _(module: Classify, work: Work) -> Cost:
    return cost.dispatch(Head)(module, Work(1, 1))  # one vector stands for the sequence


@cost.register
def _(module: Pretraining, work: Work) -> Cost:
    return _last(module, work) + cost(module.dense, work)  # `pairs` is another question, and not asked here


def _last(head: Head, work: Work) -> Cost:
    labels, width = head.matrix.shape
    return product(work.queries, width, labels)
