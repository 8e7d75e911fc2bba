"""What one call of `make up` decides, and the files that follow from it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from deploy import checks, overview, passwords, ready, stack, summary
from deploy import environment as env
from deploy.files import own_folder, write
from deploy.local import prometheus, substations, supervisor
from deploy.local.paths import from_inside
from deploy.local.ports import HOST, answers, free_ports
from deploy.local.programs import BROKER, Layout, Program, grafana_server
from deploy.local.rabbitmq import Node, NodePorts
from deploy.local.supervisor import Supervisor, log_file
from deploy.rabbitmq import definitions
from deploy.rabbitmq.live import OwnBroker
from deploy.trial import Outcome, Trial
from grid.errors import ConfigurationError, GridError

NODE: Final = stack.STATE / "rabbitmq"
SUBSTATIONS_FILE: Final = stack.ROOT / "deploy" / "local" / "substations.json"
MOVED_SUBSTATIONS_FILE: Final = stack.STATE / "substations.json"
ERLANG_PORTS: Final = ("RABBITMQ_DIST_PORT", "ERL_EPMD_PORT")  # any that are free
DECLARE_SECONDS: Final = 60
BROKER_SECONDS: Final = 60.0  # then the services are started in any case: they wait for it, too
LOG_LINES: Final = 15
KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Setup:
    """The layout, its programs, and the file that lists the substations as the user wrote it."""

    layout: Layout
    programs: list[Program]
    source: Path

    @classmethod
    def decide(cls, environment: Mapping[str, str], running: stack.StackState | None) -> Self:
        """Decide from the environment; what runs already keeps Erlang's own ports.

        Raise ``ConfigurationError`` for a wrong variable, a missing program, a taken port.
        """
        ports = {**stack.choose_ports(environment), **_erlang_ports(running)}
        settings = env.settings(environment)
        if env.clustered(settings):
            raise ConfigurationError(f"{env.CLUSTER}=1 needs a Docker engine: MODE=docker make up")
        if env.API_KEYS_FILE in settings:
            passwords.check_keys(settings[env.API_KEYS_FILE])
        # not resolved: the target of a link may change
        source = Path(settings.get("SUBSTATIONS_FILE", SUBSTATIONS_FILE)).absolute()
        own, file = substations.read(source), source
        if (first := ports[stack.SUBSTATIONS]) != stack.PORTS[stack.SUBSTATIONS]:
            own = {name: first + number for number, name in enumerate(own)}
            file = MOVED_SUBSTATIONS_FILE
        outside = env.broker(settings)
        node = None if outside else Node(NODE, _node_ports(ports), seen=from_inside(NODE))
        layout = Layout(ports, own, file, node, settings)
        setup = cls(layout, layout.programs(), source)
        supervisor.config(setup.programs)  # refuses what it cannot hold
        stack.check_free(setup.listening(), running)
        return setup

    def listening(self) -> dict[int, str]:
        """Return every port that the stack listens on, and how to change each."""
        used = [stack.API, stack.DISPATCHER, stack.PROMETHEUS]
        if self.layout.node:
            used += [stack.RABBITMQ, stack.MANAGEMENT, stack.RABBITMQ_METRICS]
        if grafana_server():
            used.append(stack.GRAFANA)
        ports = [(self.layout.ports[name], stack.move_with(name)) for name in used]
        hint = stack.move_with(stack.SUBSTATIONS)
        return stack.once_each(ports + [(port, hint) for port in self.layout.substations.values()])

    def stack_state(self) -> stack.StackState:
        """Return the stack state to keep while this runs."""
        return stack.StackState(
            mode="local",
            ports=dict(self.layout.ports),
            settings=dict(self.layout.settings),
            listening=list(self.listening()),
        )

    def write_files(self) -> None:
        """Write everything that the programs read."""
        own_folder(stack.STATE)
        users = passwords.ensure(stack.SECRETS, self.layout.substations)
        passwords.ensure_keys(stack.SECRETS)
        if self.layout.node:
            self.layout.node.prepare(definitions.render_stack(users, self.layout.substations))
        if self.layout.substations_file != self.source:
            first = self.layout.ports[stack.SUBSTATIONS]
            write(self.layout.substations_file, substations.moved(self.source, first))
        text = prometheus.render(
            self.layout.ports, self._for_prometheus(), own_broker=bool(self.layout.node)
        )
        write(stack.STATE / "prometheus.yml", text)

    def _for_prometheus(self) -> Path:
        """Return the targets file under a path that Prometheus accepts, linked if necessary."""
        path = from_inside(self.layout.substations_file)
        if not prometheus.PATTERN.search(str(path)):
            return path
        link = stack.STATE / f"prometheus-targets{path.suffix}"
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        return from_inside(link)

    def own_broker(self) -> OwnBroker | None:
        """Return our own broker; None if an outside one is used."""
        if not self.layout.node:
            return None
        names = self.layout.substations
        users = passwords.ensure(stack.SECRETS, names)
        return OwnBroker(self.layout.ports[stack.MANAGEMENT], users, names)

    def declare_at_outside_broker(self) -> None:
        """Declare the topology at an outside broker; our own has it from its definitions.

        Raise ``GridError`` if that fails.
        """
        outside = env.broker(self.layout.settings)
        if not outside:
            return
        try:
            done = subprocess.run(
                [sys.executable, "-m", "grid", "declare"],
                env={**_environment(), **outside},
                cwd=stack.ROOT,
                check=False,
                timeout=DECLARE_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise GridError(f"no broker of AMQP_URL answered in {DECLARE_SECONDS} s") from None
        if done.returncode != 0:
            raise GridError("the broker of AMQP_URL did not take the declarations: see above")

    def start(self) -> None:
        """Run these programs and no others; one that has not changed is left alone.

        Services that start before RabbitMQ would warn that they cannot connect. Raise ``GridError``
        if the supervisor does not start.
        """
        supervisor = Supervisor()
        if self.layout.node and not supervisor.runs():
            broker = [each for each in self.programs if each.priority <= BROKER]
            supervisor.run(broker, _environment())
            self._wait_for_broker(supervisor)
        supervisor.run(self.programs, _environment())

    def _wait_for_broker(self, supervisor: Supervisor) -> None:
        """Wait until RabbitMQ takes connections, has failed, or the time is over."""
        deadline = time.monotonic() + BROKER_SECONDS
        port = self.layout.ports[stack.RABBITMQ]
        while not answers(port) and not supervisor.failed() and time.monotonic() < deadline:
            time.sleep(ready.POLL_INTERVAL)

    def look(self) -> ready.Look:
        """Return which programs are not ready, and which have ended for good."""
        return ready.Look(self._waiting(), Supervisor().failed())

    def _waiting(self) -> dict[str, str]:
        urls = {each.name: each.ready_url for each in self.programs if each.ready_url}
        found = {name: why for name, url in urls.items() if (why := ready.problem(url))}
        if "dispatcher" not in found:
            metrics = self._url(stack.DISPATCHER) + "/metrics"
            api = self._url(stack.API)
            found = checks.ineligible(metrics, self.layout.substations, api, self._key()) | found
        if "prometheus" not in found and (why := self._prometheus_problem()):
            found["prometheus"] = why
        return found

    def _prometheus_problem(self) -> str | None:
        names = checks.SINGLE_JOBS + (checks.BROKER_JOBS if self.layout.node else ())
        jobs = dict.fromkeys(names, 1)
        return checks.prometheus(self._url(stack.PROMETHEUS), jobs, self.layout.substations)

    def try_request(self) -> Outcome:
        """Send a request through."""
        if not self.layout.substations:
            return Outcome(remark="No test request was sent: no substation runs here.")
        return Trial(self._url(stack.API), self._key()).run()

    def urls(self) -> overview.Pages:
        """Return where to ask what goes on."""
        names = (stack.API, stack.DISPATCHER, stack.PROMETHEUS)
        return overview.Pages(*map(self._url, names))

    def _url(self, port: str) -> str:
        return f"http://{HOST}:{self.layout.ports[port]}"

    def _key(self) -> str | None:
        return passwords.operator_key() if env.closed(self.layout.settings) else None

    def explain(self, names: Iterable[str]) -> None:
        """Show the last lines that these programs have written."""
        for name in names:
            summary.say(f"\nThe last lines of {log_file(name)}:")
            summary.say("\n".join(f"  {line}" for line in _last_lines(log_file(name))))

    def summary(self) -> str:
        """Return what runs where, and how to log in."""
        rows = summary.lines(
            self.layout.ports,
            self.layout.substations,
            own_broker=self.layout.node is not None,
            closed=env.closed(self.layout.settings),
            no_grafana=None if grafana_server() else summary.GRAFANA_MISSING,
        )
        return summary.text(rows, self.layout.ports, closed=env.closed(self.layout.settings))


def _erlang_ports(running: stack.StackState | None) -> dict[str, int]:
    if running is None or not {*ERLANG_PORTS} <= running.ports.keys():
        return dict(zip(ERLANG_PORTS, free_ports(len(ERLANG_PORTS)), strict=True))
    return {name: running.ports[name] for name in ERLANG_PORTS}


def _last_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    except FileNotFoundError:
        return ["(nothing)"]
    except OSError as error:
        return [f"(it cannot be read: {error.strerror})"]


def _environment() -> dict[str, str]:
    """Return what every program gets of the caller's environment; the rest is passed by name."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "PYTHONUTF8": "1"}  # whatever the caller's language is


def _node_ports(ports: Mapping[str, int]) -> NodePorts:
    names = (stack.RABBITMQ, stack.MANAGEMENT, stack.RABBITMQ_METRICS, *ERLANG_PORTS)
    return NodePorts(*(ports[name] for name in names))
