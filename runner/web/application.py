"""The pages of an application: each file of routes, once."""

from __future__ import annotations

from fastapi import FastAPI

from runner.http.sessions import SignIn
from runner.http.table import install
from runner.web.acting import acting
from runner.web.assets import assets
from runner.web.dashboard import dashboard
from runner.web.exports import exports
from runner.web.failures import failures
from runner.web.file import Plans
from runner.web.jobs import jobs
from runner.web.new import new
from runner.web.outputs import outputs
from runner.web.schedules import schedules
from runner.web.session import session
from runner.web.shares import shares
from runner.web.status import status
from runner.web.workers import workers

ROUTERS = (
    assets,
    session,
    dashboard,
    jobs,
    acting,
    exports,
    failures,
    new,
    shares,
    status,
    outputs,
    schedules,
    workers,
)  # fmt: skip  (the fixed words before `{job_id}`)


def add_pages(app: FastAPI, sign_in: SignIn) -> None:
    app.state.sign_in, app.state.plans = sign_in, Plans()
    install(app, ROUTERS)
