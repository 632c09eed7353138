"""The enclave program, started by the bootstrap once the import finder is in place.

Invariants: this is the only module inside that reads the clock and writes to the environment; a foreseeable failure is one
line on stderr and an exit code, never a traceback.
Source: docs/provisioning.md.
"""

import logging
import os
import signal
import sys
import time
from typing import Any

from glasscase.config.enclave import MAX_BYTES, EnclaveConfig
from glasscase.enclave.instancefile import read_instance
from glasscase.enclave.places import places
from glasscase.enclave.program import EXIT_FAILED, EXIT_OK, GRACE_S, Overdue, Program, prepare
from glasscase.errors import Error
from glasscase.fs.atomic import read_file


def main(arguments: list[str], finder: Any) -> int:
    """Return the exit code of one enclave. arguments: the words after the program's name; finder: the bootstrap's."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="glasscase: %(levelname)s: %(name)s: %(message)s")
    for name in ("uvicorn.error", "uvicorn.asgi", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    stops: list[int] = []
    alarms: list[int] = []
    codes: list[int] = []
    program: list[Program] = []

    def stop(number: int, _frame: Any) -> None:
        if stops:
            return  # another signal gives no more time
        stops.append(number)
        for running in program:
            hold_signals()
            signal.setitimer(signal.ITIMER_REAL, running.stop(), GRACE_S)

    def overdue(number: int, _frame: Any) -> None:
        if codes:  # all is done but to leave
            os._exit(codes[0])
        if alarms:  # the first Overdue was caught by what it should have ended
            os._exit(program[0].abandon())
        if stops:
            alarms.append(number)
        raise Overdue

    def hold_signals() -> None:
        signal.signal(signal.SIGALRM, overdue)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)

    def run() -> int:
        where = places(arguments)
        config = EnclaveConfig.from_bytes(read_file(where.config, max_bytes=MAX_BYTES, what="enclave.cbor"))
        os.environ.update(config.env)
        prepare(where)
        instance = read_instance(where.instance)
        program.append(
            Program(config, instance, where, finder=finder, clock=lambda: int(time.time()), hold_signals=hold_signals)
        )
        return EXIT_OK if stops else program[0].run()

    hold_signals()
    try:
        try:
            codes.append(run())
        except Error as error:
            logging.getLogger("glasscase").error("%s", error)
            codes.append(EXIT_FAILED)
        except Exception:
            logging.getLogger("glasscase").exception("the enclave program failed")
            codes.append(EXIT_FAILED)
    except Overdue:  # between the last lines of the run
        codes.append(program[0].abandon() if program else EXIT_FAILED)
    return codes[0]
