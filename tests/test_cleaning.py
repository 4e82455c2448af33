"""Who goes and who stays: every filter, alone and together, and what a quota may never take."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.cleaning import Decision, Facts, Quotas, Selection, decide, parse_duration, select, spoken, within
from moderator.errors import UsageError
from moderator.models import Outcome

NOW = 1_700_000_000.0
DAY = 86400
MERGED = {"merged": True, "merged_words": "merged into main"}
NOT_MERGED = "not merged into main"


def facts(task_id: str, days: float = 0, **known: Any) -> Facts:
    """A workspace that was last used some days ago."""
    return Facts(task_id, NOW - days * DAY, **{"merged_words": NOT_MERGED, **known})


SHOP = [
    facts("done", 9, outcome=Outcome.SUCCEEDED, **MERGED),
    facts("same", 8, outcome=Outcome.UNCHANGED, merged_words="no commits yet is not merged"),
    facts("bad", 3, outcome=Outcome.FAILED),
    facts("slow", 2, outcome=Outcome.TIMED_OUT, **MERGED),
    facts("dead", 1, interrupted=True),
    facts("made", 0.5),
    facts("busy", 0.1, held_by="process 12 on host", **MERGED),
]


def said(selection: Selection) -> dict[str, str]:
    """Each decision as one line: + goes, - stays."""
    return {
        decision.task_id: f"{'+' if decision.remove else '-'} {decision.reason}"
        for decision in decide(SHOP, selection, NOW)
    }


def gone(selection: Selection) -> list[str]:
    return [decision.task_id for decision in decide(SHOP, selection, NOW) if decision.remove]


def test_merged() -> None:
    """What is merged goes, and says into what; the others say why they are not."""
    assert said(Selection(merged=True)) == {
        "done": "+ merged into main",
        "same": "- no commits yet is not merged",
        "bad": "- not merged into main",
        "slow": "+ merged into main",
        "dead": "- not merged into main",
        "made": "- not merged into main",
        "busy": "- used by process 12 on host",
    }


def test_done() -> None:
    """Done is what ended well, with or without changes; what never ran is neither done nor failed."""
    assert said(Selection(done=True)) == {
        "done": "+ last outcome: succeeded",
        "same": "+ last outcome: unchanged",
        "bad": "- last outcome: failed, which is not done",
        "slow": "- last outcome: timed out, which is not done",
        "dead": "- last attempt interrupted, which is not done",
        "made": "- no attempt recorded, which is not done",
        "busy": "- used by process 12 on host",
    }


def test_failed() -> None:
    """Failed is what ended in any other way, also because its process died; what runs is not."""
    assert said(Selection(failed=True)) == {
        "done": "- last outcome: succeeded, which is not failed",
        "same": "- last outcome: unchanged, which is not failed",
        "bad": "+ last outcome: failed",
        "slow": "+ last outcome: timed out",
        "dead": "+ last attempt interrupted",
        "made": "- no attempt recorded, which is not failed",
        "busy": "- used by process 12 on host",
    }


def test_older_than() -> None:
    """Age counts from the last use; exactly as old is old enough."""
    assert said(Selection(older_than=2 * DAY)) == {
        "done": "+ used 9d ago",
        "same": "+ used 8d ago",
        "bad": "+ used 3d ago",
        "slow": "+ used 2d ago",
        "dead": "- used 1d ago, which is not 2d ago",
        "made": "- used 12h ago, which is not 2d ago",
        "busy": "- used by process 12 on host",
    }


def test_conditions_hold_together() -> None:
    """Each further condition makes fewer workspaces go."""
    assert gone(Selection(merged=True, done=True)) == ["done"]
    assert gone(Selection(merged=True, failed=True)) == ["slow"]
    assert gone(Selection(failed=True, older_than=int(1.5 * DAY))) == ["bad", "slow"]
    assert gone(Selection(merged=True, done=True, older_than=10 * DAY)) == []
    assert said(Selection(merged=True, failed=True, older_than=DAY))["slow"] == (
        "+ last outcome: timed out, merged into main, used 2d ago"
    )


def test_keep_last() -> None:
    """The newest of those that are meant otherwise stay; alone it means all the others."""
    assert said(Selection(keep_last=2)) == {
        "done": "+ not among the last 2",
        "same": "+ not among the last 2",
        "bad": "+ not among the last 2",
        "slow": "+ not among the last 2",
        "dead": "- among the last 2, used 1d ago",
        "made": "- among the last 2, used 12h ago",
        "busy": "- used by process 12 on host",
    }
    assert gone(Selection(failed=True, keep_last=1)) == ["bad", "slow"]
    assert gone(Selection(merged=True, keep_last=1)) == ["done"]
    assert gone(Selection(everything=True, keep_last=3)) == ["done", "same", "bad", "slow"]
    assert gone(Selection(keep_last=0)) == ["done", "same", "bad", "slow", "dead", "made"]
    assert gone(Selection(keep_last=99)) == []
    assert decide([facts("now")], Selection(keep_last=1), NOW) == [
        Decision("now", False, "the last one, used just now")
    ]


def test_by_name_and_all() -> None:
    """Whatever is asked for as such is to go, and what stands in the way is for git to say."""
    assert gone(Selection(everything=True)) == [one.task_id for one in SHOP]
    assert gone(Selection(names=frozenset({"bad", "busy"}))) == ["bad", "busy"]
    assert said(Selection(names=frozenset({"bad"})))["done"] == "- not asked for"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"names": ["k1"], "everything": True}, "by name, or by what holds for them, not both"),
        ({"names": ["k1"], "merged": True}, "by name, or by what holds for them, not both"),
        ({"names": ["k1"], "keep_last": 0}, "by name, or by what holds for them, not both"),
        ({"everything": True, "merged": True, "older_than": "7d"}, "--all is every workspace, and --merged --older-than 7d only"),
        ({"done": True, "failed": True}, "no attempt has both succeeded and failed"),
        ({"older_than": "soon"}, "'soon' is no length of time"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(typed: dict[str, Any], message: str) -> None:
    """Nothing is guessed where a removal is at stake."""
    nothing: dict[str, Any] = {
        "names": [], "everything": False, "merged": False, "done": False, "failed": False, "older_than": None, "keep_last": None,
    }  # fmt: skip
    assert select(**nothing).is_empty
    with pytest.raises(UsageError, match=message) as refused:
        select(**{**nothing, **typed})
    assert refused.value.hint


def test_durations() -> None:
    """Whole minutes, hours, days and weeks; everything else is refused with examples."""
    assert [parse_duration(text) for text in ("90m", "12h", "7d", "2w", " 1d ", "0d")] == [
        5400, 43200, 604800, 1209600, 86400, 0,
    ]  # fmt: skip
    for wrong in ("", "7", "d", "-1d", "1.5h", "7 d", "7D", "7d1h", "٣d", "7days", "9" * 30 + "d"):
        with pytest.raises(UsageError, match="is no length of time") as refused:
            parse_duration(wrong)
        assert refused.value.hint == "write for example 90m, 12h, 7d or 2w"


@given(st.integers(0, 10**9), st.sampled_from("mhdw"))
def test_a_duration_is_never_said_to_be_longer(number: int, unit: str) -> None:
    """What is said can be typed again and is at most what was meant."""
    seconds = parse_duration(f"{number % 10**6}{unit}")
    assert seconds * 0.5 <= parse_duration(spoken(seconds)) <= seconds


# -- quotas -----------------------------------------------------------------------------------------------------------


def finished(task_id: str, days: float, **known: Any) -> Facts:
    return facts(task_id, days, **{"outcome": Outcome.SUCCEEDED, "size": 1_000_000, **known})


def test_a_quota_takes_the_oldest_first() -> None:
    """As many as needed and no more, whatever order they come in; the rest says that it is within the quota."""
    shop = [finished("new", 1), finished("old", 9), finished("older", 10)]
    assert within(shop, Quotas(workspaces=2)) == (
        [
            Decision("new", False, "within the quota"),
            Decision("old", False, "within the quota"),
            Decision("older", True, "the oldest of 3 workspaces where 2 may stay"),
        ],
        "",
    )
    decisions, unmet = within(shop, Quotas(workspaces=3, size=1.5e6))
    assert [decision.remove for decision in decisions] == [False, True, True]
    assert decisions[2].reason == "the oldest of 3.0 megabytes where 1.5 may stay"
    assert unmet == ""


def test_a_quota_never_takes_a_last_copy() -> None:
    """What is used, unfinished or holds anything unsaved stays, and what the quota lacks is said."""
    shop = [
        finished("busy", 9, held_by="process 12 on host"),
        finished("secret", 8, unsaved="ignored by git, so in no commit: .env"),
        finished("dead", 7, outcome=None, interrupted=True),
        finished("made", 6, outcome=None),
        finished("bad", 5, outcome=Outcome.FAILED),
    ]
    assert within(shop, Quotas(workspaces=1)) == (
        [
            Decision("busy", False, "used by process 12 on host"),
            Decision("secret", False, "ignored by git, so in no commit: .env"),
            Decision("dead", False, "last attempt interrupted, so it may not be finished"),
            Decision("made", False, "no attempt recorded, so it may not be finished"),
            Decision("bad", True, "the oldest of 5 workspaces where 1 may stay"),
        ],
        "4 workspaces where 1 may stay",
    )


@given(
    st.lists(st.tuples(st.floats(0, 100), st.booleans(), st.integers(0, 10**9))), st.integers(0, 20), st.floats(1, 1e10)
)
def test_a_quota_is_met_or_everything_that_may_go_is_gone(
    drawn: list[tuple[float, bool, int]], count: int, size: float
) -> None:
    """Either what stays is within both quotas, or nothing that stays could have gone."""
    shop = [
        finished(f"k{number}", days, unsaved="x" if unsaved else None, size=bytes_)
        for number, (days, unsaved, bytes_) in enumerate(drawn)
    ]
    decisions, unmet = within(shop, Quotas(count, size))
    stays = [one for one, decision in zip(shop, decisions, strict=True) if not decision.remove]
    assert all(decision.remove is False or one.unsaved is None for one, decision in zip(shop, decisions, strict=True))
    if unmet:
        assert all(one.unsaved for one in stays)
    else:
        assert len(stays) <= count and sum(one.size for one in stays) <= size
