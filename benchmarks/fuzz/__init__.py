"""Fuzzers of what reads text from outside. A target is one module with a function `one(data: bytes)`.

    PYTHONPATH=benchmarks:src python -m fuzz                        every target for SECONDS (600); `make fuzz`
    PYTHONPATH=benchmarks:src python -m fuzz --only answers         one of them

`one` lets the errors pass that the surface promises, and raises on anything else.
"""
