"""A seeded simulator of the whole house: ``python -m tests.simulation --help``. How it works: docs/reliability.md."""
