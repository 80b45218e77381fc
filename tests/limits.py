"""A limit for whatever a test waits for. It catches what hangs, and judges no speed: a busy machine must not fail."""

HUNG_AFTER = 1200  # seconds
