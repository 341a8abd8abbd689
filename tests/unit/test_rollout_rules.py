"""Which part requests play in a roll-out, what is counted of them, and what the rules make of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="the endpoint needs the extra 'serve'")
from cutray.config import RolloutRules, parse_settings
from cutray.errors import ConfigError, UnknownModelError
from serve_apps.config_file import registry_variables
from serve_apps.rollout.challenger import challenged_model, settle_challenger
from serve_apps.rollout.command import read_rules
from serve_apps.rollout.controller import error_in
from serve_apps.rollout.figures import Figures
from serve_apps.rollout.records import Observation, Plan, Role, Rollout, RolloutState, StartRequest
from serve_apps.rollout.routing import parse_share, ticket_for
from serve_apps.rollout.rules import judge
from serve_apps.rollout.store import read

RULES = RolloutRules(min_requests=10, min_duration_s=60, max_duration_s=600)


def test_shares_are_kept_and_a_retry_goes_the_same_way() -> None:
    """Of 20,000 ids each part gets its share; an id gets the same part again, and another one in another roll-out."""
    plan, other = (Plan(name, "", shadow=0.2, canary=0.05, limit_s=3) for name in ("a", "b"))
    roles = [ticket_for(plan, f"id-{number}").role for number in range(20_000)]
    assert roles.count(Role.CANARY) / 20_000 == pytest.approx(0.05, abs=0.006)
    assert roles.count(Role.SHADOW) / 20_000 == pytest.approx(0.2, abs=0.012)
    assert roles == [ticket_for(plan, f"id-{number}").role for number in range(20_000)]
    assert roles != [ticket_for(other, f"id-{number}").role for number in range(20_000)]


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("0.5 %", 0.005), ("0.25", 0.25), ("100%", 1.0)])
def test_shares_are_read(text: str, share: float) -> None:
    """Percent and fractions mean the same."""
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["0", "0%", "101%", "1.5", "-1%", "ten", "", "nan", "inf%"])
def test_impossible_shares_are_refused(text: str) -> None:
    """Nothing, more than all, and what is no number are errors that say what is allowed."""
    with pytest.raises(ConfigError, match="at most 100 %"):
        parse_share(text)


def seen(role: Role = Role.SHADOW, **values: Any) -> Observation:
    """Make an observation."""
    return Observation("a", role, **values)


def figures_of(
    answers: int,
    *,
    errors: int = 0,
    iou: float = 0.95,
    ms: float = 100.0,
    found: bool = True,
    champion_ms: float = 100.0,
) -> Figures:
    """Make figures of as many shadows that all went alike."""
    figures = Figures()
    for _ in range(answers):
        figures.add(seen(champion_ms=champion_ms, champion_found=True))
        figures.add(seen(challenger_ms=ms, challenger_found=found, iou=iou, confidence_change=-0.1, area_change=0.02))
    for _ in range(errors):
        figures.add(seen(error="timeout", error_text="no answer in 3.0 s"))
    return figures


def test_percentiles_are_right_within_five_percent() -> None:
    """Of times from 10 to 1,000 ms, p50 and p99 are those of the list."""
    figures = Figures()
    for spent in range(10, 1001):
        figures.add(seen(champion_ms=float(spent), champion_found=True))
    assert figures.champion.percentile_ms(0.5) == pytest.approx(505, rel=0.05)
    assert figures.champion.percentile_ms(0.99) == pytest.approx(990, rel=0.05)
    assert figures.challenger.percentile_ms(0.99) is None


def test_figures_and_roll_outs_survive_as_json() -> None:
    """What is read again equals what was written, with all counts, times, rules and the state."""
    figures = figures_of(12, errors=2)
    figures.add(seen(dropped=True))
    figures.add(seen(Role.CANARY, challenger_ms=7.0, challenger_found=False))
    assert Figures.from_json(figures.to_json()) == figures
    told = figures.summary()
    assert (told["challenger_answers"], told["canary_answers"], told["errors_timeout"], told["dropped"]) == (
        13,
        1,
        2,
        1,
    )
    assert (told["mean_iou"], told["mean_confidence_change"], told["mean_area_change"]) == (0.95, -0.1, 0.02)
    request = StartRequest(model="models:/shoes@challenger", shadow=0.1, rules=RULES)
    rollout = Rollout(
        "a", request, "models:/shoes/3", "shoes", state=RolloutState.RUNNING, notes=("x",), running_at=5.0
    )
    assert Rollout.from_json(rollout.to_json()) == rollout
    assert rollout.plan == Plan("a", "shoes", 0.1, 0.0, RULES.max_answer_s)
    assert Rollout("a", request, "models:/shoes/3", "").plan is None


@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b"{}", b'{"rollout_id": "a", "state": "new"}', b'"text"'])
def test_what_another_version_kept_is_no_obstacle(kept: bytes) -> None:
    """A controller starts whatever is in the store; what it cannot read is over."""
    assert read(kept, None) == (None, Figures())
    assert read(None, kept) == (None, Figures())
    request = StartRequest(model="u2netp", shadow=0.1)
    rollout, figures = Rollout("a", request, "u2netp", ""), figures_of(3)
    assert read(rollout.to_json(), figures.to_json()) == (rollout, figures)


def test_the_error_is_found_in_what_serve_says() -> None:
    """Of a stack with an error at its end the error is told; of any other text its end."""
    stack = "failed to start. Error: ray::X File a.py, line 3 cutray.errors.EngineError: it cannot be used. Try again."
    assert error_in(stack) == "EngineError: it cannot be used. Try again."
    assert error_in("x" * 2000) == "x" * 500


def test_roll_outs_mean_the_registry_that_is_seen_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of an endpoint with administrators are told the registry's address; others are left alone."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert registry_variables({"admin_keys": ["ops"]}) == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert registry_variables({}) == {}


@pytest.mark.parametrize(
    ("figures", "running_s", "action", "told"),
    [
        (figures_of(0), 0, "wait", "0 answers"),
        (figures_of(9), 100, "wait", "9 answers of 10"),
        (figures_of(10), 59, "wait", "59 s of 60 s"),
        (figures_of(10), 60, "promote", "all rules are kept"),
        (figures_of(0, errors=2), 1, "wait", "0 answers"),
        (figures_of(0, errors=3), 1, "roll_back", "3 of 3 photos failed \\(3 timeout\\).*no answer in 3.0 s"),
        (figures_of(1000, errors=3), 100, "promote", "all rules"),
        (figures_of(50, errors=2), 100, "wait", "failed, allowed"),
        (figures_of(10, iou=0.5), 1, "roll_back", "mean IoU is 0.500"),
        (figures_of(10, ms=200.0), 1, "roll_back", "times the champion's"),
        (figures_of(10, found=False), 1, "roll_back", "100.0% of the photos have no subject"),
        (figures_of(9), 600, "roll_back", "not promoted within 600 s"),
    ],
)
def test_the_rules_decide(figures: Figures, running_s: float, action: str, told: str) -> None:
    """Errors count at once, all else with enough answers; a good one is promoted, one that takes too long is not."""
    verdict = judge(RULES, figures, running_s)
    assert verdict.action == action
    assert re.search(told, verdict.reason), verdict.reason


def test_every_kind_of_figure_must_be_enough() -> None:
    """Canaries alone do not promote a challenger whose shadows are still few; without shadows they do."""
    figures = Figures()
    for _ in range(20):
        figures.add(seen(Role.CHAMPION, champion_ms=50.0, champion_found=True))
        figures.add(seen(Role.CANARY, challenger_ms=50.0, challenger_found=True))
    assert judge(RULES, figures, 100).action == "promote"
    figures.add(seen(challenger_ms=50.0, challenger_found=True, iou=0.9))
    assert judge(RULES, figures, 100).action == "wait"


def test_a_limit_in_milliseconds_and_waiting_for_a_person() -> None:
    """`max_p99_ms` holds whatever the champion does; with `auto_promote: false` nothing is promoted by itself."""
    slow = RULES.model_copy(update={"max_p99_ms": 90.0})
    assert "allowed are 90 ms" in judge(slow, figures_of(10), 100).reason
    patient = RULES.model_copy(update={"auto_promote": False})
    assert judge(patient, figures_of(10), 100).action == "wait"


def test_rules_are_read_from_yaml(tmp_path: Path) -> None:
    """Known keys are taken; a misspelt key, a wrong value, no table and times that contradict each other are errors."""
    path = tmp_path / "rules.yaml"
    path.write_text("min_requests: 50\nmax_p99_ratio: 1.2\n")
    assert read_rules(path) == RolloutRules(min_requests=50, max_p99_ratio=1.2)
    for text, told in (
        ("min_request: 50", "did you mean 'min_requests'"),
        ("min_requests: 0", "greater than or equal to 1"),
        ("- 1", "no table"),
        ("a: [", "no YAML"),
        ("min_duration_s: 10\nmax_duration_s: 5", "min_duration_s = 10 is not below"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=told):
            read_rules(path)


@pytest.mark.parametrize("shares", [{}, {"shadow": 0.6, "canary": 0.6}, {"shadow": -0.1}, {"canary": 1.1}])
def test_a_challenger_needs_a_share(shares: dict[str, float]) -> None:
    """No share, and more than there is, are errors."""
    with pytest.raises(ConfigError, match=r"shadow|canary"):
        parse_settings(StartRequest, {"model": "u2netp", **shares})


def test_a_challenger_is_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and known names are taken; unknown names, missing files and registries that are not there are errors."""
    own = tmp_path / "mine.onnx"
    own.touch()
    assert settle_challenger(str(own)) == str(own)
    assert settle_challenger(f"u2netp+{own}") == f"u2netp+{own}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    for wrong in ("u2nett", str(tmp_path / "gone.onnx"), "models:/shoes@challenger", "/etc/passwd", "u2netp+"):
        with pytest.raises(UnknownModelError):
            settle_challenger(wrong)


def test_it_challenges_the_model_of_its_name() -> None:
    """Of several models that of its own name, else the default; another one that is served, if it is named."""
    models = ["u2netp", "shoes"]

    def challenged(model: str, challenges: str = "") -> str:
        return challenged_model(StartRequest(model=model, challenges=challenges, shadow=0.1), models)

    assert challenged("models:/shoes@challenger") == "shoes"
    assert challenged("/data/new.onnx") == "u2netp"
    assert challenged("/data/new.onnx", "shoes") == "shoes"
    assert challenged_model(StartRequest(model="u2net", shadow=0.1), []) == ""
    with pytest.raises(UnknownModelError, match="u2netp, shoes"):
        challenged("u2net", "hats")
