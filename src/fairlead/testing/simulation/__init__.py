# SPDX-License-Identifier: Apache-2.0
"""The simulator: whole relays with their real store and receivers, on a seeded loop with virtual time.

    python -m fairlead.testing.simulation --config rest --seed 7 --trace

One seed is one run: chaos, then the faults heal and everything owed must get through. What must hold is in
`checker` and `wires`, what goes wrong in `network`, `disk`, `broker`, `broker_faults` and `chaos`, and what
the rules are worth in `mutants`.
"""
