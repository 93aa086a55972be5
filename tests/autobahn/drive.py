"""Runs every Autobahn case against the echo endpoint, over each driver that there is.

A case passes if Autobahn says OK. Any other verdict is either in the tables below, with its reason,
or a failure; so is a verdict in the tables that no longer holds. The endpoint holds on to its
standard input and ends with it, however this program ends.
"""

import asyncio
import subprocess
import sys

from kosoku import FailureError, run_fuzzingclient

# All that this version of the cases has: fewer would mean that some were left out.
CASES = 517
CONCURRENCY = 4

# Extensions are not negotiated (WebSocket spec 1.1), so these have nothing to run on.
UNSUPPORTED = {"12": "permessage-deflate", "13": "permessage-deflate with parameters"}

MID_FRAME = "a text is judged frame by frame: the end of this frame is awaited before it is refused"
UNDEFINED = "RFC 6455 defines no answer"
ALLOWED = {
    "6.4.3": ("NON-STRICT", MID_FRAME),
    "6.4.4": ("NON-STRICT", MID_FRAME),
    "7.1.6": ("INFORMATIONAL", "whether a message just before a Close is echoed is left open"),
    "7.13.1": ("INFORMATIONAL", UNDEFINED),
    "7.13.2": ("INFORMATIONAL", UNDEFINED),
}


def main(endpoint: str) -> int:
    driver, passed, failed = run_over([endpoint])
    if driver != "epoll":
        _, more_passed, more_failed = run_over([endpoint, "epoll"])
        passed += more_passed
        failed += more_failed
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def run_over(command: list[str]) -> tuple[str, int, int]:
    """The driver that the endpoint has taken, and how many cases passed and failed."""
    endpoint = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        address, driver = endpoint.stdout.readline().split()
        print(f"over {driver}:")
        results = asyncio.run(run_cases(f"ws://{address}"))
        if endpoint.poll() is not None:
            print(f"  the endpoint has ended with {endpoint.returncode}")
            return driver, 0, CASES
        return driver, *judge_all(results)
    finally:
        endpoint.stdin.close()
        endpoint.wait()


async def run_cases(url: str) -> list:
    try:
        return await run_fuzzingclient(url, concurrency=CONCURRENCY)
    except FailureError as failure:
        # Raised for what is unsupported, too; it has the results of all cases.
        return failure.results


def judge_all(results: list) -> tuple[int, int]:
    passed = 0
    failed = max(0, CASES - len(results))
    if failed:
        print(f"  FAILED {failed} cases did not run")
    unsupported = dict.fromkeys(UNSUPPORTED, 0)
    for result in results:
        group = result.case_id.partition(".")[0]
        behavior, close = result.behavior.value, result.behavior_close.value
        if group in UNSUPPORTED and behavior == "UNIMPLEMENTED":
            unsupported[group] += 1
            continue
        expected, reason = ALLOWED.get(result.case_id, ("OK", ""))
        if behavior == expected and close in ("OK", "INFORMATIONAL"):
            passed += 1
            if reason:
                print(f"  {behavior} {result.case_id}: {reason}")
        else:
            failed += 1
            print(f"  FAILED {result.case_id}: {behavior}, close {close}")
            print(f"    {result.result} {result.result_close}")
    for group, count in unsupported.items():
        print(f"  UNSUPPORTED {group}.*: {UNSUPPORTED[group]} ({count} cases)")
    return passed, failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
