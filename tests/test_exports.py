"""The public names are the documented ones."""

from __future__ import annotations

import inspect

import aft
import aft.config
import aft.losses
import aft.records
import aft.tasks


def test_losses():
    functions = {function.__name__ for function in aft.losses.LOSSES.values()}
    assert sorted(aft.losses.__all__, key=lambda name: (not name.isupper(), name)) == aft.losses.__all__
    assert {*aft.losses.__all__} - functions == {
        "CONSTRAINTS",
        "DISPLACEMENT",
        "LOSSES",
        "REFERENCE_LOSSES",
        "STATISTICS",
        "Balanced",
        "Boundary",
        "Constraint",
        "Detached",
        "Floor",
        "PassRate",
        "PositiveFloor",
        "Tapered",
        "Unconstrained",
        "controlled_beta",
        "displacement_statistics",
        "groups_with_pair",
        "metrics_from_displacement",
        "metrics_from_statistics",
        "pair_statistics",
        "spread_of_negatives",
    }
    assert all(hasattr(aft.losses, name) for name in aft.losses.__all__)


def test_every_loss_and_constraint_is_in_its_table_and_exported():
    assert set(aft.losses.LOSSES) >= {"alignment", "rrhf", "pro", "dpo", "simpo", "orpo", "ipo", "kto", "nca"}
    assert set(aft.losses.CONSTRAINTS) >= {"none", "detached", "boundary"}
    for entry in (*aft.losses.LOSSES.values(), *aft.losses.CONSTRAINTS.values()):
        assert entry.__name__ in aft.losses.__all__


def test_the_loss_that_other_people_import():
    signature = inspect.signature(aft.losses.alignment_loss)
    assert list(signature.parameters)[:4] == ["scores", "ratings", "candidate_mask", "constraint"]
    assert signature.parameters["candidate_mask"].default is None
    for name in ("candidate_mask", "constraint"):
        assert signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert aft.losses.Boundary().beta == 0.15
    assert aft.losses.Detached().lowest_only is False


def test_other_packages():
    assert isinstance(aft.__version__, str)
    assert all(hasattr(aft.tasks, name) for name in aft.tasks.__all__)
    assert aft.config.__all__ == ["Config", "align_config", "idle_overrides", "load_config", "merge", "to_yaml"]


def test_the_configuration_and_the_losses_know_the_same_names():
    import typing

    from aft.config import schema
    from aft.config.losses import AlignmentLoss

    constraints = typing.get_args(typing.get_type_hints(AlignmentLoss)["constraint"])
    named = {typing.get_args(typing.get_type_hints(section)["name"])[0]: section for section in constraints}
    assert set(named) == set(aft.losses.CONSTRAINTS)
    for name, section in named.items():
        # what belongs to a batch or is measured is no key; `logps` says whether lengths are given
        arguments = {*inspect.signature(aft.losses.CONSTRAINTS[name]).parameters} - {"initial_scores", "spread"}
        arguments = {"logps" if argument == "lengths" else argument for argument in arguments}
        control = {"rate", "lowest", "highest"} if name == "controlled" else set()
        assert set(inspect.signature(section).parameters) == {"name", *arguments, *control}
    sections = [s for s in typing.get_args(typing.get_type_hints(schema.AlignConfig)["loss"]) if s is not type(None)]
    losses = {typing.get_args(typing.get_type_hints(section)["name"])[0]: section for section in sections}
    assert set(losses) == set(aft.losses.LOSSES)
    # what the trainer does with the loss, not the loss itself
    around = {"name", "weight", "reduction", "logps"}
    from_the_batch = {"ref_scores", "candidate_mask", "lengths"}
    for name, section in losses.items():
        parameters = inspect.signature(aft.losses.LOSSES[name]).parameters.values()
        keywords = {parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
        # RRHF's is a way to take the scores, which its function is given
        taken_before = {"normalisation"} if name == "rrhf" else set()
        assert set(inspect.signature(section).parameters) - around - taken_before == keywords - from_the_batch
