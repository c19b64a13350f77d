"""Who did something, as one string: plain ids are shown, names that are personal data are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.crds.actors import ActorKind, actor_of, pseudonym, read_actor

MAIL = "ada@shop.example"


@pytest.mark.parametrize(
    ("annotation", "actor"),
    [
        (None, None),
        ("", None),
        ("kubernetes:", None),
        ("root:ada", None),
        ("ada", None),
        ("kubernetes:ada", "kubernetes:ada"),
        ("user:u-3k9x", "user:u-3k9x"),
        ("kubernetes:system:serviceaccount:shop:erp", "kubernetes:system:serviceaccount:shop:erp"),
        ("kubernetes:arn:aws:iam::1:role/x", "kubernetes:arn:aws:iam::1:role/x"),
        (f"kubernetes:{MAIL}", f"kubernetes:{pseudonym(MAIL)}"),
        ("kubernetes:Ada Example", f"kubernetes:{pseudonym('Ada Example')}"),
        ("kubernetes:" + "a" * 400, f"kubernetes:{pseudonym('a' * 400)}"),
    ],
)
def test_what_an_annotation_says(annotation: str | None, actor: str | None) -> None:
    assert read_actor(annotation) == actor


@given(name=st.text(min_size=1), other=st.text(min_size=1))
def test_nobody_is_taken_for_another(name: str, other: str) -> None:
    """Not even who has chosen the pseudonym of another as a name."""
    actor = actor_of(ActorKind.KUBERNETES, name)
    assert len(actor) <= 160
    assert actor != actor_of(ActorKind.DATABASE, name)
    assert (actor == actor_of(ActorKind.KUBERNETES, other)) == (name == other)
    assert actor != actor_of(ActorKind.KUBERNETES, pseudonym(name))
