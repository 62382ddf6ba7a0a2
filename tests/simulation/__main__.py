"""``python -m tests.simulation``: run seeds, replay one, plant bugs. See docs/reliability.md."""

import sys

from tests.simulation.commands import main

sys.exit(main())
