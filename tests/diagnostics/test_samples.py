"""Sample rows reduced to what rules look at."""

from __future__ import annotations

from verl_lab.diagnostics import summarise_samples


def _rows(scores: dict[str, list[float]], **more: object) -> list[dict]:
    return [
        {"input": prompt, "output": "1 2", "score": score, "step": 3, **more}
        for prompt, group in scores.items()
        for score in group
    ]


def test_groups_are_by_prompt_where_there_is_no_uid():
    summary = summarise_samples(_rows({"a": [0, 0], "b": [1, 1], "c": [0, 1], "d": [0.5, 0.5]}))

    assert (summary.responses, summary.groups) == (8, 4)
    assert (summary.dead_groups, summary.solved_groups) == (0.75, 0.25)


def test_groups_are_by_the_first_part_of_verls_uid():
    rows = [{"input": "same", "output": "x", "score": k // 2, "uid": f"prompt_{k // 2}_{k % 2}_0"} for k in range(4)]
    rows += [{"input": "same", "output": "x", "score": k, "uid": f"other_{k}_0"} for k in range(2)]
    summary = summarise_samples(rows)

    assert summary.groups == 3
    assert summary.dead_groups == 2 / 3


def test_uid_of_another_form_is_a_group_of_its_own():
    rows = [{"input": "same", "output": "x", "score": 0, "uid": f"question_{k}"} for k in (1, 1, 2, 2)]

    assert summarise_samples(rows).groups == 2


def test_accuracy_says_whether_a_group_is_solved_where_the_reward_is_shaped():
    summary = summarise_samples(_rows({"a": [0.7, 0.7], "b": [0.7, 0.7]}, acc=True))

    assert (summary.dead_groups, summary.solved_groups) == (1.0, 1.0)


def test_one_response_a_prompt_makes_no_group():
    summary = summarise_samples(_rows({"a": [0], "b": [1]}))

    assert (summary.groups, summary.dead_groups) == (0, None)
    assert "samples/dead_groups" not in summary.as_metrics()


def test_truncation_needs_lengths():
    rows = [{"input": "a", "output": "1 2 3"}, {"input": "a", "output": "1"}]

    assert summarise_samples(rows).truncated is None
    counted = summarise_samples(rows, count_tokens=lambda text: len(text.split()), max_response_length=3)
    assert counted.truncated == 0.5


def test_broken_rows_are_left_out_of_groups():
    rows = [{"input": "a", "output": "", "score": float("nan")}, {"input": "a"}, {"input": "a", "score": "0.5"}]
    summary = summarise_samples(rows)

    assert (summary.responses, summary.groups, summary.empty) == (3, 0, 1.0)


def test_no_rows_say_nothing():
    assert summarise_samples([]).as_metrics() == {}
