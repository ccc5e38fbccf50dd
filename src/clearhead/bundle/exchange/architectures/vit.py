"""ViT (Dosovitskiy et al., 2021, arXiv:2010.11929)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture
from clearhead.bundle.exchange.architectures.encoders import LABELS, activation, last_map
from clearhead.bundle.exchange.batch import ROWS, Batch
from clearhead.bundle.exchange.flat import Flat
from clearhead.bundle.exchange.rules import Custom, Field, Free, Rate, Theirs, fixed
from clearhead.bundle.exchange.tensors import ROW, Form, linear, one, projections
from clearhead.core.errors import BundleError
from clearhead.model import ModelConfig

LAYER, OURS = "vit.encoder.layer.{layer}", "encoder.blocks.{layer}"


class Kernels(Form):
    """Theirs is a convolution (d_model, channels, size, size), ours a linear map of the same numbers."""

    def join(self, parts: Sequence[Tensor], config: ModelConfig) -> Tensor:
        return parts[0].flatten(1)  # (d_model, channels * size * size)

    def split(self, tensor: Tensor, config: ModelConfig) -> list[Tensor]:
        size = config.embedding.options["size"]
        return [tensor.reshape(len(tensor), -1, size, size)]


def _sizes(theirs: Theirs) -> Flat:
    image, size, channels = theirs.get("image_size", 224), theirs.get("patch_size", 16), theirs.get("num_channels", 3)
    if not isinstance(image, int) or not isinstance(size, int):
        raise BundleError("images and patches must be square", found=f"image_size {image}, patch_size {size}")
    patches = {"embedding.image": image, "embedding.size": size, "embedding.channels": channels}
    return {**patches, "length": (image // size) ** 2 + 1}


def _write(ours: Mapping[str, Any]) -> dict[str, Any]:
    image, size = ours["embedding.image"], ours["embedding.size"]
    if ours["length"] != (image // size) ** 2 + 1:
        raise BundleError("length must be that of patches and class token", found=ours["length"])
    return {"image_size": image, "patch_size": size, "num_channels": ours["embedding.channels"]}


@ARCHITECTURES.register("ViTForImageClassification")
class Vit(Architecture):
    """Norm before the sub-layers, learned positions, scores of labels by the class token."""

    model_type = "vit"
    prefix = "vit."
    reads = "pixel_values"
    rules = (
        *fixed(
            {
                "decoder_layers": 0,
                "embedding.kind": "patches",
                "embedding.class_token": True,
                "position.kind": "learned",
                "position.offset": 0,
                "residual.kind": "pre",
                "norm.kind": "layernorm",
                "bias": True,
                "scale_embedding": False,
                "head.kind": "classify",
                "head.pooling": "first",
                "head.dense": "none",
                "head.bias": True,
            }
        ),
        Custom(("embedding.image", "embedding.size", "embedding.channels", "length"), _sizes, _write),
        LABELS,
        Field("num_hidden_layers", "encoder_layers", 12),
        Field("hidden_size", "d_model", 768),
        Field("num_attention_heads", "heads", 12),
        Field("intermediate_size", "d_ff", 3072),
        Field("layer_norm_eps", "norm.epsilon", 1e-12),
        Field("qkv_bias", "qkv_bias", default=True),
        activation("hidden_act"),
        Rate(("hidden_dropout_prob",), "dropout", 0.0),
        Rate(("attention_probs_dropout_prob",), "attention_dropout", 0.0),
        Free({"tie": "none", "source_vocab": 0, "target_vocab": 0, "pad": 0, "feedforward_dropout": 0.0}),
    )
    tensors = (
        one("vit.embeddings.cls_token", "encoder.embedding.first", ROW),
        one("vit.embeddings.patch_embeddings.projection.weight", "encoder.embedding.projection.weight", Kernels()),
        one("vit.embeddings.patch_embeddings.projection.bias", "encoder.embedding.projection.bias"),
        one("vit.embeddings.position_embeddings", "encoder.embedding_sum.position.table", ROW),
        *linear(f"{LAYER}.layernorm_before", f"{OURS}.attention_residual.norm"),
        *projections(f"{LAYER}.attention.attention.*", ("query", "key", "value"), f"{OURS}.attention.projections"),
        *linear(f"{LAYER}.attention.output.dense", f"{OURS}.attention.output"),
        *linear(f"{LAYER}.layernorm_after", f"{OURS}.feedforward_residual.norm"),
        *linear(f"{LAYER}.intermediate.dense", f"{OURS}.feedforward.inner"),
        *linear(f"{LAYER}.output.dense", f"{OURS}.feedforward.outer"),
        *linear("vit.layernorm", "encoder.last"),
        *last_map("classifier"),
    )

    def batch(self, config: ModelConfig) -> Batch:
        options = config.embedding.options
        random = torch.Generator().manual_seed(3)
        image = torch.randn(ROWS, options["channels"], options["image"], options["image"], generator=random)
        return Batch(image, None, None, None)
