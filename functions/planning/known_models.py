"""Shapes of well-known hub models, so that a plan needs no network: the numbers of each one's ``config.json``.

A test holds every row to the total that the hub shows for the model (its safetensors' parameters). A model that is not
here is not refused; the plan says that it cannot tell, or is given the configuration (``dropforge plan --model``).
"""

from dataclasses import dataclass
from typing import Any

from planning.shape import CannotTell, Shape, shape_of


@dataclass(frozen=True, slots=True)
class Known:
    """One shape. ``names``: hub ids without what comes behind the size (``-Instruct``, ``-it``); ``parameters``: the hub's total."""

    names: tuple[str, ...]
    parameters: int
    model_type: str
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    tied: bool = False
    more: tuple[tuple[str, int], ...] = ()

    def config(self) -> dict[str, Any]:
        keys = ("model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
        return {key: getattr(self, key) for key in keys} | {"tie_word_embeddings": self.tied} | dict(self.more)


#: What a model's name may end in without its shape being another one.
VARIANTS = (
    "-Instruct-2507",
    "-Thinking-2507",
    "-Instruct-v0.1",
    "-Instruct-v0.2",
    "-Instruct-v0.3",
    "-4k-instruct",
    "-Instruct",
    "-instruct",
    "-Base",
    "-chat",
    "-it",
    "-pt",
)

_HEADS_OF_128, _HEADS_OF_256 = (("head_dim", 128),), (("head_dim", 256),)
_A3B = (("head_dim", 128), ("num_experts", 128), ("num_experts_per_tok", 8), ("moe_intermediate_size", 768))

KNOWN: tuple[Known, ...] = (
    Known(("HuggingFaceTB/SmolLM2-135M",), 134_515_008, "llama", 576, 30, 1536, 9, 3, 49152, True),
    Known(("HuggingFaceTB/SmolLM2-360M",), 361_821_120, "llama", 960, 32, 2560, 15, 5, 49152, True),
    Known(("HuggingFaceTB/SmolLM2-1.7B",), 1_711_376_384, "llama", 2048, 24, 8192, 32, 32, 49152, True),
    Known(("HuggingFaceTB/SmolLM3-3B",), 3_075_098_624, "smollm3", 2048, 36, 11008, 16, 4, 128256, True),
    Known(("TinyLlama/TinyLlama-1.1B-Chat-v1.0",), 1_100_048_384, "llama", 2048, 22, 5632, 32, 4, 32000),
    Known(("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-chat-hf"), 6_738_415_616, "llama", 4096, 32, 11008, 32, 32, 32000),
    Known(("meta-llama/Llama-2-13b-hf", "meta-llama/Llama-2-13b-chat-hf"), 13_015_864_320, "llama", 5120, 40, 13824, 40, 40, 32000),
    Known(("meta-llama/Llama-3.2-1B",), 1_235_814_400, "llama", 2048, 16, 8192, 32, 8, 128256, True),
    Known(("meta-llama/Llama-3.2-3B",), 3_212_749_824, "llama", 3072, 28, 8192, 24, 8, 128256, True),
    Known(("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B", "meta-llama/Meta-Llama-3-8B"), 8_030_261_248, "llama", 4096, 32, 14336, 32, 8, 128256),
    Known(("meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.3-70B", "meta-llama/Meta-Llama-3-70B"), 70_553_706_496, "llama", 8192, 80, 28672, 64, 8, 128256),
    Known(("mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-Instruct-v0.1"), 7_241_732_096, "mistral", 4096, 32, 14336, 32, 8, 32000),
    Known(("mistralai/Mistral-7B-Instruct-v0.2",), 7_241_732_096, "mistral", 4096, 32, 14336, 32, 8, 32000),
    Known(("mistralai/Mistral-7B-v0.3", "mistralai/Mistral-7B-Instruct-v0.3"), 7_248_023_552, "mistral", 4096, 32, 14336, 32, 8, 32768),
    Known(
        ("mistralai/Mistral-Nemo-Base-2407", "mistralai/Mistral-Nemo-Instruct-2407"),
        12_247_782_400,
        "mistral",
        *(5120, 40, 14336, 32, 8, 131072),
        more=_HEADS_OF_128,
    ),
    Known(
        ("mistralai/Mistral-Small-24B-Base-2501", "mistralai/Mistral-Small-24B-Instruct-2501"),
        23_572_403_200,
        "mistral",
        *(5120, 40, 32768, 32, 8, 131072),
        more=_HEADS_OF_128,
    ),
    Known(
        ("mistralai/Mixtral-8x7B-v0.1", "mistralai/Mixtral-8x7B"),
        46_702_792_704,
        "mixtral",
        *(4096, 32, 14336, 32, 8, 32000),
        more=(("num_local_experts", 8), ("num_experts_per_tok", 2)),
    ),
    Known(("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2-0.5B"), 494_032_768, "qwen2", 896, 24, 4864, 14, 2, 151936, True),
    Known(("Qwen/Qwen2.5-1.5B", "Qwen/Qwen2-1.5B"), 1_543_714_304, "qwen2", 1536, 28, 8960, 12, 2, 151936, True),
    Known(("Qwen/Qwen2.5-3B",), 3_085_938_688, "qwen2", 2048, 36, 11008, 16, 2, 151936, True),
    Known(("Qwen/Qwen2.5-7B", "Qwen/Qwen2-7B", "Qwen/Qwen2.5-Coder-7B"), 7_615_616_512, "qwen2", 3584, 28, 18944, 28, 4, 152064),
    Known(("Qwen/Qwen2.5-14B", "Qwen/Qwen2.5-Coder-14B"), 14_770_033_664, "qwen2", 5120, 48, 13824, 40, 8, 152064),
    Known(("Qwen/Qwen2.5-32B", "Qwen/Qwen2.5-Coder-32B"), 32_763_876_352, "qwen2", 5120, 64, 27648, 40, 8, 152064),
    Known(("Qwen/Qwen2.5-72B",), 72_706_203_648, "qwen2", 8192, 80, 29568, 64, 8, 152064),
    Known(("Qwen/Qwen3-0.6B",), 596_049_920, "qwen3", 1024, 28, 3072, 16, 8, 151936, True, _HEADS_OF_128),
    Known(("Qwen/Qwen3-1.7B",), 1_720_574_976, "qwen3", 2048, 28, 6144, 16, 8, 151936, True, _HEADS_OF_128),
    Known(("Qwen/Qwen3-4B",), 4_022_468_096, "qwen3", 2560, 36, 9728, 32, 8, 151936, True, _HEADS_OF_128),
    Known(("Qwen/Qwen3-8B",), 8_190_735_360, "qwen3", 4096, 36, 12288, 32, 8, 151936, False, _HEADS_OF_128),
    Known(("Qwen/Qwen3-14B",), 14_768_307_200, "qwen3", 5120, 40, 17408, 40, 8, 151936, False, _HEADS_OF_128),
    Known(("Qwen/Qwen3-32B",), 32_762_123_264, "qwen3", 5120, 64, 25600, 64, 8, 151936, False, _HEADS_OF_128),
    Known(("Qwen/Qwen3-30B-A3B",), 30_532_122_624, "qwen3_moe", 2048, 48, 6144, 32, 4, 151936, False, _A3B),
    Known(("google/gemma-2b",), 2_506_172_416, "gemma", 2048, 18, 16384, 8, 1, 256000, True, _HEADS_OF_256),
    Known(("google/gemma-7b",), 8_537_680_896, "gemma", 3072, 28, 24576, 16, 16, 256000, True, _HEADS_OF_256),
    Known(("google/gemma-2-2b",), 2_614_341_888, "gemma2", 2304, 26, 9216, 8, 4, 256000, True, _HEADS_OF_256),
    Known(("google/gemma-2-9b",), 9_241_705_984, "gemma2", 3584, 42, 14336, 16, 8, 256000, True, _HEADS_OF_256),
    Known(("google/gemma-2-27b",), 27_227_128_320, "gemma2", 4608, 46, 36864, 32, 16, 256000, True, _HEADS_OF_128),
    Known(("google/gemma-3-270m",), 268_098_176, "gemma3_text", 640, 18, 2048, 4, 1, 262144, True, _HEADS_OF_256),
    Known(("google/gemma-3-1b",), 999_885_952, "gemma3_text", 1152, 26, 6912, 4, 1, 262144, True, _HEADS_OF_256),
    Known(("microsoft/phi-2",), 2_779_683_840, "phi", 2560, 32, 10240, 32, 32, 51200),
    Known(("microsoft/Phi-3-mini", "microsoft/Phi-3.5-mini"), 3_821_079_552, "phi3", 3072, 32, 8192, 32, 32, 32064),
    Known(("microsoft/Phi-4-mini",), 3_836_021_760, "phi3", 3072, 32, 8192, 24, 8, 200064, True),
    Known(("microsoft/phi-4",), 14_659_507_200, "phi3", 5120, 40, 17920, 40, 10, 100352),
    Known(("openai-community/gpt2",), 124_439_808, "gpt2", 768, 12, 3072, 12, 12, 50257, True, (("n_positions", 1024),)),
    Known(("openai-community/gpt2-xl",), 1_557_611_200, "gpt2", 1600, 48, 6400, 25, 25, 50257, True, (("n_positions", 1024),)),
    Known(("EleutherAI/pythia-1b",), 1_011_781_632, "gpt_neox", 2048, 16, 8192, 8, 8, 50304),
    Known(("EleutherAI/pythia-1.4b",), 1_414_647_808, "gpt_neox", 2048, 24, 8192, 16, 16, 50304),
    Known(("EleutherAI/pythia-6.9b",), 6_857_302_016, "gpt_neox", 4096, 32, 16384, 32, 32, 50432),
    Known(("allenai/OLMo-2-1124-7B",), 7_298_617_344, "olmo2", 4096, 32, 11008, 32, 32, 100352),
    Known(("bigcode/starcoder2-3b",), 3_030_371_328, "starcoder2", 3072, 30, 12288, 24, 2, 49152, True),
    Known(("bigcode/starcoder2-7b",), 7_173_923_840, "starcoder2", 4608, 32, 18432, 36, 4, 49152, True),
)

_BY_NAME = {name: known for known in KNOWN for name in known.names}


def shape_of_hub(model_id: str) -> Shape:
    """The shape of a well-known hub model. Raises CannotTell for any other."""
    names = [model_id, *(model_id.removesuffix(variant) for variant in VARIANTS if model_id.endswith(variant))]
    known = next((_BY_NAME[name] for name in names if name in _BY_NAME), None)
    if known is None:
        raise CannotTell(f"{model_id} is not among the models whose shape is known here")
    return shape_of(known.config())
