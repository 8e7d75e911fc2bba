"""A connection with one channel that is opened again when it breaks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import cycle
from typing import Any, Final, TypeVar, cast

from pika import SSLOptions, URLParameters
from pika.channel import Channel
from pika.connection import Parameters
from pika.exceptions import AMQPError, IncompatibleProtocolError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_random_exponential,
)

from grid import tls
from grid.amqp.connection import Connection, connection_of
from grid.errors import BrokerUnavailable, ConfigurationError
from grid.threads import in_thread
from grid.waiting import unreported

T = TypeVar("T")
Watch = Callable[[str, bool, str], None]  # a link's name, whether it is up, why

HEARTBEAT_SECONDS: Final = 10  # below 5 s a busy machine looks like a dead one
CONNECT_SECONDS: Final = 5  # then the next address is tried
ANSWER_SECONDS: Final = 10
CLOSE_SECONDS: Final = 2
MAX_BACKOFF: Final = 3
LIFE_LEAST_SECONDS: Final = 1.0  # a link that broke sooner is not opened again before


class Link:
    """One connection with one channel, which are opened again when they break, while ``run`` runs.

    A link's callbacks are passed to ``run``: so whoever needs the link can have it before.
    """

    def __init__(self, name: str, urls: Sequence[str], watch: Watch) -> None:
        self.name = name
        self.up = asyncio.Event()
        self._urls = cycle(urls)
        self._watch = watch
        self._channel: Channel | None = None
        self._broken: asyncio.Future[str]
        self._preparing: asyncio.Future[URLParameters] | None = None
        self._said = ""
        self._failing = False

    @property
    def connected(self) -> bool:
        """Return whether the link is up."""
        return self.up.is_set()

    def before_flush(self, call: Callable[[], None]) -> None:
        """Call back soon: if the link is up, just before what was written until then is sent."""
        if (channel := self._usable()) is not None:
            connection_of(channel).before_flush(partial(guarded, call))
        else:
            asyncio.get_running_loop().call_soon(call)

    async def _run(self) -> None:
        """Keep the link up until the task is cancelled; then close it."""
        connection: Connection | None = None
        time = asyncio.get_running_loop().time
        try:
            while True:
                connection = await self._open_with_retries()
                opened = time()
                self._down(await self._broken)
                await _close(connection)
                # what breaks it at once may do so every time: a permission or an exchange missing
                await asyncio.sleep(opened + LIFE_LEAST_SECONDS - time())
        finally:
            self.up.clear()
            self._closing()
            self._channel = None
            await _close(connection)

    async def _open_with_retries(self) -> Connection:
        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.2, max=MAX_BACKOFF),
            # a file for TLS may be replaced just now
            retry=retry_if_exception_type((AMQPError, OSError, ConfigurationError)),
            before_sleep=self._say_failed,
        )
        return await cast(Awaitable[Connection], retrying(self._open))

    async def _open(self) -> Connection:
        broken = self._broken = asyncio.get_running_loop().create_future()
        connection = await _connect(await self._prepare(), broken)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                channel = await _open_channel(connection, broken)
                await self._unless_broken(self._set_up(channel))
        except BaseException:
            self._channel = None
            self._lost()
            await _close(connection)
            raise
        self._channel = channel
        self.up.set()
        self._failing = False
        self._say(up=True, why="connected")
        self._opened(connection, channel)
        return connection

    async def _prepare(self) -> URLParameters:
        """Return how to connect to the next address, with its files for TLS as they are now.

        They are read in a thread: a disk that does not answer must not block the whole service.
        """
        if self._preparing is None:
            prepare = partial(_parameters, next(self._urls), self.name)
            self._preparing = in_thread(prepare, f"TLS files of {self.name}")
        preparing = self._preparing
        await asyncio.wait({preparing}, timeout=CONNECT_SECONDS)
        if not preparing.done():
            raise ConnectionError(f"the files for TLS could not be read in {CONNECT_SECONDS:g} s")
        self._preparing = None
        return preparing.result()

    async def _do(self, what: str, work: Callable[[Channel], Coroutine[Any, Any, T]]) -> T:
        """Run ``work`` on the channel. Raise ``BrokerUnavailable`` if that fails."""
        if (channel := self._usable()) is None:
            raise BrokerUnavailable(f"cannot {what}: not connected to RabbitMQ")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._unless_broken(work(channel))
        except (OSError, AMQPError) as error:
            raise BrokerUnavailable(f"cannot {what}: {error}") from error

    async def _unless_broken(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work; raise if the channel closes meanwhile, since the work would never end."""
        task = asyncio.ensure_future(work)
        unreported(task)  # once the channel is gone, its result is of no use
        broken = self._broken  # the next connection may have its own by the time it is settled
        waited: set[asyncio.Future[Any]] = {task, broken}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if broken.done():  # any result belongs to a channel that is gone
                raise ConnectionError(broken.result())
            return await task
        finally:
            task.cancel()

    def _down(self, why: str) -> None:
        self._channel = None
        self.up.clear()
        self._say(up=False, why=why)
        self._lost()

    def _usable(self) -> Channel | None:
        return self._channel if self._channel is not None and self._channel.is_open else None

    def _say_failed(self, state: RetryCallState) -> None:
        """Report once that an attempt failed: the next addresses may fail in other ways."""
        if not self._failing and state.outcome is not None:
            self._say(up=False, why=f"cannot connect: {_reason(state.outcome.exception())}")
        self._failing = True

    def _say(self, *, up: bool, why: str) -> None:
        if why != self._said:
            self._said = why
            self._watch(self.name, up, why)

    async def _set_up(self, channel: Channel) -> None:
        """Prepare a new channel; if this fails, it is tried again on the next connection."""

    def _opened(self, connection: Connection, channel: Channel) -> None:
        """Start the work on a new channel."""

    def _closing(self) -> None:
        """Send what is still to be sent, before the link is closed for good."""

    def _lost(self) -> None:
        """Forget what belonged to the channel that is gone."""


async def _connect(parameters: Parameters, broken: asyncio.Future[str]) -> Connection:
    try:
        # includes looking up the name
        async with asyncio.timeout(CONNECT_SECONDS + 1):
            return await Connection.connect(
                parameters, lambda error: settle(broken, _reason(error))
            )
    except TimeoutError:
        raise ConnectionError(f"no connection in {CONNECT_SECONDS + 1:g} s") from None
    except (OSError, AMQPError) as error:
        raise ConnectionError(_refusal(error, parameters)) from error


async def _open_channel(connection: Connection, broken: asyncio.Future[str]) -> Channel:
    opened = future()
    channel = connection.channel(on_open_callback=partial(settle, opened))
    channel.add_on_close_callback(lambda _, error: settle(broken, _reason(error)))
    return cast(Channel, await opened)


async def _close(connection: Connection | None) -> None:
    """Close a connection that may be closed already, without waiting long for a dead broker."""
    if connection is None or connection.is_closed:
        return
    closed = future()
    connection.add_on_close_callback(lambda *_: settle(closed, None))
    if not connection.is_closing:
        connection.close()
    await asyncio.wait({closed}, timeout=CLOSE_SECONDS)
    if not closed.done():  # it must not go on without a link
        connection.abort(TimeoutError(f"RabbitMQ has not closed it in {CLOSE_SECONDS:g} s"))


async def open_sibling(channel: Channel) -> Channel:
    """Open another channel of the connection; raise what RabbitMQ says if it ends before."""
    opened = future()
    new = channel.connection.channel(on_open_callback=partial(settle, opened))
    new.add_on_close_callback(lambda _, why: _fail(opened, _reason(why)))
    try:
        return cast(Channel, await opened)
    except BaseException:  # once it is open, it would be nobody's
        close_channel(new)
        raise


def close_channel(channel: Channel) -> None:
    """Close a channel, unless that is done or begun."""
    if not (channel.is_closed or channel.is_closing):
        channel.close()


@asynccontextmanager
async def sibling(channel: Channel) -> AsyncIterator[Channel]:
    """Open another channel of the connection, for what might close the link's own.

    It is closed after the context. Raise RabbitMQ's reason if it ends before it is open.
    """
    new = await open_sibling(channel)
    try:
        yield new
    finally:
        close_channel(new)


def _parameters(url: str, name: str) -> URLParameters:
    address, files = tls.split(url)
    parameters = URLParameters(address)
    if parameters.ssl_options is not None:
        # read anew for each connection: certificates are renewed while a service runs
        parameters.ssl_options = SSLOptions(files.context(), parameters.host)
    parameters.heartbeat = HEARTBEAT_SECONDS
    parameters.client_properties = {"connection_name": f"{name}@{socket.gethostname()}"}
    # No blocked_connection_timeout: under an alarm every new connection is blocked as well.
    return parameters


def future() -> asyncio.Future[Any]:
    """Return a future of the running loop, for a callback of pika to settle."""
    return asyncio.get_running_loop().create_future()


def guarded(callback: Callable[..., object], *arguments: object) -> bool:
    """Call back, and return whether that raised nothing.

    pika would swallow an exception, and break the connection over it. It is an error of the
    service, so it goes to the loop's handler, which ends the service.
    """
    try:
        callback(*arguments)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is passed on
        context = {"message": "a callback of a RabbitMQ link failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
        return False
    return True


def settle(future: asyncio.Future[Any], value: object) -> None:
    """Set the result of a future, unless it has one or nobody waits for it any more."""
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], why: str) -> None:
    if not future.done():
        future.set_exception(ConnectionError(why))


def _refusal(error: object, parameters: Parameters) -> str:
    """Return why there is no connection; a TLS port closes a plain connection without a reason."""
    without_a_word = isinstance(_innermost(error), IncompatibleProtocolError)
    if without_a_word and parameters.ssl_options is None:
        return f"{_reason(error)}; if this port is for TLS, write amqps://"
    return _reason(error)


def _reason(error: object) -> str:
    """Return the reason of a broken link: the innermost one, since pika wraps several layers."""
    found = _innermost(error)
    return str(found) or repr(found)


def _innermost(error: object) -> object:
    while (inner := _inner(error)) is not None:
        error = inner
    return error


def _inner(error: object) -> BaseException | None:
    for layer in (
        getattr(error, "exception", None),
        (getattr(error, "exceptions", None) or [None])[-1],
        (getattr(error, "args", None) or [None])[-1],
    ):
        if isinstance(layer, BaseException):
            return layer
    return None
