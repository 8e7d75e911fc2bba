"""All services as processes of their own, around a virtual host of a real RabbitMQ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from deploy.local.ports import DIRECTLY, HOST
from deploy.rabbitmq.users import substation_user
from tests.broker import VirtualHost
from tests.forked import Forked, Running
from tests.ports import free_ports

READY_SECONDS = 30.0
STOP_SECONDS = 20.0
STANDBY = "standby"
DISPATCHERS = ("dispatcher", STANDBY)
THIRD = "third"  # dispatcher
OTHER_API = "other-api"
MODULES = {
    STANDBY: "dispatcher",
    THIRD: "dispatcher",
    OTHER_API: "api",
}  # of services whose module is not their name
QUICK = {"CHARGE_SECONDS_MIN": "0.1", "CHARGE_SECONDS_MAX": "0.2"}  # very short sessions
ROOT = Path(__file__).resolve().parent.parent


class System:
    """One api, one dispatcher and some substations; each can be ended and started again.

    Services named ``STANDBY`` and ``THIRD`` are further dispatchers, ``OTHER_API`` a second api; a
    test starts them itself.

    ``way`` turns the broker's address into the one that a service is configured with.
    ``environment`` is set for every service; ``special`` has further variables for names like
    ``substation1``. ``prefix`` is put before each service's command, for example ``prlimit``.
    The services are forked off a process that has imported them, unless there is a prefix or they
    are to be ``programs``, each with a command line and a loader of its own.
    Close it, or use it as a context.
    """

    def __init__(
        self,
        vhost: VirtualHost,
        folder: Path,
        *,
        substations: int = 3,
        environment: dict[str, str] | None = None,
        special: dict[str, dict[str, str]] | None = None,
        way: Callable[[str], str] = str,
        prefix: Sequence[str] = (),
        programs: bool = False,
    ) -> None:
        self.folder = folder
        self._prefix = prefix
        self._programs = programs or bool(prefix)
        self._way = way
        self._vhost = vhost
        self._environment = environment or {}
        self._special = dict(special or {})
        self.substations = [f"substation{number}" for number in range(1, substations + 1)]
        self.services = ["api", "dispatcher", *self.substations]
        names = [*self.services, *MODULES]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.processes: dict[str, Running] = {}
        self.targets = folder / "substations.json"
        self.write_targets(self.substations)

    def __enter__(self) -> System:
        for name in self.services:
            self.start(name)
        self.wait_ready()
        self._vhost.broker.declared()  # by the dispatcher: the substations' queues
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write_targets(self, substations: list[str], moved: dict[str, int] | None = None) -> None:
        """Set which substations there are, as an operator does: by replacing the target file.

        ``moved`` has ports of metrics pages that differ from the substations' own.
        """
        ports = {**self.ports, **(moved or {})}
        groups = [
            {"targets": [f"{HOST}:{ports[name]}"], "labels": {"substation": name}}
            for name in substations
        ]
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps(groups))
        new.replace(self.targets)

    def start(self, name: str) -> None:
        """Start a service."""
        module = "substation" if name in self.substations else MODULES.get(name, name)
        variables, file = self._variables(name, module), self.folder / f"{name}.log"
        if not self._programs:
            self.processes[name] = Forked(module, ROOT, variables, file)
            return
        with file.open("ab") as log:
            self.processes[name] = subprocess.Popen(  # noqa: S603
                [*self._prefix, sys.executable, "-m", module],
                cwd=ROOT,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def change(self, name: str, environment: dict[str, str]) -> None:
        """Set a service's variables for its next start."""
        self._special[name] = environment

    def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """End a service, wait for it, and return its exit status."""
        self.tell(name, how)
        return self.ended(name)

    def tell(self, name: str, what: signal.Signals) -> None:
        """Send a service a signal, and go on."""
        self.processes[name].send_signal(what)

    def ended(self, name: str) -> int:
        """Wait for a service that was told to end, and return its exit status."""
        return self.processes.pop(name).wait(STOP_SECONDS)

    def kill(self, name: str) -> None:
        """End a service as `kill -9` does."""
        self.end(name, signal.SIGKILL)

    def close(self) -> None:
        """End all that runs."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(STOP_SECONDS)
        self.processes.clear()

    def _told(self, name: str) -> str:
        """Return whether a service still runs, why it ended, and the end of its log."""
        status, log = self.processes[name].poll(), self.log(name)
        state = "runs" if status is None else f"has ended with status {status}"
        critical = "\n".join(line for line in log.splitlines() if "critical" in line.lower())
        return f"--- {name} {state}\n{critical}\n{log[-3000:]}"

    def log(self, name: str) -> str:
        """Return what a service has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def wait_ready(self, *names: str, eligible: Iterable[str] | None = None) -> None:
        """Wait until these services, or all that run, say that they are ready.

        And until jobs may be sent to the substations that are ``eligible``: else all that run.
        """
        for name in names or list(self.processes):
            self.until(lambda name=name: self.get(name, "/readyz")[0] == 200, f"{name} is ready")  # type: ignore[misc]
        wanted = [*self.substations] if eligible is None else [*eligible]
        self.until(lambda: self._eligible(wanted), "the dispatcher may use every substation")

    def until(self, holds: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
        """Wait for something to become true; fail with the services' logs if it does not."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                logs = "\n".join(map(self._told, self.processes))
                raise AssertionError(f"not within {seconds} s: {what}\n{logs}")
            time.sleep(0.05)

    def get(self, name: str, path: str) -> tuple[int, Any]:
        """Return the page of a service: status (0 if it does not answer) and content."""
        return self.call(name, "GET", path)

    def post(self, body: object = None, path: str = "/charge", **headers: str) -> tuple[int, Any]:
        """Send the api a request."""
        return self.call("api", "POST", path, body, headers)

    def call(
        self,
        name: str,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Call a service over HTTP, and return status (0 if it does not answer) and content."""
        data = (
            None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        request = urllib.request.Request(
            f"http://{HOST}:{self.ports[name]}{path}",
            data=data,
            method=method,
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        try:
            with DIRECTLY.open(request, timeout=10) as answer:
                return answer.status, _content(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _content(error.read())
        except OSError:
            return 0, None

    def all_charges(self) -> list[dict[str, Any]]:
        """Return every job the api knows, the oldest first."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            status, page = self.get("api", f"/charges?limit=1000{after}")
            assert status == 200, page
            found += page["charges"]
            if page["next"] is None:
                return found
            after = f"&after={page['next']}"

    def wait_completed(self, ids: set[str], seconds: float = 60.0) -> list[dict[str, Any]]:
        """Wait until all these jobs are completed, and return them."""

        def unfinished() -> set[str]:
            return ids - {
                each["id"] for each in self.all_charges() if each["status"] == "completed"
            }

        self.until(lambda: not unfinished(), f"{len(ids)} jobs are completed", seconds)
        return [each for each in self.all_charges() if each["id"] in ids]

    def _eligible(self, names: list[str]) -> bool:
        if "dispatcher" not in self.processes:
            return True
        status, page = self.get("dispatcher", "/metrics")
        wanted = [name for name in names if name in self.processes]
        return status == HTTPStatus.OK and all(
            f'dispatcher_substation_eligible{{substation="{n}"}} 1.0' in page for n in wanted
        )

    def _variables(self, name: str, module: str) -> dict[str, str]:
        port = {
            "api": "API_PORT",
            "dispatcher": "DISPATCHER_METRICS_PORT",
            "substation": "SUBSTATION_METRICS_PORT",
        }[module]
        user = substation_user(name) if module == "substation" else module
        return {
            "PATH": os.environ["PATH"],
            "AMQP_URL": self._way(self._vhost.url(user)),
            port: str(self.ports[name]),
            "SUBSTATIONS_FILE": str(self.targets),
            "SUBSTATION_ID": name,
            **self._environment,
            **self._special.get(name, {}),
        }


def _content(data: bytes) -> Any:  # noqa: ANN401  # JSON, or text
    try:
        return json.loads(data)
    except ValueError:
        return data.decode()
