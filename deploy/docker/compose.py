"""Docker Compose, called with the files, ports and services that one call of `make up` decides."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from deploy import checks, logs, overview, passwords, ready, stack, summary
from deploy import environment as env
from deploy.docker import containers
from deploy.files import digest, own_folder, read, write
from deploy.local.ports import HOST
from deploy.rabbitmq.live import OwnBroker
from deploy.trial import Outcome, Trial
from grid.errors import ConfigurationError, GridError

FOLDER: Final = stack.ROOT / "deploy"
FILES: Final = ("docker-compose.yml",)
OUTSIDE_FILES: Final = (*FILES, "docker-compose.outside-broker.yml")
CLUSTER_FILES: Final = (*FILES, "docker-compose.cluster.yml")
NODES: Final = ("rabbitmq", "rabbitmq2", "rabbitmq3")  # of a cluster
SUBSTATIONS_FILE: Final = FOLDER / "prometheus" / "substations.json"
# what Prometheus reads only when it starts; it watches the substations' file by itself
PROMETHEUS_FILES: Final = tuple(
    FOLDER / "prometheus" / name for name in ("prometheus.yml", "rules.yml", "alerts.yml")
)
WRITTEN: Final = "SECRETS_WRITTEN"  # a variable of the compose file
TLS_FOLDER: Final = "/run/broker-tls"  # in a container
USED: Final = stack.STATE / "docker"  # shows `make clean` that there may be volumes
ERASE_LINE: Final = "\x1b[2K"  # Compose 2.26 begins lines with it, though nobody sees a terminal
LOG_LINES: Final = "15"
PROMETHEUS_URL: Final = "http://prometheus:9090"  # among containers
# what answers 200 when a service is ready; every other one is a substation
PAGES: Final[Mapping[str, tuple[str, str]]] = {
    "api": (stack.API, "/readyz"),
    "dispatcher": (stack.DISPATCHER, "/readyz"),
    "rabbitmq": (stack.MANAGEMENT, "/"),
    "prometheus": (stack.PROMETHEUS, "/-/ready"),
    "grafana": (stack.GRAFANA, "/api/health"),
}
OWN_BROKER: Final = (stack.RABBITMQ, stack.MANAGEMENT, stack.RABBITMQ_METRICS)
ALWAYS: Final = (stack.API, stack.DISPATCHER, stack.PROMETHEUS, stack.GRAFANA)


def used_as_cluster() -> bool:
    """Return whether there may be volumes of a cluster."""
    return USED.exists() and read(USED) == env.CLUSTER


@dataclass(frozen=True, slots=True)
class Compose:
    """The services to start, their settings (``deploy.environment``) and their published ports."""

    ports: dict[str, int] = field(default_factory=lambda: dict(stack.PORTS))
    settings: dict[str, str] = field(default_factory=dict)
    build: bool = True

    @classmethod
    def decide(cls, environment: Mapping[str, str], *, build: bool = True) -> Self:
        """Decide from the environment. Raise ``ConfigurationError`` for a wrong variable."""
        compose = cls(stack.choose_ports(environment), env.settings(environment), build)
        env.stop_seconds(compose.settings)  # fails now if the value is wrong
        env.clustered(compose.settings)
        if env.API_KEYS_FILE in compose.settings:
            passwords.check_keys(compose.settings[env.API_KEYS_FILE])
        return compose

    @property
    def outside(self) -> dict[str, str]:
        """Return the settings of an outside broker; empty if there is none."""
        return env.broker(self.settings)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return our own RabbitMQ nodes."""
        if self.outside:
            return ()
        return NODES if env.clustered(self.settings) else NODES[:1]

    @property
    def services(self) -> tuple[str, ...]:
        """Return the services that run: all, or only those that ``SERVICES`` names."""
        named = self.settings.get("SERVICES", "").split()
        known = [name for name in PAGES if name not in NODES]
        return tuple(named or [*known, *self.nodes, *self.substations()])

    def substations(self) -> dict[str, int]:
        """Return each substation's metrics port on this machine.

        Raises:
            ConfigurationError: the targets file cannot be read, or is not one.
        """
        first = self.ports[stack.SUBSTATIONS]
        try:
            groups = json.loads(read(SUBSTATIONS_FILE))
            names = [str(group["labels"]["substation"]) for group in groups]
        except (ValueError, LookupError, TypeError) as error:
            raise ConfigurationError(
                f"{SUBSTATIONS_FILE} must be a JSON list of objects with targets and the label "
                f"substation: {error!r}"
            ) from error
        return {name: first + number for number, name in enumerate(names)}

    def listening(self) -> dict[int, str]:
        """Return every published port, and how to change each."""
        names = ALWAYS if self.outside else (*ALWAYS, *OWN_BROKER)
        ports = [(self.ports[name], stack.move_with(name)) for name in names]
        hint = stack.move_with(stack.SUBSTATIONS)
        return stack.once_each(ports + [(port, hint) for port in self.substations().values()])

    def stack_state(self) -> stack.StackState:
        """Return the stack state to keep while this runs."""
        return stack.StackState("docker", self.ports, self.settings, list(self.listening()))

    def write_files(self) -> None:
        """Write the passwords, keys and definitions that the containers read."""
        passwords.write_for_containers(stack.SECRETS, self.settings, self.substations())
        own_folder(stack.STATE)
        clustered = len(self.nodes) > 1 or used_as_cluster()
        write(USED, env.CLUSTER if clustered else "")

    def own_broker(self) -> OwnBroker | None:
        """Return our own broker; None if an outside one is used."""
        if self.outside:
            return None
        names = self.substations()
        users = passwords.ensure(stack.SECRETS, names, for_containers=True)
        return OwnBroker(self.ports[stack.MANAGEMENT], users, names)

    def declare_at_outside_broker(self) -> None:
        """Declare the topology at an outside broker.

        Raises:
            GridError: it does not take it.
        """
        if not self.outside:
            return
        command = ("python3", "-m", "grid", "declare")
        if self.run("run", "--build", "--rm", "--no-deps", "api", *command) != 0:
            raise GridError("the broker of AMQP_URL did not take the declarations: see above")

    def start(self) -> None:
        """Run these services. Raise ``GridError`` if Compose cannot start one."""
        named = self.settings.get("SERVICES", "").split()
        build = "--build" if self.build else "--no-build"
        # a service named alone must not start the broker that it waits for otherwise
        only = ("--no-deps", *named) if named else ()
        if self.run("up", "--detach", build, *only) != 0:
            raise GridError(
                "Compose could not start all containers: see above. Without: MODE=local make up"
            )

    def programs(self) -> list[overview.Program]:
        """Return the state of each container, and what keeps it from working."""
        found = containers.look(self._call)
        problems = self.look().waiting
        return [
            overview.Program(name, each.status, each.pid or None, problems.get(name))
            for name in self.services
            for each in [found.get(name, containers.ABSENT)]
        ]

    def lines(
        self, names: Sequence[str], before: int, *, follow: bool
    ) -> Iterator[tuple[str, str]]:
        """Yield services and what their containers write, of these services or of all.

        The first lines are those that each has written ``before``, so many; without ``follow``,
        there are no others.
        """
        options = (*(("--follow",) if follow else ()), "--no-color", "--tail", str(before))
        command = self._command(["logs", *options, *names])
        for _, line in logs.follow({"compose": command}, self.environment(os.environ)):
            container, bar, text = line.removeprefix(ERASE_LINE).partition("| ")
            service = container.strip().rpartition("-")[0]
            yield (service, text) if bar and service else ("compose", line)

    def urls(self) -> overview.Pages:
        """Return where to ask what goes on."""
        asked = {"api": stack.API, "dispatcher": stack.DISPATCHER, "prometheus": stack.PROMETHEUS}
        return overview.Pages(
            *(self._url(port) if name in self.services else None for name, port in asked.items())
        )

    def look(self) -> ready.Look:
        """Return which services are not healthy yet, and which have ended for good."""
        found = containers.look(self._call)
        waiting = {
            name: ready.problem(self._page(name)) or "Docker has not checked it yet"
            for name in self.services
            if name not in found or not found[name].healthy
        }
        if "dispatcher" in self.services and "dispatcher" not in waiting:
            metrics = self._url(stack.DISPATCHER) + "/metrics"
            api = self._url(stack.API)
            waiting = checks.ineligible(metrics, self._started(), api, self._key()) | waiting
        if "prometheus" in self.services and "prometheus" not in waiting:
            url = self._url(stack.PROMETHEUS)
            if why := checks.prometheus(url, self._scraped(), self._started()):
                waiting["prometheus"] = why
        ended = [name for name in self.services if name in found and found[name].ended]
        return ready.Look(waiting, ended)

    def explain(self, names: Iterable[str]) -> None:
        """Show the containers, and the last lines that these services have written."""
        self.run("ps", "--all")
        self.run("logs", "--tail", LOG_LINES, *names)

    def containers(self) -> bool:
        """Return whether any container of ours is there.

        Raises:
            GridError: Docker does not answer, or they were started from another folder, whose
                stack they are.
        """
        found = containers.existing(self._call)
        if other := containers.other_folder(found, FOLDER):
            raise GridError(
                f"The containers of this stack were started from {other}: "
                "stop them there first, with  make down"
            )
        return bool(found)

    def run(self, *arguments: str) -> int:
        """Call Compose; return its exit status."""
        return self._call(arguments).returncode

    def summary(self) -> str:
        """Return what runs where, and how to log in."""
        rows = summary.lines(
            self.ports,
            self.substations(),
            own_broker=not self.outside,
            closed=env.closed(self.settings),
            no_grafana=None if "grafana" in self.services else "left out by SERVICES",
        )
        return summary.text(rows, self.ports, closed=env.closed(self.settings))

    def _page(self, name: str) -> str:
        known = NODES[0] if name in NODES else name  # the other nodes' pages are not published
        port, path = PAGES.get(known, ("", "/readyz"))
        number = self.ports[port] if port else self.substations().get(name, 0)
        return f"http://{HOST}:{number}{path}"

    def try_request(self) -> Outcome:
        """Send a request through, if all that it needs runs."""
        if not self._started() or not {"api", "dispatcher"} <= set(self.services):
            return Outcome(
                remark="No test request was sent: SERVICES leaves out a service that it needs."
            )
        return Trial(self._url(stack.API), self._key()).run()

    def _scraped(self) -> dict[str, int]:
        """Return how many targets of each of Prometheus's jobs are to be up."""
        found: dict[str, int] = {name: 1 for name in checks.SINGLE_JOBS if name in self.services}
        nodes = sum(node in self.services for node in self.nodes)
        return {**found, **{name: nodes for name in checks.BROKER_JOBS if nodes}}

    def _started(self) -> list[str]:
        return [name for name in self.substations() if name in self.services]

    def _url(self, port: str) -> str:
        return f"http://{HOST}:{self.ports[port]}"

    def _key(self) -> str | None:
        return passwords.operator_key() if env.closed(self.settings) else None

    def _call(
        self, arguments: Iterable[str], output: int | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S603
            self._command(arguments),
            env=self.environment(os.environ),
            stdout=output,
            check=False,
        )

    def _command(self, arguments: Iterable[str]) -> list[str]:
        """Return the command line of a call of Compose."""
        clustered = CLUSTER_FILES if len(self.nodes) > 1 else FILES
        names = OUTSIDE_FILES if self.outside else clustered
        files = [option for name in names for option in ("-f", str(FOLDER / name))]
        # `make up` has read .env; by itself Compose would ignore that a setting of it is unset
        return ["docker", "compose", "--env-file", os.devnull, *files, *arguments]

    def environment(self, caller: Mapping[str, str]) -> dict[str, str]:
        """Return the variables for Compose: the caller's, overridden by what was decided."""
        ports = {name: str(port) for name, port in self.ports.items()}
        ports |= {
            f"{one.upper()}_METRICS_PORT": str(port) for one, port in self.substations().items()
        }
        rest = {name: value for name, value in caller.items() if not _decided_here(name)}
        elsewhere = (*env.BROKER, env.API_KEYS_FILE)
        settings = {name: one for name, one in self.settings.items() if name not in elsewhere}
        more = {
            "SUBSTATION_STOP_SECONDS": str(env.stop_seconds(self.settings)),
            env.PROMETHEUS_URL: PROMETHEUS_URL if "prometheus" in self.services else "",
        }
        return {**rest, **ports, **settings, **more, **self._broker(), **self._files()}

    def _files(self) -> dict[str, str]:
        """Return the variables that name the caller's keys, and show Compose that a file changed.

        A container keeps what it read at its start, until it is created again.
        """
        keys = [stack.SECRETS / name for name in (passwords.KEYS_FILE, passwords.OUTSIDE_KEYS)]
        given = env.API_KEYS_FILE in self.settings
        return {
            env.API_KEYS_FILE: f"/run/secrets/{passwords.OUTSIDE_KEYS}" if given else "",
            WRITTEN: "1",
            "API_KEYS_DIGEST": digest(keys),
            "PROMETHEUS_DIGEST": digest(PROMETHEUS_FILES),
        }

    def _broker(self) -> dict[str, str]:
        """Return the variables that replace the addresses and users of our one node.

        Each service finds an outside broker's password where its own would be, and its TLS files
        beside it.
        """
        if len(self.nodes) > 1:
            return {env.AMQP_URL: ",".join(f"amqp://{node}:5672/" for node in self.nodes)}
        if not self.outside:
            return {}
        found = {env.AMQP_USER: "", **self.outside}
        found |= {name: f"{TLS_FOLDER}/{name}" for name in env.TLS_FILES if name in found}
        if env.AMQP_PASSWORD_FILE not in found:
            return {**found, env.AMQP_PASSWORD_FILE: ""}
        del found[env.AMQP_PASSWORD_FILE]
        return found


def _decided_here(name: str) -> bool:
    """Return whether a caller's variable would override what was decided, or what Compose reads."""
    return name in {*env.VARIABLES, WRITTEN} or name.startswith("COMPOSE_")
