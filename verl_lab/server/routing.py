"""A route: its path, what it takes, and the function that answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Answering = Callable[..., Any]

_HIGHEST_STEP = 2**53

Step = Annotated[int, Field(ge=0, le=_HIGHEST_STEP)]
Text = Annotated[str, Field(max_length=200)]
Override = Annotated[str, Field(min_length=1, max_length=4000)]


class Asked(BaseModel):
    """What a request may hold; anything else is refused."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Nothing(Asked):
    """An empty object."""


@dataclass(frozen=True)
class Route:
    """One method of one path.

    Attributes
    ----------
    path
        Below the API's base; ``{run}`` stands for a part that is handed to ``answer`` by that name.
    answer
        Called with the lab, the parts of the path, and ``query`` and ``body`` where there are any, in a thread.
    query, body
        The models of what is taken.
    status
        Of a good answer.
    is_slow
        Whether it may take long, because another machine is asked or something is launched.
    wants
        What of the server ``answer`` is also called with: ``tasks``, or ``roots``, the folders that are open to it.
    """

    method: Method
    path: str
    answer: Answering
    summary: str
    query: type[Asked] | None = None
    body: type[Asked] | None = None
    status: int = 200
    is_slow: bool = False
    wants: tuple[Literal["tasks", "roots"], ...] = ()


class Routes(list[Route]):
    """The routes of one part of the API, in the order they were declared."""

    def add(
        self,
        method: Method,
        path: str,
        *,
        query: type[Asked] | None = None,
        body: type[Asked] | None = None,
        status: int = 200,
        is_slow: bool = False,
        wants: tuple[Literal["tasks", "roots"], ...] = (),
    ) -> Callable[[Answering], Answering]:
        """Return a decorator that makes a function answer a route; its docstring's first line is the summary."""

        def declare(answer: Answering) -> Answering:
            summary = (answer.__doc__ or "").partition("\n")[0]
            self.append(Route(method, path, answer, summary, query, body, status, is_slow, wants))
            return answer

        return declare
