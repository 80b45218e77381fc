"""From completions to groups: labels, ratings, duplicates, and counts that add up."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aft.errors import ConfigError, DataError
from aft.json_files import iter_json_lines, write_json_lines
from aft.labelling.labels import Counts, label_completions, replace_ratings
from aft.records import Candidate, Completion, Question, read_groups
from aft.tasks.gsm8k import Gsm8k
from shared_data import shared_path

TASK = Gsm8k()  # no data is read: only its marker and its equality
QUESTIONS = [
    Question("q1", "6 * 6?", "36", rationale="6 * 6 = 36"),
    Question("q2", "1 + 1?", "2"),
    Question("q3", "2 + 2?", "4", rationale="2 + 2 = 4"),
]
RIGHT, ALSO_RIGHT, WRONG = "6*6 is 36\n[ANS] 36", "six sixes\n[ANS] 36.0", "6+6\n[ANS] 12"
LOST, WORDS = "6*6 is 36", "[ANS] thirty-six"


def completion(question_id, index, text, truncated=False):
    return Completion(question_id, index, text, truncated, num_tokens=5, seed=0)


def label(*texts, **options):
    """Label completions of the first question alone."""
    completions = [completion("q1", index, text) for index, text in enumerate(texts)]
    (group,), counts = label_completions(QUESTIONS[:1], TASK.reference_response, completions, TASK, **options)
    return group, counts


def labels(group):
    return [(candidate.index, candidate.label, candidate.rating) for candidate in group.candidates]


def test_right_and_wrong_become_rated_candidates():
    group, counts = label(RIGHT, WRONG, ALSO_RIGHT)
    assert labels(group) == [(0, "positive", 1.0), (1, "negative", 0.0), (2, "positive", 1.0)]
    assert [candidate.answer for candidate in group.candidates] == ["36", "12", "36"]
    assert [candidate.completion for candidate in group.candidates] == [RIGHT, WRONG, ALSO_RIGHT]
    assert (group.question_id, group.question, group.answer) == ("q1", "6 * 6?", "36")
    assert group.reference == "6 * 6 = 36\n[ANS] 36"
    assert (counts.positives, counts.negatives, counts.unparsed, counts.groups_with_pair) == (2, 1, {}, 1)


def test_unparsed_is_a_label_of_its_own_rated_with_the_negatives():
    group, counts = label(RIGHT, LOST, WORDS)
    assert labels(group) == [(0, "positive", 1.0), (1, "unparsed", 0.0), (2, "unparsed", 0.0)]
    assert [candidate.answer for candidate in group.candidates] == ["36", None, None]
    assert counts.unparsed == {"no marker": 1, "no number after the marker": 1}
    assert (counts.negatives, counts.groups_with_pair, counts.groups_without_negative) == (0, 1, 0)


def test_unparsed_can_be_dropped_and_is_still_counted():
    group, counts = label(RIGHT, LOST, WORDS, unparsed="drop")
    assert labels(group) == [(0, "positive", 1.0)]
    assert counts.unparsed == {"no marker": 1, "no number after the marker": 1}
    assert (counts.groups_with_pair, counts.groups_without_negative) == (0, 1)


def test_the_first_of_equal_texts_is_kept():
    group, counts = label(RIGHT, WRONG, RIGHT, RIGHT + " ", LOST, LOST)
    assert [index for index, _, _ in labels(group)] == [0, 1, 3, 4]
    assert counts.duplicates == 2
    group, counts = label(RIGHT, WRONG, RIGHT, deduplicate="none")
    assert labels(group) == [(0, "positive", 1.0), (1, "negative", 0.0), (2, "positive", 1.0)]
    assert (counts.duplicates, counts.positives) == (0, 2)


def test_equal_texts_of_two_questions_are_no_duplicates():
    completions = [completion("q1", 0, RIGHT), completion("q2", 0, RIGHT)]
    groups, counts = label_completions(QUESTIONS[:2], {}, completions, TASK)
    assert [labels(group) for group in groups] == [[(0, "positive", 1.0)], [(0, "negative", 0.0)]]
    assert counts.duplicates == 0


def test_the_reference_can_join_the_positives():
    reference = TASK.reference_response(QUESTIONS[0])
    group, counts = label(reference, WRONG, include_reference=True)
    assert group.candidates == (
        Candidate(reference, 1.0, "reference", "36"),
        Candidate(WRONG, 0.0, "negative", "12", index=1),
    )
    assert (counts.references, counts.duplicates, counts.positives) == (1, 1, 0)  # the sampled copy is a duplicate
    assert (counts.groups_with_pair, counts.groups_without_positive) == (1, 0)
    group, _ = label(reference, WRONG)  # left out, it may still be sampled
    assert labels(group) == [(0, "positive", 1.0), (1, "negative", 0.0)]


def test_references_come_from_a_function_or_by_id():
    completions = [completion("q1", 0, RIGHT)]
    groups, counts = label_completions(QUESTIONS, TASK.reference_response, completions, TASK, include_reference=True)
    assert [group.reference for group in groups] == ["6 * 6 = 36\n[ANS] 36", None, "2 + 2 = 4\n[ANS] 4"]
    assert counts.references == 2
    groups, _ = label_completions(QUESTIONS, {"q2": "one and one [ANS] 2", "q3": None}, completions, TASK)
    assert [group.reference for group in groups] == [None, "one and one [ANS] 2", None]


def test_groups_keep_the_order_of_questions_and_indices_and_lose_no_question():
    completions = [completion("q3", 5, "[ANS] 5"), completion("q1", 2, WRONG), completion("q1", 0, RIGHT)]
    completions.append(completion("q3", 1, "[ANS] 4 in all", truncated=True))
    groups, counts = label_completions(QUESTIONS, TASK.reference_response, iter(completions), TASK)
    assert [group.question_id for group in groups] == ["q1", "q2", "q3"]
    assert [[candidate.index for candidate in group.candidates] for group in groups] == [[0, 2], [], [1, 5]]
    assert [candidate.truncated for candidate in groups[2].candidates] == [True, False]
    assert (counts.questions, counts.questions_without_completions, counts.truncated) == (3, 1, 1)
    assert (counts.groups_with_pair, counts.groups_without_positive, counts.groups_without_negative) == (2, 1, 1)


@pytest.mark.parametrize(
    ("questions", "completions", "message"),
    [
        (
            QUESTIONS,
            [completion("q9", 3, RIGHT)],
            "completion 3 of question 'q9': there is no such question among the 3",
        ),
        (
            QUESTIONS,
            [completion("q1", 3, RIGHT), completion("q1", 3, WRONG)],
            "completion 3 of question 'q1' occurs twice",
        ),
        ([*QUESTIONS, QUESTIONS[1]], [], "question 'q2' occurs 2 times"),
    ],
)
def test_completions_that_do_not_fit_the_questions(questions, completions, message):
    with pytest.raises(DataError, match=message):
        label_completions(questions, {}, completions, TASK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unparsed": "skip"}, "label.unparsed: got 'skip', allowed: negative, drop"),
        ({"deduplicate": "fuzzy"}, "label.deduplicate: got 'fuzzy', allowed: exact, none"),
    ],
)
def test_an_unknown_choice_is_an_error(options, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        label_completions(QUESTIONS, {}, [], TASK, **options)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["q1", "q2", "q3"]), st.sampled_from([RIGHT, WRONG, LOST, WORDS, "[ANS]"]), st.booleans()
        ),
        max_size=12,
    ),
    st.sampled_from(["negative", "drop"]),
    st.sampled_from(["exact", "none"]),
    st.booleans(),
)
def test_the_counts_add_up(sampled, unparsed, deduplicate, include_reference):
    completions = [completion(question, i, text, truncated) for i, (question, text, truncated) in enumerate(sampled)]
    groups, counts = label_completions(
        QUESTIONS,
        TASK.reference_response,
        completions,
        TASK,
        unparsed=unparsed,
        deduplicate=deduplicate,
        include_reference=include_reference,
    )
    num_unparsed = sum(counts.unparsed.values())
    assert counts.completions == len(sampled)
    assert counts.completions == counts.positives + counts.negatives + num_unparsed + counts.duplicates
    assert counts.truncated == sum(item.truncated for item in completions)
    kept = sum(len(group.candidates) for group in groups)
    assert kept == counts.positives + counts.negatives + counts.references + num_unparsed * (unparsed == "negative")
    pairs = [{candidate.rating for candidate in group.candidates} for group in groups]
    assert counts.groups_with_pair == sum(ratings == {0.0, 1.0} for ratings in pairs)
    assert counts.groups_without_positive == sum(1.0 not in ratings for ratings in pairs)
    assert counts.groups_without_negative == sum(0.0 not in ratings for ratings in pairs)


def rated(ratings, *texts, **options):
    """Label completions of the first question, then rate them by index; None: the reference."""
    group, counts = label(*texts, **options)
    keyed = {("q1", index): float(rating) for index, rating in ratings.items()}
    (group,), counts = replace_ratings([group], counts, keyed, "file")
    return group, counts


def test_other_ratings_change_no_label():
    group, counts = rated({None: 9, 0: 2, 1: 8.5, 2: 8.5}, RIGHT, WRONG, LOST, include_reference=True)
    assert labels(group) == [(None, "reference", 9), (0, "positive", 2), (1, "negative", 8.5), (2, "unparsed", 8.5)]
    assert (counts.rated_by, counts.unrated, counts.groups_with_pair) == ("file", 0, 1)
    assert (counts.positives, counts.negatives, counts.references) == (1, 1, 1)
    assert "| unparsed, rated like the others " in counts.table()


@pytest.mark.parametrize(
    ("ratings", "with_pair", "without_positive", "without_negative"),
    [
        ({0: 3, 1: 3}, 0, 0, 0),
        ({0: 3, 1: 4}, 1, 0, 0),
        ({1: 3, 2: 4}, 1, 1, 0),
        ({0: 3}, 0, 0, 1),
        ({}, 0, 1, 1),
    ],
)
def test_groups_are_counted_by_what_is_left(ratings, with_pair, without_positive, without_negative):
    group, counts = rated(ratings, RIGHT, WRONG, LOST)
    assert {candidate.index for candidate in group.candidates} == set(ratings)
    assert counts.unrated == 3 - len(ratings)
    found = (counts.groups_with_pair, counts.groups_without_positive, counts.groups_without_negative)
    assert found == (with_pair, without_positive, without_negative)


def test_the_same_ratings_give_the_same_groups():
    groups, counts = label_completions(
        QUESTIONS, TASK.reference_response, [completion("q1", 0, RIGHT), completion("q3", 1, LOST)], TASK
    )
    same = {(group.question_id, c.index): c.rating for group in groups for c in group.candidates}
    again, recounted = replace_ratings(groups, counts, same, "binary")
    assert (again, recounted) == (groups, counts)


def test_the_table_shows_every_count():
    _, counts = label(RIGHT, WRONG, RIGHT, LOST, WORDS, WORDS + "!")
    assert counts.table() == (
        "| labelling                            | count |   share |\n"
        "| ---                                  |  ---: |    ---: |\n"
        "| questions                            |     1 | 100.0 % |\n"
        "| without completions                  |     0 |   0.0 % |\n"
        "| reference among the candidates       |     0 |   0.0 % |\n"
        "| groups with a pair                   |     1 | 100.0 % |\n"
        "| groups without a positive            |     0 |   0.0 % |\n"
        "| groups without a negative            |     0 |   0.0 % |\n"
        "| completions                          |     6 | 100.0 % |\n"
        "| positive                             |     1 |  16.7 % |\n"
        "| negative                             |     1 |  16.7 % |\n"
        "| unparsed, rated as negatives         |     3 |  50.0 % |\n"
        "| unparsed: no marker                  |     1 |  16.7 % |\n"
        "| unparsed: no number after the marker |     2 |  33.3 % |\n"
        "| duplicates, dropped                  |     1 |  16.7 % |\n"
        "| truncated (among all the above)      |     0 |   0.0 % |"
    )
    assert "| unparsed, dropped " in Counts(unparsed_as="drop").table()


def test_groups_and_counts_survive_their_files(tmp_path):
    groups, counts = label_completions(
        QUESTIONS,
        TASK.reference_response,
        [completion("q1", 0, RIGHT), completion("q1", 1, LOST, truncated=True)],
        TASK,
        include_reference=True,
    )
    write_json_lines(tmp_path / "groups.jsonl", groups)
    assert read_groups(tmp_path / "groups.jsonl") == groups
    assert Counts(**json.loads(json.dumps(dataclasses.asdict(counts)))) == counts


def test_real_model_solutions_become_groups():
    """The first 660 GSM8K test questions with four models' solutions each, as if they had been sampled."""
    task = Gsm8k(marker="A:")
    questions, completions = [], []
    verdicts = {"positive": 0, "negative": 0}
    path = shared_path("data", "gsm8k", "example_model_solutions_first_half.jsonl")
    for line, row in iter_json_lines(path):
        answer = task.extract_answer(row["ground_truth"]).answer
        questions.append(Question(f"example-{line}", row["question"], answer))
        solutions = [value for value in row.values() if isinstance(value, dict)]
        for index, solution in enumerate(solutions):
            completions.append(completion(f"example-{line}", index, solution["solution"]))
            verdicts["positive" if solution["is_correct"] else "negative"] += 1
    groups, counts = label_completions(questions, {}, completions, task, deduplicate="none")
    assert len(groups) == counts.questions == 660
    assert counts.positives == verdicts["positive"]
    assert counts.negatives + sum(counts.unparsed.values()) == verdicts["negative"]
    assert counts.unparsed == {"no marker": 7}
