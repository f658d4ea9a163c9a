"""Calls to a cloud: tried again where that may help, with growing waits, and not for ever."""

from __future__ import annotations

import pytest
from tests.unit.launch_helpers import Clock, disk

from headwater.infra.errors import AuthenticationFailed, LeftBehind
from headwater.infra.launchers.calls import CREATE, DELETE, LOOK, CallFailed, Failure, patiently
from headwater.infra.launchers.codes import Kind
from headwater.infra.launchers.removal import Refusal, remove_all
from headwater.infra.models import Cloud


class Answer(Exception):
    """What an SDK raises."""


def translate(exc: Exception) -> Failure | None:
    if not isinstance(exc, Answer):
        return None
    return Failure.of(Cloud.AWS, str(exc), "as it says")


def answering(*codes: str):
    left = list(codes)

    def call() -> str:
        if left:
            raise Answer(left.pop(0))
        return "done"

    return call


def test_a_throttled_call_is_made_again_with_growing_waits() -> None:
    clock = Clock()

    done = patiently(answering(*["RequestLimitExceeded"] * 4), translate, clock.patience(60))

    assert done == "done"
    assert clock.waits == [0.5, 1.0, 2.0, 4.0]


def test_waits_have_jitter_and_a_bound() -> None:
    patience = Clock().patience(60, jitter=0.0)

    assert [patience.pause(n) for n in range(3)] == [0.25, 0.5, 1.0]
    assert patience.pause(1000) == patience.most_seconds / 2


def test_a_cloud_that_only_throttles_is_given_up() -> None:
    clock = Clock()

    with pytest.raises(CallFailed) as error:
        patiently(answering(*["RequestLimitExceeded"] * 99), translate, clock.patience(30))

    assert error.value.failure.kind is Kind.THROTTLED
    assert clock.now <= 30


@pytest.mark.parametrize("code", ["InsufficientInstanceCapacity", "AuthFailure", "InvalidZone"])
def test_what_another_try_cannot_change_is_not_tried_again(code: str) -> None:
    clock = Clock()

    with pytest.raises(CallFailed, match=code):
        patiently(answering(code), translate, clock.patience(60))
    assert clock.waits == []


def test_an_error_of_ours_is_not_taken_for_an_answer() -> None:
    def call() -> str:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        patiently(call, translate, Clock().patience(60))


def test_deleting_is_tried_the_longest() -> None:
    assert DELETE.seconds > CREATE.seconds
    assert DELETE.seconds > LOOK.seconds


# --- removal -------------------------------------------------------------------------------------


class Store:
    """Things that take some looks to be gone."""

    def __init__(self, *names: str, looks: int = 0, busy: int = 0) -> None:
        self.names = set(names)
        self.looks, self.busy = looks, busy
        self.asked: list[str] = []
        self.is_going = False

    def delete(self, some):
        self.asked += [one.id for one in some]
        if self.busy:
            self.busy -= 1
            return {one.id: Refusal("VolumeInUse: not yet") for one in some}
        self.is_going = True
        return {}

    def present(self, some):
        if self.is_going and not self.looks:
            return set()
        self.looks -= self.is_going
        return self.names


def test_what_is_accepted_is_waited_for_and_not_asked_for_again() -> None:
    store, clock = Store("a", "b", looks=3), Clock()

    remove_all([disk("a"), disk("b")], store.delete, store.present, clock.patience(60))

    assert store.asked == ["a", "b"]
    assert len(clock.waits) == 3


def test_what_is_in_use_is_asked_for_until_it_is_not() -> None:
    store, clock = Store("a", busy=4), Clock()

    remove_all([disk("a")], store.delete, store.present, clock.patience(60))

    assert store.asked == ["a"] * 5


def test_machines_go_before_what_they_hold() -> None:
    asked: list[list[str]] = []
    here = {"vm", "d", "nic"}

    def delete(some):
        asked.append([one.id for one in some])
        here.difference_update(asked[-1])
        return {}

    things = [disk("d"), disk("nic", kind="network card"), disk("vm", kind="instance")]
    remove_all(things, delete, lambda _: set(here), Clock().patience(60))

    assert asked == [["vm"], ["nic"], ["d"]]


def test_what_does_not_go_is_told_with_price_reason_and_command() -> None:
    store, clock = Store("a", busy=10**6), Clock()

    with pytest.raises(LeftBehind) as error:
        remove_all([disk("a")], store.delete, store.present, clock.patience(60))

    assert clock.now <= 60
    assert "disk a in aws us-east-1a ($0.080 an hour; VolumeInUse: not yet)" in error.value.message
    assert "remove a" in error.value.hint


def test_what_will_never_go_does_not_keep_the_others() -> None:
    def delete(some):
        return {"a": Refusal("OperationNotPermitted: locked", is_final=True)}

    with pytest.raises(LeftBehind, match=r"^1 thing is still there.*disk a") as error:
        remove_all([disk("a"), disk("b")], delete, lambda _: set(), Clock().patience(60))
    assert "disk b" not in error.value.message


def test_a_cloud_that_cannot_be_asked_any_more_leaves_all_of_it() -> None:
    def present(_):
        raise AuthenticationFailed("the session has expired")

    with pytest.raises(LeftBehind, match="the session has expired") as error:
        remove_all([disk("a"), disk("b")], lambda _: {}, present, Clock().patience(60))
    assert "2 things are still there, and cost $0.160 an hour" in error.value.message
