"""The plan counts what transformers and PEFT count, family by family, and says so where it cannot."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planning.families import FAMILIES
from planning.shape import CannotTell, shape_of
from tests.planning.architectures import CONFIGURATIONS

CASES = [pytest.param(*case, id=f"{case[0]}-{at}") for at, case in enumerate(CONFIGURATIONS)]


def _written(model_type: str, chosen: dict[str, Any], folder: Path) -> tuple[Any, Any]:
    """The configuration as transformers has it, and the config.json that it writes."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(model_type, **chosen)
    config.save_pretrained(folder)
    return config, json.loads((folder / "config.json").read_text())


def _built(config: Any) -> Any:
    """The model without its memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def test_every_known_family_is_counted_below() -> None:
    assert {model_type for model_type, _ in CONFIGURATIONS} == set(FAMILIES)


@pytest.mark.torch
@pytest.mark.parametrize(("model_type", "chosen"), CASES)
def test_parameters_are_counted_as_transformers_counts_them(model_type: str, chosen: dict[str, Any], tmp_path: Path) -> None:
    config, written = _written(model_type, chosen, tmp_path)
    assert shape_of(written).parameters == sum(parameter.numel() for parameter in _built(config).parameters())


@pytest.mark.torch
@pytest.mark.parametrize(("model_type", "chosen"), CASES)
@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_is_counted_as_peft_makes_it(model_type: str, chosen: dict[str, Any], dora: bool, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    config, written = _written(model_type, chosen, tmp_path)
    shape = shape_of(written)
    if dora and any(linear.experts > 1 and linear.adaptable for linear in shape.linears):
        pytest.skip("PEFT puts no DoRA on stacked experts")
    names = sorted({name.rpartition(".")[2] for linear in shape.linears if linear.adaptable for name in linear.fused or (linear.name,)})
    for targets in ("all-linear", names, names[:1]):
        adapted = get_peft_model(_built(config), LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=targets, use_dora=dora), low_cpu_mem_usage=True)
        trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
        asked: Any = targets if isinstance(targets, str) else tuple(targets)
        assert shape.adapter_parameters(3, asked, magnitudes=dora) == trained, targets


@pytest.mark.torch
@pytest.mark.parametrize(("model_type", "chosen"), CASES)
def test_the_family_says_which_attention_transformers_chooses(model_type: str, chosen: dict[str, Any], tmp_path: Path) -> None:
    config, written = _written(model_type, chosen, tmp_path)
    assert shape_of(written).family.eager == (_built(config).config._attn_implementation == "eager")


@pytest.mark.torch
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_an_absent_key_means_what_it_means_to_transformers(model_type: str, tmp_path: Path) -> None:
    """Older configurations leave out what was no choice yet, such as tying and a head's width."""
    chosen = dict(next(chosen for name, chosen in CONFIGURATIONS if name == model_type))
    chosen.pop("head_dim", None)
    config, _ = _written(model_type, chosen, tmp_path)
    assert shape_of({"model_type": model_type, **chosen}).parameters == sum(parameter.numel() for parameter in _built(config).parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mamba"}, "not known to the plan"),
        ({"model_type": 7}, "not known to the plan"),
        ({"hidden_size": None}, "has no hidden_size"),
        ({"hidden_size": 1e300}, "hidden_size is not a whole number"),
        ({"hidden_size": 10**400}, "hidden_size is not a whole number"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is not a whole number"),
        ({"num_attention_heads": 0}, "num_attention_heads is not a whole number"),
        ({"num_attention_heads": True}, "num_attention_heads is not a whole number"),
        ({"tie_word_embeddings": "yes"}, "neither true nor false"),
    ],
)
def test_what_is_not_understood_is_said_and_not_guessed(change: dict[str, Any], said: str) -> None:
    with pytest.raises(CannotTell, match=said):
        shape_of({"model_type": "llama", **dict(CONFIGURATIONS[0][1]), **change})


def test_a_target_that_no_layer_has_is_named_with_those_that_are_there() -> None:
    with pytest.raises(CannotTell, match=r"no 'query'; they have down_proj, .*q_proj"):
        shape_of({"model_type": "llama", **CONFIGURATIONS[0][1]}).adapter_parameters(8, ("q_proj", "query"))


_ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    model_type=st.sampled_from(sorted(FAMILIES)),
    changes=st.dictionaries(st.sampled_from([*CONFIGURATIONS[-1][1], *CONFIGURATIONS[-3][1], "tie_word_embeddings", "n_embd"]), _ODD, max_size=5),
)
def test_no_configuration_does_worse_than_to_be_not_understood(model_type: str, changes: dict[str, Any]) -> None:
    try:
        shape = shape_of({"model_type": model_type, **CONFIGURATIONS[-1][1], **CONFIGURATIONS[-3][1], **changes})
    except CannotTell:
        return
    assert shape.parameters > 0
