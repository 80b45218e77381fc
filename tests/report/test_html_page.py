"""report.html as a file: what it holds, that nothing in it acts, and what stands in it for old and partial runs."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import shutil
from html.parser import HTMLParser

import pytest

from aft.cli.report import main
from aft.errors import DataError
from aft.records import read_groups
from aft.report.build import build_report, write_html, write_report
from aft.report.questions import BYTES, MOST, Part, encode_questions, markers_of, spread
from aft.run.digest import chain_digest
from page_of_run import HOSTILE_SHOWN, data_of, finish_hostile_run
from planted_text import IN_A_FILE, SECRET, is_clean


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return finish_hostile_run(tmp_path_factory.mktemp("html") / "run")


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def page_of(folder, **options):
    return write_html(folder, picture=False, **options).read_text(encoding="utf-8")


def questions(page, kind, seed=0):
    return [q for q in data_of(page)["questions"] if (q["kind"], q["seed"]) == (kind, seed)]


def test_the_report_has_its_page_beside_the_markdown(run):
    (run / "report.html").unlink()
    assert run / "report.html" in write_report(run, picture=False)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<td>" in page and 'scope="row">bcl</th>' in page
    assert "No picture was asked for." in page


def test_pictures_are_vectors_inside_the_page(run):
    pytest.importorskip("matplotlib")
    before = {path.name for path in run.iterdir()}
    page = write_html(run).read_text(encoding="utf-8")
    images = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert [b"</svg>" in base64.b64decode(image) for image in images] == [True, True]
    assert {path.name for path in run.iterdir()} == before  # it writes no other file


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def elements(page):
    parser = Elements()
    parser.feed(page)
    return parser.found


def test_the_page_fetches_nothing_and_allows_its_own_code_alone(run):
    page = page_of(run)
    found = elements(page)
    assert [tag for tag, _ in found].count("script") == 2
    for tag, attributes in found:
        assert tag not in ("link", "iframe", "object", "embed", "base", "b", "i"), (tag, attributes)
        assert not {name for name in attributes if name.startswith("on") or name == "style"}, (tag, attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/svg+xml")), (tag, attributes)
    policy = next(a["content"] for tag, a in found if a.get("http-equiv") == "Content-Security-Policy")
    for source in (
        re.findall(r"<style>(.*?)</style>", page, re.S)[0],
        re.findall(r"<script>(.*?)</script>", page, re.S)[-1],
    ):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy
    script = re.findall(r"<script>(.*?)</script>", page, re.S)[-1]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|https?:", script)


def test_texts_of_models_cannot_act(run):
    page = page_of(run)
    first = questions(page, "test")[0]
    answer = first["answers"]["bcl"]
    assert answer["text"] == HOSTILE_SHOWN and answer["truncated"]
    assert answer["text"][slice(*answer["place"])] == "77"
    assert first["category"] == "<i>law</i>"
    assert questions(page, "pool")[0]["chains"][0]["text"] == HOSTILE_SHOWN
    assert "owned'</script>" not in page and "<!--<script" not in page
    # no character that acts or cannot be seen is anywhere in the file
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\ufeff\u2028]", page)


def test_text_from_outside_is_shown_in_every_part(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    keys = {"completion", "question", "answer", "gold", "reference", "unparsed", "category"}

    def planted(value):
        if isinstance(value, dict):
            return {key: IN_A_FILE if key in keys else planted(part) for key, part in value.items()}
        return [planted(part) for part in value] if isinstance(value, list) else value

    for path in [*run.rglob("label/*.jsonl"), *run.rglob("predictions.jsonl"), *run.rglob("own-*.jsonl")]:
        lines = [planted(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        (path.parent / "manifest.json").unlink(missing_ok=True)
    page = page_of(run)
    assert is_clean(page) and r"\\x1b[31m" in page
    assert {tag for tag, _ in elements(page)} & {"img", "b", "a"} == {"a"}
    assert all(question["question"].endswith("***") for question in data_of(page)["questions"])


def test_chains_have_their_scores_under_every_model(run):
    page = page_of(run)
    models = data_of(page)["models"]
    assert models == ["vft", "bcl"] and data_of(page)["origin"] == "vft"
    for kind, file in (("pool", "pool.jsonl"), ("training", "training_scores.jsonl")):
        for place, model in enumerate(models):
            lines = (run / "seed-1" / "evaluate" / model / file).read_text(encoding="utf-8").splitlines()
            kept = [round(json.loads(line)["score"], 4) for line in lines]
            chains = [chain for question in questions(page, kind, 1) for chain in question["chains"]]
            assert [chain["scores"][place] for chain in chains] == kept
    group = read_groups(run / "seed-1" / "label" / "groups.jsonl")[0]
    question = next(q for q in questions(page, "training", 1) if q["id"] == group.question_id)
    by_text = {chain["text"]: chain for chain in question["chains"]}
    words = {"positive": "right", "negative": "wrong", "unparsed": "unparsed", "reference": "reference"}
    for candidate in group.candidates:
        chain = by_text[candidate.completion]
        assert (chain["label"], chain.get("answer")) == (words[candidate.label], candidate.answer)
    assert all(score is not None for score in by_text[group.reference]["scores"])


def test_chains_of_a_models_own_have_their_score(run):
    found = [q for q in questions(page_of(run), "training") if "own" in q]
    assert found
    for question in found:
        for chains in question["own"].values():
            assert [chain["label"] for chain in chains] == ["right", "wrong"]
            assert all(isinstance(chain["score"], float) for chain in chains)


def test_a_score_is_only_shown_for_the_chain_it_was_made_for(run):
    path = run / "seed-0" / "evaluate" / "bcl" / "training_scores.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[0]["chain"] = chain_digest("another chain")
    lines[1]["score"] = None
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (path.parent / "manifest.json").unlink(missing_ok=True)
    chains = questions(page_of(run), "training")[0]["chains"]
    assert [chain["scores"][1] for chain in chains[:2]] == [None, "not finite"]


def test_a_pool_made_again_loses_the_scores_of_the_old_one(run):
    scored = [chain["scores"] for question in questions(page_of(run), "pool", 1) for chain in question["chains"]]
    assert any(score is not None for scores in scored for score in scores)
    for path in (run / "seed-1" / "label" / "manifest.json", run / "seed-1" / "evaluate" / "vft" / "manifest.json"):
        path.unlink()  # without a manifest nobody knows which pool vft scored
    pool = run / "seed-1" / "label" / "pool.jsonl"
    pool.write_text(pool.read_text(encoding="utf-8").replace("So it is", "It is"), encoding="utf-8")
    again = [chain["scores"] for question in questions(page_of(run), "pool", 1) for chain in question["chains"]]
    assert again == [[vft, None] for vft, _ in scored]
    told = "bcl: outdated for seed 1: the pool was labelled again since it was evaluated"
    assert [line for line in build_report(run)["missing"] if "outdated" in line] == [told]


def test_only_an_answer_that_was_read_is_marked(run):
    path = run / "seed-1" / "evaluate" / "vft" / "predictions.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[0].update(completion="[ANS] perhaps", answer=None, is_correct=False)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (path.parent / "manifest.json").unlink()
    page = page_of(run)
    answer = questions(page, "test", 1)[0]["answers"]["vft"]
    assert answer["label"] == "unparsed" and "place" not in answer
    own = [chain for q in questions(page, "training", 1) for chains in q.get("own", {}).values() for chain in chains]
    assert own and not any({"place", "answer"} & chain.keys() for chain in own)


@pytest.mark.parametrize("absent", ["training_scores.jsonl", "own-0000.jsonl", "references.jsonl", "assessment.jsonl"])
def test_an_older_run_has_a_page_without_what_it_did_not_keep(run, absent):
    for path in [*run.rglob(absent), *run.rglob("evaluate/*/manifest.json")]:
        path.unlink()
    page = page_of(run)
    assert questions(page, "test") and questions(page, "pool") and questions(page, "training")


def test_a_partial_run_has_a_page(run):
    shutil.rmtree(run / "seed-1")
    shutil.rmtree(run / "seed-0" / "label")
    shutil.rmtree(run / "seed-0" / "evaluate" / "vft")
    for name in ("predictions.jsonl", "manifest.json"):
        (run / "seed-0" / "evaluate" / "bcl" / name).unlink(missing_ok=True)
    data = data_of(page_of(run))
    assert data["models"] == ["bcl"] and data["origin"] == "bcl" and data["questions"] == []
    assert data["sample"] == "The run keeps no answers and no chains."


@pytest.mark.parametrize(("kind", "name", "words"), [("training", "groups", "training"), ("pool", "pool", "held-out")])
def test_a_run_whose_chains_were_deleted_keeps_its_report(run, kind, name, words):
    path = run / "seed-1" / "label" / f"{name}.jsonl"
    kept = path.read_text(encoding="utf-8")
    path.unlink()
    write_report(run, picture=False)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert questions(page, kind, 0) and not questions(page, kind, 1)
    missing = json.loads((run / "report.json").read_text(encoding="utf-8"))["missing"]
    assert f"seed-1/label/{name}.jsonl: absent; report.html has no {words} questions of this seed" in missing
    path.write_text(kept[:-9], encoding="utf-8")
    with pytest.raises(DataError, match="is truncated"):
        write_report(run, picture=False)
    path.write_text(kept, encoding="utf-8")
    (run / "seed-1" / "label" / "counts.json").unlink()
    with pytest.raises(DataError, match=r"counts\.json is missing"):
        write_report(run, picture=False)


def test_a_file_that_no_page_can_show_leaves_the_old_report(run):
    names = [f"report.{ending}" for ending in ("json", "md", "csv", "html")]
    for name in names:
        (run / name).write_text("old", encoding="utf-8")
    with (run / "seed-0" / "label" / "groups.jsonl").open("a", encoding="utf-8") as file:  # it has no manifest
        file.write('{"question_id": 3}\n')
    with pytest.raises(DataError, match=r"groups\.jsonl:\d+: "):
        write_report(run, picture=False)
    assert {(run / name).read_text(encoding="utf-8") for name in names} == {"old"}


def part_of(count, size=10, scored=()):
    text = "x" * size
    return Part("test", 0, {f"q{i}": lambda i=i: {"id": f"q{i}", "text": text} for i in range(count)}, set(scored))


def test_a_sample_is_evenly_spaced_and_bounded():
    assert spread(list("abcdefghij"), 3) == ["a", "d", "g"] and spread(list("ab"), 3) == ["a", "b"]
    texts, counts = encode_questions([part_of(1000)], everything=False)
    assert [json.loads(text)["id"] for text in texts[:3]] == ["q0", "q3", "q6"]
    assert counts == [{"kind": "test", "seed": 0, "shown": MOST, "of": 1000}]
    texts, counts = encode_questions([part_of(1000, 50_000)], everything=False)
    assert sum(map(len, texts)) <= BYTES and counts[0]["shown"] == 50
    assert len(encode_questions([part_of(1000)], everything=True)[0]) == 1000
    texts, counts = encode_questions([part_of(9, scored=["q4", "q5"])], everything=False)
    assert [json.loads(text)["id"] for text in texts] == ["q4", "q5"] and counts[0]["of"] == 9


def test_the_page_names_its_rule_and_the_command_for_the_rest(run, monkeypatch, capsys):
    monkeypatch.setattr("aft.report.questions._FEWER", (3,))
    sample = data_of(page_of(run))["sample"]
    assert "6 of 10 questions of task accuracy, all 4 held-out questions, 6 of 16 training questions" in sample
    assert "evenly spaced" in sample and "--html --all" in sample
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(run / "config.yaml"), "--html", "--all", "--no-picture", f"output_dir={run}"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"wrote {run / 'report.html'}\n"
    assert len(data_of((run / "report.html").read_text(encoding="utf-8"))["questions"]) == 30


def test_all_needs_html(run, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(run / "config.yaml"), "--all"])
    assert ended.value.code == 2
    assert "--all: only with --html" in capsys.readouterr().err


def test_markers_are_those_of_the_data():
    parts = {"a": {"data": {"answer_marker": "####"}}, "b": {"data": {"answer_marker": "[ANS]"}}}
    assert markers_of({"data": {"name": "mixture", "parts": parts}}) == ["####", "[ANS]"]
    assert markers_of(None) == markers_of({"data": {}}) == ["[ANS]"]


def test_places_count_as_the_script_counts(run):
    path = run / "seed-0" / "evaluate" / "vft" / "predictions.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[1].update(completion="😀 ist 𝔸 [ANS] 12", answer="12")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (path.parent / "manifest.json").unlink(missing_ok=True)
    begin, end = questions(page_of(run), "test")[1]["answers"]["vft"]["place"]
    assert "😀 ist 𝔸 [ANS] 12".encode("utf-16-le")[2 * begin : 2 * end].decode("utf-16-le") == "12"


def test_a_page_of_the_quickstart_s_size_has_less_than_5_mb():
    # three seeds, eight models, 1,000 test questions, a pool, training chains and own chains
    draw = random.Random(0)
    chain = {"text": "now 51 + 5 gives 56 . so 56 - 7 = 49 . now 49 - 18 gives 31 . [ANS] 31", "answer": "31"}
    chain |= {"place": [68, 70], "label": "right"}
    models = [f"aft-unconstrained-{i}" for i in range(8)]

    def scored():
        return {**chain, "scores": [round(-draw.random(), 4) for _ in models]}

    def entry(kind, i):
        found = {"kind": kind, "seed": 0, "id": f"{kind}-0-{i}", "question": "Ben has 51 eggs . " * 6, "gold": "31"}
        if kind == "test":
            return {**found, "answers": dict.fromkeys(models, chain)}
        own = dict.fromkeys(models, [{**chain, "score": -0.1234}] * 6)
        return {**found, "chains": [scored() for _ in range(8)], "own": own}

    parts = [
        Part(kind, seed, {f"{i}": lambda i=i, kind=kind: entry(kind, i) for i in range(count)})
        for seed in range(3)
        for kind, count in (("test", 1000), ("pool", 100), ("training", 50))
    ]
    texts, _ = encode_questions(parts, everything=False)
    pictures = 1_600_000  # bytes of both, in base64
    assert len(texts) >= 450 and sum(map(len, texts)) + pictures < 5_000_000
