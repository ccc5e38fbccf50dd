"""Random models of the transformers library and of ours: odd toy sizes, no weight near zero."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from clearhead.bundle import Bundle
from clearhead.bundle.exchange import ARCHITECTURES
from clearhead.bundle.exchange.configs import read_config
from clearhead.bundle.exchange.rules import STORED
from clearhead.model import ModelConfig, Transformer
from clearhead.text import NO_TOKENIZER

WORDS = {"vocab_size": 23, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
BERT = {**WORDS, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
BERT |= {"max_position_embeddings": 17, "type_vocab_size": 3}
NARROW = {"embedding_size": 6}
DISTIL = {**WORDS, "dim": 12, "n_layers": 2, "n_heads": 2, "hidden_dim": 20, "max_position_embeddings": 17}
LLAMA = {**WORDS, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3}
LLAMA |= {"intermediate_size": 20, "max_position_embeddings": 32}
SEQUENCE = {**WORDS, "d_model": 12, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2}
SEQUENCE |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 20, "decoder_ffn_dim": 20, "max_position_embeddings": 17}
SEQUENCE |= {"decoder_start_token_id": 1, "forced_eos_token_id": 3}
T5 = {**WORDS, "d_model": 12, "d_kv": 5, "d_ff": 20, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 2}
T5 |= {"decoder_start_token_id": 1, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 11}
VIT = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
VIT |= {"image_size": 6, "patch_size": 3, "num_channels": 2, "num_labels": 5}
GPT2 = {**WORDS, "n_positions": 17, "n_embd": 12, "n_layer": 2, "n_head": 2}
ROPE = {"rope_theta": 500.0}
LLAMA3 = {**ROPE, "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}

MODELS: dict[str, dict[str, dict[str, Any]]] = {  # architecture -> what is special -> settings of its config
    "GPT2LMHeadModel": {"plain": GPT2, "untied": {**GPT2, "tie_word_embeddings": False, "n_inner": 19}},
    "GPT2Model": {"plain": GPT2},
    "LlamaModel": {"plain": LLAMA},
    "Qwen2Model": {"plain": LLAMA},
    "MistralModel": {"window": {**LLAMA, "sliding_window": 3, "head_dim": 6}},
    "LlamaForCausalLM": {
        "plain": LLAMA,
        "biased": {**LLAMA, "attention_bias": True, "mlp_bias": True, "head_dim": 6},
        "tied": {**LLAMA, "tie_word_embeddings": True},
        "linear": {**LLAMA, "rope_parameters": {**ROPE, "rope_type": "linear", "factor": 3.0}},
        "llama3": {**LLAMA, "rope_parameters": {**LLAMA3, "original_max_position_embeddings": 8}},
        "yarn": {
            **LLAMA,
            "rope_parameters": {**ROPE, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8},
        },
    },
    "Qwen2ForCausalLM": {
        "plain": LLAMA,
        "window": {**LLAMA, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 0},
    },
    "MistralForCausalLM": {
        "window": {**LLAMA, "sliding_window": 3, "head_dim": 6},
        "plain": {**LLAMA, "sliding_window": None},
    },
    "MarianMTModel": {
        "plain": {**SEQUENCE, "scale_embedding": True, "activation_function": "swish"},
        "two tables": {**SEQUENCE, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 29},
        "three tables": {
            **SEQUENCE,
            "share_encoder_decoder_embeddings": False,
            "decoder_vocab_size": 29,
            "tie_word_embeddings": False,
        },
    },
    "PegasusForConditionalGeneration": {"plain": SEQUENCE},
    "BartForConditionalGeneration": {"plain": {**SEQUENCE, "scale_embedding": True}},
    "MBartForConditionalGeneration": {"plain": SEQUENCE},
    "BertForMaskedLM": {"plain": BERT},
    "BertForPreTraining": {"plain": BERT},
    "BertForSequenceClassification": {"plain": {**BERT, "num_labels": 5}},
    "BertForTokenClassification": {"plain": {**BERT, "num_labels": 5}},
    "BertModel": {"plain": BERT},
    "RobertaForMaskedLM": {
        "plain": {**BERT, "type_vocab_size": 1},
        "padding elsewhere": {**BERT, "pad_token_id": 4, "hidden_act": "relu"},
    },
    "RobertaForSequenceClassification": {"plain": {**BERT, "num_labels": 5}},
    "RobertaForTokenClassification": {"plain": {**BERT, "num_labels": 5}},
    "RobertaModel": {"plain": BERT},
    "DistilBertForMaskedLM": {"plain": DISTIL},
    "DistilBertForSequenceClassification": {"plain": DISTIL},
    "DistilBertForTokenClassification": {"plain": DISTIL},
    "DistilBertModel": {"plain": DISTIL},
    "AlbertForMaskedLM": {
        "plain": {**BERT, **NARROW, "num_hidden_layers": 4, "num_hidden_groups": 2},
        "one group": {**BERT, **NARROW, "hidden_act": "relu"},
    },
    "AlbertForSequenceClassification": {"plain": {**BERT, **NARROW}},
    "AlbertForTokenClassification": {"plain": {**BERT, **NARROW}},
    "ElectraForPreTraining": {"plain": {**BERT, **NARROW}, "wide": {**BERT, "embedding_size": 12}},
    "ElectraForMaskedLM": {"plain": {**BERT, **NARROW, "hidden_act": "relu"}},
    "ElectraForSequenceClassification": {"plain": {**BERT, **NARROW, "hidden_act": "relu", "num_labels": 5}},
    "ElectraForTokenClassification": {"plain": {**BERT, **NARROW}},
    "RoFormerForMaskedLM": {"plain": {**BERT, **NARROW}, "wide": {**BERT, "embedding_size": 12}},
    "RoFormerForSequenceClassification": {"plain": {**BERT, **NARROW, "hidden_act": "relu", "num_labels": 5}},
    "RoFormerForTokenClassification": {"plain": {**BERT, **NARROW}},
    "T5ForConditionalGeneration": {
        "plain": T5,
        "version 1.1": {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    },
    "ViTForImageClassification": {"plain": VIT, "no query biases": {**VIT, "qkv_bias": False}},
}


TOY = {"d_model": 12, "heads": 2, "d_ff": 20, "length": 24}
VOCAB = {"source_vocab": 23, "target_vocab": 23}
LM = {**TOY, "encoder_layers": 0, "decoder_layers": 2, "residual": "pre", "scale_embedding": False}
TRANSLATOR = {**TOY, "encoder_layers": 2, "decoder_layers": 1, "tie": "all", "dropout": 0.2}
ROTARY = {**LM, "norm": "rmsnorm", "bias": False}
NATIVE = {  # models as our recipes say them -> the architecture that can say them
    "the paper's": (TRANSLATOR, "MarianMTModel"),
    "sines before cosines": ({**TRANSLATOR, "position": {"kind": "sinusoidal", "layout": "halves"}}, "MarianMTModel"),
    "in tiles": ({**TRANSLATOR, "attention": {"kind": "tiled", "block": 3}}, "MarianMTModel"),
    "pre-norm": ({**TRANSLATOR, "residual": "pre", "scale_embedding": False}, "PegasusForConditionalGeneration"),
    "a bias of the output": ({**TRANSLATOR, "head": {"kind": "lm", "bias": True}}, "MarianMTModel"),
    "llama": (
        {**ROTARY, "position": "rope", "feedforward": "swiglu", "kv_heads": 1, "dropout": 0.3},
        "LlamaForCausalLM",
    ),
    "llama, features in pairs": (
        {**ROTARY, "position": {"kind": "rope", "layout": "pairs"}, "feedforward": "swiglu", "kv_heads": 2},
        "LlamaForCausalLM",
    ),
    "llama, two thirds of d_ff": (
        {**ROTARY, "position": "rope", "feedforward": {"kind": "swiglu", "two_thirds": True, "multiple": 3}},
        "LlamaForCausalLM",
    ),
    "mistral": ({**ROTARY, "position": "rope", "feedforward": "swiglu", "window": 3}, "MistralForCausalLM"),
    "qwen2": ({**ROTARY, "position": "rope", "feedforward": "swiglu", "qkv_bias": True}, "Qwen2ForCausalLM"),
    "gpt2": ({**LM, "position": "learned", "feedforward": "gelu_tanh", "tie": "all"}, "GPT2LMHeadModel"),
}


def bundle_of(config: ModelConfig) -> Bundle:
    """Random weights, none of them zero; without a tokenizer."""
    torch.manual_seed(5)
    model = Transformer(config).eval()
    with torch.no_grad():
        for each in model.parameters():
            each.copy_(torch.randn_like(each) * 0.3)
    return Bundle(model, NO_TOKENIZER, NO_TOKENIZER, {"beams": 2}, {"name": "toy", "updates": 3})


def like(name: str, settings: dict) -> ModelConfig:
    """Our config of a model that their library would make with these settings."""
    architecture = ARCHITECTURES.get(name)()
    return read_config(architecture, {**settings, STORED: {"lm_head.weight"}}, Path("here"))


def saved(folder: Path, name: str, settings: dict[str, Any], **save: Any) -> Any:
    """Build the model, make every number count, save it; returns it in eval mode."""
    import transformers

    torch.manual_seed(11)
    kind: Callable[..., Any] = getattr(transformers, name)
    model = kind(kind.config_class(**settings)).eval()
    with torch.no_grad():
        for path, each in model.named_parameters():
            if "embed_positions" not in path or each.requires_grad:
                each.copy_(torch.randn_like(each) * 0.3 + (1.0 if _gain(path) else 0.0))
        for path, each in model.named_buffers():
            if path == "final_logits_bias":
                each.copy_(torch.randn_like(each))
    model.save_pretrained(folder, **save)
    return model


def _gain(path: str) -> bool:
    return path.endswith("weight") and any(word in path.lower() for word in ("norm", "ln_"))
