# SPDX-License-Identifier: Apache-2.0
"""The simulator: whole relays with their real store and receivers, on a seeded loop with virtual time.

    python -m fairlead.testing.simulation --config rest --seed 7 --trace

One seed is one run: chaos, then the faults heal and everything owed must get through. What must hold is in
`checker`, what goes wrong in `network`, `disk` and `world`, and what the rules are worth in `mutants`.
"""
