"""``python -m dropforge``: the same as the ``dropforge`` command."""

from dropforge.cli import main

main()
