"""One run of the enclave from boot to stop: the state machine that ties the other parts together.

Invariants: the application's code is decrypted, imported and started only after an envelope has been accepted; without one
the program ends when the time-out fires; whatever fails after acceptance ends the program, never half-started.
Source: docs/provisioning.md, "States".
"""

import asyncio
import contextlib
import gc
import logging
import os
import ssl
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from glasscase.config.enclave import EnclaveConfig
from glasscase.enclave.attest import Attester, Identity
from glasscase.enclave.connections import allow_descriptors
from glasscase.enclave.gateway import Gateway
from glasscase.enclave.handover import Handover, hand_over
from glasscase.enclave.health import require_health
from glasscase.enclave.instancefile import InstanceFile, read_beacon
from glasscase.enclave.keys import InstanceKeys, server_context
from glasscase.enclave.persist import Record, Store
from glasscase.enclave.places import Places
from glasscase.enclave.provision import Acceptance, Provisioner
from glasscase.enclave.quoting import Quoter
from glasscase.enclave.serve import EnclaveServer, load_application, make_server
from glasscase.enclave.state import State, StateKeeper
from glasscase.enclave.unpack import Unpacker
from glasscase.errors import Error, StorageError
from glasscase.evidence.attestation import Provision
from glasscase.fs.atomic import storage_error
from glasscase.seal.envelope import Contents
from glasscase.sgx.reportdata import app_report_data

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_TIMEOUT = 3
IN_TURN_S = 300.0  # seconds until the event loop must have found time, while an application is being imported
CHECK_S = 60.0  # seconds between two looks whether a renewal is due
RENEWAL_TRIES = 4
RETRY_S = 5.0  # seconds until a renewal that failed is tried again
GRACE_S = 3.0  # seconds for a stop, besides the drain, and then for what was cut off to end
_T = TypeVar("_T")
_log = logging.getLogger("glasscase")


class Overdue(SystemExit):
    """Raised in the main thread when a stop takes too long, out of whatever blocks there. asyncio lets a SystemExit pass."""


class Program:
    """One enclave. finder: the import finder of the bootstrap. clock: unix seconds. hold_signals: sets our handlers."""

    def __init__(
        self,
        config: EnclaveConfig,
        instance: InstanceFile,
        places: Places,
        *,
        finder: Any,
        clock: Callable[[], int],
        hold_signals: Callable[[], None],
    ) -> None:
        self._config = config
        self._instance = instance
        self._places = places
        self._keeper = StateKeeper(places.instance, clock=clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keys = InstanceKeys()
        self._quoter = Quoter(places.attestation)
        self._context: ssl.SSLContext = server_context(config.server.client_ca)
        own_certificate = config.server.certificate == "own"
        self._attester = Attester(
            Identity(config.name, instance.san, own_certificate), self._keys, self._quoter, self._context,
            clock=clock, directory=places.run, in_turn=self._in_turn,
        )  # fmt: skip
        self._unpacker = Unpacker(config, places, finder)
        self._provisioner = Provisioner(
            config, self._quoter.own_facts(), self._keys, clock=clock,
            open_package=self._unpacker.open if config.encrypt else None,
            live_spki_sha256=lambda: self._attester.live_spki_sha256, can_serve=self._attester.can_serve,
        )  # fmt: skip
        self._store: Store | None = None
        if config.gramine.persist == "mrenclave":
            self._store = Store(places.attestation, places.persist, package=self._provisioner.package)
        self._restored: Acceptance | None = None
        self._worker = ThreadPoolExecutor(1, "glasscase")
        self._gateway = Gateway(self, body_max=config.server.body_max, idle_s=config.server.idle_timeout)
        self._hold_signals = hold_signals
        self._stopping = False
        self._server: EnclaveServer | None = None
        self._accepted: asyncio.Future[Acceptance] | None = None

    def stop(self) -> float:
        """Ask for a clean end and return the seconds after which it is Overdue; may be called from a signal handler."""
        self._stopping = True
        if self._server is not None:
            self._server.should_exit = True
        return GRACE_S + (self._config.server.drain if self._keeper.state is State.SERVING else 0)

    def abandon(self) -> int:
        """Leave everything as it is and return the exit code; may be called from a signal handler."""
        self._unpacker.forget()
        self._keeper.enter(
            State.STOPPED if self._stopping else State.FAILED
        )  # an alarm of the application is its fault
        return EXIT_OK if self._keeper.state is State.STOPPED else EXIT_FAILED

    def run(self) -> int:
        """Return the exit code: 0 stopped, 1 failed, 3 no secrets in time."""
        self._keeper.enter(State.BOOTED)
        code = EXIT_FAILED
        try:
            self._restored = self._restore()
            self._renew(nonce=self._instance.nonce, beacon=self._instance.beacon)
            code = asyncio.run(self._live())
        except Error as error:
            _log.error("%s", self._said(error))
            code = EXIT_OK if self._stopping else EXIT_FAILED  # what a stop cuts off is no failure
        except Overdue:
            _log.warning("the application did not end in time")
            code = EXIT_OK if self._stopping else EXIT_FAILED  # an alarm that the application has set is its fault
        except BaseException:  # noqa: BLE001 - the application can raise anything; what it leaves by is not our exit code
            _log.exception("the enclave program failed")
        finally:
            self._unpacker.forget()
        self._keeper.enter(State.STOPPED if code == EXIT_OK else State.FAILED)
        return code

    # what the gateway asks

    async def evidence(self) -> bytes:
        """Return the current attestation."""
        return self._attester.current()

    async def attest(self, *, nonce: bytes | None, beacon: bytes | None) -> bytes:
        """Return a new attestation over the live keys."""
        return await self._work(partial(self._attester.attest, nonce=nonce, beacon=beacon))

    async def provision(self, envelope: bytes) -> bytes:
        """Return the receipt of an accepted envelope; raises Error for any other."""
        return (await self._work(partial(self._accept, envelope))).receipt

    def status(self) -> dict[str, Any]:
        """Return what GET status answers."""
        return self._keeper.view()

    # the life

    async def _live(self) -> int:
        loop = self._loop = asyncio.get_running_loop()
        self._accepted = loop.create_future()
        self._server = make_server(
            self._gateway, self._context, self._config.server, host=self._instance.host, port=self._instance.port,
            ready=self._listening,
        )  # fmt: skip
        if self._stopping:
            return EXIT_OK
        serving = asyncio.create_task(self._server.serve())
        owner = asyncio.create_task(self._be_provisioned())
        renewing = asyncio.create_task(self._keep_renewing())
        done, _ = await asyncio.wait({serving, owner}, return_when=asyncio.FIRST_COMPLETED)
        if owner in done and owner.exception() is None and owner.result() == EXIT_OK:
            raise RuntimeError("the application's task ended before the server")
        renewing.cancel()
        self._server.should_exit = True
        await serving
        self._gateway.close()
        if owner in done:
            return owner.result()
        owner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await owner
        return EXIT_OK

    def _listening(self, port: int) -> None:
        waits = self._restored is None
        self._keeper.enter(State.WAITING if waits else State.PROVISIONING, port=port)
        _log.info("%s on port %d", "waiting for secrets" if waits else "listening, with kept secrets,", port)

    async def _be_provisioned(self) -> int:
        """Wait for secrets, start the application, and keep it until cancelled."""
        if self._accepted is None:
            raise RuntimeError("not alive")
        acceptance = self._restored
        if acceptance is None:
            try:
                async with asyncio.timeout(self._instance.timeout):
                    acceptance = await self._accepted
            except TimeoutError:  # an envelope that is judged just now counts, one that comes later is refused
                acceptance = await self._work(self._provisioner.close)
            if acceptance is None:
                _log.error("no secrets within %d s", self._instance.timeout)
                return EXIT_TIMEOUT
        self._keeper.enter(State.PROVISIONING)
        _log.info("secrets accepted")
        await self._work(partial(self._unpacker.unpack, acceptance.package))
        await self._renew_now()
        self._hand_over(acceptance)
        self._unpacker.expose(acceptance.package)
        options = self._config.server
        loaded = load_application(
            self._config.entry, self._config.interface, threads=options.app_threads, drain_s=options.drain
        )
        self._hold_signals()  # the application may have set its own while it was imported
        async with loaded:
            self._hold_signals()
            if self._config.health is not None:
                host = next(iter(self._instance.san), "localhost")
                await require_health(loaded.application, self._config.health, host=host, state=loaded.state)
            gc.collect()
            gc.freeze()  # what lives as long as the program is not looked through again under load
            self._gateway.open(loaded.application, loaded.state)
            self._keeper.enter(State.SERVING)
            _log.info("serving")
            await asyncio.get_running_loop().create_future()  # until the program is stopped
        return EXIT_OK

    async def _keep_renewing(self) -> None:
        """Renew at half-life, from the first certificate on, until cancelled; what fails is tried again."""
        while True:
            await asyncio.sleep(CHECK_S)
            if self._attester.is_due():
                with contextlib.suppress(Error, TimeoutError):
                    await self._renew_now()

    async def _renew_now(self) -> None:
        """Renew; a device that does not answer is asked again a few times. Raises Error or TimeoutError in the end."""
        for left in reversed(range(RENEWAL_TRIES)):
            try:
                await self._work(self._renew)
            except (Error, TimeoutError) as error:
                _log.error("renewal failed: %s", error)
                if not left:
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                return

    def _renew(self, *, nonce: bytes | None = None, beacon: bytes | None = None) -> None:
        self._attester.renew(nonce=nonce, beacon=read_beacon(self._places.instance) or beacon)
        session = self._attester.session
        self._keeper.renewed(seq=session.seq, exp=session.exp)

    def _accept(self, envelope: bytes) -> Acceptance:
        try:
            acceptance = self._provisioner.accept(envelope)
        except Exception:
            _log.warning("an envelope was refused")
            raise
        if acceptance.fresh:
            self._announce(acceptance)
            if self._loop is not None:  # by itself: whoever has sent it may be gone
                self._loop.call_soon_threadsafe(self._go_on, acceptance)
            if self._store is not None:
                self._keep(self._store, acceptance)
        return acceptance

    def _go_on(self, acceptance: Acceptance) -> None:
        """Let the program have what was accepted, unless its time to wait is over."""
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_result(acceptance)

    def _announce(self, acceptance: Acceptance) -> None:
        """Let all later claims name what was accepted."""
        provision = Provision(acceptance.envelope, acceptance.receipt)
        self._attester.accept(provision, prov=acceptance.digest, chain=acceptance.contents.chain)

    def _keep(self, store: Store, acceptance: Acceptance) -> None:
        try:
            store.save(Record(acceptance.envelope, acceptance.contents.to_bytes()))
        except StorageError as error:
            _log.error("the secrets will not outlive this run: %s", error)

    def _restore(self) -> Acceptance | None:
        """Return what an earlier run kept, if every rule still holds for it."""
        record = self._store.load() if self._store is not None else None
        if record is None:
            return None
        try:
            acceptance = self._provisioner.restore(record.envelope, Contents.from_bytes(record.contents))
        except Error:
            _log.warning("what an earlier run kept is not valid any more")
            return None
        self._announce(acceptance)
        return acceptance

    def _hand_over(self, acceptance: Acceptance) -> None:
        def quote(said: bytes) -> bytes:
            return self._quoter.quote(app_report_data(self._keys.digest, said))

        hand_over(
            Handover(dict(acceptance.contents.secrets), quote, partial(self._unpacker.open_file, acceptance.package))
        )

    def _said(self, error: Error) -> str:
        """Return what the operator may read: once a secret package is open, a message could name what is in it."""
        secret = self._config.encrypt and self._keeper.state in {State.PROVISIONING, State.SERVING}
        return f"the application cannot go on [{error.reason}]" if secret else str(error)

    def _in_turn(self, call: Callable[[], None]) -> None:
        """Run `call` in the thread of all handshakes, from the worker thread, and wait for it.

        Raises TimeoutError if that thread finds no time; then the call is not made later either.
        """
        if self._loop is None:
            call()
            return
        done: Future[None] = Future()

        def run() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                call()
                done.set_result(None)
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        try:
            done.result(IN_TURN_S)
        except TimeoutError:
            if done.cancel():
                raise
            done.result()  # it had just begun

    async def _work(self, call: Callable[[], _T]) -> _T:
        """Run what blocks in the one worker thread of ours."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)


def prepare(places: Places) -> None:
    """Make the private directory where there is no mount for it, and room for connections. Raises StorageError."""
    allow_descriptors()
    try:
        os.makedirs(places.run, mode=0o700, exist_ok=True)
    except OSError as error:
        raise storage_error(error, places.run) from None
