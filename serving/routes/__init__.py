"""The routes of the service, one file for each resource. `ROUTERS` is the table of them."""

from fastapi import APIRouter

from serving.routes import chips, health, jobs, landing, processes, runs

ROUTERS: tuple[APIRouter, ...] = (
    landing.router,
    processes.router,
    jobs.router,
    chips.router,
    runs.router,
    health.router,
)
