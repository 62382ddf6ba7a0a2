"""IAM's answer to one request, from policies alone: no account, no network, no emulator.

``policies`` decides, with ``conditions`` and ``patterns`` below it; ``launches`` says which requests IAM is asked about for one
EC2 call. The local cloud's plugin refuses by it, and ``tests/iam`` proves the template's policies with it.

Rules of this room: what AWS's documentation says, and nothing that it leaves open. Whatever is not known here (an operator, an
element, a form of principal) raises ``NotKnown``, for a guess would be a proof of nothing.
"""
