"""Which runs fill a table at which scale. Data: a run is a file of configs/tables/, overrides and methods.

Runs of one name are one folder, whatever table asks for them: its VFT model and samples serve them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..run.folder import method_round
from .figures import MODELS, RANK, TASKS, best_beta
from .methods import CONTROLS, variants
from .run_results import MODEL_NAMES, STARTS
from .sizes import SIZE_KS, SIZES, Size
from .specs import ROUNDS, SPECS, ModelRow

SCALES = ("tiny", "small", "gpu", "paper")
SEEDS, MAIN_SEEDS = (0, 1, 2), (0, 1, 2, 3, 4)
TUNING_SEEDS = (100, 101)
MORE_TUNING_SEEDS = (*TUNING_SEEDS, 102)  # where methods are close
RATES = {"tiny": (3e-5, 1e-4, 3e-4, 1e-3), "gpu": (1e-5, 3e-5, 1e-4, 3e-4), "small": (1e-4, 3e-4)}
# beside the scale's: a real model's methods go on from a trained VFT, whose rate is too high for most
METHOD_RATES = (1e-5, 3e-5, 1e-4)
HIGHER_RATES = {"tiny": (3e-3,), "gpu": (1e-3,)}  # also tried where there is more to unlearn
KS = (8, 16, 32, 64)
BETAS = (-0.8, -0.4, -0.2, 0.0, 0.2, 0.4, 0.8)  # Figure 2b
BETAS_7 = tuple(step / 20 for step in range(11))  # Table 7: 0, 0.05 … 0.5
FEW_BETAS = (0.0, 0.05, 0.15, 0.5, 1.0)
WEIGHTS = tuple(step / 10 for step in range(1, 10))  # Table 9; the weight of 1 is RRHF itself
TEMPERATURES = (0.7, 1.3)  # beside 1
CLEAN_QUESTIONS = (25, 50, 100, 200)  # one pilot model for each number of clean training questions
FEW = {"tiny": 100, "gpu": 400}  # number of answer-only questions in the run with few of them

REAL_WORLDS = ("ecqa", "gsm8k", "arithmetic")  # --scale small
HUB_DATA = ("ecqa", "gsm8k")  # those whose questions are files

VFT = ("vft",)
LABELLED = (*VFT, "sample", "label")
TRAINED = (*LABELLED, "align")


@dataclass(frozen=True)
class Run:
    """One folder. `methods` are names of `aft.paper.methods`.

    `tuning`: on validation questions and seeds of its own. `grid`: the run that chooses the methods' learning rates;
    None: the configuration's. `more_rates`: what a grid tries beyond the scale's. `base`: the run that makes the base
    model. `source`: the run whose units `takes` are copied where they are there, so that they are not made twice.
    `seed_by_seed`: each seed is finished before the next begins. `vft_rates`: the learning rate of VFT is the best of
    the scale's by validation accuracy; the one of each method comes from a grid on the first seed's VFT and samples.
    `vft_grid`: the run that chooses the rate of VFT, from the grid's rates and on its seeds; the same for all runs on
    one base model, whichever of them is asked for.
    `trials`: the run whose trials of learning rates, with `vft_rates`, are also this run's; None: its own.
    """

    name: str
    config: str
    methods: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    tuning: bool = False
    grid: Run | None = None
    more_rates: tuple[float, ...] = ()
    base: Run | None = None
    source: str | None = None
    takes: tuple[str, ...] = ()
    seed_by_seed: bool = False
    vft_rates: bool = False
    vft_grid: Run | None = None
    trials: str | None = None

    @property
    def tuned_as(self) -> str:
        """What the folders of its trials of learning rates are named after."""
        return self.trials or self.name


_VALIDATION = ("evaluate.split=validation", "evaluate.assessment=null")
_VFT_ALONE = ("stages=[vft, sample, label, evaluate]", "evaluate.models=[vft]")
_ROUNDS = (
    "evaluate.assessment=null",
    "evaluate.self_consistency={num_paths: 16, num_questions: 300, ns: [1, 4, 16]}",
)
_SCHEMES = {  # of the study of rounds: on from the last model, and from the start on all samples so far
    "rounds": f"rounds={{count: {ROUNDS}, start_from: last, keep: last}}",
    "rounds-from-start": f"rounds={{count: {ROUNDS}, start_from: base, keep: all}}",
}
_PATHS = ("evaluate.assessment=null", "evaluate.models=[vft, rft, aft-dc, aft-bc]")
_SMALLER = {
    "tiny": ("hidden_size=64", "num_hidden_layers=2", "intermediate_size=172"),
    "gpu": ("hidden_size=256", "num_hidden_layers=6", "intermediate_size=688"),
}


def plan(key: str, scale: str) -> list[Run]:
    """The runs of a table; none if the table is not available at this scale."""
    if scale == "small":
        if key == "rounds":
            return _in_rounds(_real("2")[-1])
        if key == "wrong-chains":
            return [_with_chains(_real("2")[-1], _trainable(key), questions=48, paths=32)]
        return _real(key) if key in ("2", "boundaries") else []
    make: Callable[[str], list[Run]] = _paper if scale == "paper" else lambda k: _from_scratch(k, scale)
    return make(key)


def page_of(key: str, scale: str) -> str:
    """The key of the page that a table has at a scale: a real model's shows more measures."""
    return "real" if (key, scale) == ("2", "small") else key


def _real(key: str) -> list[Run]:
    """A real model in three worlds, each with one VFT model and one set of samples a seed."""
    methods = methods_of("real") if key == "2" else _boundaries()
    models = (f"evaluate.models=[{', '.join((*VFT, *methods))}]",)  # without the base, which knows no marker
    return [Run(name, f"small-{name}.yaml", methods, models, seed_by_seed=True, vft_rates=True) for name in REAL_WORLDS]


def seeds_of(key: str, scale: str) -> tuple[int, ...]:
    """The seeds of a table unless others are asked for: five for the main one where models are small."""
    return MAIN_SEEDS if key in ("2", "boundaries") and scale in ("tiny", "gpu") else SEEDS


def tuning_seeds_of(key: str) -> tuple[int, ...]:
    """The seeds of a table's grids unless others are asked for."""
    return MORE_TUNING_SEEDS if key == "boundaries" else TUNING_SEEDS


def _boundaries() -> tuple[str, ...]:
    return (*methods_of("boundaries"), *variants("aft-bc", "beta", FEW_BETAS))


def methods_of(key: str) -> tuple[str, ...]:
    """The methods that a table's fixed rows name."""
    names = (row.name for row in SPECS[key].rows if isinstance(row, ModelRow) and row.name not in STARTS)
    return tuple(dict.fromkeys(method_round(name)[0] for name in names))


def _from_scratch(key: str, scale: str) -> list[Run]:
    base = Run("base", "gpu-base.yaml") if scale == "gpu" else None
    smaller = Run("small-base", f"{scale}-base.yaml", overrides=_smaller(scale))
    binary = Run("binary", f"{scale}-binary.yaml", methods_of(key), base=base)
    binary = replace(binary, grid=_grid(binary))
    rank = Run("rank", f"{scale}-rank.yaml", methods_of(key), base=base)
    rank = replace(rank, grid=_grid(rank))
    small = Run("small", f"{scale}-binary.yaml", methods_of(key), base=smaller)
    small = replace(small, grid=_grid(small))
    betas = variants("aft-bc", "beta", FEW_BETAS)
    if key == "1":
        return [
            replace(binary, name=f"pilot-{n}", grid=None, methods=(), overrides=(*_VFT_ALONE, f"data.num_train={n}"))
            for n in CLEAN_QUESTIONS
        ]
    if key == "7":
        return [_tuned(run, betas) for run in (binary, rank)]
    if key == "beta":
        return [_tuned(binary, variants("aft-bc", "beta", sorted({*BETAS, *FEW_BETAS})))]
    if key == "k":
        return [_with_k(binary, variants("aft-dc", "k", KS))]
    if key == "self-consistency":
        return [_paths(binary, num_questions=300)]
    if key == "sensitivity":
        sizes = [binary, small]
        ks = [_with_k(run, variants("aft-bc", "k", (3, 6, 9))) for run in sizes]
        return [*sizes, *_at_temperatures(binary), *ks, *(_tuned(run, betas) for run in sizes)]
    if key == "5":
        kinds = replace(
            binary, name="kinds", config=f"{scale}-kinds.yaml", base=Run("kinds-base", f"{scale}-kinds-base.yaml")
        )
        return [replace(kinds, grid=_grid(kinds))]
    if key == "laboratory":
        return _laboratory(binary, scale)
    if key == "boundaries":
        worlds = [*_laboratory(binary, scale), _in_world(rank, "harsh", "harsh-rank", scale)]
        return [replace(run, methods=_boundaries()) for run in worlds]
    if key == "rounds":
        return _in_rounds(_laboratory(binary, scale)[-1])  # where a first round leaves room for others
    if key == "wrong-chains":
        return _wrong_chains(binary, scale)
    if key == "size":
        return _sizes(binary, scale)
    if key == "laboratory-losses":
        return [_in_world(rank, "harsh", "harsh-rank", scale)]
    return [binary if key == "2" else replace(rank, methods=_with_weights(key))]


def _laboratory(mild: Run, scale: str) -> list[Run]:
    """The world of the other tables, two in which VFT misassesses more, and one of these with less data."""
    harsh, harsher = (_in_world(mild, world, world, scale) for world in ("harsh", "harsher"))
    # the best learning rates differ with less data, so this run has its own grid
    few = replace(harsh, name="harsh-few", overrides=(f"data.num_answer_only={FEW[scale]}",))
    return [mild, harsh, harsher, replace(few, grid=_grid(few))]


def _sizes(mild: Run, scale: str) -> list[Run]:
    """Each size with much data and with little, and several k with much."""
    _, much, _, few = _laboratory(mild, scale)
    sizes = [_of_size(much, few, size) for size in SIZES[scale]]
    ks = [name for method in ("rft", "aft-bc", "rft-bc") for name in variants(method, "k", SIZE_KS)]
    return [*(run for pair in sizes for run in pair), *(_with_k(run, tuple(ks)) for run, _ in sizes)]


def _of_size(much: Run, few: Run, size: Size) -> tuple[Run, Run]:
    """The runs on a base model of a size, a grid each for the methods, and one of VFT. They measure accuracy alone."""
    base = much.base
    assert base is not None
    if not size.shared:
        base = replace(base, name=f"{base.name}-{size.name}", overrides=size.overrides)
    found = []
    for run in (much, few):
        overrides = (*run.overrides, "evaluate.assessment=null", "sample.pool_questions=0")
        name = f"{run.name}-{size.name}"
        found.append(replace(run, name=name, base=base, overrides=overrides, more_rates=size.rates))
    vft = replace(found[0], name=f"{base.name}-vft", grid=None)
    large, small = (replace(run, grid=_grid(run), vft_grid=vft) for run in found)
    return large, small


def _in_rounds(run: Run) -> list[Run]:
    """The run's methods in rounds, once for each scheme. VFT, the first samples and learning rates are the run's."""
    methods = methods_of("rounds")
    return [
        replace(
            run,
            name=f"{run.name}-{name}",
            methods=methods,
            overrides=(*run.overrides, *_ROUNDS, "evaluate.models=null", scheme),
            source=run.name if name == "rounds" else f"{run.name}-rounds",
            takes=LABELLED,
            trials=run.tuned_as,
        )
        for name, scheme in _SCHEMES.items()
    ]


def _wrong_chains(mild: Run, scale: str) -> list[Run]:
    """The harsh world and the one with less data, by many paths, on their own questions and on longer ones.

    The runs with longer questions train again on shorter ones, at the world's learning rates.
    """
    methods = methods_of("wrong-chains")
    worlds = [run for run in _laboratory(mild, scale) if run.name in ("harsh", "harsh-few")]
    few = f"data.parts.sums.data.num_answer_only={FEW[scale]}"
    shifted = [
        replace(
            run,
            name=f"{run.name}-long",
            config=f"{scale}-harsh-long.yaml",
            methods=methods,
            overrides=(*([few] if run.name == "harsh-few" else []), *_chains(400)),
        )
        for run in worlds
    ]
    return [*(_with_chains(run, methods, 300) for run in worlds), *shifted]


def _with_chains(run: Run, methods: tuple[str, ...], questions: int, paths: int = 64) -> Run:
    """The models of a run, by many paths for each of the first questions."""
    models = (f"evaluate.models=[{', '.join((*VFT, *methods))}]",) if run.vft_rates else ()
    return replace(
        run,
        name=f"{run.name}-chains",
        methods=methods,
        overrides=(*run.overrides, *_chains(questions, paths), *models),
        source=run.name,
        takes=TRAINED,
        trials=run.tuned_as,
    )


def _chains(questions: int, paths: int = 64) -> tuple[str, ...]:
    ns = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= paths]
    keys = f"num_paths: {paths}, num_questions: {questions}, ns: {ns}, chains: true"
    return ("evaluate.assessment=null", "evaluate.training_scores=null", f"evaluate.self_consistency={{{keys}}}")


def _trainable(key: str) -> tuple[str, ...]:
    """The methods of a table without the controls of equal work, whose learning rates need a grid from scratch."""
    return tuple(name for name in methods_of(key) if name not in CONTROLS)


def _in_world(run: Run, world: str, name: str, scale: str) -> Run:
    """The run on the base model of a world that misreads more, with a grid there."""
    base = Run(f"{world}-base", f"{scale}-{world}-base.yaml")
    run = replace(run, name=name, config=f"{scale}-{name}.yaml", base=base, more_rates=HIGHER_RATES[scale])
    return replace(run, grid=_grid(run))


def _smaller(scale: str) -> tuple[str, ...]:
    return tuple(f"model.from_scratch.config.{size}" for size in _SMALLER[scale])


def _grid(run: Run) -> Run:
    """The run that chooses learning rates for another: same model and task, nothing measured but accuracy."""
    overrides = (*run.overrides, *_VALIDATION, "sample.pool_questions=0")
    return replace(run, name=f"{run.name}-grid", overrides=overrides, tuning=True, grid=None)


def real_grid(run: Run) -> Run:
    """The grid of a real model's methods, on validation questions and the VFT and samples of one seed of the run."""
    measured = (
        "evaluate.split=validation",
        "evaluate.assessment=null",
        "evaluate.self_consistency=null",
        "rounds=null",
    )
    overrides = (*run.overrides, *measured, "evaluate.models=null")
    return replace(run, name=f"{run.tuned_as}-grid", overrides=overrides, vft_rates=False, seed_by_seed=False)


def _tuned(run: Run, methods: tuple[str, ...]) -> Run:
    """Methods compared on the questions and seeds that learning rates are chosen on, in the same folder."""
    assert run.grid is not None
    return replace(run.grid, methods=methods, grid=run.grid)


def _with_k(run: Run, methods: tuple[str, ...]) -> Run:
    """Several k from one set of samples, as many as the largest k."""
    most = max(int(name.rpartition("-k")[2]) for name in methods)
    overrides = (*run.overrides, f"sample.num_samples={most}")
    return replace(run, name=f"{run.name}-{most}", methods=methods, overrides=overrides, source=run.name, takes=VFT)


def _at_temperatures(run: Run) -> list[Run]:
    hotter = ((f"{run.name}-t{t}", (*run.overrides, f"sample.temperature={t}")) for t in TEMPERATURES)
    return [replace(run, name=name, overrides=overrides, source=run.name, takes=VFT) for name, overrides in hotter]


def _paths(run: Run, num_questions: int | None = None) -> Run:
    """The same models again, by votes of 1 to 64 paths."""
    size = "null" if num_questions is None else num_questions
    section = f"evaluate.self_consistency={{num_paths: 64, num_questions: {size}}}"
    overrides = (*run.overrides, *_PATHS, section)
    return replace(run, name=f"{run.name}-paths", overrides=overrides, source=run.name, takes=TRAINED)


def _with_weights(key: str) -> tuple[str, ...]:
    return methods_of(key) + (variants("rrhf", "w", WEIGHTS) if key == "9" else ())


def _paper(key: str) -> list[Run]:
    if key in ("boundaries", "size", "wrong-chains") or key.startswith(("laboratory", "rounds")):
        return []
    methods = tuple(name for name in _with_weights(key) if name != "vft-more")  # no further steps: AFT starts from base
    betas = BETAS if key == "beta" else BETAS_7
    if key == "1":
        return [_papers(model, task, (), _VFT_ALONE) for task in ("GSM8K", "ECQA") for model in MODELS]
    if key == "2":
        return [_papers(model, task, methods) for model in MODELS for task in TASKS]
    if key == "3":
        return [_papers(model, RANK, methods) for model in MODELS]
    if key == "5":
        run = _papers("LLama-7B", "GSM8K", ("aft-dc", "aft-bc"))
        return [replace(run, name="llama-7b-multitask", config="paper-multitask.yaml")]
    if key == "7":
        return [_validated(_papers(m, t, ()), betas) for t in (*TASKS, RANK) for m in MODELS]
    main = _papers("LLama-7B", "GSM8K", methods)
    if key == "beta":
        return [_validated(main, betas)]
    if key == "k":
        return [_with_k(main, variants("aft-dc", "k", KS))]
    if key == "self-consistency":
        return [_paths(main)]
    if key == "sensitivity":
        sizes = [_papers(model, "GSM8K", methods) for model in ("LLama2-7B", "LLama2-13B")]
        ks = [_with_k(run, variants("aft-bc", "k", (3, 6, 9))) for run in sizes]
        hotter = [run for size in sizes for run in _at_temperatures(size)]
        return [*sizes, *hotter, *ks, *(_validated(run, FEW_BETAS) for run in sizes)]
    return [_papers("LLama-7B", RANK, methods)]


def _papers(model: str, task: str, methods: tuple[str, ...], overrides: tuple[str, ...] = ()) -> Run:
    """One of the paper's own runs, with the boundary that it found best."""
    hub = {name: path for path, name in MODEL_NAMES.items()}
    kind = "rank" if task == RANK else task.lower()
    own = (f"model.name_or_path={hub[model]}", f"align.loss.constraint.beta={best_beta(model, task):g}")
    return Run(f"{model.lower()}-{kind}", f"paper-{kind}.yaml", methods, (*own, *overrides))


def _validated(run: Run, betas: Sequence[float]) -> Run:
    """Boundaries on the validation questions, from the samples of the run itself."""
    methods = variants("aft-bc", "beta", betas)
    overrides = (*run.overrides, *_VALIDATION)
    name = f"{run.name}-validation"
    return replace(run, name=name, methods=methods, overrides=overrides, source=run.name, takes=LABELLED)
