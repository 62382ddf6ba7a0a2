"""How each family of models is built, as far as its parameters go: one row a ``model_type``, read off transformers 5.23's modeling files.

A test builds every family from its configuration on torch's meta device and holds our counts to its own, parameter by parameter.
"""

from dataclasses import dataclass

#: A bias that is always there, never, or there where the configuration says so (key, and what an absent key means).
Bias = bool | tuple[str, bool]


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture. Names are module paths inside a decoder layer, as adapters target them."""

    attention: str = "self_attn"
    #: Name of the projection that makes queries, keys and values in one; empty: q_proj, k_proj and v_proj.
    fused_qkv: str = ""
    output: str = "o_proj"
    qkv_bias: Bias = False
    output_bias: Bias = False
    mlp: str = "mlp"
    #: The projections into the MLP's width; two of them, or one of twice the width, where it is gated.
    mlp_in: tuple[str, ...] = ("gate_proj", "up_proj")
    mlp_out: str = "down_proj"
    gated: bool = True
    mlp_bias: Bias = False
    #: Norms of the hidden width in each layer; whether they, and the last one, have weights and a bias.
    norms: int = 2
    norm_weight: bool = True
    norm_bias: bool = False
    #: Norms on queries and keys: over each head's width, over the whole projection, or none.
    qk_norm: str = ""
    head_bias: bool = False
    tied: bool = False
    #: Width of a head where the configuration does not say; 0: hidden width / heads.
    head_dim: int = 0
    positions: bool = False
    #: Attention that is not computed by a kernel that spares the square of the length (transformers' own default for the family).
    eager: bool = False
    #: Keys of the number of experts, of those for each token, and of an expert's width; empty: no experts.
    experts: tuple[str, ...] = ()
    #: Names by which PEFT takes the stacked experts' gate, up and down for targets; empty: it leaves them, and their router, alone.
    expert_names: tuple[str, ...] = ()
    shared_expert: bool = False


_LLAMA = Family(qkv_bias=("attention_bias", False), output_bias=("attention_bias", False), mlp_bias=("mlp_bias", False))
_GEMMA = Family(qkv_bias=("attention_bias", False), output_bias=("attention_bias", False), tied=True, head_dim=256)
_GEMMA2 = Family(qkv_bias=("attention_bias", False), output_bias=("attention_bias", False), tied=True, head_dim=256, norms=4, eager=True)

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "granite": _LLAMA,
    "smollm3": Family(qkv_bias=("attention_bias", False), output_bias=("attention_bias", False), mlp_bias=("mlp_bias", False), tied=True),
    "mistral": Family(),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(qkv_bias=("attention_bias", False), output_bias=("attention_bias", False), qk_norm="head", head_dim=128),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3_text": Family(qkv_bias=("attention_bias", False), output_bias=("attention_bias", False), tied=True, head_dim=256, norms=4, qk_norm="head"),
    "olmo": Family(qkv_bias=("attention_bias", False), output_bias=("attention_bias", False), norm_weight=False),
    "olmo2": Family(qkv_bias=("attention_bias", False), output_bias=("attention_bias", False), qk_norm="whole"),
    "phi": Family(
        output="dense", qkv_bias=True, output_bias=True, mlp_in=("fc1",), mlp_out="fc2", gated=False, mlp_bias=True, norms=1, norm_bias=True, head_bias=True
    ),
    "phi3": Family(fused_qkv="qkv_proj", mlp_in=("gate_up_proj",)),
    "starcoder2": Family(
        qkv_bias=("use_bias", True),
        output_bias=("use_bias", True),
        mlp_in=("c_fc",),
        mlp_out="c_proj",
        gated=False,
        mlp_bias=("use_bias", True),
        norm_bias=True,
        tied=True,
    ),
    "gpt_neox": Family(
        attention="attention",
        fused_qkv="query_key_value",
        output="dense",
        qkv_bias=("attention_bias", True),
        output_bias=("attention_bias", True),
        mlp_in=("dense_h_to_4h",),
        mlp_out="dense_4h_to_h",
        gated=False,
        mlp_bias=True,
        norm_bias=True,
    ),
    "gpt2": Family(
        attention="attn",
        fused_qkv="c_attn",
        output="c_proj",
        qkv_bias=True,
        output_bias=True,
        mlp_in=("c_fc",),
        mlp_out="c_proj",
        gated=False,
        mlp_bias=True,
        norm_bias=True,
        tied=True,
        positions=True,
    ),
    "mixtral": Family(experts=("num_local_experts", "num_experts_per_tok", "intermediate_size"), expert_names=("w1", "w3", "w2")),
    "qwen2_moe": Family(qkv_bias=("qkv_bias", True), experts=("num_experts", "num_experts_per_tok", "moe_intermediate_size"), shared_expert=True),
    "qwen3_moe": Family(
        qkv_bias=("attention_bias", False),
        output_bias=("attention_bias", False),
        qk_norm="head",
        experts=("num_experts", "num_experts_per_tok", "moe_intermediate_size"),
        expert_names=("gate_proj", "up_proj", "down_proj"),
    ),
}

#: Keys of older configurations (GPT-2's) and of newer ones, for the same thing.
ALIASES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd",),
    "num_hidden_layers": ("n_layer",),
    "num_attention_heads": ("n_head",),
    "intermediate_size": ("n_inner",),
    "max_position_embeddings": ("n_positions",),
    "num_experts": ("num_local_experts",),
}
