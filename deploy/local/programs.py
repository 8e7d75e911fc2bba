"""The programs that run on this machine, and their settings. Nothing is started here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from deploy import environment as env
from deploy import passwords, stack
from deploy.local import prometheus
from deploy.local.paths import command, from_inside
from deploy.local.ports import HOST
from deploy.local.rabbitmq import Node
from deploy.rabbitmq.users import substation_user
from grid import topology
from grid.errors import ConfigurationError

# what is started first and stopped last; services wait for what they need
BROKER, SERVICES, OBSERVERS = 100, 200, 300
BROKER_STOP_SECONDS: Final = 60
# Where services publish: one started before an update may not write there any more.
TOPOLOGY: Final = Path(topology.__file__)
GRAFANA_HOME: Final = Path("/usr/share/grafana")  # of its Debian package


@dataclass(frozen=True, slots=True)
class Program:
    """One process for the supervisor; ``environment`` is all it gets besides ``PATH`` and the like.

    A change of the files it ``reads`` restarts it, as a change of its command does.
    """

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    priority: int = SERVICES
    stop_seconds: int = env.STOP_MARGIN_SECONDS
    ready_url: str | None = None
    reads: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """What `make up` decided: ports, substations (id → metrics port), and the paths of files."""

    ports: Mapping[str, int]
    substations: Mapping[str, int]
    substations_file: Path
    node: Node | None
    settings: Mapping[str, str]  # see `deploy.environment`

    def programs(self) -> list[Program]:
        """Return every program.

        Raises:
            ConfigurationError: one is not installed, a setting is wrong, or two have one name.
        """
        found = [*self._broker(), *self._services(), *self._observers()]
        names = [each.name for each in found]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigurationError(
                f"SUBSTATIONS_FILE={self.substations_file}: {', '.join(sorted(twice))}: "
                "must be another name: a program of the stack has it"
            )
        return found

    def _broker(self) -> Iterator[Program]:
        if self.node is None:
            return
        environment = self.node.environment()
        yield Program("epmd", self.node.epmd_command(), environment, priority=BROKER - 1)
        yield Program(
            "rabbitmq",
            command(self.node.server_command()),
            environment,
            priority=BROKER,
            stop_seconds=BROKER_STOP_SECONDS,
            ready_url=f"http://{HOST}:{self.ports[stack.MANAGEMENT]}/",
            reads=self.node.files,
        )

    def _services(self) -> Iterator[Program]:
        yield self._api()
        yield self._service(
            "dispatcher",
            "dispatcher",
            stack.DISPATCHER,
            self.ports[stack.DISPATCHER],
            SUBSTATIONS_FILE=str(from_inside(self.substations_file)),
        )
        for name, port in self.substations.items():
            yield self._service(
                "substation",
                name,
                "SUBSTATION_METRICS_PORT",
                port,
                user=substation_user(name),
                SUBSTATION_ID=name,
            )

    def _api(self) -> Program:
        keys = {env.OPERATOR_KEYS_FILE: stack.SECRETS / passwords.KEYS_FILE}
        if file := self.settings.get(env.API_KEYS_FILE):
            keys[env.API_KEYS_FILE] = Path(file).absolute()
        more = {name: str(from_inside(path)) for name, path in keys.items()}
        more[env.PROMETHEUS_URL] = self._prometheus_url
        api = self._service("api", "api", stack.API, self.ports[stack.API], **more)
        return replace(api, reads=[*keys.values(), *api.reads])

    def _service(
        self,
        module: str,
        name: str,
        port_variable: str,
        port: int,
        *,
        user: str | None = None,
        **more: str,
    ) -> Program:
        from deploy.local import service_settings  # noqa: PLC0415  # see there

        known = service_settings.variables(module) - {*env.BROKER}
        environment = {
            # the caller's settings for this service, e.g. CONNECTORS
            **{name: value for name, value in self.settings.items() if name in known},
            **self._credentials(user or module),
            "HTTP_HOST": HOST,
            port_variable: str(port),
            **more,
        }
        service_settings.check(module, environment)  # a wrong value must fail now, not in a log
        return Program(
            name,
            command([sys.executable, "-m", module]),
            environment,
            stop_seconds=env.stop_seconds(self.settings),
            ready_url=f"http://{HOST}:{port}/readyz",
            reads=[TOPOLOGY],
        )

    def _credentials(self, user: str) -> dict[str, str]:
        outside = {
            name: str(from_inside(Path(value))) if name in env.BROKER_FILES else value
            for name, value in env.broker(self.settings).items()
        }
        return outside or {
            env.AMQP_URL: f"amqp://{HOST}:{self.ports[stack.RABBITMQ]}/",
            env.AMQP_USER: user,
            env.AMQP_PASSWORD_FILE: str(from_inside(stack.SECRETS / user)),
        }

    @property
    def _prometheus_url(self) -> str:
        return f"http://{HOST}:{self.ports[stack.PROMETHEUS]}"

    def _observers(self) -> Iterator[Program]:
        port, state = self.ports[stack.PROMETHEUS], from_inside(stack.STATE)
        yield Program(
            "prometheus",
            [
                _installed("prometheus", "prometheus"),
                f"--config.file={state}/prometheus.yml",
                f"--storage.tsdb.path={state}/prometheus",
                f"--storage.tsdb.retention.time={prometheus.RETENTION}",
                "--enable-feature=exemplar-storage",
                f"--web.listen-address={HOST}:{port}",
            ],
            priority=OBSERVERS,
            ready_url=f"http://{HOST}:{port}/-/ready",
            reads=[stack.STATE / "prometheus.yml", *prometheus.RULES],
        )
        if grafana := grafana_server():
            yield self._grafana(grafana)

    def _grafana(self, server: str) -> Program:
        port, state = self.ports[stack.GRAFANA], from_inside(stack.STATE)
        folder = from_inside(stack.ROOT / "deploy" / "grafana")
        return Program(
            "grafana",
            [server, f"--homepath={GRAFANA_HOME}"],
            {
                "GF_SERVER_HTTP_ADDR": HOST,
                "GF_SERVER_HTTP_PORT": str(port),
                "GF_PATHS_DATA": f"{state}/grafana",
                "GF_PATHS_LOGS": f"{state}/grafana/log",
                "GF_PATHS_PLUGINS": f"{state}/grafana/plugins",
                "GF_PATHS_PROVISIONING": f"{folder}/provisioning",
                "GF_SECURITY_ADMIN_USER": "admin",
                "GF_SECURITY_ADMIN_PASSWORD__FILE": str(from_inside(stack.SECRETS / "grafana")),
                "GF_ANALYTICS_REPORTING_ENABLED": "false",
                "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
                env.PROMETHEUS_URL: self._prometheus_url,
                "GRAFANA_DASHBOARDS": f"{folder}/dashboards",
            },
            priority=OBSERVERS,
            ready_url=f"http://{HOST}:{port}/api/health",
        )


def grafana_server() -> str | None:
    """Return the path of Grafana's server, if it is installed."""
    return shutil.which("grafana-server")


def _installed(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise ConfigurationError(f"{program} is not installed: install the package {package}")
    return path
