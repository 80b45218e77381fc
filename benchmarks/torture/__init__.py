"""Cuts, damages and deceives the commands of aft, and counts what was lost.

    PYTHONPATH=benchmarks python -m torture                     everything; `make torture`
    PYTHONPATH=benchmarks python -m torture --only kills        one area
    PYTHONPATH=benchmarks python -m torture --quick             a few cases of each area

The product is used through its commands and files only. A module holds the cases of one area, a module `NAME_table` its
inputs. `verdict` says when a case survived, and `page` writes docs/reliability.md.
"""
