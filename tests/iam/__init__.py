"""Least privilege, proved: every AWS call that the code makes, held against the policies of the translated template.

``site`` gives the stack's policies and names, ``calls`` says what IAM is asked for a call, ``hearing`` notes the calls of a run,
``runs`` makes the runs. The decision itself is ``dropforge.local.iam``'s. docs/security.md says what this proves and what it cannot.
"""
