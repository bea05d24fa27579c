"""How full the disk is."""

from __future__ import annotations

import shutil
from typing import Any

from runner import JobContext


def usage(ctx: JobContext, payload: dict[str, Any]) -> dict[str, int]:
    """Fails where fewer than so many bytes are free."""
    found = shutil.disk_usage(payload["folder"])
    ctx.log(f"{found.free:,} of {found.total:,} bytes are free")
    if found.free < payload["free"]:
        raise RuntimeError(f"{payload['folder']} has {found.free:,} bytes left")
    return {"free": found.free, "total": found.total}
