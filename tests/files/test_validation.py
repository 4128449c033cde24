"""What pydantic finds wrong, in words for the user."""

from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gcr.files.validation import Problem, first_problem


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=2)] = "ok"


class Outer(BaseModel):
    count: int
    inner: Inner = Inner()

    @field_validator("count")
    @classmethod
    def _even(cls, count):
        if count % 2:
            raise ValueError("is odd")
        return count


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"count": "x"}, Problem("value", ("count",), "should be a valid integer, ", "x")),
        ({"count": 3}, Problem("value", ("count",), "is odd", 3)),
        ({}, Problem("missing", ("count",), "is missing", {})),
        ({"inner": {"nmae": "x"}}, Problem("unknown", ("inner", "nmae"), "is not known", "x")),
        (
            {"count": 2, "inner": {"name": "x"}},
            Problem("value", ("inner", "name"), "should have at least 2 characters", "x"),
        ),
    ],
)
def test_the_first_problem_and_an_unknown_key_before_all_others(values, problem):
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    actual = first_problem(caught.value)
    assert actual._replace(reason="") == problem._replace(reason="")
    assert actual.reason.startswith(problem.reason)
