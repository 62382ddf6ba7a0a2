"""Memory of one GPU while it trains, in bytes: what the trainer (TRL 1.16, PEFT 0.21, torch's autograd) holds at its peak.

docs/planning.md derives each line. Activations are what autograd saves for the backward pass of a decoder layer, counted
operation by operation from transformers' modeling code; a test measures them (torch's profiler, CPU) for several shapes.
"""

from dataclasses import dataclass

from planning.shape import Shape
from planning.workload import Workload

GIB = 1024**3
#: TRL's fused output projection works in tiles of at most so many tokens and vocabulary entries (trl/kernels/chunked_logprob.py).
HEAD_TILE_TOKENS, HEAD_TILE_VOCABULARY = 4096, 32768
#: Driver, CUDA context, cuBLAS workspaces and what the allocator loses to fragments: Unsloth's estimate takes 1.4 GB for these
#: (VRAM_ESTIMATION.md, in ../shared/facts/trainer.md). Not measured by us.
CUDA_BYTES = int(1.4e9)
#: bitsandbytes nf4, double quantised: 4 bits and 0.127 bits of constants (Dettmers et al. 2023, QLoRA, section 3).
NF4_BYTES = (4 + 0.127) / 8
#: Trained parameters: float32 value, gradient, Adam's two moments. Autocast keeps a 16-bit copy beside a float32 one.
VALUE_BYTES, GRADIENT_BYTES, ADAM_BYTES = 4, 4, 8
#: Of a trained parameter in a checkpoint: value and moments, float32.
CHECKPOINT_BYTES = VALUE_BYTES + ADAM_BYTES


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the GPU, part by part."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    cuda: float = CUDA_BYTES

    @property
    def total(self) -> float:
        return self.weights + self.adapter + self.gradients + self.optimizer + self.activations + self.logits + self.cuda


def trained_parameters(shape: Shape, work: Workload) -> int:
    """Parameters that are trained. Raises CannotTell for a target module that no layer has."""
    head = shape.hidden if work.method == "reward" else 0
    if work.adapter == "full":
        return shape.parameters - (shape.head_parameters if work.method == "reward" else 0) + head
    return shape.adapter_parameters(work.r, work.targets, magnitudes=work.dora) + head


def memory_of(shape: Shape, work: Workload, dtype: str, *, mask_bytes: int = 1) -> Memory:
    """The peak. ``dtype``: float32, bfloat16 or float16. ``mask_bytes``: of dropout's mask, an element (CUDA's kernel: 1)."""
    trained = trained_parameters(shape, work)
    element = 4 if dtype == "float32" else 2
    full = work.adapter == "full"
    reference = shape.parameters * VALUE_BYTES if full and work.reference else 0
    # Of sharded weights each GPU holds its share, and for the time of a pass some whole.
    held = trained / work.ranks if work.sharded else trained
    gradients, logits, activations = _moving_bytes(shape, work, element, mask_bytes, trained, held)
    return Memory(
        weights=(VALUE_BYTES * held + _gathered_bytes(shape, work, element) if full else _frozen_bytes(shape, work, element)) + reference,
        adapter=0 if full else VALUE_BYTES * trained,
        gradients=gradients + _bucket_bytes(shape, work, trained),
        optimizer=ADAM_BYTES * held,
        activations=activations,
        logits=logits,
    )


def _gathered_bytes(shape: Shape, work: Workload, element: int) -> float:
    """What FSDP2 has whole at once: the layer that computes and the next, and embeddings and output, which stay whole through the pass."""
    if not work.sharded:
        return 0
    ends = shape.embedding_parameters + shape.head_parameters
    return element * (2 * (shape.parameters - ends) / shape.layers + ends)


def _bucket_bytes(shape: Shape, work: Workload, trained: int) -> float:
    """Gradients on their way between GPUs: DDP's buckets, as large as they are; FSDP2's, whole in float32 for one layer, or for the ends."""
    if work.ranks == 1:
        return 0
    if not work.sharded:
        return GRADIENT_BYTES * trained
    ends = shape.embedding_parameters + shape.head_parameters
    return GRADIENT_BYTES * max((shape.parameters - ends) / shape.layers, ends)


def _moving_bytes(shape: Shape, work: Workload, element: int, mask_bytes: int, trained: int, held: float) -> tuple[float, float, float]:
    """Gradients, logits and activations at the worst of three moments: the forward pass's end, the backward pass's beginning and end.

    With accumulation the gradients of the micro-batch before are there at all three, without at the last alone.
    """
    tokens = work.sequences * work.max_length
    # Under full training the residual stream stays in the weights' own float32.
    stream = 4 if work.adapter == "full" else element
    one_layer = tokens * _saved_per_token(shape, work, element, stream, mask_bytes)
    layers = shape.layers * (tokens * stream * shape.hidden if work.gradient_checkpointing else one_layer)
    # Autocast's 16-bit copies of what is trained; recomputing makes them anew, a layer at a time.
    # (Sharded weights are gathered in 16 bits.)
    copies = trained * 2 if element == 2 and not work.sharded else 0
    recomputed = one_layer + copies / shape.layers if work.gradient_checkpointing else copies
    passing = tokens * _passing_per_token(shape, work, element)
    head = _head_bytes(shape, work, element)
    gradients = GRADIENT_BYTES * held
    forward_end, backward_begin = layers + copies + head, layers + recomputed + passing
    backward_end = passing + (recomputed if work.gradient_checkpointing else one_layer)
    generating = _generation_bytes(shape, work, element)
    if work.accumulation > 1:
        peak = max(forward_end, backward_begin, generating)
    else:
        peak = max(forward_end - gradients, backward_begin - gradients, backward_end, generating)
    return gradients, min(head, peak), peak - min(head, peak)


def _frozen_bytes(shape: Shape, work: Workload, element: int) -> float:
    """The base model under an adapter. bitsandbytes takes the layers' single matrices; embeddings, output and stacked experts stay as they are."""
    parameters = shape.parameters - (shape.head_parameters if work.method == "reward" else 0)
    if work.adapter != "qlora":
        return parameters * element
    matrices = sum(linear.inputs * linear.outputs * linear.layers for linear in shape.linears if linear.experts == 1 and not linear.name.endswith(".gate"))
    return matrices * NF4_BYTES + (parameters - matrices) * element


def _saved_per_token(shape: Shape, work: Workload, element: int, stream: int, mask_bytes: int) -> float:
    """Bytes a token of what one decoder layer saves for its backward pass."""
    family, hidden, width = shape.family, shape.hidden, shape.mlp_width
    full = work.adapter == "full"
    # A norm computes in float32 and keeps its input so; a trained one keeps its output as well.
    norms = max(family.norms, 2) * hidden * (4 + stream * full)
    on_heads = (shape.query_width + shape.key_width) * 4 * bool(family.qk_norm)
    # Keys and values are repeated for each head wherever rows are padded: transformers' SDPA then spreads grouped heads.
    attention = 4 * shape.query_width * element + 4 * shape.heads
    if family.eager:
        attention += shape.heads * work.max_length * (4 + 2 * element)
    mlp = (3 if family.gated else 2) * width * element
    return norms + on_heads + attention + mlp + _saved_inputs(shape, work, element, mask_bytes)


def _saved_inputs(shape: Shape, work: Workload, element: int, mask_bytes: int) -> float:
    """Bytes a token of the matrices' inputs in one layer: under full training each once, under an adapter each adapted one's own."""
    per_layer = 1 / shape.layers
    if work.adapter == "full":
        return element * (2 * shape.hidden + shape.mlp_width)
    saved = 0.0
    for linear in shape.adapted(work.targets):
        share = linear.layers * per_layer * linear.used
        dropout = mask_bytes * linear.inputs if work.dropout else 0
        saved += share * (element * (linear.inputs + work.r * linear.rank(work.targets)) + dropout)
        if work.dora:
            saved += share * element * linear.outputs
    return saved


def _passing_per_token(shape: Shape, work: Workload, element: int) -> float:
    """Bytes a token of gradients on their way through the widest place of a layer: the MLP's output projection."""
    width, hidden = shape.mlp_width, shape.hidden
    if element == 4:
        return 2 * element * width + element * hidden
    # PEFT computes in float32 around a 16-bit base: the input's gradient is there in both, and once more behind dropout.
    extra = 0 if work.adapter == "full" else 4 + (4 if work.dropout else 0)
    return (2 * element + extra) * width + 5.5 * hidden


def _head_bytes(shape: Shape, work: Workload, element: int) -> float:
    """The output projection: a tile of logits and the hidden states' gradient; every logit where TRL's trainer makes them."""
    tokens = work.sequences * work.max_length
    if work.method == "reward":
        return 0
    if work.method == "orpo":
        # Logits, their float32 copy, its log-softmax and its gradient (trl/experimental/orpo).
        return tokens * shape.vocabulary * (element + 3 * 4)
    tile = min(tokens, HEAD_TILE_TOKENS) * HEAD_TILE_VOCABULARY * element
    weight_gradient = shape.vocabulary * shape.hidden * (4 + element) if work.adapter == "full" else 0
    return tile + tokens * shape.hidden * (4 + element) + weight_gradient


def _generation_bytes(shape: Shape, work: Workload, element: int) -> float:
    """grpo answers a whole global batch at once, with keys and values of every token kept."""
    if work.method != "grpo":
        return 0
    return work.global_batch * work.max_length * shape.layers * 2 * shape.key_width * element
