"""`runner --server URL`: the same commands, asked of a real `runner serve`, say the same, byte for byte."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from runner.cli.server import ASKING, REMEDIES, desk_of_server
from runner.client.refusals import KINDS
from runner.client.wire import PAUSES
from runner.domain.access import INTERFACE_HEADER
from runner.domain.job import JobFilter
from runner.http.problems import KINDS as SERVED
from runner.http.problems import TITLES
from runner.settings import ServerSettings
from tests.interfaces.cli_project import BASE, DEADLINE, NOW, Project, address_of, steady
from tests.interfaces.conftest import answered
from tests.interfaces.wires import stranger, wire
from tests.waiting import eventually

FILE = (
    BASE.replace("cli_handlers.flaky}", "cli_handlers.output}")
    + '  quiet: {job: ok, cron: "0 0 29 2 *"}\n'
    + "defaults: {retry: {delay: 1ms}}\n"
)
AT = "2026-03-28T00:00Z"
READING = (
    "jobs list", "jobs list --limit 2", "jobs list -o json", "jobs list --status failed,cancelled -o json",
    "jobs list --type strict", "jobs list --q thing -o json", "jobs list --since 24h", "jobs list --project shop",
    "jobs show 1", "jobs show 1 -o json", "jobs show 2", "jobs show 2 -o json", "jobs show 3 -o json", "jobs show 4",
    "jobs logs 1", "jobs logs 1 -o json", "jobs logs 1 -o jsonl", "jobs logs 1 --follow", "jobs logs 1 -f -o jsonl",
    "jobs logs 1 --after 99999", "jobs logs 4", "jobs logs 2 -f", "jobs watch 1", "jobs watch 1 -o jsonl",
    "jobs watch 1 -o json", "jobs watch 2", "jobs watch 4 --timeout 1s",
    "schedules list", "schedules list --retired -o json", f"schedules next hourly --now {AT}",
    f"schedules next daily --count 12 --now {AT} -o json", "schedules history", "schedules history -o json",
    "schedules history hourly --limit 1", "schedules history quiet",
    f"plan --now {AT}", f"plan other.yaml --now {AT}", f"plan other.yaml --now {AT} -o json",
    f"plan other.yaml --now {AT} -o markdown --next 1", "plan other.yaml --exit-code -o json --now " + AT,
)  # fmt: skip
REFUSED = (
    "jobs show 99", "jobs show 0", "jobs logs 99", "jobs watch 99", "jobs cancel 1", "jobs retry 3", "jobs cancel 99 1",
    "jobs retry 3 99 -o json", "schedules pause nope", "schedules resume hourly", "schedules trigger nope",
    "schedules history nope", "enqueue nope", "enqueue strict", "enqueue strict --payload []",
    "enqueue ok --priority 11",
    'enqueue strict --payload {"name":1,"more":2}', "plan broken.yaml", "plan broken.yaml -o json", "plan absent.yaml",
    "enqueue --bulk bad.jsonl", "schedules backfill hourly --from 1970-01-01 --to 2026-01-01",
    "jobs watch 3 --timeout 9x",
)  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A database with a bit of everything, behind a real `runner serve` that runs nothing of it."""
    project = Project(tmp_path_factory.mktemp("shop"), {"RUNNER_HTTP": "on"})
    project.write(FILE)
    project.write(
        FILE.replace('"0 * * * *"', '"5 * * * *"').replace("retry: false", "retry: {max_attempts: 2}"), "other.yaml"
    )
    project.write(FILE.replace("job: ok, cron", "jub: ok, cron", 1), "broken.yaml")
    project.write('{"type": "ok"}\n{"type": "strict"}\n{"type": "nope"}\n', "bad.jsonl")
    project.good("apply", "--now", NOW)
    project.good("enqueue", "flaky", "--project", "shop")
    project.good("enqueue", "bad")
    project.good("enqueue", "ok", "--at", "2100-01-01")
    project.good("enqueue", "strict", "--payload", '{"name": "x"}', "--at", "2100-01-01")
    project.good("jobs", "cancel", 4, "--reason", "not wanted")
    assert project.run("run-once", "--no-sync", "--timeout", "60s").code == 1
    project.good("schedules", "pause", "daily", "--reason", "holidays")
    serving = project.start("serve", "--port", "0", "--no-worker", "--no-scheduler", "--no-sync")
    project.server = address_of(serving)
    yield project
    serving.terminate()
    assert serving.wait(DEADLINE) == 0
    serving.stdout.close()  # type: ignore[union-attr]
    serving.stderr.close()


def both(project: Project, words: str) -> tuple[Any, Any]:
    """What the database answers, and what the server does."""
    return replace(project, server=None).run(*words.split()), project.run(*words.split())


@pytest.mark.parametrize("words", READING)
def test_what_is_shown_is_the_same(shop: Project, words: str) -> None:
    """Byte for byte, on stdout and on stderr, with the same code."""
    here, there = both(shop, words)
    assert there == here
    assert here.code in (0, 1)
    assert here.out or here.err


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_refused_is_the_same(shop: Project, words: str) -> None:
    """The same sentence, the same remedy, the same code; nothing is changed by it."""
    before = shop.contents()
    here, there = both(shop, words)
    assert there == here
    assert here.code in (2, 3, 5, 6)
    assert shop.contents() == before


def test_status_is_the_same(shop: Project) -> None:
    """But for how long ago things were; as JSON too."""
    here, there = both(shop, "status")
    assert (there.code, steady(there.out)) == (0, steady(here.out))
    here, there = both(shop, "status -o json")
    assert list(there.json) == list(here.json)
    assert [(one["id"], one["state"]) for one in there.json["workers"]] == [
        (one["id"], one["state"]) for one in here.json["workers"]
    ]
    same = ("database", "revision", "problems", "queues", "schedules", "next", "skipped")
    assert {name: there.json[name] for name in same if name != "database"} == {
        name: here.json[name] for name in same if name != "database"
    }
    assert set(there.json["database"]) == set(here.json["database"])


def test_top_draws_what_the_server_tells(shop: Project) -> None:
    """One frame where stdout is no terminal, with the address in its title."""
    frame = shop.good("top").out
    assert str(shop.server) in frame
    assert "bad" in frame.partition("ENDED")[2]


def test_what_is_not_in_force_has_no_next_fires(shop: Project) -> None:
    """Here the file is asked, there the revision in force."""
    answer = shop.run("schedules", "next", "nope")
    assert (answer.code, "in the revision in force" in answer.err, "known: daily, hourly, quiet" in answer.err) == (
        5, True, True,
    )  # fmt: skip


def test_reload_is_for_a_server(shop: Project, project: Project) -> None:
    """Here it says how a process is told."""
    assert shop.good("reload").out == "the file is read again\n"
    assert shop.good("reload", "-o", "json").json["result"] == "the file is read again"
    here = project.run("reload")
    assert (here.code, "kill -HUP" in here.err) == (2, True)


def test_a_large_bulk_says_how_many_a_server_takes(shop: Project) -> None:
    """All or nothing is one request."""
    answer = shop.run("enqueue", "--bulk", "-", stdin='{"type": "ok"}\n' * 1001)
    assert (answer.code, "a server takes 1,000 at once" in answer.err) == (2, True)


# ---- what works here alone


def test_what_works_here_alone_says_so(project: Project) -> None:
    """With --server it is wrong usage. A variable may stand, but not where another database would be written."""
    here = [name for name in COMMANDS if name not in ASKING]
    assert len(here) > 5
    for name in here:
        answer = project.run("--server", "http://127.0.0.1:1", name, *SECOND.get(name, ()))
        assert (answer.code, answer.out) == (2, ""), name
        assert f"{name} works on the machine where it is typed, not on a server" in answer.err
    assert set(REMEDIES) < set(here)
    for name in ("apply", "migrate", "keys", "run-once"):
        answer = project.run(name, *SECOND.get(name, ()), RUNNER_SERVER="http://127.0.0.1:1")
        assert (answer.code, "RUNNER_SERVER names a server" in answer.err) == (2, True)
    assert not project.database.exists()
    assert project.run("validate", RUNNER_SERVER="http://127.0.0.1:1").code == 0
    assert project.run("--server", "", "apply", RUNNER_SERVER="http://127.0.0.1:1").code == 0


def test_the_nearer_word_counts(project: Project) -> None:
    """An option wins over a variable: a database that it names is asked. What is only for a server wants one."""
    project.good("apply")
    away = {"RUNNER_SERVER": "http://127.0.0.1:1"}
    assert project.run("--database-url", project.database, "schedules", "list", **away).code == 0
    assert project.run("--database-url", project.database, "migrate", "status", **away).code == 0
    assert project.run("--server", "", "schedules", "list", **away).code == 0
    both = project.run("--server", "http://127.0.0.1:1", "--database-url", "x.db", "jobs", "list")
    assert (both.code, "not both" in both.err) == (2, True)
    for options in (("--token", "x"), ("--token-file", "x"), ("--ca-file", "x"), ("--insecure",)):
        answer = project.run(*options, "jobs", "list")
        assert (answer.code, f"{options[0]} is for a server, and none is named" in answer.err) == (2, True)


COMMANDS = (
    "init", "validate", "plan", "apply", "run-once", "serve", "enqueue", "status", "top", "jobs", "schedules", "reload",
    "keys", "config", "schema", "migrate", "doctor",
)  # fmt: skip
SECOND = {"keys": ("list",), "migrate": ("up",)}


# ---- addresses and keys


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("localhost:8080", 2, "is no address of a server"),
        ("ftp://x", 2, "is no address of a server"),
        ("http://", 2, "is no address of a server"),
        ("http://x:port", 2, "is no address of a server"),
        ("http://a b", 2, "is no address of a server"),
        ("http://me:secret@x", 2, "holds no password"),
        ("http://x/?a=1", 2, "ends with its path"),
        ("http://192.0.2.1", 4, "in clear text"),
    ],
)
def test_an_address_is_looked_at_before_anything_is_sent(project: Project, address: str, code: int, said: str) -> None:
    """One sentence; nothing of a password is repeated."""
    answer = project.run("--server", address, "--token", "x" * 40, "jobs", "list")
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert "secret" not in answer.err


def test_keys_come_from_a_variable_a_file_or_standard_input(asked_with_keys: tuple[Project, dict[str, str]]) -> None:
    """The flag wins over the variable; none, an unknown one and one that may not are told apart."""
    project, keys = asked_with_keys
    project.write(keys["viewer"] + "\n", "key.txt")
    good = ("jobs", "list")
    assert project.run(*good, RUNNER_TOKEN=keys["viewer"]).code == 0
    assert project.run(*good, RUNNER_TOKEN_FILE=str(project.folder / "key.txt")).code == 0
    url = str(project.server)
    assert project.run("--server", url, "--token-file", "key.txt", *good, RUNNER_TOKEN="wrong").code == 0
    assert project.run("--server", url, "--token-file", "-", *good, stdin=keys["viewer"]).code == 0
    assert project.run("--server", url, "--token", keys["viewer"], *good, RUNNER_TOKEN="wrong").code == 0

    none, wrong = project.run(*good), project.run(*good, RUNNER_TOKEN="wrong" * 10)
    assert (none.code, wrong.code) == (4, 4)
    assert none.err == (
        f"error: {url}: this server asks for a key\n"
        "help: RUNNER_TOKEN or --token-file; on the machine of the server `runner keys create` makes one\n"
    )
    assert "the key is unknown or was revoked" in wrong.err
    forbidden = project.run("schedules", "pause", "hourly", RUNNER_TOKEN=keys["viewer"])
    assert (forbidden.code, "is a viewer's, and this needs an operator's" in forbidden.err) == (4, True)
    bound = project.run("status", RUNNER_TOKEN=keys["bound"])
    assert (bound.code, "bound to projects" in bound.err) == (4, True)
    for arguments in (("--token-file", "absent"), ("--token-file", "key.txt", "--token", "x"), ("--token", "a\nb")):
        assert project.run("--server", url, *arguments, *good).code == 2


def test_a_key_of_a_project_sees_its_own(asked_with_keys: tuple[Project, dict[str, str]]) -> None:
    """Jobs, schedules, slots and fires; a job of others is not there; watching one needs no list of workers."""
    project, keys = asked_with_keys
    token = {"RUNNER_TOKEN": keys["bound"]}
    mine = project.good("enqueue", "ok", **token)
    assert mine.out == "job 2 (ok)\n"
    assert [job["id"] for job in project.good("jobs", "list", "-o", "json", **token).json["jobs"]] == [2]
    assert project.run("jobs", "show", 1, **token).err == "error: there is no job 1\nhelp: runner jobs list\n"
    assert project.good("schedules", "list", **token).out == ""
    assert project.good("schedules", "next", "-o", "json", **token).json["schedules"] == []
    assert project.good("schedules", "history", "-o", "json", **token).json["slots"] == []
    assert project.run("schedules", "history", "hourly", **token).code == 5
    assert project.run("jobs", "watch", 2, "--timeout", "300ms", **token).code == 124


@pytest.fixture
def asked_with_keys(project: Project) -> Iterator[tuple[Project, dict[str, str]]]:
    """A server in this process that wants keys, with a job of nobody's project."""
    project.good("apply", "--now", NOW)
    project.good("enqueue", "ok")
    project.good("run-once", "--now", (datetime.fromisoformat(NOW) + timedelta(hours=3)).isoformat(), "--type", "bad")
    keys = {
        "viewer": project.good("keys", "create", "-o", "json").json["key"],
        "bound": project.good("keys", "create", "--role", "admin", "--project", "shop", "-o", "json").json["key"],
    }
    with answered(project):
        yield project, keys


# ---- the way there


def lines(err: str) -> tuple[str, str]:
    first, second = err.splitlines()
    return first.removeprefix("error: "), second.removeprefix("help: ")


def test_a_server_that_is_not_there_is_7(project: Project) -> None:
    """After a few tries; the address and the reason are named."""
    with stranger((200, {}, b"")) as gone:
        url = gone.url
    answer = project.run("--server", url, "jobs", "list")
    assert (answer.code, answer.out) == (7, "")
    assert lines(answer.err) == (
        f"{url} cannot be reached: Connection refused", "is `runner serve` up there? --server names another",
    )  # fmt: skip
    nowhere = project.run("--server", "http://no-such-host.invalid", "enqueue", "ok")
    assert (nowhere.code, "there is no such host" in nowhere.err) == (7, True)


NOT_OURS = (
    (
        200,
        {"Content-Type": "text/html; charset=utf-8"},
        b"<p>Hello",
        "does not answer as a runner server does: 200, text/html",
    ),
    (404, {"Content-Type": "application/json"}, b"{}", "does not answer as a runner server does: 404"),
    (401, {}, b"", "does not answer as a runner server does: 401"),
    (200, {INTERFACE_HEADER: "1"}, b"no json", "does not answer as a runner server does: 200"),
    (200, {INTERFACE_HEADER: "2"}, b"{}", "speaks version 2 of the interface, this command version 1"),
    (301, {"Location": "https://elsewhere.example/api/jobs"}, b"", "leads to https://elsewhere.example/api/jobs"),
    (502, {}, b"<p>nginx", "cannot answer now: 502 Bad Gateway"),
    (500, {INTERFACE_HEADER: "1"}, b'{"type": "urn:runner:error:fault", "detail": "x"}', "by a fault of its own (500)"),
)


@pytest.mark.parametrize(("status", "headers", "body", "said"), NOT_OURS)
def test_what_is_no_runner_server_is_told(
    project: Project, status: int, headers: dict[str, str], body: bytes, said: str
) -> None:
    """One sentence with the address. Nobody is followed elsewhere with a token; what may pass is asked for again."""
    with stranger((status, headers, body)) as other:
        answer = project.run("--server", other.url, "--token", "x" * 40, "jobs", "list")
        tries = len(other.asked)
    message, _ = lines(answer.err)
    assert (answer.code, answer.out) == (1 if status == 500 else 7, "")
    assert message.startswith(other.url)
    assert said in message
    assert tries == (1 + len(PAUSES) if status == 502 else 1)


def test_who_asks_too_much_waits_as_told(asked: Project) -> None:
    """And is told that it waits; what asks for a wait that is too long is an error."""
    patient = (429, {INTERFACE_HEADER: "1", "Retry-After": "1"}, b'{"detail": "too many requests from you"}')
    with stranger(patient, (200, {INTERFACE_HEADER: "1"}, b'{"jobs": [], "next": null}')) as busy:
        answer = asked.run("--server", busy.url, "jobs", "list", "-o", "json")
        assert (answer.code, len(busy.asked)) == (0, 2)
    assert "waiting 1 s" in answer.err
    with stranger((429, {INTERFACE_HEADER: "1", "Retry-After": "9000"}, b"{}")) as busy:
        assert asked.run("--server", busy.url, "jobs", "list").code == 7


def test_a_job_is_made_once_though_the_answer_was_lost(shop: Project) -> None:
    """The request is sent again with its key; it is no duplicate for who sent it. The same for many."""
    before = count(shop)
    with wire(urlsplit(str(shop.server)).port or 0) as between:
        url = f"http://127.0.0.1:{between.port}"
        between.lose = 1
        one = shop.run("--server", url, "enqueue", "ok", "-o", "json")
        between.lose = 2
        many = shop.run("--server", url, "enqueue", "--bulk", "-", "-o", "json", stdin='{"type": "ok"}\n' * 3)
        assert between.lost == 3
    assert (one.code, one.json["duplicate"]) == (0, False)
    assert (many.code, [job["duplicate"] for job in many.json["jobs"]]) == (0, [False] * 3)
    assert count(shop) == before + 4


def test_what_cannot_be_sent_twice_is_not(shop: Project) -> None:
    """Where its answer was lost, the command says that nobody knows; a job may have been cancelled."""
    job = shop.good("enqueue", "ok", "--at", "2100-01-01", "-o", "json").json["id"]
    with wire(urlsplit(str(shop.server)).port or 0) as between:
        between.lose = 1
        answer = shop.run("--server", f"http://127.0.0.1:{between.port}", "jobs", "cancel", job)
        assert between.connections == 1
    assert (answer.code, answer.out) == (7, "")
    assert lines(answer.err)[1] == "whether it was done is not known: look before doing it again"
    assert shop.good("jobs", "show", job, "-o", "json").json["status"] == "cancelled"


@pytest.mark.parametrize(
    ("words", "help_"),
    [
        ("jobs list", "RUNNER_SERVER_TIMEOUT sets how long is waited"),
        ("jobs cancel 1", "whether it was done is not known: look before doing it again"),
    ],
)
def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(project: Project, words: str, help_: str) -> None:
    """It takes the request and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        answer = project.run("--server", url, *words.split(), RUNNER_SERVER_TIMEOUT="50ms")
    assert (answer.code, lines(answer.err)) == (7, (f"{url} did not answer within 0.05 s", help_))


def count(project: Project) -> int:
    return int(project.rows("SELECT count(*) FROM background_jobs")[0][0])


def test_a_database_that_is_away_is_told_in_its_words(shop: Project, tmp_path: Path) -> None:
    """503 of the server: the sentence of the database, 7."""
    body = {"type": "urn:runner:error:database-unavailable", "detail": "the database is locked", "help": "try again"}
    reply = (503, {INTERFACE_HEADER: "1", "Retry-After": "0"}, json.dumps(body).encode())
    with stranger(reply) as other:
        answer = shop.run("--server", other.url, "jobs", "cancel", 1)
        assert len(other.asked) == 1
    assert (answer.code, answer.err) == (7, "error: the database is locked\nhelp: try again\n")


def test_the_clock_is_the_servers(project: Project) -> None:
    """Where it is another than ours, spans are told by it."""
    theirs = datetime.now(UTC) + timedelta(days=30)
    headers = {INTERFACE_HEADER: "1", "Date": format_datetime(theirs, usegmt=True)}
    reply = (200, headers, b'{"jobs": [], "next": null}')
    with stranger(reply) as other, desk_of_server(ServerSettings(other.url)) as desk:
        desk.jobs(JobFilter(), limit=1, after=None)
        assert abs(desk.now() - theirs) < timedelta(minutes=1)


# ---- TLS and proxies


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of localhost alone, signed by nobody but itself, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", f"{path}.key", "-out", f"{path}.crt"]
    subprocess.run(["openssl", *words.split(), *names], check=True, capture_output=True)
    path.write_bytes(Path(f"{path}.key").read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


def test_certificates_are_checked(shop: Project, certificate: Path) -> None:
    """Against the system's, --ca-file, RUNNER_CA_FILE or SSL_CERT_FILE; the name counts; what is no TLS is told."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    words = ("jobs", "list", "-o", "json")
    with wire(urlsplit(str(shop.server)).port or 0, context) as tls:
        url, file = f"https://localhost:{tls.port}", str(certificate)
        unknown = shop.run("--server", url, *words)
        assert shop.run("--server", url, "--ca-file", file, *words).out == shop.run(*words).out
        assert shop.run("--server", url, *words, RUNNER_CA_FILE=file).code == 0
        assert shop.run("--server", url, *words, SSL_CERT_FILE=file).code == 0
        other_name = shop.run("--server", f"https://127.0.0.1:{tls.port}", "--ca-file", file, *words)
    assert (unknown.code, other_name.code) == (7, 7)
    assert lines(unknown.err) == (
        f"the certificate of {url} is not trusted: self-signed certificate",
        "--ca-file FILE, or SSL_CERT_FILE, names the authority that signed it",
    )
    assert "not valid for '127.0.0.1'" in other_name.err
    plain = shop.run("--server", str(shop.server).replace("http:", "https:"), *words)
    assert (plain.code, "does not speak TLS as it should" in plain.err) == (7, True)
    for bad, said in (("absent.pem", "No such file or directory"), ("schedules.yaml", "it holds no certificate")):
        answer = shop.run("--server", url, "--ca-file", bad, *words)
        assert (answer.code, said in answer.err) == (2, True)


def test_a_proxy_of_the_environment_is_used(shop: Project) -> None:
    """For other machines; never to this one, nor where NO_PROXY names the host. A token goes in clear text to none."""
    empty = (200, {INTERFACE_HEADER: "1", "Content-Type": "application/json"}, b'{"jobs": [], "next": null}')
    with stranger(empty) as proxy:
        env = {"HTTP_PROXY": proxy.url.replace("//", "//me:secret@"), "HTTPS_PROXY": proxy.url}
        assert shop.run("jobs", "list", **env).code == 0
        assert proxy.asked == []
        far = ("--server", "http://runner.invalid/prefix", "jobs", "list", "-o", "json")
        assert shop.run(*far, **env).json["jobs"] == []
        assert proxy.asked[0][1].startswith("http://runner.invalid/prefix/api/jobs?")
        assert proxy.asked[0][2]["proxy-authorization"] == "Basic bWU6c2VjcmV0"
        assert shop.run(*far, **env, RUNNER_TOKEN="x" * 40).code == 4
        assert shop.run(*far, **env, NO_PROXY="runner.invalid").code == 7
        shop.run("--server", "https://runner.invalid", "jobs", "list", **env, RUNNER_TOKEN="x" * 40)
        assert proxy.asked[-1][:2] == ("CONNECT", "runner.invalid:443")
        assert not any("authorization" in headers for _, _, headers in proxy.asked)
    answer = shop.run(*far, HTTP_PROXY="socks5://x")
    assert (answer.code, "not socks5://" in answer.err) == (2, True)


NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr error;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{ listen 127.0.0.1:{port}; location /runner/ {{ proxy_pass {server}/; proxy_http_version 1.1; }} }}
}}
"""


@pytest.mark.skipif(not Path("/usr/sbin/nginx").exists(), reason="there is no nginx")
def test_behind_a_reverse_proxy_with_a_prefix(shop: Project, tmp_path: Path) -> None:
    """The prefix belongs to the address; streams come through a proxy that buffers. Without the prefix it says so."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, port=port, server=shop.server))
    with subprocess.Popen(["/usr/sbin/nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]) as nginx:
        try:
            eventually(lambda: _listens(port), "nginx answers")
            for words in ("jobs list", "jobs logs 1 --follow", "jobs watch 2", "schedules history"):
                through = shop.run("--server", f"http://127.0.0.1:{port}/runner/", *words.split())
                assert through == shop.run(*words.split())
            without = shop.run("--server", f"http://127.0.0.1:{port}", "jobs", "list")
        finally:
            nginx.terminate()
    assert (without.code, "does not answer as a runner server does: 404" in without.err) == (7, True)


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_a_watch_outlives_its_server() -> None:
    """While it is away nobody is said to be gone: what was known last is believed."""
    with stranger((200, {}, b"")) as gone:
        url = gone.url
    with desk_of_server(ServerSettings(url)) as desk:
        assert desk.workers() == ()


def test_every_kind_of_problem_is_known() -> None:
    """A new one cannot be forgotten by the client."""
    kinds = {kind for _, _, kind, _ in SERVED} | {kind for kind, _ in TITLES.values()}
    assert kinds - set(KINDS) == {"key-needed", "config-invalid", "method-not-allowed"}
