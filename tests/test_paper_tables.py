"""The shape of Table 4: rows of the report beside the paper's figures."""

from __future__ import annotations

from aft.paper_tables import table_4


def model(name, accuracy):
    value = {"mean": accuracy, "sd": 0.01, "low": None, "high": None}
    rest = dict.fromkeys(("pool_assessment_accuracy", "perplexity", "pool_positive"))
    return {"name": name, "task_accuracy": value, **rest}


def test_table_4_puts_each_loss_without_and_with_beside_the_paper():
    moved = {"positive_drift": -0.25, "negative_drift": -1.5, "both_fell": 0.4, "stopped": None}
    report = {
        "models": [model("vft", 0.9), model("rrhf", 0.5), model("rrhf-dc", 0.95), model("dpo", 0.8)],
        "displacement": {"rrhf": {"0": moved, "1": {**moved, "positive_drift": -0.75}}},
    }
    lines = table_4(report, {"VFT": ["vft"], "RRHF": ["rrhf", "rrhf-dc"], "DPO": ["dpo"]}).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [row[:3] for row in rows] == [
        ["VFT", "–", "90.0 ± 1.0"],
        ["RRHF", "without", "50.0 ± 1.0"],
        ["RRHF", "with", "95.0 ± 1.0"],
        ["DPO", "–", "80.0 ± 1.0"],
    ]
    assert [row[-1] for row in rows] == [
        "20.82 / 68.72 / 1.60",
        "7.51 / 87.44 / 1.80",
        "25.53 / 79.89 / 1.35",
        "–",
    ]
    assert rows[1][6:9] == ["-0.500 ± 0.354", "-1.500 ± 0.000", "40.0 ± 0.0"]
    assert rows[2][6:9] == ["–", "–", "–"]
