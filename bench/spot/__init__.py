"""Spot policies on recorded availability: what each costs, beside the exact lower bound. ``python -m bench.spot --help``.

The model and the published policies are those of Wu et al., "Can't Be Late" (NSDI'24); see docs/placement.md.
"""
