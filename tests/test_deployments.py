"""The set-ups in examples/ for containers, Kubernetes, systemd and scale-to-zero: what they name is there, and fits.

No image is built and no cluster started here; each `schedules.yaml` is validated, planned and run, on both databases.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.domain.duration import parse_duration
from tests.contract.databases import DIALECTS

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
NAMES = ("compose", "kubernetes", "systemd", "scale-to-zero")
RUNNER = Path(sys.executable).with_name("runner")
SPARE = timedelta(seconds=10)  # after shutdown_grace, for what is left to be written
EXPOSURE = 2.5  # at most, of 10, as systemd-analyze counts it


def read(place: str) -> Any:
    return yaml.safe_load((EXAMPLES / place).read_text(encoding="utf-8"))


def documents(place: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / place).read_text(encoding="utf-8")))


def grace(name: str) -> timedelta:
    return parse_duration(read(f"{name}/schedules.yaml")["runner"]["shutdown_grace"])


def runner(*words: object, url: str = "", cwd: Path | None = None, **environ: str) -> str:
    """What a command prints that ends well."""
    environment = os.environ | ({"DATABASE_URL": url} if url else {}) | environ
    done = subprocess.run(
        [RUNNER, *map(str, words)], cwd=cwd or ROOT, env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# ---- the files that are run


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("name", NAMES)
def test_its_file_is_valid_is_planned_and_runs(name: str, dialect: str, tmp_path: Path) -> None:
    """As in its container: the file in a folder of its own, the handlers found by PYTHONPATH."""
    file, url = tmp_path / "schedules.yaml", DIALECTS[dialect].nothing_yet(tmp_path)
    shutil.copy(EXAMPLES / name / "schedules.yaml", file)
    found = {"PYTHONPATH": str(EXAMPLES / name)}

    runner("-c", file, "validate", **found)
    runner("-c", file, "migrate", "up", url=url, **found)
    assert "+ " in runner("-c", file, "plan", url=url, **found)
    report = json.loads(runner("-c", file, "run-once", "--trigger-all", "-o", "json", url=url, **found))
    assert {job["status"] for job in report["jobs"]} == {"completed"}
    runner("-c", file, "status", url=url, **found)
    runner("-c", file, "doctor", url=url, **found)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_page_of_its_own(name: str) -> None:
    """Every command of `runner` that it shows is one, with options that it knows."""
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    for group, option in re.findall(
        r"runner (?:-c \S+ )?(run-once|serve|status|doctor|validate)\b[^`\n]*?( --[a-z-]+)", text
    ):
        assert option.strip() in runner(group, "--help"), (group, option)
    for place in re.findall(r"\]\(([^)]+)\)", text):
        assert (EXAMPLES / name / place).exists(), place


# ---- the image


def test_the_image_installs_the_distribution_and_runs_as_nobody() -> None:
    """One stage; a user without rights comes last, and the signal goes to `runner` itself."""
    lines = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    words = [word for word, _ in steps]
    said = {word: rest for word, rest in steps if words.count(word) == 1}
    known = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "ENV", "USER", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    assert set(words) == known
    assert words[0] == "FROM"
    assert re.fullmatch(r"python:3\.\d+-slim", said["FROM"])
    assert said["ARG"] == 'DISTRIBUTION="yaml-job-runner[postgres]"'
    assert '"$DISTRIBUTION"' in said["RUN"]
    assert words.index("COPY") < words.index("RUN") < words.index("USER") < words.index("ENTRYPOINT")
    assert said["USER"] == "10001"
    assert "--uid 10001" in said["RUN"]
    assert f"PYTHONPATH={said['WORKDIR']}" in said["ENV"]
    assert (json.loads(said["ENTRYPOINT"]), json.loads(said["CMD"])) == (["runner"], ["serve"])
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert ".env" in (EXAMPLES / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()


# ---- Compose


def test_compose_names_what_is_there() -> None:
    """Services, conditions, volumes, the Dockerfile, and a database URL that is the database's."""
    found = read("compose/compose.yaml")
    services = found["services"]
    assert set(services) == {"database", "migrate", "worker"}
    for service in services.values():
        for other, wanted in service.get("depends_on", {}).items():
            assert other in services
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in services[other]
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in found["volumes"] or (EXAMPLES / "compose" / source).is_dir(), volume
    build = services["worker"]["build"]
    assert (EXAMPLES / "compose" / build["context"] / build["dockerfile"]).resolve() == EXAMPLES / "Dockerfile"
    database = services["database"]["environment"]
    wanted = (
        f"postgresql://{database['POSTGRES_USER']}:{database['POSTGRES_PASSWORD']}@database/{database['POSTGRES_DB']}"
    )
    for name in ("migrate", "worker"):
        assert services[name]["environment"]["DATABASE_URL"] == wanted


def test_compose_migrates_once_before_two_workers_that_may_end_in_peace() -> None:
    services = read("compose/compose.yaml")["services"]
    assert services["migrate"]["command"] == ["migrate", "up"]
    assert "restart" not in services["migrate"]
    worker = services["worker"]
    assert worker["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert worker["deploy"]["replicas"] == 2
    assert parse_duration(worker["stop_grace_period"]) >= grace("compose") + SPARE


# ---- Kubernetes

KINDS = {
    "Namespace": "v1", "Deployment": "apps/v1", "Job": "batch/v1", "CronJob": "batch/v1",
    "Kustomization": "kustomize.config.k8s.io/v1beta1",
}  # fmt: skip


def manifests() -> dict[str, dict[str, Any]]:
    """By kind, of the files that kustomization.yaml names."""
    places = read("kubernetes/kustomization.yaml")["resources"]
    return {one["kind"]: one for place in places for one in documents(f"kubernetes/{place}")}


def pod_of(one: dict[str, Any]) -> dict[str, Any]:
    template = one["spec"].get("jobTemplate", one)["spec"]["template"]
    pod: dict[str, Any] = template["spec"]
    return pod


def workloads() -> list[dict[str, Any]]:
    found = manifests()
    return [found["Job"], found["Deployment"], *documents("scale-to-zero/cronjob.yaml")]


def test_kubernetes_has_a_migration_and_a_deployment() -> None:
    """Each with the version of its kind, and nothing in the folder that is not named."""
    found = manifests()
    assert set(found) == {"Namespace", "Job", "Deployment"}
    named = {*read("kubernetes/kustomization.yaml")["resources"], "kustomization.yaml", "schedules.yaml"}
    assert {file.name for file in (EXAMPLES / "kubernetes").glob("*.yaml")} == named
    for one in [*found.values(), *workloads(), read("kubernetes/kustomization.yaml")]:
        assert one["apiVersion"] == KINDS[one["kind"]]


@pytest.mark.parametrize("one", workloads(), ids=lambda one: one["kind"])
def test_a_pod_is_shut_in_and_finds_its_secret(one: dict[str, Any]) -> None:
    """No rights, a read-only file system, room to write where it must, the URL from the Secret of the README."""
    pod = pod_of(one)
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["automountServiceAccountToken"] is False
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == wanted
    secret = container["env"][0]["valueFrom"]["secretKeyRef"]
    made = (EXAMPLES / "kubernetes/README.md").read_text(encoding="utf-8")
    assert f"create secret generic {secret['name']} " in made
    assert f"--from-literal={secret['key']}=" in made
    mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
    assert mounted == {volume["name"] for volume in pod.get("volumes", ())}
    assert not any("subPath" in mount for mount in container.get("volumeMounts", ()))
    if "migrate" not in container["args"]:
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(container["resources"]["limits"]) == {"memory"}


def test_the_deployment_selects_its_pods_and_mounts_the_file_it_reads() -> None:
    deployment = manifests()["Deployment"]
    template = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    made = {one["name"]: one["files"] for one in read("kubernetes/kustomization.yaml")["configMapGenerator"]}
    volumes = {one["name"]: one for one in template["spec"]["volumes"]}
    (mount,) = [one for one in container["volumeMounts"] if "configMap" in volumes[one["name"]]]
    (file,) = made[volumes[mount["name"]]["configMap"]["name"]]
    assert (EXAMPLES / "kubernetes" / file).is_file()
    place = f"{mount['mountPath']}/{file}"
    assert container["args"] == ["--config", place, "serve"]
    probes = {kind: container[kind]["exec"]["command"] for kind in ("startupProbe", "readinessProbe")}
    assert probes == {
        "startupProbe": ["runner", "--config", place, "status"],
        "readinessProbe": ["runner", "--config", place, "doctor"],
    }
    assert "livenessProbe" not in container


def test_a_pod_may_end_in_peace() -> None:
    """The cluster waits longer than `shutdown_grace`, and starts another pod before it ends one."""
    deployment = manifests()["Deployment"]
    seconds = pod_of(deployment)["terminationGracePeriodSeconds"]
    assert timedelta(seconds=seconds) >= grace("kubernetes") + SPARE
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_names_of_images_are_those_that_kustomize_replaces() -> None:
    (image,) = read("kubernetes/kustomization.yaml")["images"]
    used = {pod_of(one)["containers"][0]["image"] for one in manifests().values() if one["kind"] != "Namespace"}
    assert used == {image["name"]}


def test_an_edit_of_the_config_map_restarts_no_pod() -> None:
    """Its name does not change with its content."""
    assert read("kubernetes/kustomization.yaml")["generatorOptions"]["disableNameSuffixHash"] is True


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_makes_the_config_map_of_the_file() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", EXAMPLES / "kubernetes"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    made = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    assert made["ConfigMap"]["data"] == {
        "schedules.yaml": (EXAMPLES / "kubernetes/schedules.yaml").read_text(encoding="utf-8")
    }
    assert {one["metadata"].get("namespace", "runner") for one in made.values()} == {"runner"}
    assert pod_of(made["Deployment"])["containers"][0]["image"] == "reports:1"


# ---- systemd


def unit(name: str) -> configparser.ConfigParser:
    """A unit file; of settings that are there twice the last is kept."""
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(EXAMPLES / "systemd" / name)
    return found


def seconds(text: str) -> timedelta:
    return parse_duration(text.replace("min", "m")) if not text.isdecimal() else timedelta(seconds=int(text))


def test_the_service_tells_systemd_how_it_is() -> None:
    """Readiness, watchdog, reload by SIGHUP; it may end in peace, and no start mends a wrong file."""
    service = unit("runner.service")["Service"]
    assert service["Type"] == "notify"
    assert seconds(service["WatchdogSec"]) >= timedelta(seconds=30)
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillMode"] == "mixed"
    assert seconds(service["TimeoutStopSec"]) >= grace("systemd") + SPARE
    assert set(service["RestartPreventExitStatus"].split()) == {"2", "3"}


def test_the_timer_calls_run_once_and_waits_longer_than_it() -> None:
    service, timer = unit("runner-once.service")["Service"], unit("runner-once.timer")
    assert service["Type"] == "oneshot"
    timeout = re.search(r"run-once --timeout (\S+)$", service["ExecStart"])
    assert timeout is not None
    assert seconds(service["TimeoutStartSec"]) > parse_duration(timeout[1])
    assert timer["Timer"]["OnCalendar"]
    assert timer["Install"]["WantedBy"] == "timers.target"


def test_both_services_are_shut_in_alike() -> None:
    every, once = unit("runner.service")["Service"], unit("runner-once.service")["Service"]
    shut = {name: value for name, value in every.items() if name.startswith(("Protect", "Private", "Restrict", "Lock"))}
    shut = {name: value for name, value in shut.items() if name != "RestartPreventExitStatus"}
    assert len(shut) >= 14
    assert shut.items() <= dict(once).items()
    assert "ReadWritePaths" not in every
    assert every["Environment"].endswith(f"/var/lib/{every['StateDirectory']}/runner.db")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """`systemd-analyze verify` of all three, with the command where it is here; and how far the service is shut in."""
    for file in (EXAMPLES / "systemd").glob("runner*.*"):
        text = file.read_text(encoding="utf-8").replace("/srv/app/.venv/bin/runner", str(RUNNER))
        (tmp_path / file.name).write_text(text.replace("WorkingDirectory=/srv/app", f"WorkingDirectory={EXAMPLES}"))
    units = sorted(tmp_path.iterdir())
    assert len(units) == 3
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60, check=False
    )
    said = [line for line in done.stderr.splitlines() if "runner" in line]
    assert (done.returncode, said) == (0, []), done.stderr
    shown = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={int(EXPOSURE * 10)}", "--no-pager",
         tmp_path / "runner.service"], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stdout[-2000:] + shown.stderr


# ---- scale to zero


def test_each_limit_of_a_call_is_longer_than_the_one_inside() -> None:
    """`--timeout` ends a call before the cluster, or the continuous integration, does."""
    (cron,) = documents("scale-to-zero/cronjob.yaml")
    (container,) = pod_of(cron)["containers"]
    words = container["args"]
    assert words[0] == "run-once"
    timeout = parse_duration(words[words.index("--timeout") + 1])
    deadline = timedelta(seconds=cron["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"])
    assert deadline > timeout + SPARE
    steps = read("scale-to-zero/ci.yaml")["jobs"]["run-once"]
    (call,) = [step for step in steps["steps"] if "run-once" in step.get("run", "")]
    assert call["env"] == {"DATABASE_URL": "${{ secrets.DATABASE_URL }}"}
    limit = parse_duration(re.search(r"--timeout (\S+)", call["run"])[1])  # type: ignore[index]
    assert timedelta(minutes=steps["timeout-minutes"]) > limit + SPARE


def test_a_call_as_the_scheduler_makes_it(tmp_path: Path) -> None:
    """Its words are those of the CronJob; that nothing is due is good, twice."""
    (cron,) = documents("scale-to-zero/cronjob.yaml")
    words, url = pod_of(cron)["containers"][0]["args"], DIALECTS["postgresql"].nothing_yet(tmp_path)
    for _ in range(2):
        runner(*words, url=url, cwd=EXAMPLES / "scale-to-zero")
