"""GPT-2 (Radford et al., 2019, Language models are unsupervised multitask learners)."""

from clearhead.bundle.exchange.architecture import ARCHITECTURES, Architecture, Headless
from clearhead.bundle.exchange.architectures.words import ACTIVATIONS, PAD, TIES, VOCAB
from clearhead.bundle.exchange.rules import Field, Free, Needs, Rate, Rule, fixed
from clearhead.bundle.exchange.tensors import TRANSPOSED, linear, one

BLOCK, OURS = "transformer.h.{layer}", "decoder.blocks.{layer}"


RULES: tuple[Rule, ...] = (
    *fixed(
        {
            "encoder_layers": 0,
            "position.kind": "learned",
            "residual.kind": "pre",
            "norm.kind": "layernorm",
            "bias": True,
            "scale_embedding": False,
        }
    ),
    Needs(
        {
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "add_cross_attention": False,
        }
    ),
    Field("vocab_size", VOCAB, 50_257),
    Field("n_layer", "decoder_layers", 12),
    Field("n_embd", "d_model", 768),
    Field("n_head", "heads", 12),
    Field("n_inner", "d_ff", lambda theirs: 4 * theirs.get("n_embd", 768)),
    Field("n_positions", "length", 1024),
    Field("activation_function", "feedforward.kind", "gelu_new", codes=ACTIVATIONS),
    Field("layer_norm_epsilon", "norm.epsilon", 1e-5),
    PAD,
    Rate(("resid_pdrop", "embd_pdrop"), "dropout", 0.1),
    Rate(("attn_pdrop",), "attention_dropout", 0.1),
    Free({"feedforward_dropout": 0.0}),
)
TENSORS = (
    one("transformer.wte.weight", "decoder.embedding.table"),
    one("transformer.wpe.weight", "decoder.embedding_sum.position.table"),
    *linear(f"{BLOCK}.ln_1", f"{OURS}.attention_residual.norm"),
    *linear(f"{BLOCK}.attn.c_attn", f"{OURS}.attention.projections", TRANSPOSED),
    *linear(f"{BLOCK}.attn.c_proj", f"{OURS}.attention.output", TRANSPOSED),
    *linear(f"{BLOCK}.ln_2", f"{OURS}.feedforward_residual.norm"),
    *linear(f"{BLOCK}.mlp.c_fc", f"{OURS}.feedforward.inner", TRANSPOSED),
    *linear(f"{BLOCK}.mlp.c_proj", f"{OURS}.feedforward.outer", TRANSPOSED),
    *linear("transformer.ln_f", "decoder.last"),
)


class Gpt2(Architecture):
    """Pre-norm decoder with learned positions; matrices stored as (input, output) features."""

    model_type = "gpt2"
    prefix = "transformer."
    ignored = (r"\.attn\.(bias|masked_bias)$",)  # the causal mask, in files of old versions


@ARCHITECTURES.register("GPT2LMHeadModel")
class Gpt2Words(Gpt2):
    """Scores of the next word."""

    rules = (*RULES, Field("tie_word_embeddings", "tie", default=True, codes=TIES))
    tensors = (*TENSORS, one("lm_head.weight", "head.matrix"))


@ARCHITECTURES.register("GPT2Model")
class Gpt2Body(Headless, Gpt2):
    """Hidden states."""

    rules = (*RULES, *fixed({"tie": "output"}))
    tensors = TENSORS
