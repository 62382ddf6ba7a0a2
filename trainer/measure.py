"""What the model is worth: held-out loss for each supervised token, and one greedy answer. Before and after training."""

from typing import Any

from trainer.stop import StopSignal
from trainer.tokens import IGNORED

ANSWER_TOKENS = 48
_SHOWN = 400


def eval_loss(trainer: Any, stop: StopSignal) -> float | None:
    """Mean cross-entropy of the held-out rows' supervised tokens (nats), or None without such rows.

    transformers' own ``evaluate`` averages over batches, which weighs short rows more, and cannot be stopped in between.
    """
    if trainer.eval_dataset is None:
        return None
    loss_sum, tokens = 0.0, 0
    trainer.model.eval()
    for inputs in trainer.get_eval_dataloader():
        stop.check("evaluating")
        counted = int((inputs["labels"][:, 1:] != IGNORED).sum())  # the first token of a row is never predicted
        loss, _, _ = trainer.prediction_step(trainer.model, inputs, prediction_loss_only=True)
        loss_sum += float(loss) * counted
        tokens += counted
    return loss_sum / tokens if tokens else None


def answer(trainer: Any, tokenizer: Any, prompt: str, *, special_tokens: bool, max_length: int, stop: StopSignal) -> str:
    """The model's greedy continuation of ``prompt``, at most ANSWER_TOKENS tokens, as plain text."""
    import torch

    ids = tokenizer(prompt, add_special_tokens=special_tokens, return_tensors="pt")["input_ids"][:, -max_length:]
    if ids.shape[1] == 0:
        return ""
    ids = ids.to(trainer.model.device)
    trainer.model.eval()

    def asked_to_stop(*_: Any, **__: Any) -> Any:
        return torch.full((1,), stop.requested(), dtype=torch.bool, device=ids.device)

    with torch.no_grad():
        whole = trainer.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=[asked_to_stop],
        )
    stop.check("writing a sample answer")
    return str(tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)).strip()[:_SHOWN]
