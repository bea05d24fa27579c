"""A real nginx before a real server: a path prefix, and answers buffered as it does by itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.test_pooler_postgresql import DEADLINE, free_port, reached
from tests.waiting import eventually

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
installed = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light")
PREFIX = "/tools/runner"
CONFIG = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location {prefix}/ {{
            proxy_pass {upstream};
            proxy_buffering on;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            {more}
        }}
    }}
}}
"""


@contextmanager
def behind_nginx(upstream: str, more: str = "", *, strips: bool = True) -> Iterator[str]:
    """The URL by which it is reached from outside, without a slash at its end. `strips`: takes the prefix away."""
    with tempfile.TemporaryDirectory(prefix="nginx-") as place:
        port, file = free_port(), Path(place) / "nginx.conf"
        target = f"{upstream}/" if strips else upstream
        file.write_text(CONFIG.format(folder=place, port=port, prefix=PREFIX, upstream=target, more=more))
        process = subprocess.Popen([str(NGINX), "-p", place, "-c", file, "-e", "stderr"], stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: reached(port))
            yield f"http://127.0.0.1:{port}{PREFIX}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE)
