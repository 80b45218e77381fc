"""aft-label: labels a run's completions and builds its groups. Needs no model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..errors import ConfigError
from ..shown import shown
from .main import guarded, parse
from .train import add_integrity, run_config


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    sys.exit(guarded(lambda: _main(arguments)))


def _main(arguments: Sequence[str] | None) -> None:
    known, overrides = parse(
        "aft-label", "Label a run's completions and build its groups; needs no model.", arguments, add=_add
    )
    if known.examples < 0 or known.symbolic_limit < 0:
        raise ConfigError("--examples and --symbolic-limit: must be at least 0")
    known.worker = None
    run_config(known, overrides, only="label")
    if known.audit and not known.dry_run:
        _audit(known, overrides)


def _audit(known: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Compares extractors on all completions that are there. Prints a table and writes disagreements to audit.jsonl."""
    from ..config import load_config
    from ..json_files import write_json_lines
    from ..labelling.audit import audit_completions
    from ..progress import say
    from ..records import read_completions
    from ..run.lock import hold
    from ..stages.plan import Plan

    plan = Plan(load_config(known.config, overrides))
    for unit in plan.ready_units("label"):
        seed = unit.seed or 0
        questions = {item.id: item for item in plan.training_questions(seed) + plan.pool_of(unit)}
        files = [plan.completions(unit.seed, unit.name)]
        if plan.config.sample.from_prefix is not None:
            files.append(plan.continuations(unit.seed, unit.name))
        audit = audit_completions(
            list(questions.values()),
            [completion for file in files for completion in read_completions(file)],
            plan.task,
            symbolic_limit=known.symbolic_limit,
        )
        path = unit.folder / "audit.jsonl"
        differing = audit.disagreements()
        with hold(plan.run, say):
            write_json_lines(path, (item.row() for item in differing))
        told = f"audit of {unit}: {audit.summary(known.examples)}\n\n{len(differing):,} disagreements in {path}"
        print(shown(told))


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and the resolved configuration, and stop"
    )
    add_integrity(parser)
    parser.add_argument(
        "--audit",
        action="store_true",
        help="print how far the task's extractor, a lenient one and math-verify (if installed) agree",
    )
    parser.add_argument(
        "--examples", type=int, default=10, metavar="N", help="disagreements to print; all are in audit.jsonl (10)"
    )
    parser.add_argument(
        "--symbolic-limit",
        type=int,
        default=20_000,
        metavar="N",
        help="completions, evenly spaced, that math-verify reads for an audit (20000)",
    )


if __name__ == "__main__":
    main()
