"""What a route asks of its caller, declared with the route: a role, and whether keys of single projects may come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from runner.domain.access import Caller, Role
from runner.domain.errors import NotAllowed

STATE = "caller"


@dataclass(frozen=True, slots=True)
class Needed:
    """At least this role. `bound` False: what it shows or does belongs to no project, so keys of projects may not.

    `shared`: a link that shows a job opens it too. Every other route does not know of the link.
    """

    role: Role
    bound: bool = True
    shared: bool = False

    async def __call__(self, request: Request) -> Caller:
        caller = self._known(request.scope["state"][STATE])
        if not caller.role.may(self.role):
            raise NotAllowed(
                f"{caller.name} is {_a(caller.role)}, and this needs {_a(self.role)}",
                f"runner keys create --role {self.role}",
            )
        if caller.is_bound and not self.bound:
            raise NotAllowed(f"{caller.name} is bound to projects, and this belongs to none", "a key without --project")
        return caller

    def _known(self, caller: Caller) -> Caller:
        if self.shared or caller.shared is None:
            return caller
        if caller.is_guest:
            raise NotAllowed(f"this link shows job {caller.shared} and nothing else", "a key, or /sign-in")
        return replace(caller, shared=None)


def needs(role: Role, *, bound: bool = True, shared: bool = False) -> Any:
    return Depends(Needed(role, bound, shared))


def _a(role: Role) -> str:
    return f"a{'n' if role[0] in 'aeiou' else ''} {role}'s"


Reader = Annotated[Caller, needs(Role.VIEWER, shared=True)]
Viewer = Annotated[Caller, needs(Role.VIEWER)]
Operator = Annotated[Caller, needs(Role.OPERATOR)]
OverallViewer = Annotated[Caller, needs(Role.VIEWER, bound=False)]
OverallOperator = Annotated[Caller, needs(Role.OPERATOR, bound=False)]
OverallAdmin = Annotated[Caller, needs(Role.ADMIN, bound=False)]
