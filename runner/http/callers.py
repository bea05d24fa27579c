"""What a route asks of its caller, declared with the route: a role, and whether keys of single projects may come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from runner.domain.access import Caller, Role
from runner.domain.errors import NotAllowed

STATE = "caller"


@dataclass(frozen=True, slots=True)
class Needed:
    """At least this role. `bound` False: what it shows or does belongs to no project, so keys of projects may not."""

    role: Role
    bound: bool = True

    async def __call__(self, request: Request) -> Caller:
        caller: Caller = request.scope["state"][STATE]
        if not caller.role.may(self.role):
            raise NotAllowed(
                f"{caller.name} is a {caller.role}'s, and this needs {_a(self.role)}",
                f"runner keys create --role {self.role}",
            )
        if caller.is_bound and not self.bound:
            raise NotAllowed(f"{caller.name} is bound to projects, and this belongs to none", "a key without --project")
        return caller


def needs(role: Role, *, bound: bool = True) -> Any:
    return Depends(Needed(role, bound))


def _a(role: Role) -> str:
    return f"a{'n' if role[0] in 'aeiou' else ''} {role}'s"


Viewer = Annotated[Caller, needs(Role.VIEWER)]
Operator = Annotated[Caller, needs(Role.OPERATOR)]
OverallViewer = Annotated[Caller, needs(Role.VIEWER, bound=False)]
OverallOperator = Annotated[Caller, needs(Role.OPERATOR, bound=False)]
OverallAdmin = Annotated[Caller, needs(Role.ADMIN, bound=False)]
