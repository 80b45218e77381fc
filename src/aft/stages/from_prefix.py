"""`sample.from_prefix`: how the sample stage continues right chains, and how the label stage takes the wrong ends.

Needs no torch but in `sample_continuations`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..grading import Grader
from ..labelling.continuations import ContinuationCounts, add_continuations
from ..labelling.labels import Counts, count_groups
from ..progress import say
from ..records import Completion, Group, read_completions
from ..run.folder import Unit
from .plan import Plan

if TYPE_CHECKING:
    from ..sampling.engine import Engine
    from .context import Inference

FROM_PREFIX_KEY = "from_prefix"  # in counts.json and in the manifest of a sampling


def sample_continuations(
    subject: Inference, unit: Unit, engine: Engine, completions: Sequence[Completion]
) -> dict[str, Any]:
    """Samples continuations of right completions and writes from_prefix.jsonl. Returns the manifest's counts.

    All ranks call this together. The first one grades, so that a time limit of grading gives all the same chains.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    from ..sampling.decoding import Decoding
    from ..sampling.prefixes import Steps, cut_chains
    from ..sampling.requests import derive_seed
    from ..sampling.resumable import collect

    plan, section, seed = subject.stage.plan, subject.stage.config.sample, unit.seed or 0
    assert section.from_prefix is not None
    is_first = PartialState().is_main_process
    [right] = broadcast_object_list([_right_ones(plan, seed, completions) if is_first else None])
    by_question: dict[str, list[Completion]] = {}
    for completion in sorted(completions, key=lambda c: c.index):
        if (completion.question_id, completion.index) in right:
            by_question.setdefault(completion.question_id, []).append(completion)
    keys = vars(section.from_prefix)
    cuts = cut_chains(
        (
            (q.id, tuple(subject.texts.prompt(q.question)), by_question.get(q.id, []))
            for q in plan.training_questions(seed)
        ),
        Steps(subject.tokenizer).ends,
        first_index=section.num_samples,
        # no round repeats the random numbers of another
        seed=seed if unit.round == 1 else derive_seed("round", unit.round, seed),
        **{name: keys[name] for name in ("chains", "steps", "num_samples")},
    )
    continuations = collect(
        engine,
        cuts.requests,
        Decoding(section.max_new_tokens, section.temperature, section.top_p),
        path=plan.continuations(unit.seed, unit.name),
        description=f"{unit}, from right chains",
    )
    tokens = sum(completion.num_tokens for completion in continuations)
    return {**cuts.counts(), "completions": len(continuations), "tokens": tokens}


def describe_sampled(unit: Unit, completions: Sequence[Completion], counts: dict[str, Any]) -> str:
    """A line that sets the tokens of the continuations beside those of the questions' own samples."""
    own = sum(completion.num_tokens for completion in completions)
    return (
        f"{unit}: {own:,} tokens in {len(completions):,} completions, and {counts['tokens']:,} in"
        f" {counts['completions']:,} that continue {counts['chains']:,} right chains at {counts['places']:,} places."
        f" Of {counts['questions']:,} training questions, {counts['without_right']:,} have no right chain,"
        f" {counts['without_step']:,} none with a step to cut at, {counts['without_ids']:,} none with token ids"
    )


def _right_ones(plan: Plan, seed: int, completions: Sequence[Completion]) -> set[tuple[str, int]]:
    """The right completions of the training questions, by question and index."""
    by_id, grader = {q.id: q for q in plan.training_questions(seed)}, Grader(plan.task)
    return {
        (c.question_id, c.index)
        for c in completions
        if c.question_id in by_id and grader.grade(c, by_id[c.question_id]).is_correct
    }


def label_continuations(
    plan: Plan, unit: Unit, groups: Sequence[Group], counts: Counts, grader: Grader
) -> tuple[list[Group], Counts, list[Completion], ContinuationCounts | None]:
    """The groups with the wrong continuations, their counts, the continuations and theirs.

    Without `sample.from_prefix`, groups and counts are as given, and there is no other.
    """
    section, label = plan.config.sample.from_prefix, plan.config.label
    if section is None:
        return list(groups), counts, [], None
    continuations = read_completions(plan.continuations(unit.seed, unit.name))
    grown, found = add_continuations(
        groups,
        plan.training_questions(unit.seed or 0),
        continuations,
        grader,
        unparsed=label.unparsed,
        deduplicate=label.deduplicate,
        credit=section.credit,
    )
    return grown, count_groups(counts, grown), continuations, found


def tell_labelled(found: ContinuationCounts) -> None:
    """Prints the counts of the continuations."""
    say(f"\n{found.table()}")
