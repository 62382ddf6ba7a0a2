"""A model's shape: its parameters and its matrices, counted from ``config.json`` alone.

The file may be a stranger's: every number is held to a limit, and what is not understood is :class:`CannotTell`, never a guess.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from planning.families import ALIASES, FAMILIES, Bias, Family

#: More than any model has; keeps a hostile configuration's arithmetic small.
MAX_WIDTH, MAX_LAYERS, MAX_VOCABULARY, MAX_EXPERTS = 2**20, 2**12, 2**24, 2**14


#: ``all-linear``, or names of modules.
Targets = str | tuple[str, ...]


class CannotTell(ValueError):
    """Nothing is known well enough to count; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A weight matrix of a decoder layer, or a stack of them, one an expert. ``layers``: how many layers have it."""

    name: str
    inputs: int
    outputs: int
    bias: bool
    layers: int
    #: How many such matrices are stacked in one tensor, and how many of them a token passes through.
    experts: int = 1
    used: int = 1
    #: False: PEFT puts no adapter on it.
    adaptable: bool = True
    #: The matrices that were made one here, by the names that adapters may still target them with; each brings its own rank.
    fused: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        return (self.inputs * self.outputs + self.outputs * self.bias) * self.layers * self.experts

    @property
    def active_parameters(self) -> int:
        """Those that one token is multiplied with."""
        return self.parameters // self.experts * self.used

    def rank(self, targets: Targets) -> int:
        """How many times the adapter's rank this matrix gets, by PEFT's rule: a module's name is a target, or ends in one."""
        if not self.adaptable:
            return 0
        if targets == "all-linear":
            return len(self.fused) or 1
        named = [target for target in targets if any(name == target or name.endswith(f".{target}") for name in (self.fused or (self.name,)))]
        return len(named) if self.fused else min(1, len(named))


@dataclass(frozen=True, slots=True)
class Shape:
    """Widths in elements, counts in parameters. ``mlp_width``: what one token passes through, over its experts."""

    family: Family
    model_type: str
    layers: int
    hidden: int
    heads: int
    query_width: int
    key_width: int
    mlp_width: int
    vocabulary: int
    positions: int | None
    linears: tuple[Linear, ...]
    embedding_parameters: int
    #: The output projection's own; 0 where it is the embedding again.
    head_parameters: int
    norm_parameters: int

    @property
    def linear_parameters(self) -> int:
        return sum(linear.parameters for linear in self.linears)

    @property
    def parameters(self) -> int:
        """All of them, as transformers counts them."""
        return self.linear_parameters + self.embedding_parameters + self.head_parameters + self.norm_parameters

    @property
    def active_parameters(self) -> int:
        """Those that each token is multiplied with: matrices, its own experts', the output projection's; not the embedding's look-up."""
        return sum(linear.active_parameters for linear in self.linears) + self.vocabulary * self.hidden

    def adapted(self, targets: Targets) -> tuple[Linear, ...]:
        """The matrices that get an adapter. Raises CannotTell for a target that no layer has."""
        for target in () if isinstance(targets, str) else targets:
            if not any(linear.rank((target,)) for linear in self.linears):
                known = ", ".join(sorted({name.rpartition(".")[2] for linear in self.linears if linear.adaptable for name in linear.fused or (linear.name,)}))
                raise CannotTell(f"the layers of {self.model_type} have no {target!r}; they have {known}")
        return tuple(linear for linear in self.linears if linear.rank(targets))

    def adapter_parameters(self, r: int, targets: Targets, *, magnitudes: bool = False) -> int:
        """Parameters of a LoRA adapter of rank ``r``: two matrices for each adapted one; DoRA's ``magnitudes`` add one for each output."""
        return sum((r * one.rank(targets) * (one.inputs + one.outputs) + one.outputs * magnitudes) * one.layers * one.experts for one in self.adapted(targets))


def shape_of(config: object) -> Shape:
    """The shape that a parsed ``config.json`` describes. Raises CannotTell."""
    if not isinstance(config, Mapping):
        raise CannotTell("config.json is no JSON object")
    model_type = config.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None or not isinstance(model_type, str):
        raise CannotTell(f"models of type {str(model_type)[:40]!r} are not known to the plan; known: {', '.join(sorted(FAMILIES))}")
    return _Reader(config, family, model_type).shape()


class _Reader:
    """Reads one configuration by its family's row."""

    def __init__(self, config: Mapping[str, Any], family: Family, model_type: str) -> None:
        self._config, self._family, self._model_type = config, family, model_type
        self.layers = self._number("num_hidden_layers", MAX_LAYERS)
        self.hidden = self._number("hidden_size", MAX_WIDTH)
        self.heads = self._number("num_attention_heads", MAX_WIDTH)
        head_dim = self._number("head_dim", MAX_WIDTH, family.head_dim or max(1, self.hidden // self.heads))
        self.head_dim = head_dim
        self.query_width = self.heads * head_dim
        grouped = not family.fused_qkv or model_type == "phi3"
        self.sparse = self._sparse_layers()
        self.key_width = head_dim * (self._number("num_key_value_heads", MAX_WIDTH, self.heads) if grouped else self.heads)

    def shape(self) -> Shape:
        family, hidden = self._family, self.hidden
        vocabulary = self._number("vocab_size", MAX_VOCABULARY)
        positions = self._number("max_position_embeddings", MAX_VOCABULARY, 0) or None
        if family.positions and positions is None:
            raise CannotTell("config.json has no n_positions")
        embedding = vocabulary * hidden + (positions or 0) * hidden * family.positions
        tied = self._flag("tie_word_embeddings", family.tied)
        return Shape(
            family=family,
            model_type=self._model_type,
            layers=self.layers,
            hidden=hidden,
            heads=self.heads,
            query_width=self.query_width,
            key_width=self.key_width,
            mlp_width=self._passed_width(),
            vocabulary=vocabulary,
            positions=positions,
            linears=tuple(self._linears()),
            embedding_parameters=embedding,
            head_parameters=(0 if tied else vocabulary * hidden) + vocabulary * family.head_bias,
            norm_parameters=self._norms(),
        )

    def _linears(self) -> Iterator[Linear]:
        family = self._family
        attention = f"{family.attention}."
        qkv = self._bias(family.qkv_bias)
        if family.fused_qkv:
            yield Linear(attention + family.fused_qkv, self.hidden, self.query_width + 2 * self.key_width, qkv, self.layers)
        else:
            for name, width in (("q_proj", self.query_width), ("k_proj", self.key_width), ("v_proj", self.key_width)):
                yield Linear(attention + name, self.hidden, width, qkv, self.layers)
        yield Linear(attention + family.output, self.query_width, self.hidden, self._bias(family.output_bias), self.layers)
        if dense := self.layers - self.sparse:
            # PEFT turns these names into the stacked experts', and then passes the dense layers over.
            yield from self._mlp(f"{family.mlp}.", self._mlp_width(), dense, adaptable=not (self.sparse and family.expert_names))
        if self.sparse:
            yield from self._expert_stacks()

    def _mlp(self, prefix: str, width: int, layers: int, *, adaptable: bool = True) -> Iterator[Linear]:
        family = self._family
        bias = self._bias(family.mlp_bias)
        each = 2 * width if family.gated and len(family.mlp_in) == 1 else width
        for name in family.mlp_in:
            yield Linear(prefix + name, self.hidden, each, bias, layers, adaptable=adaptable)
        yield Linear(prefix + family.mlp_out, width, self.hidden, bias, layers, adaptable=adaptable)

    def _mlp_width(self) -> int:
        return self._number("intermediate_size", MAX_WIDTH, 4 * self.hidden if self._family.positions else None)

    def _expert_stacks(self) -> Iterator[Linear]:
        family, width = self._family, self._number(self._family.experts[2], MAX_WIDTH)
        count, used = self._expert_counts()
        gate, up, down = (f"{family.mlp}.experts.{name}" for name in family.expert_names or ("gate_up_proj", "gate_up_proj", "down_proj"))
        adaptable = bool(family.expert_names)
        yield Linear(f"{family.mlp}.gate", self.hidden, count, False, self.sparse, adaptable=adaptable)
        yield Linear(f"{family.mlp}.experts.gate_up_proj", self.hidden, 2 * width, False, self.sparse, count, used, adaptable, (gate, up))
        yield Linear(f"{family.mlp}.experts.down_proj", width, self.hidden, False, self.sparse, count, used, adaptable, (down,))
        if family.shared_expert:
            yield from self._mlp(f"{family.mlp}.shared_expert.", self._number("shared_expert_intermediate_size", MAX_WIDTH), self.sparse)
            yield Linear(f"{family.mlp}.shared_expert_gate", self.hidden, 1, False, self.sparse)

    def _expert_counts(self) -> tuple[int, int]:
        """Experts of a layer, and those that one token passes through."""
        count = self._number(self._family.experts[0], MAX_EXPERTS)
        return count, min(count, self._number(self._family.experts[1], MAX_EXPERTS))

    def _sparse_layers(self) -> int:
        """Layers whose MLP is made of experts."""
        if not self._family.experts:
            return 0
        step = self._number("decoder_sparse_step", MAX_LAYERS, 1)
        dense = self._config.get("mlp_only_layers") or []
        if not isinstance(dense, list) or len(dense) > MAX_LAYERS:
            raise CannotTell("config.json: mlp_only_layers is no list of layers")
        return sum((layer + 1) % step == 0 and layer not in dense for layer in range(self.layers))

    def _passed_width(self) -> int:
        """The widest MLP that a token passes through."""
        dense = self._mlp_width() if self.sparse < self.layers else 0
        if not self.sparse:
            return dense
        shared = self._number("shared_expert_intermediate_size", MAX_WIDTH) if self._family.shared_expert else 0
        return max(dense, self._expert_counts()[1] * self._number(self._family.experts[2], MAX_WIDTH) + shared)

    def _norms(self) -> int:
        family = self._family
        each = self.hidden * (family.norm_weight + family.norm_bias)
        on_heads = {"head": 2 * self.head_dim, "whole": self.query_width + self.key_width}.get(family.qk_norm, 0)
        return (each * family.norms + on_heads) * self.layers + each

    def _number(self, key: str, most: int, default: int | None = None) -> int:
        for name in (key, *ALIASES.get(key, ())):
            value = self._config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise CannotTell(f"config.json: {name} is not a whole number from 1 to {most}")
            return value
        if default is None:
            raise CannotTell(f"config.json has no {key}")
        return default

    def _flag(self, key: str, default: bool) -> bool:
        value = self._config.get(key, default)
        if not isinstance(value, bool):
            raise CannotTell(f"config.json: {key} is neither true nor false")
        return value

    def _bias(self, bias: Bias) -> bool:
        return bias if isinstance(bias, bool) else self._flag(*bias)
