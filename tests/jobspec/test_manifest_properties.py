"""The reader's promises for any input: never an exception, never slow, never hungry, and what it accepts survives a round trip."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobspec import wire
from jobspec.manifest import Manifest
from jobspec.problems import render_problems
from jobspec.reading import Refusal, read_manifest
from tests.jobspec.manifests import GOOD

ROOT = Path(__file__).resolve().parents[2]
TOKENS = ["name: ", "model:", "\n", "\n  ", "- ", "? ", ": ", "[", "]", "{", "}", ",", "&a ", "*a", "!!str ", "'", '"', "|", "#", "---", "%"]
TOKENS += ["\t", "\r\n", "3.10", "null", "é", "\u202e", "\0", "1e999", "<<"]


def _never_fails(body: bytes) -> None:
    began = time.process_time()
    answer = read_manifest(body)
    assert time.process_time() - began < 1.0
    if isinstance(answer, Refusal):
        assert answer.problems
        text = render_problems(answer.problems)
        assert all(" " <= c <= "~" or c == "\n" for c in text), text
        assert len(text) < 40_000
    else:
        assert wire.load(Manifest, wire.dump(answer)) == answer


@given(st.binary(max_size=400))
def test_any_bytes_are_a_manifest_or_have_problems(body: bytes) -> None:
    _never_fails(body)


@given(st.text(max_size=300))
def test_any_text_is_a_manifest_or_has_problems(text: str) -> None:
    _never_fails(text.encode("utf-8", "surrogatepass"))


@given(st.lists(st.sampled_from(TOKENS) | st.text(max_size=4), max_size=40))
@settings(max_examples=300)
def test_any_row_of_yaml_tokens_is_a_manifest_or_has_problems(tokens: list[str]) -> None:
    _never_fails("".join(tokens).encode("utf-8", "surrogatepass"))


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_any_damage_to_a_good_manifest_leaves_a_manifest_or_problems(data: st.DataObject) -> None:
    text = GOOD + "training: {max_steps: 3, learning_rate: 1e-3}\nlimits: {max_runtime: 1h, deadline: 2030-01-01T00:00:00Z}\nnotify: {on: [budget]}\n"
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(TOKENS) | st.text(max_size=3)) + text[at + data.draw(st.integers(0, 6)) :]
    _never_fails(text.encode("utf-8", "surrogatepass"))


@given(
    name=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?", fullmatch=True),
    steps=st.integers(1, 10**7),
    rate=st.floats(1e-12, 1),
    runtime=st.integers(1, 90 * 86400),
    notices=st.lists(st.sampled_from(["accepted", "interrupted", "relaunched", "waiting", "budget"])),
)
def test_what_is_written_is_what_is_read(name: str, steps: int, rate: float, runtime: int, notices: list[str]) -> None:
    text = GOOD.replace("a-job", f"'{name}'")
    text += f"training: {{max_steps: {steps}, learning_rate: {rate!r}}}\nlimits: {{max_runtime: {runtime}s}}\nnotify: {{on: [{', '.join(notices)}]}}\n"
    answer = read_manifest(text.encode())
    assert isinstance(answer, Manifest), answer
    assert (answer.name, answer.training.max_steps, answer.training.learning_rate) == (name, steps, rate)
    assert (answer.limits.max_runtime, list(answer.notify.on)) == (runtime, notices)
    assert wire.load(Manifest, wire.dump(answer)) == answer


HARD = {
    "billion laughs": '"a: &a [" + "x,"*9 + "]\\n" + "".join(f"{c}: &{c} [" + f"*{p},"*9 + "]\\n" for p, c in zip("abcdefghi", "bcdefghij"))',
    "lists in lists": '"[" * 65536',
    "mappings in mappings": '"{a: " * 16000',
    "one long list": '"[" + "1," * 32000 + "]"',
    "one long text": '"name: \\"" + "a" * 65000 + "\\""',
    "one long number": '"training: {seed: " + "9" * 65000 + "}"',
    "many keys": '"".join(f"k{n}: 1\\n" for n in range(1900))',
    "many near keys": '"training:\\n" + "".join(f"  learning_rat{n}: 1\\n" for n in range(1900))',
    "one key many times": '"a: 1\\n" * 10000',
    "long keys": '"".join(f"{chr(97 + n % 26) * 900}{n}: 1\\n" for n in range(70))',
    "open quote": '"a: \\"" + "\\\\n" * 32000',
    "complex keys": '"? " * 32000',
    "spaces": '" " * 65536',
    "blank lines": '"\\n" * 65536',
    "wrong entries": '"compute:\\n  zones: [" + "A," * 1900 + "]"',
}


@pytest.mark.parametrize("hard", HARD)
def test_the_hardest_64_kib_take_less_than_a_second_and_256_mib(hard: str) -> None:
    program = f"""
        import resource, sys, time
        from jobspec.reading import Refusal, read_manifest
        resource.setrlimit(resource.RLIMIT_AS, (256 * 2**20, 256 * 2**20))
        body = ({HARD[hard]}).encode()[:65536]
        began = time.process_time()
        answer = read_manifest(body)
        took = time.process_time() - began
        assert isinstance(answer, Refusal) and answer.problems
        assert took < 1.0, took
        print("refused")
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, cwd=ROOT / "functions", check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "refused"), ran.stderr[-2000:]
