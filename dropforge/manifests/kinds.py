"""What ``dropforge init --template`` offers: kinds of rows, methods and adapters. Data alone: the help page reads it, so nothing is imported."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Template:
    """``row`` is an example of a line of the data file; ``lines`` are added to the manifest as they are."""

    about: str
    row: str
    lines: tuple[str, ...] = ()


_CHAT = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}'
_PAIR = '{"prompt": "...", "chosen": "the better answer", "rejected": "the other one"}'

TEMPLATES = {
    "chat": Template("conversations; the assistant's turns are learnt", _CHAT),
    "prompt": Template("a prompt and its completion", '{"prompt": "...", "completion": "..."}'),
    "text": Template("plain text, all of it learnt", '{"text": "..."}', ("training:", "  loss_on: all")),
    "dpo": Template(
        "of two answers to a prompt, one was preferred; starts from a fine-tuned model",
        _PAIR,
        ("method: dpo", "dpo: {beta: 0.1}  # higher stays closer to the model it starts from"),
    ),
    "kto": Template(
        "single answers with a thumb up or down",
        '{"prompt": "...", "completion": "...", "label": true}',
        ("method: kto", "kto: {desirable_weight: 1.0, undesirable_weight: 1.0}  # raise that of the rarer label"),
    ),
    "orpo": Template("preferences, from a base model, in one run", _PAIR, ("method: orpo", "orpo: {beta: 0.1}  # weight of the preference")),
    "reward": Template("a model that scores answers, from preferences", _PAIR, ("method: reward", "reward: {center_rewards_coefficient: 0.01}")),
    "grpo": Template(
        "the model's own answers, scored by reward functions",
        '{"prompt": "...", "answer": "42"}',
        ("method: grpo", "grpo: {rewards: [{name: numeric_match, column: answer}]}  # against the row's own answer"),
    ),
    "full": Template("conversations; every weight is trained, no adapter", _CHAT, ("adapter: {type: full}",)),
    "qlora": Template("conversations; an adapter on a 4-bit base, least memory", _CHAT, ("adapter: {type: qlora}",)),
}


def offered() -> str:
    """A line for each template, for a help page; the backspace keeps click from folding them."""
    width = max(map(len, TEMPLATES))
    return "\b\nTemplates:\n" + "\n".join(f"  {name:<{width}}  {template.about}" for name, template in TEMPLATES.items())
