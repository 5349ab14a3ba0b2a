"""Stress: everything that a host may do to the library, at once and at random, and what must hold.

`python -m tools.stress` runs it. `world` is what a host's threads share; `programs` and `flows`
start programs and check how they end; `hazards` is what is done to the host meanwhile; `host` runs
phases of both and looks for what is left after each; `hostile` is a host that closes what it does
not know.
"""
