"""The paper's printed figures (arXiv 2309.02144v1), as text: table -> (base model, task, row) -> figure.

Figure 2 has axes only, so its parts have no figures here. Table 4 is accuracy / assessment accuracy / perplexity.
"""

from __future__ import annotations

MODELS = ("LLama-7B", "LLama2-7B", "LLama-13B", "LLama2-13B")
TASKS = ("GSM8K", "AQUA", "ECQA")
RANK = "GSM8K-RANK"

Figures = dict[tuple[str, str, str], str]

_TABLE_1 = {
    "GSM8K": (
        "36.48±0.92 / 68.41±0.32",
        "40.71±0.16 / 71.22±0.12",
        "42.07±0.15 / 72.25±0.23",
        "47.29±1.24 / 73.06±0.78",
    ),
    "ECQA": (
        "70.40±0.92 / 61.62±0.01",
        "72.34±0.22 / 61.96±0.02",
        "72.74±0.43 / 61.89±0.01",
        "74.76±0.56 / 62.29±0.01",
    ),
}
PEARSON = {"GSM8K": "0.93", "ECQA": "0.98"}  # between the two figures of Table 1, over its four models

# rows VFT, RFT, AFT DC, AFT BC; columns as TASKS
_TABLE_2 = {
    "LLama-7B": """
        36.48±0.92  31.19±0.28  70.40±1.07
        39.75±1.03  32.81±1.48  72.23±0.11
        40.43±1.04  33.01±0.95  72.23±0.43
        40.26±0.36  33.20±1.24  72.15±0.57""",
    "LLama2-7B": """
        40.71±0.16  31.49±1.96  72.34±0.22
        43.65±0.13  33.25±1.23  73.86±0.38
        44.25±0.43  33.49±0.63  73.71±0.65
        44.16±0.81  32.89±0.98  73.23±0.82""",
    "LLama-13B": """
        42.07±0.15  33.91±0.60  72.74±0.43
        46.13±1.41  34.29±1.28  75.03±0.35
        46.31±1.52  34.49±1.21  74.32±0.09
        46.46±0.28  34.79±0.37  74.53±0.68""",
    "LLama2-13B": """
        47.29±1.24  34.68±1.36  74.76±0.56
        50.12±1.57  34.95±0.88  76.21±0.80
        50.67±1.16  35.78±0.45  76.42±0.82
        51.03±0.54  35.49±1.19  76.57±0.83""",
}
_METHODS_2 = ("VFT", "RFT", "AFT DC", "AFT BC")

# columns LLama-7B, LLama-13B, LLama2-7B, LLama2-13B
_MODELS_3 = ("LLama-7B", "LLama-13B", "LLama2-7B", "LLama2-13B")
_TABLE_3 = {
    "VFT": "20.82±0.71 24.12±0.42 24.08±0.22 30.28±1.46",
    "RFT": "25.09±1.18 28.21±0.86 28.25±0.78 34.53±0.51",
    "RRHF": "7.51±0.56 9.92±0.82 9.21±0.25 13.35±1.26",
    "PRO": "18.73±0.31 20.34±1.51 21.40±0.92 23.55±0.98",
    "AFT RBC": "26.08±1.05 28.97±0.35 29.05±0.75 35.48±1.35",
}
_TABLE_4 = {
    "VFT –": "20.82 / 68.72 / 1.60",
    "RRHF without": "7.51 / 87.44 / 1.80",
    "RRHF with": "25.53 / 79.89 / 1.35",
    "PRO without": "18.73 / 86.58 / 2.34",
    "PRO with": "25.82 / 80.34 / 1.45",
    "AFT without": "7.03 / 88.89 / 7.81",
    "AFT with": "26.08 / 81.36 / 1.37",
}
# columns GSM8K, AQUA, ECQA, MMLU
_TABLE_5 = {
    "VFT": "35.72±0.95 32.95±0.98 69.25±0.74 37.52±1.03",
    "AFT DC": "40.24±0.63 33.72±0.92 71.38±0.64 39.25±0.35",
    "AFT BC": "40.00±0.69 33.45±0.56 71.48±0.89 38.89±0.70",
}
# the best boundary: columns GSM8K, AQUA, ECQA, GSM8K-RANK
_TABLE_7 = {
    "LLama-7B": ".15 .15 .15 .05",
    "LLama2-7B": ".15 .40 .35 .15",
    "LLama-13B": ".15 .15 .15 .15",
    "LLama2-13B": ".15 .15 .20 .15",
}
_TABLE_8 = {"RBC": "26.08±1.05", "RDC1": "25.68±0.49", "RDC2": "12.57±1.34", "none": "7.03±0.98"}
_TABLE_9 = ("18.75", "18.01", "15.05", "13.20", "11.79", "11.79", "9.83", "8.78", "8.62", "7.51")
_TABLE_10 = {
    "PRO": "18.73",
    "PRO without τ": "7.18",
    "PRO + RDC1": "25.84",
    "PRO without τ + RDC1": "25.43",
}


def _table_2() -> Figures:
    found = {}
    for model, text in _TABLE_2.items():
        for method, line in zip(_METHODS_2, text.strip().splitlines(), strict=True):
            found.update({(model, task, method): x for task, x in zip(TASKS, line.split(), strict=True)})
    return found


def _table_2_with_assessment() -> Figures:
    """Table 2, behind VFT's accuracy its assessment accuracy of Table 1."""
    found = _table_2()
    for task, pairs in _TABLE_1.items():
        for model, pair in zip(MODELS, pairs, strict=True):
            found[model, task, "VFT"] += f" / {pair.partition(' / ')[2]}"
    return found


def _of_7b(rows: dict[str, str]) -> Figures:
    return {("LLama-7B", RANK, row): figure for row, figure in rows.items()}


FIGURES: dict[str, Figures] = {
    "1": {
        (model, task, "VFT"): figure
        for task, figures in _TABLE_1.items()
        for model, figure in zip(MODELS, figures, strict=True)
    },
    "2": _table_2(),
    "real": _table_2_with_assessment(),
    "3": {
        (model, RANK, row): figure
        for row, text in _TABLE_3.items()
        for model, figure in zip(_MODELS_3, text.split(), strict=True)
    },
    "4": _of_7b(_TABLE_4),
    "5": {
        ("LLama-7B", task, row): figure
        for row, text in _TABLE_5.items()
        for task, figure in zip((*TASKS, "MMLU"), text.split(), strict=True)
    },
    "7": {
        (model, task, "β"): figure
        for model, text in _TABLE_7.items()
        for task, figure in zip((*TASKS, RANK), text.split(), strict=True)
    },
    "8": _of_7b(_TABLE_8),
    "9": _of_7b({f"{0.1 * number:.1f}".replace("1.0", "1"): x for number, x in enumerate(_TABLE_9, start=1)}),
    "10": _of_7b(_TABLE_10),
}


def best_beta(model: str, task: str) -> float:
    """The boundary that the paper found best on validation questions (Table 7)."""
    return float(FIGURES["7"][model, task, "β"])
