"""Least privilege, proved: every AWS call that the code makes, held against the policies of the translated template.

``site`` gives the stack's policies and names, ``calls`` says what IAM is asked for a call, ``hearing`` notes the calls of a run, ``runs``,
``instances`` and ``services`` make the runs, ``proof`` finds what is allowed in vain; ``asking`` and ``matrix`` are the golden rows. The
decision itself is ``dropforge.local.iam``'s. docs/security.md says what this proves and what it cannot.
"""
