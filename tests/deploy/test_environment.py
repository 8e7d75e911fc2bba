"""The settings of the stack, and how its tools log in."""

from __future__ import annotations

import pytest

from api.settings import ApiSettings
from deploy import environment as env
from deploy import load, login, parked, stack
from deploy.rabbitmq.users import permissions
from dispatcher.settings import DispatcherSettings
from grid.errors import ConfigurationError
from substation.settings import SubstationSettings

# what `make up` decides by itself, or moves as a port
DECIDED = {
    "HTTP_HOST",
    "API_ADDRESS",
    "OPERATOR_KEYS_FILE",
    "PROMETHEUS_URL",
    "SUBSTATION_ID",
    "SUBSTATION_METRICS_PORT",
    stack.API,
    stack.DISPATCHER,
}
OUTSIDE = {
    "AMQP_URL": "amqps://rabbit.example/",
    "AMQP_USER": "grid",
    "AMQP_PASSWORD_FILE": "/etc/grid/password",
    "AMQP_CA_FILE": "/etc/grid/ca.pem",
}


def running(settings: dict[str, str]) -> stack.StackState:
    """Return the state of a running stack with these settings."""
    return stack.StackState("local", dict(stack.PORTS), settings)


def test_environment_knows_every_variable_of_every_service() -> None:
    """The stack keeps every service's variable that `make up` does not decide itself."""
    kinds = (ApiSettings, DispatcherSettings, SubstationSettings)
    aliases = {field.alias for kind in kinds for field in kind.model_fields.values()}
    assert aliases - DECIDED == set(env.VARIABLES) - {"SERVICES", "BUILD_NETWORK", "CLUSTER"}


def test_environment_counts_only_the_projects_variables() -> None:
    """Whatever else the caller's environment has, and whatever is set to nothing."""
    assert env.settings({"CONNECTORS": "7", "PATH": "/bin", "PREFETCH": ""}) == {"CONNECTORS": "7"}


def test_environment_ignores_amqp_user_without_an_address() -> None:
    """A user without an address is ignored: our own broker has its own users."""
    assert env.broker({"AMQP_USER": "grid", "AMQP_PASSWORD_FILE": "x"}) == {}


def test_load_test_logs_in_at_the_stacks_broker() -> None:
    """As its own user at our own broker, like the stack at another, or as the caller says."""
    own = load.environment(running({}), {})
    assert (own["AMQP_USER"], own["AMQP_URL"]) == ("load_test", "amqp://127.0.0.1:5672/")
    outside = load.environment(running(OUTSIDE), {"AMQP_URL": ""})
    assert OUTSIDE.items() <= outside.items()
    other = load.environment(running(OUTSIDE), {"AMQP_URL": "amqp://other.example/"})
    assert "AMQP_USER" not in other


def test_parked_tool_logs_in_as_its_own_user() -> None:
    """Its password is a file of its own, made with the others; an outside broker has its own."""
    own = login.broker(parked.USER, running({}), {"PATH": "/bin"})
    assert own["AMQP_USER"] == "parked"
    assert own["AMQP_PASSWORD_FILE"] == str(stack.SECRETS / "parked")
    assert own["PATH"] == "/bin"
    assert "parked" in permissions(())
    assert OUTSIDE.items() <= login.broker(parked.USER, running(OUTSIDE), {}).items()


@pytest.mark.parametrize(("grace", "seconds"), [(None, 25), ("0", 15), ("0.5", 16), ("60", 75)])
def test_stop_timeout_is_grace_plus_margin(grace: str | None, seconds: int) -> None:
    """It is killed only after its grace period and some time to write and close."""
    assert env.stop_seconds({"GRACE_SECONDS": grace} if grace else {}) == seconds


@pytest.mark.parametrize("grace", ["ten", "-1", "nan", "inf"])
def test_wrong_grace_seconds_is_named(grace: str) -> None:
    """A value that is not a time is refused, with variable and value."""
    with pytest.raises(ConfigurationError, match=f"GRACE_SECONDS={grace}"):
        env.stop_seconds({"GRACE_SECONDS": grace})
