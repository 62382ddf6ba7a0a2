"""Small and odd configurations of every family, for transformers to build and for the plan to count."""

from typing import Any

_BASE = {
    "vocab_size": 331,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 168,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _(model_type: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    return model_type, {**_BASE, **changes}


#: Model type and configuration; more than one where a family has a choice.
CONFIGURATIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    _("llama"),
    _("llama", tie_word_embeddings=True, head_dim=24, attention_bias=True, mlp_bias=True),
    _("granite"),
    _("smollm3"),
    _("smollm3", tie_word_embeddings=False),
    _("mistral"),
    _("mistral", head_dim=32, sliding_window=64),
    _("qwen2"),
    _("qwen2", tie_word_embeddings=True),
    _("qwen3", head_dim=32),
    _("qwen3", tie_word_embeddings=True, attention_bias=True),
    _("gemma", head_dim=32),
    _("gemma2", head_dim=32),
    _("gemma3_text", head_dim=32),
    _("olmo"),
    _("olmo2"),
    _("phi"),
    _("phi3"),
    _("starcoder2"),
    _("starcoder2", use_bias=False, tie_word_embeddings=False),
    _("gpt_neox"),
    _("gpt_neox", attention_bias=False, tie_word_embeddings=True),
    ("gpt2", {"vocab_size": 331, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 96}),
    ("gpt2", {"vocab_size": 331, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_inner": 100}),
    _("mixtral", num_local_experts=5, num_experts_per_tok=2),
    _("qwen2_moe", num_experts=6, num_experts_per_tok=2, moe_intermediate_size=40, shared_expert_intermediate_size=96),
    _("qwen2_moe", num_experts=6, num_experts_per_tok=2, moe_intermediate_size=40, shared_expert_intermediate_size=96, mlp_only_layers=[0], qkv_bias=False),
    _("qwen3_moe", num_experts=6, num_experts_per_tok=2, moe_intermediate_size=40, head_dim=24),
    _("qwen3_moe", num_experts=6, num_experts_per_tok=2, moe_intermediate_size=40, decoder_sparse_step=2),
)

#: A model that fits anywhere, as its config.json says it.
TINY_LLAMA: dict[str, Any] = {"model_type": "llama", **_BASE}
