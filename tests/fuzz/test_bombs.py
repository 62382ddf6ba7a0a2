"""Small inputs that ask for much work or memory, each in a process of its own: refused within 256 MiB and, generously, a second.

The manifest's own are in tests/jobspec/test_manifest_properties.py. Sizes: a document's limit (jobspec/wire.py); an event's is
256 KiB, EventBridge's and SNS's (their quotas).
"""

import subprocess
import sys
import textwrap

import pytest

from tests.fuzz import campaign

MIB = 1024 * 1024
DOCUMENTS = {
    "wrong files": ("marker", 'b\'{"files":[\' + b",".join([b"{}"] * 340_000) + b"]}"'),
    "wrong stages": ("heartbeat", 'b\'{"stages_s":{\' + b",".join(b\'"%d":-1\' % n for n in range(90_000)) + b"}}"'),
    "unknown keys": ("status", 'b"{" + b",".join(b\'"%d":1\' % n for n in range(100_000)) + b"}"'),
    "keys of a stranger": ("stop-order", 'b"{" + b",".join(b\'"\\\\u202e%d":1\' % n for n in range(60_000)) + b"}"'),
    "lists in lists": ("ticket", 'b"[" * 1_000_000'),
    "sections in sections": ("checkpoint", "b'{\"identity\":' * 80_000"),
    "one long number": ("heartbeat", 'b\'{"seq":\' + b"9" * 1_000_000 + b"}"'),
    "one long text": ("stop-order", 'b\'{"reason":"\' + b"a" * 1_000_000 + b\'"}\''),
    "escapes": ("progress", 'b\'{"message":"\' + b"\\\\u202e" * 160_000 + b\'"}\''),
    "more than is read": ("marker", 'b" " * 5_000_000'),
}
EVENTS = {
    "deep source": ("events", 'b\'{"source":\' + b"[" * 900 + b"]" * 900 + b\',"detail-type":\' + b"[" * 900 + b"]" * 900 + b"}"'),
    "deep state": (
        "events",
        'b\'{"source":"aws.ec2","detail-type":"EC2 Instance State-change Notification","detail":{"instance-id":"i-0123456789abcdef0","state":\''
        ' + b"[" * 900 + b"]" * 900 + b"}}"',
    ),
    "deeper than JSON": ("events", "b'{\"source\":' * 100_000"),
    "wrong budget": (
        "events",
        'b\'{"source":"dropforge.budget","detail-type":"Budget Alert","detail":{\' + b",".join(b\'"%d":1\' % n for n in range(25_000)) + b"}}"',
    ),
    "blank lines in a mail": ("budget-mail", 'b"s" + b"\\n" * 250_000'),
    "spaces in a mail": ("budget-mail", 'b"s\\nAlert Type:" + b" " * 250_000 + b"x"'),
    "digits in a mail": ("budget-mail", 'b"s\\nAlert Type: ACTUAL\\nACTUAL Amount: $" + b"1," * 120_000'),
    "colons in a mail": ("budget-mail", 'b"s\\n" + b"A:\\n" * 80_000'),
}


@pytest.mark.parametrize("bomb", [*DOCUMENTS, *EVENTS])
def test_a_bomb_is_refused_in_little_time_and_memory(bomb: str) -> None:
    target, body = (DOCUMENTS | EVENTS)[bomb]
    program = f"""
        import resource, sys, time
        from tests.fuzz.targets import TARGETS
        body = {body}
        resource.setrlimit(resource.RLIMIT_AS, (256 * {MIB}, 256 * {MIB}))
        began = time.process_time()
        said = TARGETS[{target!r}](body)
        took = time.process_time() - began
        assert said != "accepted", said
        assert took < 1.0, took
        print("refused")
    """
    environment = {"PYTHONPATH": f"{campaign.ROOT}:{campaign.ROOT / 'functions'}"}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=campaign.ROOT, env=environment, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "refused"), ran.stderr[-2000:]
