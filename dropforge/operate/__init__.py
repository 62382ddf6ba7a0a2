"""The operator's side: is the stack well (``doctor``), hold it, stop it, send its dead letters again.

``commands`` parses and prints; ``doctor`` runs the checks of ``checks_*``; ``hold``, ``stop`` and ``redrive`` do what their names
say. Rules of this room: it acts on one stack, by the person's own rights, and never writes into the control plane's record;
a pause is asked of the control plane over the bus (``jobspec.operator``). What each command calls is what the policies in
docs/operations.md allow; a test holds the two together. Only ``commands`` is imported before a command runs.
"""
