"""Which checkpoint a training resumes from: every part that is gone or damaged is noticed and named."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from aft.errors import DataError, DiskError
from aft.training import checkpoints
from aft.training.checkpoints import PARTS, begin, delete_oldest, last_checkpoint, seal, set_aside, what_is_wrong
from tiny_trainers import make_trainer

RESUMED = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def options(**changes):
    return {"optim": "adamw_torch", "max_steps": 4, "save_strategy": "steps", "save_steps": 2, **changes}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with checkpoint-2 and checkpoint-4 of a training in one process."""
    folder = tmp_path_factory.mktemp("trained")
    make_trainer(folder, **options()).train()
    return folder


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_a_checkpoint_lists_its_parts(trained):
    listed = json.loads((trained / "checkpoint-4" / PARTS).read_text())
    assert listed["processes"] == 1 and set(RESUMED) <= set(listed["parts"])
    found = last_checkpoint(trained)
    assert found.path == trained / "checkpoint-4" and found.damaged == {}
    assert last_checkpoint(trained / "absent").path is None


@pytest.mark.parametrize("part", RESUMED)
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (delete, "{} is missing"),
        (truncate, r"{} has [\d,]+ bytes; [\d,]+ were written"),
        (empty, r"{} has 0 bytes; [\d,]+ were written"),
        (flip, "{} is not what was written"),
    ],
)
def test_every_damage_of_every_part_is_named_and_the_one_before_is_taken(folder, part, damage, told):
    damage(folder / "checkpoint-4" / part)
    found = last_checkpoint(folder)
    assert found.path == folder / "checkpoint-2"
    (problem,) = found.damaged.values()

    assert re.fullmatch(told.format(re.escape(part)), problem)


@pytest.mark.parametrize("part", RESUMED)
@pytest.mark.parametrize("damage", [delete, truncate, empty])
def test_a_checkpoint_without_a_list_is_judged_by_its_parts(folder, part, damage):
    for number in (2, 4):
        (folder / f"checkpoint-{number}" / PARTS).unlink()
    assert last_checkpoint(folder).path == folder / "checkpoint-4"
    damage(folder / "checkpoint-4" / part)
    found = last_checkpoint(folder)
    assert found.path == folder / "checkpoint-2"
    (problem,) = found.damaged.values()
    assert problem.startswith(f"{part} is missing" if damage is delete else f"{part} cannot be read")


@pytest.mark.parametrize("part", ["optimizer.pt", "rng_state.pth"])
def test_torch_s_own_checksums_show_a_flipped_bit(folder, part):
    path = folder / "checkpoint-4"
    (path / PARTS).unlink()
    flip(path / part)
    assert what_is_wrong(path).startswith(f"{part} cannot be read")


@pytest.mark.parametrize("damage", [truncate, empty, flip])
def test_a_damaged_list_is_not_believed(folder, damage):
    damage(folder / "checkpoint-4" / PARTS)
    assert last_checkpoint(folder).path == folder / "checkpoint-2"
    assert what_is_wrong(folder / "checkpoint-4")


def test_a_list_may_not_name_files_elsewhere(folder):
    path = folder / "checkpoint-4" / PARTS
    listed = json.loads(path.read_text())
    listed["parts"]["../checkpoint-2/optimizer.pt"] = listed["parts"].pop("optimizer.pt")
    path.write_text(json.dumps(listed))
    assert what_is_wrong(path.parent) == "../checkpoint-2/optimizer.pt is missing"


def test_a_swapped_checkpoint_is_noticed(folder):
    shutil.rmtree(folder / "checkpoint-4")
    shutil.copytree(folder / "checkpoint-2", folder / "checkpoint-4")
    assert last_checkpoint(folder).damaged == {folder / "checkpoint-4": "trainer_state.json is of step 2"}


def test_none_is_left(folder):
    for number in (2, 4):
        delete(folder / f"checkpoint-{number}" / "optimizer.pt")
    found = last_checkpoint(folder)
    assert found.path is None and set(found.damaged.values()) == {"optimizer.pt is missing"}


def test_code_in_a_part_is_not_run(folder):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(folder / "evil"),))

    path = folder / "checkpoint-4"
    (path / PARTS).unlink()
    torch.save({"state": Evil()}, path / "optimizer.pt")
    assert what_is_wrong(path) == "optimizer.pt cannot be read: it holds more than tensors and plain values"
    assert not (folder / "evil").exists()


def test_the_best_checkpoint_must_be_whole_too(folder):
    path = folder / "checkpoint-4"
    state = json.loads((path / "trainer_state.json").read_text())
    state["best_model_checkpoint"] = str(folder / "checkpoint-2")
    (path / "trainer_state.json").write_text(json.dumps(state))
    seal(path, 1)
    assert last_checkpoint(folder, with_best=True).path == path
    flip(folder / "checkpoint-2" / "model.safetensors")
    assert last_checkpoint(folder).path == path
    told = f"^{path}: .* not without the best checkpoint until then, checkpoint-2: "
    with pytest.raises(DataError, match=told + "model.safetensors is not what was written"):
        last_checkpoint(folder, with_best=True)
    shutil.rmtree(folder / "checkpoint-2")
    with pytest.raises(DataError, match=rf"{told}it is missing. Put checkpoint-2 back. Or delete {folder}, or set"):
        last_checkpoint(folder, with_best=True)
    assert path.exists()


def test_a_checkpoint_of_the_model_alone_is_passed_over(tmp_path):
    make_trainer(tmp_path, **options(save_only_model=True)).train()
    assert (tmp_path / "checkpoint-4" / PARTS).exists()
    assert last_checkpoint(tmp_path) == checkpoints.Found(None, {})


def test_an_adapter_s_checkpoint(tmp_path):
    make_trainer(tmp_path, lora={"r": 2, "target_modules": "all-linear"}, **options()).train()
    path = tmp_path / "checkpoint-4"
    assert last_checkpoint(tmp_path).path == path
    for file in (path / PARTS, path / "adapter_model.safetensors"):
        file.unlink()
    assert what_is_wrong(path) == "adapter_model.safetensors is missing"


def test_a_file_of_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_BLOCK_BYTES", 2**20)
    path = tmp_path / "optimizer.pt"
    path.write_bytes(bytes(5 * 2**20 + 17))
    before = checkpoints._digest(path)
    assert before.startswith("sha256 of 1 MB blocks:") and before == checkpoints._digest(path)
    for place in (0, 2**20, 5 * 2**20 + 16):
        with path.open("r+b") as handle:
            handle.seek(place)
            handle.write(b"\1")
        assert checkpoints._digest(path) != before
        with path.open("r+b") as handle:
            handle.seek(place)
            handle.write(b"\0")


# ---- layouts of several processes, by their parts: files as torch writes them, without a training ----


def write(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".pt", ".pth", ".bin")):
            torch.save({"a": torch.ones(3)}, path / name)
        else:
            (path / name).write_text("global_step4" if name == "latest" else "x")
    (path / "trainer_state.json").write_text('{"global_step": 4}')
    return path


RANDOM = ("rng_state_0.pth", "rng_state_1.pth")
LAYOUTS = {
    "fsdp whole": (*RANDOM, "scheduler.pt", "pytorch_model_fsdp.bin", "optimizer.bin"),
    "fsdp sharded": (
        *RANDOM,
        "scheduler.pt",
        *(f"{kind}_0/{name}" for kind in ("pytorch_model_fsdp", "optimizer") for name in (".metadata", "__0_0.distcp")),
    ),
    "deepspeed": (
        *RANDOM,
        "latest",
        "global_step4/zero_pp_rank_0_mp_rank_00_model_states.pt",
        *(f"global_step4/bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in (0, 1)),
    ),
    "ranks": (*RANDOM, "scheduler.pt", "optimizer.pt", "pytorch_model.bin"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layouts_of_several_processes(tmp_path, layout):
    for number, gone in enumerate([None, *LAYOUTS[layout]]):
        path = write(tmp_path / str(number) / "checkpoint-4", *LAYOUTS[layout])
        if gone is not None:
            (path / gone).unlink()
        problem = what_is_wrong(path, processes=2)
        assert problem is None if gone is None else problem, gone
        if gone is None:
            seal(path, 2)
            assert what_is_wrong(path, processes=2) is None
            flip(path / LAYOUTS[layout][-1])
            assert what_is_wrong(path, processes=2) == f"{LAYOUTS[layout][-1]} is not what was written"


def test_a_rank_s_random_state_and_the_scaler_are_asked_for(tmp_path):
    path = write(tmp_path / "checkpoint-4", *LAYOUTS["ranks"])
    assert what_is_wrong(path, processes=3) == "rng_state_2.pth is missing"
    assert what_is_wrong(path, processes=2, also=["scaler.pt"]) == "scaler.pt is missing"


def test_all_shards_of_an_index_are_asked_for(tmp_path):
    path = write(tmp_path / "checkpoint-4", "rng_state.pth", "scheduler.pt", "optimizer.pt", "a.bin", "b.bin")
    index = path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.bin", "y": "b.bin"}}))
    assert what_is_wrong(path) is None
    (path / "b.bin").unlink()
    assert what_is_wrong(path) == "b.bin is missing"


# ---- what is kept ----


def test_the_oldest_are_deleted_after_the_new_one_is_sealed(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "aft.training.trainer.seal", lambda path, n: seen.append((path.name, len(list(tmp_path.glob("checkpoint-*")))))
    )
    make_trainer(tmp_path, **options(save_steps=1, save_total_limit=1)).train()
    assert seen == [("checkpoint-1", 1), *((f"checkpoint-{step}", 2) for step in (2, 3, 4))]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]


def test_the_newest_and_the_best_are_kept(tmp_path):
    for number in (1, 2, 9, 10, 11):
        (tmp_path / f"checkpoint-{number}").mkdir()
    delete_oldest(tmp_path, None, [])
    delete_oldest(tmp_path, 2, [tmp_path / "checkpoint-10", tmp_path / "checkpoint-1"])
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "checkpoint-10"}


def test_a_damaged_one_is_set_aside(folder):
    first = set_aside(folder / "checkpoint-4")
    shutil.copytree(first, folder / "checkpoint-4")
    assert (first.name, set_aside(folder / "checkpoint-4").name) == ("damaged-checkpoint-4", "damaged-checkpoint-4-2")
    assert last_checkpoint(folder).path == folder / "checkpoint-2"


def test_one_that_was_cut_while_it_was_saved_is_deleted(folder):
    shutil.copytree(folder / "checkpoint-4", folder / "checkpoint-6")
    path = folder / "checkpoint-6"
    (path / PARTS).unlink()
    (path / "optimizer.pt").unlink()
    begin(path)
    assert last_checkpoint(folder).damaged.keys() == {path}
    assert set_aside(path) is None and not list(folder.glob("*checkpoint-6*"))
    begin(folder / "checkpoint-4")
    seal(folder / "checkpoint-4", 1)
    assert not (folder / "checkpoint-4" / "unsealed").exists() and what_is_wrong(folder / "checkpoint-4") is None


def test_a_checkpoint_that_does_not_fit_is_removed(tmp_path, monkeypatch):
    def full(state, path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")

    trainer = make_trainer(tmp_path, **options(max_steps=2))
    monkeypatch.setattr("transformers.trainer.torch.save", full)
    told = rf"^{tmp_path}/checkpoint-2: the checkpoint cannot be written: .*unexpected pos.*Check the disk and run"
    with pytest.raises(DiskError, match=told):
        trainer.train()
    assert not (tmp_path / "checkpoint-2").exists()


def test_a_folder_that_was_deleted_is_named(tmp_path):
    trainer = make_trainer(tmp_path / "run", **options(max_steps=2))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(DiskError, match=rf"^{tmp_path}/run: the folder was deleted"):
        trainer.train()
